//! The bus on Apache Kafka.

mod consumer;
mod dead_letters;
mod lag;
mod reading;
mod topic_of_others;
mod traced;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{PoisonError, RwLock},
    time::Duration,
};

use async_trait::async_trait;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
    producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer},
};

use tokio::time::sleep;
use tracing::warn;

use crate::{Bus, BusError, Consumer, Record, Topic, Unacknowledged};

pub use dead_letters::{
    DeadLetter, DeadLetterError, DeadLetterPartition, DeadLetters, LetterRange, REDRIVE_GROUP,
};
pub use lag::{LagReader, TopicLag};
pub use traced::{TracedEvent, TracedEventsError, events_of_trace};

/// How long a broker may take to acknowledge a record, or to answer a question.
const ACKNOWLEDGE_WITHIN: Duration = Duration::from_secs(10);
/// How long the brokers may take to answer when they are asked for a sign of life.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How many records of one call are on their way at the same time.
const IN_FLIGHT: usize = 1_000;

/// How to reach a Kafka cluster, and how to lay out topics there.
#[derive(Clone, Debug)]
pub struct KafkaOptions {
    /// `bootstrap.servers`: `host:port`, separated by commas.
    pub brokers: String,
    /// Stands before the names of topics and consumer groups, so that installations can share a cluster.
    pub prefix: String,
    /// Properties of librdkafka, for instance for TLS and SASL. They win over Tipstaff's own.
    pub properties: BTreeMap<String, String>,
    /// Partitions of a topic that has to be created.
    pub partitions: i32,
    /// Replicas of a topic that has to be created; -1 for the brokers' default.
    pub replication: i32,
    /// How long partitions that are taken away are waited for. Shorter than the session timeout (10 s unless set).
    pub revoke: Duration,
}

/// The bus on a Kafka cluster.
pub struct KafkaBus {
    options: KafkaOptions,
    /// Made anew after an error that ends a producer for good.
    producer: RwLock<FutureProducer>,
}

impl KafkaBus {
    /// Makes the client. It connects by itself, now or when the cluster is there.
    ///
    /// # Errors
    /// When a property is unknown or has a value that it cannot have.
    pub fn new(options: KafkaOptions) -> Result<Self, BusError> {
        let producer = RwLock::new(producer(&options)?);
        Ok(Self { options, producer })
    }

