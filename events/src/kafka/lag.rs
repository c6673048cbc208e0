//! How far a consumer group is behind: the ends of its topics against what it committed.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
};

use super::{KafkaOptions, client_config, configuration, with_properties};
use crate::{BoxError, BusError, Topic};

/// Events of the client that one reading takes out of its queue: broken connections, most of all.
const NOTICES_AT_ONCE: usize = 1_000;

/// How far a group is behind in a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicLag {
    /// The topic.
    pub topic: Topic,
    /// Its partitions.
    pub partitions: u32,
    /// Events that are not committed yet: those in flight are among them.
    pub events: u64,
}

/// Reads the lag of one consumer group, without ever joining it.
pub struct LagReader {
    group: String,
    topics: Vec<(Topic, String)>,
    /// Always there, until the end: see `drop`.
    client: Option<Arc<BaseConsumer>>,
}

impl LagReader {
    /// Makes the client. It connects when it is asked.
    ///
    /// # Errors
    /// When a property is unknown or has a value that it cannot have.
    pub fn new(options: &KafkaOptions, group: &str, topics: &[Topic]) -> Result<Self, BusError> {
        let mut config = client_config(options);
        config.set("group.id", format!("{}{group}", options.prefix)).set("enable.auto.commit", "false");
        let client: BaseConsumer = with_properties(config, options).create().map_err(configuration)?;
        let topics =
            topics.iter().map(|topic| (*topic, format!("{}{}", options.prefix, topic.name()))).collect();
        Ok(Self { group: group.to_owned(), topics, client: Some(Arc::new(client)) })
    }

    /// Asks the brokers. A group that never committed is behind by all that its topics hold.
    ///
    /// # Errors
    /// When a broker does not answer within the time given, or a topic does not exist. What is not known of one partition
    /// is not known of the group.
    pub async fn read(&self, within: Duration) -> Result<Vec<TopicLag>, BusError> {
        let failed = |source: BoxError| BusError::Lag { group: self.group.clone(), source };
        let Some(client) = self.client.clone() else { return Err(failed("its client has ended".into())) };
        let topics = self.topics.clone();
        let deadline = Instant::now() + within;
        tokio::task::spawn_blocking(move || read(&client, &topics, deadline))
            .await
            .map_err(|error| failed(error.into()))?
            .map_err(failed)
    }
}

impl Drop for LagReader {
    /// Ending a client blocks, which the runtime must not.
    fn drop(&mut self) {
        let client = self.client.take();
        // Without a thread it ends here.
        let _ = thread::Builder::new().name(format!("kafka lag {}", self.group)).spawn(move || drop(client));
    }
}

/// What is asked of each partition takes one request a broker, however many partitions there are.
fn read(
    client: &BaseConsumer,
    topics: &[(Topic, String)],
    deadline: Instant,
) -> Result<Vec<TopicLag>, BoxError> {
    // Nobody polls this client, and what it has to say would pile up.
    for _ in 0..NOTICES_AT_ONCE {
        if client.poll(Duration::ZERO).is_none() {
            break;
        }
    }
    let mut counts = Vec::with_capacity(topics.len());
    let mut partitions = TopicPartitionList::new();
    for (topic, name) in topics {
        let count = count_partitions(client, name, deadline)?;
        for number in 0..count {
            partitions.add_partition(name, number);
        }
        counts.push((*topic, name, u32::try_from(count)?));
    }
    // Before the ends: what comes in between makes the lag too large by a moment, never too small.
    let committed = client.committed_offsets(partitions.clone(), left(deadline))?;
    let begins = offsets(client, &partitions, Offset::Beginning, deadline)?;
    let ends = offsets(client, &partitions, Offset::End, deadline)?;
    let mut lags = Vec::with_capacity(counts.len());
    for (topic, name, partitions) in counts {
        let mut events = 0;
        for number in 0..i32::try_from(partitions)? {
            let committed = offset(&committed, name, number)?;
            let (begin, end) = (known(&begins, name, number)?, known(&ends, name, number)?);
            events += lag(committed, begin, end);
        }
        lags.push(TopicLag { topic, partitions, events });
    }
    Ok(lags)
}

/// What retention removed before it was handled is no longer there to be handled.
fn lag(committed: Option<i64>, begin: i64, end: i64) -> u64 {
    let next = committed.unwrap_or(begin).max(begin);
    u64::try_from(end.saturating_sub(next)).unwrap_or(0)
}

pub(super) fn count_partitions(
    client: &BaseConsumer,
    name: &str,
    deadline: Instant,
) -> Result<i32, BoxError> {
    let metadata = client.fetch_metadata(Some(name), left(deadline))?;
    let Some(topic) = metadata.topics().iter().find(|topic| topic.name() == name) else {
        return Err(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopic).into());
    };
    if let Some(error) = topic.error() {
        return Err(KafkaError::MetadataFetch(error.into()).into());
    }
    Ok(i32::try_from(topic.partitions().len())?)
}

/// Where each partition begins or ends: librdkafka's numbers for the two are those of Kafka's protocol for times.
pub(super) fn offsets(
    client: &BaseConsumer,
    partitions: &TopicPartitionList,
    which: Offset,
    deadline: Instant,
) -> KafkaResult<TopicPartitionList> {
    let mut asked = partitions.clone();
    asked.set_all_offsets(which)?;
    client.offsets_for_times(asked, left(deadline))
}

pub(super) fn offset(list: &TopicPartitionList, name: &str, number: i32) -> Result<Option<i64>, KafkaError> {
    let Some(element) = list.find_partition(name, number) else { return Ok(None) };
    element.error()?;
    match element.offset() {
        Offset::Offset(offset) => Ok(Some(offset)),
        _ => Ok(None),
    }
}

pub(super) fn known(list: &TopicPartitionList, name: &str, number: i32) -> Result<i64, BoxError> {
    let offset = offset(list, name, number)?;
    offset.ok_or_else(|| format!("the broker does not tell the offsets of {name}/{number}").into())
}

pub(super) fn left(deadline: Instant) -> Duration {
    // Zero would ask librdkafka not to wait at all.
    deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_what_is_kept_and_not_committed() {
        let rows = [
            // committed, begin, end, lag
            (None, 0, 0, 0),
            (None, 0, 7, 7),
            (None, 5, 7, 2),
            (Some(0), 0, 7, 7),
            (Some(7), 0, 7, 0),
            // Retention removed what was not handled.
            (Some(3), 5, 7, 2),
            // The topic was made anew.
            (Some(90), 0, 7, 0),
        ];
        for (committed, begin, end, expected) in rows {
            assert_eq!(lag(committed, begin, end), expected, "{committed:?} in {begin}..{end}");
        }
    }
}
