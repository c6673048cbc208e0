//! Events as they come from Kafka.

use events::{
    CrawlResult, CrawlUrl, DeliveryRequest, Event, ParseRequest, ParseResult, Payload, Record,
    SubscriptionScheduled, Topic, VersioningRequest, VersioningResult,
};

/// A record: a line with the topic, one with the key, one for each header (`name: value`), an empty one, the payload.
pub(crate) fn events(input: &[u8]) {
    let record = record(input);
    let Ok(event) = Event::from_record(&record) else { return };
    assert_eq!(event.payload, record.payload);
    let again = event.to_record();
    assert_eq!(Event::from_record(&again).unwrap(), event, "an event survives its record");
    let Ok(child) = event.child_of_topic(event.topic, "x", "/fuzz", event.time, &event.payload) else {
        return;
    };
    assert_eq!(child.job_type, event.topic.job_type());
    assert_eq!(child.trace_parent.trace_id, event.trace_parent.trace_id);
    let twice = event.child_of_topic(event.topic, "x", "/fuzz", event.time, &event.payload).unwrap();
    assert_eq!(child, twice, "handling twice emits the same");
    assert_eq!(Event::from_record(&child.to_record()).unwrap(), child);
}

fn record(input: &[u8]) -> Record {
    let (head, payload) = match input.windows(2).position(|pair| pair == b"\n\n") {
        Some(at) => (&input[..at], &input[at + 2..]),
        None => (input, &[][..]),
    };
    let mut lines = head.split(|byte| *byte == b'\n');
    let topic = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let key = lines.next().map(<[u8]>::to_vec);
    let headers = lines.filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        Some((String::from_utf8_lossy(&line[..colon]).into_owned(), line[colon + 1..].trim_ascii().to_vec()))
    });
    Record { topic, key, headers: headers.collect(), payload: payload.to_vec() }
}

/// JSON, read as each of the payloads.
pub(crate) fn payloads(input: &[u8]) {
    for topic in Topic::ALL {
        match topic {
            Topic::SubsSchedule => survives::<SubscriptionScheduled>(input),
            Topic::CrawlRequest => survives::<CrawlUrl>(input),
            Topic::CrawlResult => survives::<CrawlResult>(input),
            Topic::ParseRequest => survives::<ParseRequest>(input),
            Topic::ParseResult => survives::<ParseResult>(input),
            Topic::VersioningRequest => survives::<VersioningRequest>(input),
            Topic::VersioningResult => survives::<VersioningResult>(input),
            Topic::DeliveryRequest => survives::<DeliveryRequest>(input),
        }
    }
}

fn survives<P: Payload + PartialEq + std::fmt::Debug>(input: &[u8]) {
    let Ok(payload) = serde_json::from_slice::<P>(input) else { return };
    let written = serde_json::to_vec(&payload).unwrap();
    let again: P = serde_json::from_slice(&written).unwrap();
    assert_eq!(again, payload);
    assert_eq!(serde_json::to_vec(&again).unwrap(), written);
    assert_eq!(again.key(), payload.key());
}
