//! The events of one trace, found in the topics that they passed through.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};

use super::{
    KafkaOptions,
    consumer::received,
    lag::{known, left, offset, offsets},
    reading::{ask, partitions_of, read, time_of},
};
use crate::{BoxError, Event, Topic, TraceId};

/// No group is joined and nothing committed; brokers are told who asks.
const GROUP: &str = "tipstaff-trace";

/// An event as it lies in its topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracedEvent {
    /// The event.
    pub event: Event,
    /// When it was published, as far as Kafka knows: later than it was emitted where it waited in the outbox.
    pub published_at: Option<Timestamp>,
    /// The partition of its topic.
    pub partition: i32,
    /// The offset there.
    pub offset: i64,
}

/// The events could not be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "the events of trace {trace_id} cannot be read from Kafka; see whether the brokers, the prefix and the properties are right"
)]
pub struct TracedEventsError {
    trace_id: TraceId,
    source: BoxError,
}

/// The events of a trace that were published at these times and that retention has left, in the order of their publication; one
/// that was published again, as often. All events of these times pass through here: it takes as long as those are many. Each
/// question to the brokers, and reading each partition, may take as long as `within`.
///
/// # Errors
/// When the brokers do not answer in time, or a topic is missing.
pub async fn events_of_trace(
    options: &KafkaOptions,
    trace_id: TraceId,
    times: Range<Timestamp>,
    within: Duration,
) -> Result<Vec<TracedEvent>, TracedEventsError> {
    let topics: Vec<_> =
        Topic::ALL.iter().map(|topic| format!("{}{}", options.prefix, topic.name())).collect();
    let prefix = options.prefix.clone();
    ask(options, GROUP, within, move |client, deadline| {
        let mut found = Vec::new();
        for (name, partition, offsets) in published(client, &topics, &times, deadline)? {
            read(client, &name, partition, &offsets, Instant::now() + within, |message| {
                // What is no event has no trace.
                if let Ok(event) = Event::from_record(&received(&prefix, message).record)
                    && event.trace_parent.trace_id == trace_id
                {
                    let (published_at, offset) = (time_of(message), message.offset());
                    found.push(TracedEvent { event, published_at, partition, offset });
                }
            })?;
        }
        found.sort_by_key(|traced| (traced.published_at, traced.event.time));
        Ok(found)
    })
    .await
    .map_err(|source| TracedEventsError { trace_id, source })
}

/// Of each partition that has any, the offsets of what was published at these times.
fn published(
    client: &BaseConsumer,
    topics: &[String],
    times: &Range<Timestamp>,
    deadline: Instant,
) -> Result<Vec<(String, i32, Range<i64>)>, BoxError> {
    let mut partitions = TopicPartitionList::new();
    for name in topics {
        for number in 0..partitions_of(client, name, deadline)? {
            partitions.add_partition(name, number);
        }
    }
    let at = |time: Timestamp| -> Result<_, BoxError> {
        let mut asked = partitions.clone();
        asked.set_all_offsets(Offset::Offset(time.as_millisecond()))?;
        Ok(client.offsets_for_times(asked, left(deadline))?)
    };
    let (begins, ends) = (at(times.start)?, at(times.end)?);
    let last = offsets(client, &partitions, Offset::End, deadline)?;
    let mut found = Vec::new();
    for partition in partitions.elements() {
        let (name, number) = (partition.topic(), partition.partition());
        // Nothing was published since.
        let Some(begin) = offset(&begins, name, number)? else { continue };
        let end = match offset(&ends, name, number)? {
            Some(end) => end,
            None => known(&last, name, number)?,
        };
        if begin < end {
            found.push((name.to_owned(), number, begin..end));
        }
    }
    Ok(found)
}
