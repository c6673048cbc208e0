//! What is in the topics, read with a client of the checker's own.

use std::{collections::BTreeMap, time::Duration};

use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    message::Headers,
    producer::{BaseProducer, BaseRecord, Producer},
};
use tokio::task::spawn_blocking;

use crate::Failure;

const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// Where the topics are.
#[derive(Clone)]
pub struct Topics {
    brokers: String,
    prefix: String,
}

/// A record.
#[derive(Clone, Debug)]
pub struct Record {
    /// In which topic, without the prefix.
    pub topic: String,
    /// Its headers.
    pub headers: BTreeMap<String, String>,
    /// What it says.
    pub value: String,
}

/// Where each partition of each topic ends.
pub type Ends = BTreeMap<(String, i32), i64>;

impl Topics {
    /// Those whose names begin so.
    #[must_use]
    pub fn new(brokers: String, prefix: String) -> Self {
        Self { brokers, prefix }
    }

    /// Where they end: an end grows with each record.
    pub async fn ends(&self) -> Result<Ends, Failure> {
        let topics = self.clone();
        spawn_blocking(move || topics.ends_of(&topics.consumer()?)).await?
    }

    /// All their records.
    pub async fn read(&self) -> Result<Vec<Record>, Failure> {
        let topics = self.clone();
        spawn_blocking(move || topics.read_blocking()).await?
    }

    /// Writes a record that nobody reads.
    pub async fn write(&self, topic: &str) -> Result<(), Failure> {
        let (config, topic) = (self.config(), format!("{}{topic}", self.prefix));
        spawn_blocking(move || {
            let producer: BaseProducer = config.create()?;
            let record: BaseRecord<'_, str, str> = BaseRecord::to(&topic).payload("{}");
            producer.send(record).map_err(|(error, _)| error)?;
            Ok(producer.flush(ANSWER_WITHIN)?)
        })
        .await?
    }

    fn read_blocking(&self) -> Result<Vec<Record>, Failure> {
        let consumer = self.consumer()?;
        let mut left = self.ends_of(&consumer)?;
        let mut partitions = TopicPartitionList::new();
        left.retain(|_, end| *end > 0);
        for (topic, partition) in left.keys() {
            partitions.add_partition_offset(topic, *partition, Offset::Beginning)?;
        }
        consumer.assign(&partitions)?;
        let mut records = Vec::new();
        while !left.is_empty() {
            let record = consumer.poll(ANSWER_WITHIN).ok_or("a topic could not be read to its end")??;
            let place = (record.topic().to_owned(), record.partition());
            if left.get(&place).is_some_and(|end| record.offset() + 1 >= *end) {
                left.remove(&place);
            }
            let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
            let headers = record.headers().into_iter().flat_map(|headers| headers.iter());
            records.push(Record {
                topic: record.topic().trim_start_matches(self.prefix.as_str()).to_owned(),
                headers: headers.map(|header| (header.key.to_owned(), text(header.value))).collect(),
                value: text(record.payload()),
            });
        }
        Ok(records)
    }

    fn ends_of(&self, consumer: &BaseConsumer) -> Result<Ends, Failure> {
        let metadata = consumer.fetch_metadata(None, ANSWER_WITHIN)?;
        let mut ends = Ends::new();
        for topic in metadata.topics().iter().filter(|topic| topic.name().starts_with(&self.prefix)) {
            for partition in topic.partitions() {
                let (_, end) = consumer.fetch_watermarks(topic.name(), partition.id(), ANSWER_WITHIN)?;
                ends.insert((topic.name().to_owned(), partition.id()), end);
            }
        }
        Ok(ends)
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers).set("client.id", "chaos");
        config
    }

    fn consumer(&self) -> Result<BaseConsumer, Failure> {
        // It is in no group: it reads what it is told to. librdkafka wants a name all the same.
        Ok(self.config().set("group.id", "chaos").set("enable.auto.commit", "false").create()?)
    }
}
