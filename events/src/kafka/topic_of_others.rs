//! Whether a topic that is not Tipstaff's can be written to. A producer that is not asked waits for a topic that is not
//! there until its time is over, and then says no more than that.

use rdkafka::{
    error::{KafkaError, RDKafkaErrorCode},
    producer::{FutureProducer, Producer},
};

use super::ANSWER_WITHIN;
use crate::BusError;

/// Asks the brokers for a topic. Others may make or remove it afterwards.
pub(super) async fn check(producer: FutureProducer, topic: &str) -> Result<(), BusError> {
    let name = topic.to_owned();
    let asked = tokio::task::spawn_blocking(move || {
        let metadata = producer.client().fetch_metadata(Some(&name), ANSWER_WITHIN)?;
        let found = metadata.topics().iter().find(|found| found.name() == name);
        Ok(found
            .map_or(Some(RDKafkaErrorCode::UnknownTopicOrPartition), |found| found.error().map(Into::into)))
    });
    let answer: Result<Option<RDKafkaErrorCode>, KafkaError> =
        asked.await.map_err(|error| BusError::Unreachable(error.into()))?;
    match answer.map_err(|error| BusError::Unreachable(error.into()))? {
        Some(code) => refusal(topic, code).map_or(Ok(()), Err),
        None => Ok(()),
    }
}

/// What an error of a topic means for whoever wants to write to it; none when it may pass, as while a leader is chosen.
fn refusal(topic: &str, code: RDKafkaErrorCode) -> Option<BusError> {
    let topic = topic.to_owned();
    match code {
        RDKafkaErrorCode::UnknownTopic
        | RDKafkaErrorCode::UnknownTopicOrPartition
        | RDKafkaErrorCode::InvalidTopic => Some(BusError::NoTopic { topic }),
        RDKafkaErrorCode::TopicAuthorizationFailed => Some(BusError::TopicForbidden { topic }),
        _ => None,
    }
}

/// Whoever may see a topic may not always write to it: then the record is refused.
pub(super) fn without_permission(error: BusError) -> BusError {
    let BusError::Publish { topic, source } = &error else { return error };
    let code = source.downcast_ref::<KafkaError>().and_then(KafkaError::rdkafka_error_code);
    code.and_then(|code| refusal(topic, code)).unwrap_or(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: RDKafkaErrorCode) -> BusError {
        let source = KafkaError::MessageProduction(code).into();
        without_permission(BusError::Publish { topic: "court.changes".to_owned(), source })
    }

    #[test]
    fn what_is_refused_for_its_topic_says_why() {
        for code in [RDKafkaErrorCode::UnknownTopicOrPartition, RDKafkaErrorCode::UnknownTopic] {
            assert!(
                matches!(refused(code), BusError::NoTopic { topic } if topic == "court.changes"),
                "{code}"
            );
        }
        let forbidden = refused(RDKafkaErrorCode::TopicAuthorizationFailed);
        assert!(matches!(forbidden, BusError::TopicForbidden { topic } if topic == "court.changes"));
        for code in [RDKafkaErrorCode::MessageTimedOut, RDKafkaErrorCode::LeaderNotAvailable] {
            assert!(matches!(refused(code), BusError::Publish { .. }), "{code}");
        }
    }
}
