//! A bus of each kind with nothing on it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use events::{
    Bus, Consumer, Event, Received, Record, Signal, SubscriptionScheduled, Topic,
    kafka::{KafkaBus, KafkaOptions},
    memory::MemoryBus,
};
use jiff::Timestamp;
use rdkafka::{
    ClientConfig, Message, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaResult,
    message::{BorrowedMessage, Header, Headers, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};
use stack::Stack;
use tests::eventually;
use tokio::time::timeout;
use uuid::Uuid;

/// The longest that anything here is waited for.
pub(crate) const SOON: Duration = Duration::from_secs(60);
pub(crate) const PARTITIONS: i32 = 3;
/// What tests consume, what their handlers emit to, and where dead letters go.
const TOPICS: [&str; 3] = ["subs.schedule", "subs.schedule.dlq", "crawl.request"];

/// The same tests on every kind of bus.
macro_rules! on_every_bus {
    ($($test:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test] async fn $test() { super::$test(crate::place::Place::memory()).await; })*
        }
        mod kafka {
            $(#[tokio::test] async fn $test() { super::$test(crate::place::Place::kafka().await).await; })*
        }
    };
}
pub(crate) use on_every_bus;

pub(crate) struct Place {
    pub(crate) bus: Arc<dyn Bus>,
    kind: Kind,
}

enum Kind {
    Memory(MemoryBus),
    Kafka(Cluster),
}

impl Place {
    pub(crate) fn memory() -> Self {
        let bus = MemoryBus::default();
        Self { bus: Arc::new(bus.clone()), kind: Kind::Memory(bus) }
    }

    /// On Kafka, with the topics that tests need.
    pub(crate) async fn kafka() -> Self {
        let cluster = Cluster::new().await;
        cluster.create_topics(&TOPICS).await;
        let bus = KafkaBus::new(cluster.options()).unwrap();
        Self { bus: Arc::new(bus), kind: Kind::Kafka(cluster) }
    }

    pub(crate) async fn publish(&self, events: &[Event]) {
        let records: Vec<_> = events.iter().map(Event::to_record).collect();
        self.bus.publish(&records).await.unwrap();
    }

    pub(crate) async fn join(&self, group: &str) -> Member {
        Member(self.bus.subscribe(group, &[Topic::SubsSchedule]).await.unwrap())
    }

    /// What a topic holds, once it holds so many records.
    pub(crate) async fn records(&self, topic: &str, count: usize) -> Vec<Record> {
        let what = format!("record {count} of {topic}");
        let records = eventually(&what, SOON, async || {
            let records = match &self.kind {
                Kind::Memory(bus) => Ok(bus.records(topic)),
                // A topic that was just made may not have its leaders yet.
                Kind::Kafka(cluster) => cluster.records(topic).await,
            };
            match records {
                Ok(records) if records.len() >= count => Ok(records),
                seen => Err(seen),
            }
        })
        .await;
        assert_eq!(records.len(), count, "{records:?}");
        records
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        match &self.kind {
            Kind::Kafka(cluster) => cluster,
            Kind::Memory(_) => panic!("this bus is in memory"),
        }
    }
}

/// A consumer that a test holds in its hands.
pub(crate) struct Member(pub(crate) Box<dyn Consumer>);

impl Member {
    pub(crate) async fn receive(&mut self) -> Received {
        let next = async {
            loop {
                if let Signal::Received(received) = self.0.receive(true).await.unwrap() {
                    return *received;
                }
            }
        };
        timeout(SOON, next).await.expect("nothing was received")
    }

    pub(crate) async fn receive_event(&mut self) -> Event {
        Event::from_record(&self.receive().await.record).unwrap()
    }

    /// Receives so many records that hold events.
    pub(crate) async fn receive_events(&mut self, count: usize) -> Vec<Event> {
        let mut events = Vec::with_capacity(count);
        for _ in 0..count {
            events.push(self.receive_event().await);
        }
        events
    }
}

/// The shared Kafka, as one installation among others.
pub(crate) struct Cluster {
    brokers: String,
    prefix: String,
}

impl Cluster {
    pub(crate) async fn new() -> Self {
        let brokers = Stack::shared().await.unwrap().kafka_brokers().unwrap();
        Self { brokers, prefix: format!("bus-{}.", Uuid::new_v4().simple()) }
    }

    pub(crate) fn options(&self) -> KafkaOptions {
        KafkaOptions {
            brokers: self.brokers.clone(),
            prefix: self.prefix.clone(),
            properties: BTreeMap::new(),
            partitions: PARTITIONS,
            replication: 1,
            revoke: Duration::from_secs(8),
        }
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("group.id", format!("{}looking-on", self.prefix))
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true");
        config
    }

