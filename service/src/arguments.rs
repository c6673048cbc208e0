use std::{collections::BTreeMap, time::Duration};

use clap::Args;
use events::kafka::KafkaOptions;
use store::catalog::{Catalog, CatalogError};

/// Where the catalog is.
#[derive(Args, Clone)]
pub struct DatabaseArguments {
    /// The catalog: postgres://user:password@host:5432/database
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: String,
    /// The most connections to the catalog at a time
    #[arg(long, env = "TIPSTAFF_DATABASE_CONNECTIONS", default_value_t = 10)]
    pub database_connections: u32,
}

impl DatabaseArguments {
    /// Connects to the catalog.
    ///
    /// # Errors
    /// When it cannot be reached within 30 s.
    pub async fn connect(&self) -> Result<Catalog, CatalogError> {
        Catalog::connect(&self.database_url, self.database_connections, Duration::from_secs(30)).await
    }
}

/// Where Kafka is and how topics are laid out there.
#[derive(Args, Clone, Debug)]
pub struct KafkaArguments {
    /// Kafka's bootstrap servers: host:port, separated by commas
    #[arg(long, env = "KAFKA_BROKERS")]
    pub kafka_brokers: String,
    /// Put before the names of topics and consumer groups, for installations that share a Kafka cluster
    #[arg(long, env = "KAFKA_PREFIX", default_value = "")]
    pub kafka_prefix: String,
    /// A property of librdkafka, for instance security.protocol=SASL_SSL; may be repeated
    #[arg(long = "kafka-property", env = "KAFKA_PROPERTIES", value_name = "NAME=VALUE", value_delimiter = ';', value_parser = property, hide_env_values = true)]
    pub kafka_properties: Vec<(String, String)>,
    /// Partitions of topics that have to be created
    #[arg(long, env = "KAFKA_PARTITIONS", default_value_t = 6)]
    pub kafka_partitions: i32,
    /// Replicas of topics that have to be created
    #[arg(long, env = "KAFKA_REPLICATION", default_value_t = 1)]
    pub kafka_replication: i32,
}

fn property(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("a property is written NAME=VALUE".to_owned()),
    }
}

impl KafkaArguments {
    /// The options of the bus. `revoke` bounds how long partitions are waited for that are taken away.
    pub fn options(&self, revoke: Duration) -> KafkaOptions {
        KafkaOptions {
            brokers: self.kafka_brokers.clone(),
            prefix: self.kafka_prefix.clone(),
            properties: self.kafka_properties.iter().cloned().collect::<BTreeMap<_, _>>(),
            partitions: self.kafka_partitions,
            replication: self.kafka_replication,
            revoke,
        }
    }
}
