//! A topic on the shared Kafka, made and read with another client than Tipstaff's.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    message::{Headers, Message},
};
use stack::Stack;

const SOON: Duration = Duration::from_secs(60);

/// A topic, and how it is reached.
#[derive(Debug)]
pub struct KafkaTopic {
    config: ClientConfig,
    /// Its name, with every prefix.
    pub name: String,
}

/// What somebody reads who knows nothing of Tipstaff.
#[derive(Debug)]
pub struct KafkaRecord {
    /// Its key, which is text.
    pub key: String,
    /// Its headers; of those that recur the last.
    pub headers: BTreeMap<String, String>,
    /// Its value.
    pub value: Vec<u8>,
}

impl KafkaTopic {
    /// Makes one of one partition.
    pub async fn create(stack: &Stack, name: String) -> Self {
        let Self { config, .. } = Self::known(stack, name.clone());
        let admin: AdminClient<DefaultClientContext> = config.create().unwrap();
        let new = NewTopic::new(&name, 1, TopicReplication::Fixed(1));
        for result in admin.create_topics([&new], &AdminOptions::new()).await.unwrap() {
            result.unwrap();
        }
        Self { config, name }
    }

    /// One that is there.
    pub fn known(stack: &Stack, name: String) -> Self {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", stack.kafka_brokers().unwrap());
        config.set("group.id", format!("{name}.reader")).set("auto.offset.reset", "earliest");
        config.set("enable.auto.commit", "false");
        Self { config, name }
    }

    /// The first `count` records, waited for.
    pub async fn records(&self, count: usize) -> Vec<KafkaRecord> {
        let (config, name) = (self.config.clone(), self.name.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let consumer: BaseConsumer = config.create().unwrap();
            consumer.subscribe(&[&name]).unwrap();
            // A poll also ends when the group has changed.
            let began = Instant::now();
            let read = || loop {
                if let Some(read) = consumer.poll(Duration::from_secs(1)) {
                    break read.unwrap();
                }
                assert!(began.elapsed() < SOON, "no further record came");
            };
            (0..count).map(|_| KafkaRecord::from(read())).collect()
        });
        reading.await.unwrap()
    }

    /// Deletes it.
    pub async fn remove(self) {
        let admin: AdminClient<DefaultClientContext> = self.config.create().unwrap();
        admin.delete_topics(&[&self.name], &AdminOptions::new()).await.unwrap();
    }
}

impl<M: Message> From<M> for KafkaRecord {
    fn from(message: M) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let headers = message.headers().unwrap();
        let headers = headers.iter().map(|header| (header.key.to_owned(), text(header.value.unwrap())));
        Self {
            key: text(message.key().unwrap()),
            headers: headers.collect(),
            value: message.payload().unwrap().to_vec(),
        }
    }
}
