//! Kafka: what nobody gets. What a topic gets is seen on a real one, in `tests/delivering.rs`.

use events::{Topic, run_reasons};
use store::catalog::TargetPlace;

use crate::sending::{RETRY, Sending};

#[tokio::test]
async fn without_kafka_nothing_is_taken_for_delivered() {
    let sending = Sending::local(&[]).await;
    let attempt = sending.send(TargetPlace::Kafka { topic: "court.changes".to_owned() }).await;
    assert_eq!((attempt.outcome, attempt.reason), (RETRY, run_reasons::KAFKA_NOT_CONFIGURED));
    assert!(
        attempt.detail.ends_with("there is no Kafka here, and so no topic court.changes"),
        "{}",
        attempt.detail
    );
    assert!(sending.bus.records("court.changes").is_empty());
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