    fn producer(&self) -> FutureProducer {
        // The lock guards one value, which is whole at any moment.
        self.producer.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// An idempotent producer that lost track of its sequence, after a broker lost data, never works again.
    fn replace_producer(&self, error: &BusError) {
        warn!(%error, "the Kafka producer failed for good and is made anew");
        match producer(&self.options) {
            Ok(new) => *self.producer.write().unwrap_or_else(PoisonError::into_inner) = new,
            Err(error) => warn!(%error, "the Kafka producer could not be made anew"),
        }
    }

    fn topic(&self, name: &str) -> String {
        format!("{}{name}", self.options.prefix)
    }

    /// Hands a record to the client, in the order of the calls.
    fn enqueue(
        producer: &FutureProducer,
        prefix: &str,
        record: &Record,
    ) -> Result<DeliveryFuture, KafkaError> {
        let topic = format!("{prefix}{}", record.topic);
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
        for (key, value) in &record.headers {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        let mut message = FutureRecord::<[u8], [u8]>::to(&topic).payload(&record.payload).headers(headers);
        if let Some(key) = &record.key {
            message = message.key(key);
        }
        producer.send_result(message).map_err(|(error, _)| error)
    }

    /// Those that were not acknowledged, in their order.
    async fn publish_with(
        producer: &FutureProducer,
        prefix: &str,
        records: &[Record],
    ) -> Vec<Unacknowledged> {
        let mut deliveries = VecDeque::with_capacity(records.len().min(IN_FLIGHT));
        let mut failed = Vec::new();
        let settle = async |(number, topic, delivery): (usize, &String, DeliveryFuture),
                            failed: &mut Vec<Unacknowledged>| {
            if let Err(error) = acknowledged(topic, delivery).await {
                failed.push(Unacknowledged { number, error });
            }
        };
        for (number, record) in records.iter().enumerate() {
            let delivery = loop {
                match Self::enqueue(producer, prefix, record) {
                    Ok(delivery) => break Some(delivery),
                    Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => {
                        match deliveries.pop_front() {
                            Some(oldest) => settle(oldest, &mut failed).await,
                            // The queue is full of other callers' records.
                            None => sleep(Duration::from_millis(5)).await,
                        }
                    }
                    Err(error) => {
                        failed.push(Unacknowledged { number, error: publish_error(&record.topic, error) });
                        break None;
                    }
                }
            };
            if deliveries.len() >= IN_FLIGHT
                && let Some(oldest) = deliveries.pop_front()
            {
                settle(oldest, &mut failed).await;
            }
            deliveries.extend(delivery.map(|delivery| (number, &record.topic, delivery)));
        }
        for delivery in deliveries {
            settle(delivery, &mut failed).await;
        }
        failed.sort_by_key(|unacknowledged| unacknowledged.number);
        failed
    }

    /// Publishes records to topics whose names follow `prefix`.
    async fn publish_behind(&self, prefix: &str, records: &[Record]) -> Vec<Unacknowledged> {
        let failed = Self::publish_with(&self.producer(), prefix, records).await;
        if let Some(fatal) = failed.iter().find(|unacknowledged| is_fatal(&unacknowledged.error)) {
            self.replace_producer(&fatal.error);
        }
        failed
    }

    async fn missing_topics(&self) -> Result<Vec<String>, BusError> {
        let producer = self.producer();
        let metadata =
            tokio::task::spawn_blocking(move || producer.client().fetch_metadata(None, ACKNOWLEDGE_WITHIN))
                .await
                .map_err(|error| BusError::Topics(error.into()))?
                .map_err(|error| BusError::Topics(error.into()))?;
        let wanted =
            Topic::ALL.into_iter().flat_map(|topic| [topic.name().to_owned(), topic.dead_letter_name()]);
        Ok(wanted
            .map(|name| self.topic(&name))
            .filter(|name| !metadata.topics().iter().any(|topic| topic.name() == name))
            .collect())
    }
}

#[async_trait]
impl Bus for KafkaBus {
    async fn publish_each(&self, records: &[Record]) -> Vec<Unacknowledged> {
        self.publish_behind(&self.options.prefix, records).await
    }

    async fn publish_unprefixed(&self, record: &Record) -> Result<(), BusError> {
        topic_of_others::check(self.producer(), &record.topic).await?;
        let failed = self.publish_behind("", std::slice::from_ref(record)).await;
        failed
            .into_iter()
            .next()
            .map_or(Ok(()), |failed| Err(topic_of_others::without_permission(failed.error)))
    }

    async fn subscribe(&self, group: &str, topics: &[Topic]) -> Result<Box<dyn Consumer>, BusError> {
        let mut config = client_config(&self.options);
        config
            .set("group.id", self.topic(group))
            .set("enable.auto.commit", "true")
            .set("auto.commit.interval.ms", "1000")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("session.timeout.ms", "10000")
            .set("partition.assignment.strategy", "cooperative-sticky")
            // A worker may start before the operator has made the topics.
            .set("topic.metadata.refresh.interval.ms", "5000")
            // Both bounds are of all partitions together. Whoever finds them reached looks again soon: by default it would be
            // after a second, in which a loop has long handled what there was.
            .set("fetch.queue.backoff.ms", "20")
            .set("queued.min.messages", "1000")
            .set("queued.max.messages.kbytes", "16384");
        let config = with_properties(config, &self.options);
        let names: Vec<_> = topics.iter().map(|topic| self.topic(topic.name())).collect();
        let consumer = consumer::KafkaConsumer::start(&config, &self.options, group, &names)?;
        Ok(Box::new(consumer))
    }

    async fn ping(&self) -> Result<(), BusError> {
        let producer = self.producer();
        // One topic rather than all of a cluster's.
        let topic = self.topic(Topic::SubsSchedule.name());
        let asked = tokio::task::spawn_blocking(move || {
            producer.client().fetch_metadata(Some(&topic), ANSWER_WITHIN).map(|_| ())
        });
        asked
            .await
            .map_err(|error| BusError::Unreachable(error.into()))?
            .map_err(|error| BusError::Unreachable(error.into()))
    }

    async fn ensure_topics(&self) -> Result<(), BusError> {
        let missing = self.missing_topics().await?;
        if missing.is_empty() {
            return Ok(());
        }
        let admin: AdminClient<DefaultClientContext> =
            with_properties(client_config(&self.options), &self.options).create().map_err(configuration)?;
        let new: Vec<_> = missing
            .iter()
            .map(|name| {
                NewTopic::new(
                    name,
                    self.options.partitions,
                    TopicReplication::Fixed(self.options.replication),
                )
            })
            .collect();
        let options = AdminOptions::new().operation_timeout(Some(ACKNOWLEDGE_WITHIN));
        let results =
            admin.create_topics(&new, &options).await.map_err(|error| BusError::Topics(error.into()))?;
        for result in results {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => {
                    return Err(BusError::Topics(TopicError { topic, source: code }.into()));
                }
            }
        }
        Ok(())
    }
}

async fn acknowledged(topic: &str, delivery: DeliveryFuture) -> Result<(), BusError> {
    match delivery.await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err((error, _))) => Err(publish_error(topic, error)),
        // The client is gone before it heard from the broker.
        Err(_) => Err(publish_error(topic, KafkaError::Canceled)),
    }
}

fn is_fatal(error: &BusError) -> bool {
    let BusError::Publish { source, .. } = error else { return false };
    let code = source.downcast_ref::<KafkaError>().and_then(KafkaError::rdkafka_error_code);
    code == Some(RDKafkaErrorCode::Fatal)
}

fn publish_error(topic: &str, error: KafkaError) -> BusError {
    BusError::Publish { topic: topic.to_owned(), source: error.into() }
}

#[derive(Debug, thiserror::Error)]
#[error("topic {topic} could not be created")]
struct TopicError {
    topic: String,
    source: RDKafkaErrorCode,
}

fn producer(options: &KafkaOptions) -> Result<FutureProducer, BusError> {
    let mut config = client_config(options);
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("compression.type", "zstd")
        .set("linger.ms", "2")
        // Where brokers would make a topic of whatever name somebody writes to.
        .set("allow.auto.create.topics", "false")
        .set("message.timeout.ms", ACKNOWLEDGE_WITHIN.as_millis().to_string());
    with_properties(config, options).create().map_err(configuration)
}

fn client_config(options: &KafkaOptions) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &options.brokers).set("client.id", "tipstaff");
    config
}

fn with_properties(mut config: ClientConfig, options: &KafkaOptions) -> ClientConfig {
    for (name, value) in &options.properties {
        config.set(name, value);
    }
    config
}

fn configuration(error: KafkaError) -> BusError {
    BusError::Configuration(error.into())
}
