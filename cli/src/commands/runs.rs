//! `tipstaff runs`: what ran, and how it ended.

use clap::Args;
use store::catalog::RunRow;
use uuid::Uuid;

use super::list::{Column, ListArguments};
use super::show::{dash, duration, one_line, time, time_or_dash};

/// The longest message of a table, in characters.
const LONGEST_MESSAGE: usize = 120;

/// What to show.
#[derive(Args)]
pub struct RunsArguments {
    #[command(flatten)]
    list: ListArguments,
    /// Only runs that are older than this one
    #[arg(long, value_name = "RUN_ID")]
    before: Option<Uuid>,
    /// Due times without a run, too
    #[arg(long)]
    skipped: bool,
}

const COLUMNS: [Column<RunRow>; 10] = [
    // Enough to tell runs apart, and for `tipstaff trace`.
    Column::text("RUN", |run: &RunRow| run.id.to_string()[..8].to_owned()).narrow(),
    Column::text("RUN", |run: &RunRow| run.id.to_string()).wide(),
    Column::text("SUBSCRIPTION", |run| format!("{}/{}", run.namespace, run.subscription)),
    Column::text("DUE", |run| time(run.scheduled_for)),
    Column::text("TRIGGER", |run| run.trigger.clone()),
    Column::text("PHASE", |run| run.phase.clone()),
    Column::text("REASON", |run| run.reason.clone().unwrap_or_else(dash)),
    Column::number("TOOK", took),
    Column::text("ENDED", |run: &RunRow| time_or_dash(run.finished_at)).wide(),
    Column::text("MESSAGE", message).wide(),
];

/// Prints runs, newest first.
///
/// # Errors
/// When the catalog cannot be read, or has no such subscription.
pub async fn run(arguments: &RunsArguments) -> Result<(), events::BoxError> {
    let catalog = arguments.list.connect().await?;
    let page = arguments.list.page(&catalog, arguments.before).await?;
    let runs = catalog.list_runs(page, arguments.skipped).await?;
    arguments.list.print(&runs, &COLUMNS, |run| run.id.to_string())
}

/// How long workers had it.
fn took(run: &RunRow) -> String {
    match (run.started_at, run.finished_at) {
        (Some(started_at), Some(finished_at)) => duration(finished_at.duration_since(started_at)),
        _ => dash(),
    }
}

fn message(run: &RunRow) -> String {
    let message = run.message.as_deref().unwrap_or_default();
    match run.due_times {
        1 => one_line(message, LONGEST_MESSAGE),
        count => one_line(&format!("{count} due times: {message}"), LONGEST_MESSAGE),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use jiff::Timestamp;

    use super::*;
    use crate::commands::list::{ListFormat, render};

    const DOCUMENTATION: &str = include_str!("../../../docs/cli.md");

    fn at(time: &str) -> Timestamp {
        time.parse().unwrap()
    }

    fn runs() -> Vec<RunRow> {
        let changed = RunRow {
            id: "5b7e1f30-0000-5000-8000-000000000001".parse().unwrap(),
            namespace: "courts".into(),
            subscription: "slip-opinions".into(),
            scheduled_for: at("2026-03-09T09:00:00Z"),
            trigger: "Schedule".into(),
            phase: "Succeeded".into(),
            reason: Some("Changed".into()),
            message: None,
            changed: Some(true),
            due_times: 1,
            trace_id: "5b7e1f30000050008000000000000001".into(),
            created_at: at("2026-03-09T09:00:00.1Z"),
            started_at: Some(at("2026-03-09T09:00:00.4Z")),
            finished_at: Some(at("2026-03-09T09:00:05.2Z")),
        };
        let failed = RunRow {
            id: "0c91d2aa-0000-5000-8000-000000000002".parse().unwrap(),
            scheduled_for: at("2026-03-09T08:00:00Z"),
            phase: "Failed".into(),
            reason: Some("HttpStatus".into()),
            message: Some("could not fetch https://court.example/opinions: HTTP status 404".into()),
            changed: None,
            started_at: Some(at("2026-03-09T08:00:00Z")),
            finished_at: Some(at("2026-03-09T08:00:00.34Z")),
            ..changed.clone()
        };
        let waiting = RunRow {
            id: "f00d2b11-0000-5000-8000-000000000003".parse().unwrap(),
            subscription: "orders".into(),
            trigger: "Request".into(),
            phase: "Pending".into(),
            reason: None,
            changed: None,
            started_at: None,
            finished_at: None,
            ..changed.clone()
        };
        vec![waiting, changed, failed]
    }

    #[test]
    fn the_documentation_shows_the_table() {
        let table = render(&runs(), &COLUMNS, ListFormat::Table).unwrap();
        assert!(DOCUMENTATION.contains(&table), "{table}");
    }

    #[test]
    fn a_wide_table_has_whole_ids_and_messages() {
        let table = render(&runs(), &COLUMNS, ListFormat::Wide).unwrap();
        let headings: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
        let expected =
            ["RUN", "SUBSCRIPTION", "DUE", "TRIGGER", "PHASE", "REASON", "TOOK", "ENDED", "MESSAGE"];
        assert_eq!(headings, expected);
        assert!(table.contains("0c91d2aa-0000-5000-8000-000000000002"), "{table}");
        assert!(table.ends_with("HTTP status 404\n"), "{table}");
    }

    #[test]
    fn json_has_a_row_on_each_line() {
        let json = render(&runs(), &COLUMNS, ListFormat::Json).unwrap();
        let rows: Vec<serde_json::Value> =
            json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(rows.len(), 3);
        assert_eq!(rows[1]["id"], "5b7e1f30-0000-5000-8000-000000000001");
        assert_eq!(rows[1]["scheduled_for"], "2026-03-09T09:00:00Z");
        assert_eq!(rows[2]["reason"], "HttpStatus");
        assert_eq!(rows[0]["finished_at"], serde_json::Value::Null);
    }

    #[test]
    fn due_times_that_were_skipped_together_are_counted() {
        let skipped = RunRow { due_times: 60, message: Some("it\nwas missed".into()), ..runs().remove(0) };
        assert_eq!(message(&skipped), "60 due times: it was missed");
    }
}
