//! What happens to runs, made ready to be told.

use std::collections::HashMap;

use changes::{Change, unified};
use operator::RunEvent;
use store::catalog::{Artifact, Catalog, CatalogError, FiredRun, RunReport, RunVersion, Skip};
use url::Url;
use worker::fetch::display_url;

use crate::output::{Document, RunRow, RunStart, Skips, SubscriptionName, Version};

/// Events of runs that came together, with skips in a row and for one reason as one.
pub(super) enum Happening {
    Started(FiredRun),
    Skipped(SkippedRuns),
    Ended(RunReport),
}

/// Due times of one subscription that got no run.
pub(super) struct SkippedRuns {
    pub(super) first: FiredRun,
    skip: Skip,
    last: FiredRun,
    count: u64,
}

impl SkippedRuns {
    pub(super) fn to_notice(&self, subscription: SubscriptionName) -> Skips {
        Skips {
            subscription,
            reason: self.skip.reason,
            message: self.skip.message.clone(),
            count: self.count,
            scheduled_for: self
                .first
                .skipped_together
                .map_or(self.first.scheduled_for, |together| together.from),
            scheduled_through: self.last.scheduled_for,
        }
    }
}

/// Groups events: after a long pause there may be thousands of skips.
pub(super) fn group(events: Vec<RunEvent>) -> Vec<Happening> {
    let mut happenings: Vec<Happening> = Vec::with_capacity(events.len());
    for event in events {
        let run = match event {
            RunEvent::Ended(report) => {
                happenings.push(Happening::Ended(report));
                continue;
            }
            RunEvent::Fired(run) => run,
            // The workers of this process tell it themselves.
            RunEvent::SetBack { .. } => continue,
        };
        let Some(skip) = run.skip.clone() else {
            happenings.push(Happening::Started(run));
            continue;
        };
        let count = u64::from(run.due_times());
        match happenings.last_mut() {
            Some(Happening::Skipped(before))
                if before.skip == skip && before.first.subscription_id == run.subscription_id =>
            {
                before.last = run;
                before.count += count;
            }
            _ => happenings.push(Happening::Skipped(SkippedRuns {
                first: run.clone(),
                skip,
                last: run,
                count,
            })),
        }
    }
    happenings
}

pub(super) fn start(run: &FiredRun, subscription: SubscriptionName) -> RunStart {
    RunStart {
        subscription,
        run_id: run.run_id,
        trigger: run.trigger.to_string(),
        scheduled_for: run.scheduled_for,
    }
}

/// A run that ended, with what it stored.
pub(super) async fn row(catalog: &Catalog, report: &RunReport) -> Result<RunRow, CatalogError> {
    let mut versions = catalog.run_versions(report.id).await?;
    let mut artifacts = Vec::new();
    for artifact in catalog.run_artifacts(report.id).await? {
        let before = catalog.artifact_before(report.id, &artifact.source_url).await?;
        artifacts.push(document(artifact, before, &mut versions));
    }
    // What is left is of documents that are gone: nothing was stored of them.
    let mut gone: Vec<_> = versions.into_iter().collect();
    gone.sort_by(|(one, _), (other, _)| one.cmp(other));
    artifacts.extend(gone.into_iter().map(|(url, made)| Document {
        version: Some(version(&url, made)),
        url,
        byte_size: 0,
        fetch_hash: String::new(),
        blob_uri: String::new(),
        changed: true,
        previous_hash: None,
    }));
    Ok(RunRow {
        subscription: (&report.subscription).into(),
        run_id: Some(report.id),
        phase: report.phase.name(),
        reason: report.reason.clone().unwrap_or_default(),
        message: report.message.clone(),
        trace_id: Some(report.trace_id.clone()),
        artifacts,
    })
}

fn document(
    artifact: Artifact,
    before: Option<Artifact>,
    versions: &mut HashMap<String, RunVersion>,
) -> Document {
    let url = artifact.source_url.parse::<Url>();
    let url = url.map_or_else(|_| artifact.source_url.clone(), |url| display_url(&url));
    Document {
        version: versions.remove(&artifact.source_url).map(|made| version(&url, made)),
        url,
        byte_size: artifact.byte_size,
        fetch_hash: artifact.fetch_hash,
        blob_uri: artifact.blob_uri,
        changed: artifact.changed,
        previous_hash: before.map(|before| before.fetch_hash),
    }
}

fn version(url: &str, made: RunVersion) -> Version {
    let RunVersion { number, kind, change } = made;
    let label = |number: i32| format!("{url} (version {number})");
    // What this release has written it can read.
    let diff = serde_json::from_str::<Change>(change.get())
        .map(|change| unified(&change, &label(number.saturating_sub(1)), &label(number)))
        .unwrap_or_default();
    Version { number, kind, diff }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use jiff::Timestamp;
    use store::catalog::Trigger;
    use uuid::Uuid;

    use super::*;

    fn fired(subscription_id: i64, second: i64, reason: Option<&'static str>) -> RunEvent {
        RunEvent::Fired(FiredRun {
            run_id: Uuid::from_u128(1),
            subscription_id,
            scheduled_for: Timestamp::from_second(second).unwrap(),
            trigger: Trigger::Schedule,
            skip: reason.map(|reason| Skip { reason, message: "why".into() }),
            skipped_together: None,
        })
    }

    #[test]
    fn skips_in_a_row_of_one_subscription_and_reason_are_one() {
        let events = vec![
            fired(1, 60, Some("Superseded")),
            fired(1, 120, Some("Superseded")),
            fired(1, 180, Some("Overlap")),
            fired(2, 180, Some("Overlap")),
            fired(1, 240, None),
            fired(1, 300, Some("Overlap")),
        ];
        let name = SubscriptionName { namespace: "n".into(), subscription: "s".into() };
        let told: Vec<_> = group(events)
            .iter()
            .map(|happening| match happening {
                Happening::Started(_) => ("started", 1, 0),
                Happening::Ended(_) => ("ended", 1, 0),
                Happening::Skipped(skipped) => {
                    let skips = skipped.to_notice(name.clone());
                    (skips.reason, skips.count, skips.scheduled_through.as_second())
                }
            })
            .collect();
        let expected = [
            ("Superseded", 2, 120),
            ("Overlap", 1, 180),
            ("Overlap", 1, 180),
            ("started", 1, 0),
            ("Overlap", 1, 300),
        ];
        assert_eq!(told, expected);
    }
}