    pub(crate) async fn create_topics(&self, topics: &[&str]) {
        let admin: AdminClient<DefaultClientContext> = self.config().create().unwrap();
        let names: Vec<_> = topics.iter().map(|topic| format!("{}{topic}", self.prefix)).collect();
        let new = names.iter().map(|name| NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(1)));
        for result in admin.create_topics(new.collect::<Vec<_>>().iter(), &AdminOptions::new()).await.unwrap()
        {
            result.unwrap();
        }
    }

    /// Publishes with another client than Tipstaff's, as if it were that time.
    pub(crate) async fn publish_at(&self, record: &Record, partition: i32, time: Timestamp) {
        let producer: FutureProducer = self.config().create().unwrap();
        let name = format!("{}{}", self.prefix, record.topic);
        let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value: Some(value) })
        });
        let mut message = FutureRecord::to(&name)
            .partition(partition)
            .timestamp(time.as_millisecond())
            .headers(headers)
            .payload(&record.payload);
        message.key = record.key.as_ref();
        producer.send(message, SOON).await.unwrap();
    }

    /// This installation's topics and how many partitions each has.
    pub(crate) async fn topics(&self) -> BTreeMap<String, usize> {
        let prefix = self.prefix.clone();
        self.ask(move |client| {
            let metadata = client.fetch_metadata(None, SOON).unwrap();
            let topics = metadata.topics().iter();
            topics
                .filter_map(|topic| {
                    Some((topic.name().strip_prefix(&prefix)?.to_owned(), topic.partitions().len()))
                })
                .collect()
        })
        .await
    }

    /// Waits until a consumer group has so many members and is in this state.
    pub(crate) async fn reaches(&self, group: &str, members: usize, state: &'static str) {
        let group = format!("{}{group}", self.prefix);
        eventually(&format!("{members} members, {state}"), SOON, async || {
            let group = group.clone();
            self.ask(move |client| {
                let groups = client.fetch_group_list(Some(&group), SOON).map_err(|_| Vec::new())?;
                let seen: Vec<_> = groups
                    .groups()
                    .iter()
                    .map(|group| (group.members().len(), group.state().to_owned()))
                    .collect();
                if seen == [(members, state.to_owned())] { Ok(()) } else { Err(seen) }
            })
            .await
        })
        .await;
    }

    /// All that a topic holds, partition by partition, read with another client than Tipstaff's.
    pub(crate) async fn records(&self, topic: &str) -> KafkaResult<Vec<Record>> {
        let (name, topic) = (format!("{}{topic}", self.prefix), topic.to_owned());
        self.ask(move |client| {
            let mut records = Vec::new();
            for partition in 0..PARTITIONS {
                let (low, high) = client.fetch_watermarks(&name, partition, SOON)?;
                let mut here = TopicPartitionList::new();
                here.add_partition_offset(&name, partition, rdkafka::Offset::Offset(low))?;
                client.assign(&here)?;
                let mut left = high - low;
                while left > 0 {
                    if let Some(Ok(message)) = client.poll(SOON) {
                        records.push(record(&topic, &message));
                        left -= 1;
                    }
                }
            }
            Ok(records)
        })
        .await
    }

    /// The client blocks, so it has a thread of its own.
    async fn ask<T: Send + 'static>(&self, question: impl FnOnce(&BaseConsumer) -> T + Send + 'static) -> T {
        let config = self.config();
        tokio::task::spawn_blocking(move || question(&config.create().unwrap())).await.unwrap()
    }
}

impl Drop for Cluster {
    /// A broker with the topics of a thousand tests is slow.
    fn drop(&mut self) {
        let (config, prefix) = (self.config(), self.prefix.clone());
        let removal = std::thread::spawn(move || {
            let client: BaseConsumer = config.create().unwrap();
            let metadata = client.fetch_metadata(None, SOON).unwrap();
            let ours: Vec<_> = metadata
                .topics()
                .iter()
                .map(|topic| topic.name())
                .filter(|name| name.starts_with(&prefix))
                .collect();
            if ours.is_empty() {
                return;
            }
            let admin: AdminClient<DefaultClientContext> = config.create().unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(admin.delete_topics(&ours, &AdminOptions::new())).unwrap();
        });
        if removal.join().is_err() && !std::thread::panicking() {
            panic!("the topics of {} were not removed", self.prefix);
        }
    }
}

fn record(topic: &str, message: &BorrowedMessage<'_>) -> Record {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        let pairs = headers.iter();
        pairs.map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec())).collect()
    });
    Record {
        topic: topic.to_owned(),
        key: message.key().map(<[u8]>::to_vec),
        headers,
        payload: message.payload().unwrap_or_default().to_vec(),
    }
}

/// The event that begins a run of a subscription: events of one subscription have one key, so one partition.
pub(crate) fn event(number: u32, subscription_id: i64) -> Event {
    let run_id = Uuid::from_u128(u128::from(number) + 1);
    let noon: Timestamp = "2026-03-09T12:00:00Z".parse().unwrap();
    let payload = SubscriptionScheduled {
        run_id,
        subscription_id,
        scheduled_for: noon,
        trigger: "Schedule".to_owned(),
    };
    Event::of_run(run_id, "/tipstaff/tests", noon, &payload).unwrap()
}

/// Numbers of events, all of one subscription.
pub(crate) fn events(numbers: std::ops::Range<u32>) -> Vec<Event> {
    numbers.map(|number| event(number, 7)).collect()
}
