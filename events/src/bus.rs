use std::{
    fmt,
    sync::{Arc, mpsc},
    time::Instant,
};

use crate::{BoxError, Topic};
use async_trait::async_trait;

/// A record as the bus carries it, event or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The topic's name, before any prefix of the installation.
    pub topic: String,
    /// The partition key.
    pub key: Option<Vec<u8>>,
    /// Headers in their order; a name may recur.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The value.
    pub payload: Vec<u8>,
}

impl Record {
    /// The last header of this name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().rev().find(|(header, _)| header == name).map(|(_, value)| value.as_slice())
    }
}

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition {
    /// The topic's name, before any prefix of the installation.
    pub topic: Arc<str>,
    /// The partition's number.
    pub number: i32,
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.number)
    }
}

/// A record as a consumer gets it.
#[derive(Clone, Debug)]
pub struct Received {
    /// Where it stands.
    pub partition: Partition,
    /// Its offset there.
    pub offset: i64,
    /// The record.
    pub record: Record,
}

/// Partitions that are being taken from this consumer. They go to their next owner when this value is dropped,
/// or when the bus waits no longer.
#[derive(Debug)]
pub struct Revocation {
    /// The partitions.
    pub partitions: Vec<Partition>,
    /// When the bus will wait no longer: from then on the partitions may be anybody's, also this consumer's again.
    pub release_by: Instant,
    /// Dropping the sender wakes the bus, which commits what was stored and gives the partitions back.
    pub(crate) _release: mpsc::Sender<()>,
}

/// What a consumer is told.
#[derive(Debug)]
pub enum Signal {
    /// A record to handle.
    Received(Box<Received>),
    /// Partitions to let go of.
    Revoked(Revocation),
}

/// The bus failed.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The client could not be made, which is a matter of configuration.
    #[error("the bus client could not be configured")]
    Configuration(#[source] BoxError),
    /// Records were not acknowledged. They may have been published or not.
    #[error("records for {topic} were not acknowledged")]
    Publish {
        /// The topic of the first record that failed.
        topic: String,
        /// What the client says.
        #[source]
        source: BoxError,
    },
    /// There is no topic of that name where Tipstaff does not create it.
    #[error("there is no topic {topic}; create it, Tipstaff does not")]
    NoTopic {
        /// The topic's name.
        topic: String,
    },
    /// The broker does not let Tipstaff's user write to a topic.
    #[error(
        "Tipstaff's user may not write to the topic {topic}; the cluster's administrator has to allow it"
    )]
    TopicForbidden {
        /// The topic's name.
        topic: String,
    },
    /// A bus without Kafka has no topics of others.
    #[error("there is no Kafka here, and so no topic {topic}")]
    NoKafka {
        /// The topic's name.
        topic: String,
    },
    /// Consuming failed for good.
    #[error("group {group} can no longer consume")]
    Consume {
        /// The consumer group.
        group: String,
        /// What the client says.
        #[source]
        source: BoxError,
    },
    /// The bus does not answer.
    #[error("the bus does not answer")]
    Unreachable(#[source] BoxError),
    /// How far a group is behind could not be read.
    #[error("the lag of group {group} cannot be read")]
    Lag {
        /// The consumer group.
        group: String,
        /// What the client says.
        #[source]
        source: BoxError,
    },
    /// Topics could not be looked up or created.
    #[error("topics could not be created")]
    Topics(#[source] BoxError),
}

/// A record that may not have been published.
#[derive(Debug)]
pub struct Unacknowledged {
    /// Which of those that were given, from 0.
    pub number: usize,
    /// Why.
    pub error: BusError,
}

/// One member of a consumer group.
///
/// A record counts as done only when an offset beyond it is stored: what is not done when a member goes is
/// received again by the next one.
#[async_trait]
pub trait Consumer: Send {
    /// Waits for the next revocation or, where there is `room` for one, record. Cancelling the wait loses nothing.
    ///
    /// # Errors
    /// Only when consuming is over for good; passing faults are retried by the bus.
    async fn receive(&mut self, room: bool) -> Result<Signal, BusError>;

    /// Stores that everything of the partition below `next_offset` is done.
    ///
    /// # Errors
    /// When the partition is no longer this consumer's.
    fn store(&self, partition: &Partition, next_offset: i64) -> Result<(), BusError>;

    /// Commits what is stored and leaves the group.
    ///
    /// # Errors
    /// When the last commit failed: what it covered is received again.
    async fn close(self: Box<Self>) -> Result<(), BusError>;
}

/// What carries events from those who emit to those who handle.
#[async_trait]
pub trait Bus: Send + Sync {
    /// Publishes records and waits until all are acknowledged. Records of one key keep their order.
    ///
    /// # Errors
    /// When one was not acknowledged; others may have been published nevertheless.
    async fn publish(&self, records: &[Record]) -> Result<(), BusError> {
        self.publish_each(records)
            .await
            .into_iter()
            .next()
            .map_or(Ok(()), |unacknowledged| Err(unacknowledged.error))
    }

    /// The same, and tells which records were not acknowledged: where a part of the bus is away, all that goes elsewhere is
    /// published.
    async fn publish_each(&self, records: &[Record]) -> Vec<Unacknowledged>;

    /// Publishes a record to the topic of exactly its name, without the installation's prefix: to one that is not
    /// Tipstaff's ([`Topic::is_reserved`]). Waits until it is acknowledged.
    ///
    /// # Errors
    /// [`BusError::NoTopic`], [`BusError::TopicForbidden`] and [`BusError::NoKafka`], or when it was not acknowledged. Then
    /// it may have been published nevertheless.
    async fn publish_unprefixed(&self, record: &Record) -> Result<(), BusError>;

    /// Joins a consumer group. A new group begins with the oldest record kept.
    ///
    /// # Errors
    /// When the client cannot be made.
    async fn subscribe(&self, group: &str, topics: &[Topic]) -> Result<Box<dyn Consumer>, BusError>;

    /// Creates the topics and their dead-letter topics where they are missing.
    ///
    /// # Errors
    /// When the bus cannot be reached or refuses.
    async fn ensure_topics(&self) -> Result<(), BusError>;

    /// Asks the bus for a sign of life.
    ///
    /// # Errors
    /// When it does not answer within some seconds.
    async fn ping(&self) -> Result<(), BusError>;
}
