//! The installation's topics: how far they go, and what is in them.

use std::time::{Duration, Instant};

use events::{BoxError, Topic};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    message::{Headers, OwnedHeaders, OwnedMessage},
    producer::{FutureProducer, FutureRecord},
};
use tests::Installation;
use tokio::task::spawn_blocking;

const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const READ_WITHIN: Duration = Duration::from_secs(300);
const FLOOR_TOPIC: &str = "floor";
/// As many as the topic has that events of runs go to.
const FLOOR_PARTITIONS: i32 = 6;

#[derive(Clone)]
pub(in crate::benchmarks) struct Topics {
    brokers: String,
    prefix: String,
}

/// Where the partitions of a topic end.
pub(super) type Ends = Vec<(i32, i64)>;

impl Topics {
    pub(in crate::benchmarks) fn of(tipstaff: &Installation) -> Result<Self, BoxError> {
        Ok(Self { brokers: tipstaff.stack.kafka_brokers()?, prefix: tipstaff.prefix.clone() })
    }

    /// The sum of the offsets at which the topics' partitions end: it grows with each event.
    pub(in crate::benchmarks) async fn ends(&self) -> Result<i64, BoxError> {
        let topics = self.clone();
        spawn_blocking(move || {
            let consumer = topics.consumer()?;
            let metadata = consumer.fetch_metadata(None, ANSWER_WITHIN)?;
            let names: Vec<&str> = metadata.topics().iter().map(|topic| topic.name()).collect();
            let own = names.into_iter().filter(|name| name.starts_with(&topics.prefix));
            let mut sum = 0;
            for name in own {
                sum += ends_of(&consumer, name)?.iter().map(|(_, end)| end).sum::<i64>();
            }
            Ok(sum)
        })
        .await?
    }

    /// Where the topic of due subscriptions ends.
    pub(super) async fn ends_of_runs(&self) -> Result<Ends, BoxError> {
        let topics = self.clone();
        spawn_blocking(move || ends_of(&topics.consumer()?, &topics.runs())).await?
    }

    /// The next `count` events of due subscriptions.
    pub(super) async fn read_runs(&self, from: Ends, count: usize) -> Result<Vec<OwnedMessage>, BoxError> {
        let topics = self.clone();
        spawn_blocking(move || {
            let consumer = topics.consumer()?;
            let mut partitions = TopicPartitionList::new();
            for (partition, offset) in from {
                partitions.add_partition_offset(&topics.runs(), partition, Offset::Offset(offset))?;
            }
            consumer.assign(&partitions)?;
            let deadline = Instant::now() + READ_WITHIN;
            let mut messages = Vec::with_capacity(count);
            while messages.len() < count {
                if Instant::now() > deadline {
                    return Err(format!("only {} of {count} events came to Kafka", messages.len()).into());
                }
                if let Some(message) = consumer.poll(Duration::from_millis(200)) {
                    messages.push(message?.detach());
                }
            }
            Ok(messages)
        })
        .await?
    }

    /// How long a bare producer takes for the same events, to a topic of its own.
    pub(super) async fn produce(&self, messages: &[OwnedMessage]) -> Result<Duration, BoxError> {
        let mut config = self.config();
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("compression.type", "zstd")
            .set("linger.ms", "2");
        let admin: AdminClient<DefaultClientContext> = config.create()?;
        let topic = NewTopic::new(FLOOR_TOPIC, FLOOR_PARTITIONS, TopicReplication::Fixed(1));
        for result in admin.create_topics(&[topic], &AdminOptions::new()).await? {
            result.map_err(|(topic, error)| format!("topic {topic} could not be created: {error}"))?;
        }
        let producer: FutureProducer = config.create()?;
        // The first record pays for connections and metadata.
        deliver(&producer, &messages[..1]).await?;
        let started = Instant::now();
        deliver(&producer, messages).await?;
        Ok(started.elapsed())
    }

    fn runs(&self) -> String {
        format!("{}{}", self.prefix, Topic::SubsSchedule)
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers).set("client.id", "bench");
        config
    }

    fn consumer(&self) -> Result<BaseConsumer, BoxError> {
        // It is in no group: it reads what it is told to. librdkafka wants a name all the same.
        Ok(self.config().set("group.id", "bench").set("enable.auto.commit", "false").create()?)
    }
}

fn ends_of(consumer: &BaseConsumer, topic: &str) -> Result<Ends, BoxError> {
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER_WITHIN)?;
    let partitions = metadata.topics().first().ok_or("no such topic")?.partitions();
    let ends = partitions.iter().map(|partition| {
        let (_, end) = consumer.fetch_watermarks(topic, partition.id(), ANSWER_WITHIN)?;
        Ok((partition.id(), end))
    });
    ends.collect()
}

async fn deliver(producer: &FutureProducer, messages: &[OwnedMessage]) -> Result<(), BoxError> {
    let mut deliveries = Vec::with_capacity(messages.len());
    for message in messages {
        let mut headers = OwnedHeaders::new();
        for header in message.headers().into_iter().flat_map(|headers| headers.iter()) {
            headers = headers.insert(header);
        }
        let mut record = FutureRecord::<[u8], [u8]>::to(FLOOR_TOPIC).headers(headers);
        record.key = message.key();
        record.payload = message.payload();
        deliveries.push(producer.send_result(record).map_err(|(error, _)| error)?);
    }
    for delivery in deliveries {
        delivery.await?.map_err(|(error, _)| error)?;
    }
    Ok(())
}
