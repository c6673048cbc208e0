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

    /// Connects as a worker does, which finds all rows by their keys.
    ///
    /// # Errors
    /// As [`Catalog::connect`].
    pub async fn connect_by_keys(&self) -> Result<Catalog, CatalogError> {
        Catalog::connect_by_keys(&self.database_url, self.database_connections, Duration::from_secs(30)).await
    }
}

/// Where Kafka is and how topics are laid out there.
#[derive(Args, Clone)]
pub struct KafkaArguments {
    /// Kafka's bootstrap servers: host:port, separated by commas
    #[arg(long, env = "KAFKA_BROKERS")]
    pub kafka_brokers: String,
    #[command(flatten)]
    cluster: KafkaClusterArguments,
}

/// The same without its address, for whoever can do without Kafka.
#[derive(Args, Clone)]
pub struct KafkaClusterArguments {
    /// Put before the names of topics and consumer groups, for installations that share a Kafka cluster
    #[arg(long, env = "KAFKA_PREFIX", default_value = "")]
    pub kafka_prefix: String,
    /// A property of librdkafka, for instance security.protocol=SASL_SSL; may be repeated
    #[arg(long = "kafka-property", env = "KAFKA_PROPERTIES", value_name = "NAME=VALUE", value_delimiter = ';', value_parser = property, hide_env_values = true)]
    pub kafka_properties: Vec<(String, String)>,
    /// The user of SASL, as librdkafka's sasl.username
    #[arg(long, env = "KAFKA_SASL_USERNAME", requires = "kafka_sasl_password")]
    pub kafka_sasl_username: Option<String>,
    /// The password of SASL, as librdkafka's sasl.password: a variable of its own can come from a Secret, whatever is in it
    #[arg(long, env = "KAFKA_SASL_PASSWORD", hide_env_values = true, requires = "kafka_sasl_username")]
    pub kafka_sasl_password: Option<String>,
    /// Partitions of topics that have to be created
    #[arg(long, env = "KAFKA_PARTITIONS", default_value_t = 6)]
    pub kafka_partitions: i32,
    /// Replicas of topics that have to be created; -1 for what the brokers have as their default
    #[arg(long, env = "KAFKA_REPLICATION", default_value_t = 1, allow_negative_numbers = true)]
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
        self.cluster.options(&self.kafka_brokers, revoke)
    }
}

impl KafkaClusterArguments {
    /// The same of a cluster with these bootstrap servers.
    pub fn options(&self, brokers: &str, revoke: Duration) -> KafkaOptions {
        let mut properties: BTreeMap<_, _> = self.kafka_properties.iter().cloned().collect();
        for (name, value) in
            [("sasl.username", &self.kafka_sasl_username), ("sasl.password", &self.kafka_sasl_password)]
        {
            if let Some(value) = value {
                properties.insert(name.to_owned(), value.clone());
            }
        }
        KafkaOptions {
            brokers: brokers.to_owned(),
            prefix: self.kafka_prefix.clone(),
            properties,
            partitions: self.kafka_partitions,
            replication: self.kafka_replication,
            revoke,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        kafka: KafkaArguments,
    }

    fn properties(arguments: &[&str]) -> Result<BTreeMap<String, String>, clap::Error> {
        let all = [&["program", "--kafka-brokers=broker:9092"], arguments].concat();
        Ok(Program::try_parse_from(all)?.kafka.options(Duration::ZERO).properties)
    }

    #[test]
    fn user_and_password_of_sasl_are_taken_as_they_are() {
        let found = properties(&[
            "--kafka-property=security.protocol=SASL_SSL;sasl.mechanism=SCRAM-SHA-512",
            "--kafka-sasl-username=tipstaff",
            "--kafka-sasl-password=a;b=c$(D)",
        ]);
        let expected = [
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanism", "SCRAM-SHA-512"),
            ("sasl.username", "tipstaff"),
            ("sasl.password", "a;b=c$(D)"),
        ];
        assert_eq!(found.unwrap(), expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    }

    #[test]
    fn a_user_without_a_password_is_refused_and_the_other_way_round() {
        for alone in ["--kafka-sasl-username=tipstaff", "--kafka-sasl-password=secret"] {
            assert!(properties(&[alone]).is_err(), "{alone}");
        }
    }
}
