//! Dead letters on Kafka: counted, read, and brought back as the messages that they were.
//!
//! Letters stay in their topic until retention removes them. Up to where they were published again is what a consumer
//! group of its own has committed: [`REDRIVE_GROUP`].

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
};

use super::{
    KafkaOptions,
    consumer::received,
    lag::{known, left, offset, offsets},
    reading::{ask, partitions_of, read, time_of},
};
use crate::{BoxError, Record, Topic};

/// The consumer group whose committed offsets say up to where dead letters were published again.
pub const REDRIVE_GROUP: &str = "tipstaff-dlq-redrive";

/// What the names of headers begin with that are added when a message becomes a dead letter.
const ADDED: &str = "dead_letter_";
const REASON: &str = "dead_letter_reason";
/// How often the message was put off before.
const ATTEMPT: &str = "attempt";

/// A message that could not be handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The topic that the message was for.
    pub topic: Topic,
    /// The partition of the dead-letter topic.
    pub partition: i32,
    /// The offset there.
    pub offset: i64,
    /// When it became a dead letter, as far as Kafka knows.
    pub time: Option<Timestamp>,
    /// The letter as it lies there.
    pub record: Record,
}

impl DeadLetter {
    /// Why the message could not be handled.
    pub fn reason(&self) -> Option<String> {
        self.text(REASON)
    }

    /// The job that it asked for.
    pub fn job_type(&self) -> Option<String> {
        self.text("ce_type")
    }

    /// How often the message was put off before it became a dead letter.
    pub fn put_off(&self) -> u32 {
        self.text(ATTEMPT).and_then(|count| count.parse().ok()).unwrap_or(0)
    }

    /// The message as it came first: for its own topic, without what was added since. Attempts are counted anew, for one
    /// that used them up would be a dead letter again at its first setback.
    pub fn revived(&self) -> Record {
        let mut record = self.record.clone();
        self.topic.name().clone_into(&mut record.topic);
        record.headers.retain(|(name, _)| name != ATTEMPT && !name.starts_with(ADDED));
        record
    }

    fn text(&self, header: &str) -> Option<String> {
        self.record.header(header).map(|value| String::from_utf8_lossy(value).into_owned())
    }
}

/// What a partition of a dead-letter topic holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadLetterPartition {
    /// The topic that the messages were for.
    pub topic: Topic,
    /// The partition's number.
    pub number: i32,
    /// The offset of the oldest letter that is kept.
    pub begin: i64,
    /// The offset of the first letter that was not published again.
    pub waiting_from: i64,
    /// The offset that the next letter will have.
    pub end: i64,
}

impl DeadLetterPartition {
    /// All letters that are kept.
    pub fn kept(&self) -> Range<i64> {
        self.begin..self.end
    }

    /// The letters that were not published again.
    pub fn waiting(&self) -> Range<i64> {
        self.waiting_from..self.end
    }
}

/// Letters of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LetterRange {
    /// The topic that the messages were for.
    pub topic: Topic,
    /// The partition's number.
    pub partition: i32,
    /// Their offsets.
    pub offsets: Range<i64>,
}

/// Dead letters could not be looked at, or what was done not be noted.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    /// The brokers did not answer, or not as was hoped.
    #[error(
        "the dead letters cannot be read; see whether the brokers, the prefix and the properties are right"
    )]
    Read(#[source] BoxError),
    /// The offset could not be committed.
    #[error(
        "how far {topic} was published again could not be noted (group {REDRIVE_GROUP}): the next redrive publishes \
         again what this one did since the last note"
    )]
    Mark {
        /// The topic.
        topic: Topic,
        /// What the client says.
        #[source]
        source: BoxError,
    },
}

/// The dead letters of an installation. It joins no group.
pub struct DeadLetters {
    options: KafkaOptions,
    within: Duration,
}

impl DeadLetters {
    /// `within` bounds how long each question to the brokers may take.
    pub fn new(options: KafkaOptions, within: Duration) -> Self {
        Self { options, within }
    }

    /// What there is of the topics, partition by partition.
    ///
    /// # Errors
    /// When the brokers do not answer in time, or a topic is missing.
    pub async fn partitions(&self, topics: &[Topic]) -> Result<Vec<DeadLetterPartition>, DeadLetterError> {
        let topics: Vec<_> = topics.iter().map(|topic| (*topic, self.name(*topic))).collect();
        self.ask(move |client, deadline| partitions(client, &topics, deadline))
            .await
            .map_err(DeadLetterError::Read)
    }

