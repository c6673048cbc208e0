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

/// Where each partition of each topic ends, or how far a group has come in it.
pub type Ends = BTreeMap<(String, i32), i64>;

/// A group that has not handled all of its topics.
#[derive(Clone, Debug)]
pub struct Behind {
    /// Its name, without the prefix.
    pub group: String,
    /// How many events it has not committed.
    pub events: i64,
}

/// The consumer groups and their topics, as they are documented.
const GROUPS: [(&str, &[&str]); 5] = [
    ("tipstaff.schedule", &["subs.schedule"]),
    ("tipstaff.crawl", &["crawl.request"]),
    ("tipstaff.parse", &["crawl.result", "parse.request"]),
    ("tipstaff.version", &["parse.result", "versioning.request"]),
    ("tipstaff.deliver", &["versioning.result", "delivery.request"]),
];

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

    /// How far each group has come in each partition of its topics: the group and the topic, the partition, and the offset that
    /// was committed.
    pub async fn committed(&self) -> Result<Ends, Failure> {
        let topics = self.clone();
        spawn_blocking(move || topics.committed_blocking()).await?
    }

    /// The groups that have not handled all of their topics.
    pub async fn behind(&self) -> Result<Vec<Behind>, Failure> {
        // Before the ends: what comes in between is not taken for handled.
        let committed = self.committed().await?;
        let ends = self.ends().await?;
        Ok(behind(&self.prefix, &committed, &ends))
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

    fn committed_blocking(&self) -> Result<Ends, Failure> {
        let mut committed = Ends::new();
        for (group, topics) in GROUPS {
            let mut config = self.config();
            // It asks for the group, and never joins it.
            config.set("group.id", format!("{}{group}", self.prefix)).set("enable.auto.commit", "false");
            let consumer: BaseConsumer = config.create()?;
            let metadata = consumer.fetch_metadata(None, ANSWER_WITHIN)?;
            let mut partitions = TopicPartitionList::new();
            for topic in metadata.topics() {
                let name = topic.name().strip_prefix(&self.prefix);
                if name.is_some_and(|name| topics.contains(&name)) {
                    for partition in topic.partitions() {
                        partitions.add_partition(topic.name(), partition.id());
                    }
                }
            }
            for partition in consumer.committed_offsets(partitions, ANSWER_WITHIN)?.elements() {
                partition.error()?;
                // Where nothing was committed, nothing was handled.
                let Offset::Offset(offset) = partition.offset() else { continue };
                let name = partition.topic().trim_start_matches(self.prefix.as_str());
                committed.insert((format!("{group} {name}"), partition.partition()), offset);
            }
        }
        Ok(committed)
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

/// The groups that have not committed all of their topics.
fn behind(prefix: &str, committed: &Ends, ends: &Ends) -> Vec<Behind> {
    let of_group = |(group, topics): &(&str, &[&str])| {
        let of_topic = |topic: &&str| {
            let name = format!("{prefix}{topic}");
            let partitions = ends.iter().filter(|((topic, _), _)| *topic == name);
            let done = |partition: i32| committed.get(&(format!("{group} {topic}"), partition)).copied();
            partitions.map(|((_, partition), end)| end - done(*partition).unwrap_or_default()).sum::<i64>()
        };
        Behind { group: (*group).to_owned(), events: topics.iter().map(of_topic).sum() }
    };
    GROUPS.iter().map(of_group).filter(|behind| behind.events > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_behind_by_what_it_has_not_committed() {
        let ends = |ends: &[(&str, i32, i64)]| {
            ends.iter().map(|(topic, partition, end)| (((*topic).to_owned(), *partition), *end)).collect()
        };
        let topics: Ends = ends(&[
            ("mine.parse.result", 0, 4),
            ("mine.parse.result", 1, 3),
            ("mine.crawl.request", 0, 2),
            ("parse.result", 2, 9),
        ]);
        let events = |committed: &[(&str, i32, i64)]| {
            let behind = behind("mine.", &ends(committed), &topics);
            behind.into_iter().map(|behind| (behind.group, behind.events)).collect::<Vec<_>>()
        };
        let version = "tipstaff.version parse.result";
        let crawl = ("tipstaff.crawl crawl.request", 0, 2);
        assert_eq!(events(&[crawl, (version, 0, 4), (version, 1, 3)]), []);
        assert_eq!(events(&[crawl, (version, 0, 4), (version, 1, 1)]), [("tipstaff.version".to_owned(), 2)]);
        assert_eq!(events(&[crawl, (version, 1, 3)]), [("tipstaff.version".to_owned(), 4)]);
    }
}
