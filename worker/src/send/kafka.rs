//! Kafka: a CloudEvent to a topic of the user's, on the cluster that carries Tipstaff's events.

use changes::{CloudEvent, Delivery, cloud_event};
use events::{Record, Topic};

use super::{Answer, SendError, Sender};

impl Sender {
    /// Sends to a topic, and waits until all its replicas have acknowledged it.
    pub(super) async fn send_record(&self, topic: &str, delivery: &Delivery) -> Result<Answer, SendError> {
        // Whoever may write a subscription must not feed the pipeline with it.
        if Topic::is_reserved(topic) {
            return Err(SendError::TopicNotAllowed { topic: topic.to_owned() });
        }
        let record = record(topic, delivery)?;
        self.bus.publish_unprefixed(&record).await.map_err(SendError::NotAcknowledged)?;
        Ok(Answer::delivered(format!("acknowledged by the topic {topic}")))
    }
}

fn record(topic: &str, delivery: &Delivery) -> Result<Record, serde_json::Error> {
    let CloudEvent { key, headers } = cloud_event(delivery);
    Ok(Record {
        topic: topic.to_owned(),
        key: Some(key.into_bytes()),
        headers: headers.into_iter().map(|(name, value)| (name.to_owned(), value.into_bytes())).collect(),
        payload: serde_json::to_vec(delivery)?,
    })
}
