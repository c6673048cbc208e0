//! Kafka: what a topic gets. Here it is one of the in-process bus.

use changes::{Delivery, Outcome, cloud_event};
use events::{Topic, run_reasons};
use store::catalog::TargetPlace;

use crate::sending::{RETRY, Sending, delivery};

#[tokio::test]
async fn a_topic_gets_a_cloud_event_for_each_attempt() {
    let sending = Sending::local(&[]).await;
    let topic = "court.changes";
    for _ in 0..2 {
        let attempt = sending.send(TargetPlace::Kafka { topic: topic.to_owned() }).await;
        assert_eq!((attempt.outcome, attempt.status), (Outcome::Delivered, None));
        assert_eq!(attempt.reason, run_reasons::DELIVERED);
        assert_eq!(attempt.detail, "acknowledged by the topic court.changes");
    }
    let records = sending.bus.records(topic);
    assert_eq!(records.len(), 2);
    assert_eq!(records[0], records[1]);
    let expected = cloud_event(&delivery());
    assert_eq!(records[0].key.as_deref(), Some(expected.key.as_bytes()));
    let headers: Vec<(&str, &[u8])> =
        records[0].headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
    let expected: Vec<(&str, &[u8])> =
        expected.headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
    assert_eq!(headers, expected);
    assert_eq!(serde_json::from_slice::<Delivery>(&records[0].payload).unwrap(), delivery());
}

#[tokio::test]
async fn nobody_feeds_the_pipeline_with_a_delivery() {
    let sending = Sending::local(&[]).await;
    let own = Topic::ALL
        .into_iter()
        .flat_map(|topic| [topic.name().to_owned(), topic.dead_letter_name(), format!("tipstaff.{topic}")]);
    for topic in own.chain(["__consumer_offsets".to_owned()]) {
        let attempt = sending.send(TargetPlace::Kafka { topic: topic.clone() }).await;
        assert_eq!((attempt.outcome, attempt.reason), (RETRY, run_reasons::TOPIC_NOT_ALLOWED), "{topic}");
        assert!(attempt.detail.contains(&topic), "{}", attempt.detail);
        assert!(sending.bus.records(&topic).is_empty(), "{topic}");
    }
}
