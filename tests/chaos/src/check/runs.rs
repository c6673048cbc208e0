//! Invariant 2: every run ends, once, with a reason.

use std::collections::HashMap;

use super::{Findings, Violation};

pub(super) fn check(findings: &Findings<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    let runs: HashMap<&str, _> = findings.catalog.runs.iter().map(|run| (run.id.as_str(), run)).collect();
    for run in &findings.catalog.runs {
        let name = &run.subscription;
        let has_ended = matches!(run.phase.as_str(), "Succeeded" | "Failed" | "Skipped");
        if !has_ended || run.finished_at.is_none() {
            let what = format!("{name}: run {} has not ended: it is {}", run.id, run.phase);
            violations.push(Violation::new(2, what).of(name));
        } else if run.reason.is_none() {
            violations.push(
                Violation::new(2, format!("{name}: run {} has ended without a reason", run.id)).of(name),
            );
        }
    }
    for (id, seen) in findings.seen.ended() {
        let name = &seen.subscription;
        // Whether it is there at all, the invariant about due times asks.
        let Some(run) = runs.get(id.as_str()) else { continue };
        let as_seen =
            run.phase == seen.phase && run.reason == seen.reason && run.finished_at == seen.finished_at;
        if run.finished_at.is_some() && !as_seen {
            let what = format!("{name}: run {id} has ended twice: it was {seen:?} and is {run:?}");
            violations.push(Violation::new(2, what).of(name));
        }
    }
    violations.extend(
        findings.seen.ended_again.iter().map(|what| Violation::new(2, format!("ended twice: {what}"))),
    );
    for (run, url) in &findings.catalog.unfinished_documents {
        let name = runs.get(run.as_str()).map_or("", |run| run.subscription.as_str());
        let what = format!("{name}: run {run} has succeeded, and its document {url} is not finished");
        violations.push(Violation::new(2, what).of(name).at(url));
    }
    violations
}
