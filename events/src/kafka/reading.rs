//! Topics read from one place to another, by a client that joins no group.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
    message::BorrowedMessage,
};

use super::{
    KafkaOptions, client_config,
    lag::{count_partitions, left},
    with_properties,
};
use crate::BoxError;

/// Asks by a client of its own, until a deadline that is so far away. The client blocks, its end too: it lives on a thread for
/// that.
pub(super) async fn ask<T: Send + 'static>(
    options: &KafkaOptions,
    group: &str,
    within: Duration,
    question: impl FnOnce(&BaseConsumer, Instant) -> Result<T, BoxError> + Send + 'static,
) -> Result<T, BoxError> {
    let mut config = client_config(options);
    config
        .set("group.id", format!("{}{group}", options.prefix))
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("enable.partition.eof", "true");
    let config = with_properties(config, options);
    let deadline = Instant::now() + within;
    tokio::task::spawn_blocking(move || {
        let client: BaseConsumer = config.create()?;
        question(&client, deadline)
    })
    .await?
}

/// How many partitions a topic has. When it is the topic that is missing, the error says what to do.
pub(super) fn partitions_of(client: &BaseConsumer, name: &str, deadline: Instant) -> Result<i32, BoxError> {
    count_partitions(client, name, deadline).map_err(|error| {
        let code = error.downcast_ref::<KafkaError>().and_then(KafkaError::rdkafka_error_code);
        match code {
            Some(RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition) => format!(
                "there is no topic {name}: the operator makes it when it starts; is the prefix right?"
            )
            .into(),
            _ => error,
        }
    })
}

/// Takes the messages of a partition in their order. Those that retention has removed are left out.
pub(super) fn read(
    client: &BaseConsumer,
    name: &str,
    partition: i32,
    offsets: &Range<i64>,
    deadline: Instant,
    mut take: impl FnMut(&BorrowedMessage<'_>),
) -> Result<(), BoxError> {
    if offsets.is_empty() {
        return Ok(());
    }
    let mut here = TopicPartitionList::new();
    here.add_partition_offset(name, partition, Offset::Offset(offsets.start))?;
    client.assign(&here)?;
    let mut trouble = None;
    loop {
        match client.poll(left(deadline)) {
            Some(Ok(message)) => {
                if message.topic() != name || message.partition() != partition {
                    continue;
                }
                if message.offset() < offsets.end {
                    take(&message);
                }
                if message.offset() + 1 >= offsets.end {
                    return Ok(());
                }
            }
            Some(Err(KafkaError::PartitionEOF(number))) if number == partition => return Ok(()),
            Some(Err(error)) if Instant::now() < deadline => trouble = Some(error),
            Some(Err(error)) => return Err(error.into()),
            None if Instant::now() < deadline => {}
            None => {
                let late = || format!("no message of {name} came in time").into();
                return Err(trouble.map_or_else(late, BoxError::from));
            }
        }
    }
}

/// When a message was published, as far as Kafka knows.
pub(super) fn time_of(message: &BorrowedMessage<'_>) -> Option<Timestamp> {
    message.timestamp().to_millis().and_then(|millis| Timestamp::from_millisecond(millis).ok())
}
