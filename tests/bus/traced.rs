//! The events of a trace, found again.

use std::{ops::Range, time::Duration};

use events::{
    Event, Record, Topic, TraceId,
    kafka::{KafkaOptions, events_of_trace},
};
use jiff::{SignedDuration, Timestamp};

use crate::place::{Cluster, SOON, event};

/// A cluster with all topics, and what was published to one of them: in which partition, how many minutes after the first.
async fn published(records: &[(Record, i32, i64)]) -> (Cluster, Timestamp) {
    let cluster = Cluster::new().await;
    cluster.create_topics(&Topic::ALL.map(Topic::name)).await;
    // Kafka counts milliseconds.
    let first = Timestamp::now().checked_sub(SignedDuration::from_hours(1)).unwrap();
    let first = Timestamp::from_millisecond(first.as_millisecond()).unwrap();
    for (record, partition, minutes) in records {
        cluster.publish_at(record, *partition, after(first, *minutes)).await;
    }
    (cluster, first)
}

fn after(first: Timestamp, minutes: i64) -> Timestamp {
    first.checked_add(SignedDuration::from_mins(minutes)).unwrap()
}

/// The events of this one's trace: minutes after the first, partition and offset of each.
async fn found(cluster: &Cluster, of: &Event, first: Timestamp, minutes: Range<i64>) -> Vec<(i64, i32, i64)> {
    let times = after(first, minutes.start)..after(first, minutes.end);
    let traced = events_of_trace(&cluster.options(), of.trace_parent.trace_id, times, SOON).await.unwrap();
    let at = |time: Option<Timestamp>| time.unwrap().duration_since(first).as_mins();
    traced
        .iter()
        .inspect(|traced| assert_eq!(traced.event.trace_parent.trace_id, of.trace_parent.trace_id))
        .map(|traced| (at(traced.published_at), traced.partition, traced.offset))
        .collect()
}

#[tokio::test]
async fn the_events_of_a_trace_are_found_by_when_they_were_published() {
    let (event, other) = (event(1, 7), event(2, 7));
    let (record, other) = (event.to_record(), other.to_record());
    let garbage = Record { payload: b"no event".to_vec(), headers: Vec::new(), ..record.clone() };
    let (cluster, first) = published(&[
        (other.clone(), 0, 0),
        (record.clone(), 0, 1),
        (garbage, 0, 2),
        // Published again, and to another partition, as after the topic had got more of them.
        (record.clone(), 1, 3),
        (other, 1, 4),
        (record, 0, 5),
    ])
    .await;
    let all = [(1, 0, 1), (3, 1, 0), (5, 0, 3)];
    for (minutes, expected) in [
        (0..10, &all[..]),
        // The end is not one of the times.
        (1..5, &all[..2]),
        (2..6, &all[1..]),
        (4..5, &[]),
        (6..10, &[]),
    ] {
        assert_eq!(found(&cluster, &event, first, minutes.clone()).await, expected, "minutes {minutes:?}");
    }
}

#[tokio::test]
async fn that_events_cannot_be_read_is_an_error_and_not_none() {
    let cluster = Cluster::new().await;
    let nowhere = KafkaOptions { brokers: "127.0.0.1:1".to_owned(), ..cluster.options() };
    let trace_id: TraceId = event(1, 7).trace_parent.trace_id;
    let now = Timestamp::now();
    // Neither has any topics.
    for (options, within) in [(nowhere, Duration::from_millis(500)), (cluster.options(), SOON)] {
        let times = after(now, -60)..now;
        let error = events_of_trace(&options, trace_id, times, within).await.unwrap_err();
        let shown = events::error_chain(&error);
        assert!(shown.contains(&format!("the events of trace {trace_id}")), "{shown}");
    }
}
