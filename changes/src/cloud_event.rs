//! A delivery as a record of Kafka: a CloudEvent 1.0 in binary mode, whose value is the delivery's JSON.
//! (<https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md>)

use crate::delivery::Delivery;

/// What a record has besides its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloudEvent {
    /// The document's URL: its changes stay in order.
    pub key: String,
    /// The event's attributes. A further attempt has the same `ce_id`.
    pub headers: Vec<(&'static str, String)>,
}

/// Key and headers of a delivery. With several changes, those of the first one.
pub fn cloud_event(delivery: &Delivery) -> CloudEvent {
    let data = &delivery.data;
    let document = data.changes.first().map(|change| &change.document);
    let key = document.map(|document| document.url.clone()).unwrap_or_default();
    let mut headers = vec![
        ("ce_specversion", "1.0".to_owned()),
        ("ce_id", data.id.to_string()),
        ("ce_type", "subscription.changed".to_owned()),
        ("ce_source", format!("/subscriptions/{}/{}", data.subscription.namespace, data.subscription.name)),
        ("ce_subject", key.clone()),
        ("ce_time", delivery.timestamp.to_string()),
        ("content-type", "application/json".to_owned()),
    ];
    if let Some(document) = document {
        // The trace goes on with whoever reads the event: the delivery takes the place of a span.
        let (_, span) = data.id.as_u64_pair();
        headers.push(("traceparent", format!("00-{}-{span:016x}-01", document.trace_id)));
    }
    CloudEvent { key, headers }
}
