//! The table at the end of `--once`.

use super::columns::{self, Heading};
use super::text::{reason_of, short_hash};
use super::{RunRow, Summary};

const HEADINGS: [Heading; 6] = [
    Heading::text("SUBSCRIPTION"),
    Heading::text("PHASE"),
    Heading::text("REASON"),
    Heading::text("URL"),
    Heading::number("BYTES"),
    Heading::text("SHA256"),
];

pub(super) fn render(summary: &Summary) -> String {
    let rows: Vec<Vec<String>> = summary.runs.iter().flat_map(rows_of).collect();
    let mut lines = vec![String::new()];
    lines.extend(columns::lines(&HEADINGS, &rows));
    lines.push(String::new());
    let failures = summary.runs.iter().filter(|run| run.message.is_some());
    lines.extend(failures.map(|run| format!("{}: {}", run.subscription, reason_of(run))));
    lines.push(verdict(summary));
    lines.join("\n")
}

/// A row for each document, or one where there is none.
fn rows_of(run: &RunRow) -> Vec<Vec<String>> {
    let row = |url: &str, bytes: String, hash: &str| {
        vec![
            run.subscription.to_string(),
            run.phase.to_owned(),
            run.reason.clone(),
            url.to_owned(),
            bytes,
            short_hash(hash).to_owned(),
        ]
    };
    if run.artifacts.is_empty() {
        return vec![row("-", "-".to_owned(), "-")];
    }
    run.artifacts
        .iter()
        .map(|document| row(&document.url, document.byte_size.to_string(), &document.fetch_hash))
        .collect()
}

fn verdict(summary: &Summary) -> String {
    let counted = |count: usize, one: &str, many: &str| match count {
        1 => format!("1 {one}"),
        _ => format!("{count} {many}"),
    };
    let subscriptions = counted(summary.runs.len(), "subscription", "subscriptions");
    let failed = summary.failed;
    let problems = counted(summary.problems, "problem in the manifests", "problems in the manifests");
    format!("{subscriptions}, {failed} failed, {problems}.")
}
