//! The events of a run, as far as its topics still have them.

use std::{ops::Range, time::Duration};

use events::kafka::{KafkaOptions, TracedEvent, events_of_trace};
use events::{TraceId, error_chain};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use store::catalog::RunTrace;
use uuid::Uuid;

/// How long one question to the brokers, or reading a partition, may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// By how much the clocks of brokers and of those who publish may differ, and how long an event may take to be published.
const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_mins(10);

/// A run, with its events where they were asked for.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    #[serde(flatten)]
    pub(super) trace: RunTrace,
    #[serde(flatten)]
    pub(super) events: Option<Events>,
}

/// The events, or why they could not be read.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Events {
    Events(Vec<ShownEvent>),
    EventsNotRead(String),
}

/// An event as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct ShownEvent {
    pub(super) topic: &'static str,
    pub(super) job_type: String,
    pub(super) id: Uuid,
    /// Who emitted it.
    pub(super) source: String,
    pub(super) emitted_at: Timestamp,
    pub(super) published_at: Option<Timestamp>,
    /// How often its handling had been put off.
    pub(super) attempt: u32,
    pub(super) partition: i32,
    pub(super) offset: i64,
    #[serde(flatten)]
    pub(super) about: About,
}

/// What the event's data says of what it is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct About {
    #[serde(alias = "source_url", skip_serializing_if = "Option::is_none")]
    pub(super) url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) delivery_id: Option<Uuid>,
}

/// Reads the events of a run. That the brokers do not answer does not keep anybody from seeing what the catalog has.
pub(super) async fn read(trace: &RunTrace, options: &KafkaOptions) -> Events {
    let times = published_between(trace, Timestamp::now());
    match events_of_trace(options, TraceId::of_run(trace.run.id), times, ANSWER_WITHIN).await {
        Ok(events) => Events::Events(events.into_iter().map(ShownEvent::of).collect()),
        Err(error) => Events::EventsNotRead(error_chain(&error)),
    }
}

/// When events of the run can have been published.
fn published_between(trace: &RunTrace, now: Timestamp) -> Range<Timestamp> {
    let deliveries = trace.documents.iter().flat_map(|document| &document.deliveries);
    let finished = deliveries.map(|traced| traced.delivery.finished_at).chain([trace.run.finished_at]);
    // One that is not finished goes on until now.
    let last = finished.map(|finished_at| finished_at.unwrap_or(now)).max().unwrap_or(now);
    // Both are of this century.
    let earlier = |time: Timestamp| time.checked_sub(CLOCKS_DIFFER).unwrap_or(time);
    let later = |time: Timestamp| time.checked_add(CLOCKS_DIFFER).unwrap_or(time);
    earlier(trace.run.created_at)..later(last)
}

impl ShownEvent {
    fn of(traced: TracedEvent) -> Self {
        let TracedEvent { event, published_at, partition, offset } = traced;
        Self {
            topic: event.topic.name(),
            // What says neither is of the run as a whole.
            about: serde_json::from_slice(&event.payload).unwrap_or_default(),
            job_type: event.job_type,
            id: event.id,
            source: event.source,
            emitted_at: event.time,
            published_at,
            attempt: event.attempt,
            partition,
            offset,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::commands::trace::tree::tests::{changed, run};

    #[test]
    fn events_are_looked_for_until_the_last_delivery_is_finished() {
        let now = "2026-03-10T00:00:00Z".parse().unwrap();
        let end = |trace: &RunTrace| published_between(trace, now).end.to_string();
        let mut trace = RunTrace { run: run(), documents: vec![changed()] };
        assert_eq!(published_between(&trace, now).start.to_string(), "2026-03-09T08:50:00.1Z");
        assert_eq!(end(&trace), "2026-03-09T09:10:10.7Z");
        trace.documents[0].deliveries[0].delivery.finished_at = None;
        assert_eq!(end(&trace), "2026-03-10T00:10:00Z");
        trace.documents.clear();
        assert_eq!(end(&trace), "2026-03-09T09:10:05.2Z");
        trace.run.finished_at = None;
        assert_eq!(end(&trace), "2026-03-10T00:10:00Z");
    }
}