    /// Letters in the order of the ranges, and of their offsets in each. Those that retention has removed are left out.
    ///
    /// # Errors
    /// When the brokers do not hand them over in time.
    pub async fn read(&self, ranges: Vec<LetterRange>) -> Result<Vec<DeadLetter>, DeadLetterError> {
        let named: Vec<_> = ranges.into_iter().map(|range| (self.name(range.topic), range)).collect();
        self.ask(move |client, deadline| {
            let mut letters = Vec::new();
            for (name, range) in &named {
                let LetterRange { topic, partition, offsets } = range;
                read(client, name, *partition, offsets, deadline, |message| {
                    let (offset, record) = (message.offset(), received("", message).record);
                    let time = time_of(message);
                    letters.push(DeadLetter { topic: *topic, partition: *partition, offset, time, record });
                })?;
            }
            Ok(letters)
        })
        .await
        .map_err(DeadLetterError::Read)
    }

    /// Notes that all letters of the partition before `next` were published again.
    ///
    /// # Errors
    /// When the brokers did not take the note.
    pub async fn mark(&self, topic: Topic, partition: i32, next: i64) -> Result<(), DeadLetterError> {
        let name = self.name(topic);
        self.ask(move |client, _| {
            let mut offsets = TopicPartitionList::new();
            offsets.add_partition_offset(&name, partition, Offset::Offset(next))?;
            Ok(client.commit(&offsets, CommitMode::Sync)?)
        })
        .await
        .map_err(|source| DeadLetterError::Mark { topic, source })
    }

    fn name(&self, topic: Topic) -> String {
        format!("{}{}", self.options.prefix, topic.dead_letter_name())
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&BaseConsumer, Instant) -> Result<T, BoxError> + Send + 'static,
    ) -> Result<T, BoxError> {
        ask(&self.options, REDRIVE_GROUP, self.within, question).await
    }
}

fn partitions(
    client: &BaseConsumer,
    topics: &[(Topic, String)],
    deadline: Instant,
) -> Result<Vec<DeadLetterPartition>, BoxError> {
    let mut list = TopicPartitionList::new();
    let mut places = Vec::new();
    for (topic, name) in topics {
        let count = partitions_of(client, name, deadline)?;
        for number in 0..count {
            list.add_partition(name, number);
            places.push((*topic, name, number));
        }
    }
    let committed = client.committed_offsets(list.clone(), left(deadline))?;
    let begins = offsets(client, &list, Offset::Beginning, deadline)?;
    let ends = offsets(client, &list, Offset::End, deadline)?;
    places
        .into_iter()
        .map(|(topic, name, number)| {
            let (begin, end) = (known(&begins, name, number)?, known(&ends, name, number)?);
            let waiting_from = waiting_from(offset(&committed, name, number)?, begin, end);
            Ok(DeadLetterPartition { topic, number, begin, waiting_from, end })
        })
        .collect()
}

/// A note beyond the end is of a topic that was there before this one under its name.
fn waiting_from(committed: Option<i64>, begin: i64, end: i64) -> i64 {
    committed.filter(|offset| *offset <= end).unwrap_or(begin).max(begin)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(headers: &[(&str, &str)]) -> DeadLetter {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()));
        let record = Record {
            topic: "court.crawl.request.dlq".to_owned(),
            key: Some(b"court.example".to_vec()),
            headers: headers.collect(),
            payload: b"{}".to_vec(),
        };
        DeadLetter { topic: Topic::CrawlRequest, partition: 0, offset: 7, time: None, record }
    }

    #[test]
    fn a_revived_letter_is_the_message_that_came_first() {
        let letter = letter(&[
            ("ce_type", "crawl.url"),
            ("attempt", "2"),
            ("dead_letter_reason", "the handler ended early"),
            ("dead_letter_attempts", "3"),
        ]);
        assert_eq!(letter.reason().as_deref(), Some("the handler ended early"));
        assert_eq!(letter.job_type().as_deref(), Some("crawl.url"));
        assert_eq!(letter.put_off(), 2);
        let revived = letter.revived();
        assert_eq!(revived.topic, "crawl.request");
        let names: Vec<_> = revived.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["ce_type"]);
        assert_eq!((revived.key, revived.payload), (letter.record.key.clone(), letter.record.payload));
    }

    #[test]
    fn what_waits_begins_behind_the_note_where_that_is_of_this_topic() {
        for (committed, begin, end, expected) in [
            (None, 0, 0, 0),
            (None, 5, 9, 5),
            (Some(7), 5, 9, 7),
            (Some(9), 5, 9, 9),
            // Retention removed letters that nobody had published again.
            (Some(3), 5, 9, 5),
            // The topic was made anew.
            (Some(90), 0, 9, 0),
        ] {
            assert_eq!(waiting_from(committed, begin, end), expected, "{committed:?} in {begin}..{end}");
        }
    }
}
