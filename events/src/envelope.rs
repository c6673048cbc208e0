//! CloudEvents 1.0 in Kafka's binary mode: attributes as `ce_` headers, the data as the record's value.
//! (<https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md>)

use jiff::Timestamp;
use uuid::Uuid;

use crate::{Payload, Record, Topic, TraceParent, spans};

const SPEC_VERSION: &str = "1.0";
const CONTENT_TYPE: &str = "application/json";
pub(crate) const ADDRESSEE: &str = "addressee";

/// The id of an event. Handling an event again emits the same ids again.
pub type EventId = Uuid;

/// An event in its envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The topic that it was or will be published to.
    pub topic: Topic,
    /// The partition key: events of one key are handled in order.
    pub key: String,
    /// `ce_id`.
    pub id: EventId,
    /// `ce_type`: the job that the event asks for.
    pub job_type: String,
    /// `ce_source`: the component that emitted it.
    pub source: String,
    /// `ce_time`: when it was emitted.
    pub time: Timestamp,
    /// `traceparent` (W3C Trace Context).
    pub trace_parent: TraceParent,
    /// `attempt`: how often its handling was put off after a transient failure.
    pub attempt: u32,
    /// `addressee`: the consumer group that alone handles it, since it put it off; none: all that consume the topic.
    pub addressee: Option<String>,
    /// The data: JSON.
    pub payload: Vec<u8>,
}

/// A record that is not an event of Tipstaff.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The record came from a topic that is not Tipstaff's.
    #[error(transparent)]
    Topic(#[from] crate::topics::UnknownTopic),
    /// A header that every event has is absent.
    #[error("the header `{0}` is missing")]
    MissingHeader(&'static str),
    /// A header is there but not readable.
    #[error("the header `{header}` is not readable: {detail}")]
    InvalidHeader {
        /// The header's name.
        header: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// The key is not UTF-8 or absent.
    #[error("the record's key is missing or not UTF-8")]
    Key,
    /// The payload is not the JSON that its job type promises.
    #[error("the payload is not that of a `{job_type}`")]
    Payload {
        /// The event's job type.
        job_type: String,
        /// What the JSON parser says.
        #[source]
        source: serde_json::Error,
    },
}

impl Event {
    /// The first event of a run. Its id follows from the run's.
    ///
    /// # Errors
    /// When the payload cannot be written as JSON.
    pub fn of_run<P: Payload>(
        run: Uuid,
        source: &str,
        now: Timestamp,
        payload: &P,
    ) -> Result<Self, serde_json::Error> {
        Self::derived(run, TraceParent::of_run(run), "", source, now, payload)
    }

    /// An event of a run that is told again from what the catalog has. `discriminator` tells apart those of one run.
    ///
    /// # Errors
    /// When the payload cannot be written as JSON.
    pub fn told_again<P: Payload>(
        run: Uuid,
        discriminator: &str,
        source: &str,
        now: Timestamp,
        payload: &P,
    ) -> Result<Self, serde_json::Error> {
        Self::derived(run, TraceParent::of_run(run), discriminator, source, now, payload)
    }

    /// An event that handling this one emits. Its id is a UUIDv5 of this event's id, its topic and `discriminator`,
    /// which must tell apart the events that one handling emits to one topic.
    ///
    /// # Errors
    /// When the payload cannot be written as JSON.
    pub fn child<P: Payload>(
        &self,
        discriminator: &str,
        source: &str,
        now: Timestamp,
        payload: &P,
    ) -> Result<Self, serde_json::Error> {
        Self::derived(self.id, self.trace_parent, discriminator, source, now, payload)
    }

    fn derived<P: Payload>(
        parent: Uuid,
        trace_parent: TraceParent,
        discriminator: &str,
        source: &str,
        now: Timestamp,
        payload: &P,
    ) -> Result<Self, serde_json::Error> {
        let id = Uuid::new_v5(&parent, format!("{}\n{discriminator}", P::TOPIC).as_bytes());
        Ok(Self {
            topic: P::TOPIC,
            key: payload.key(),
            id,
            job_type: P::JOB_TYPE.to_owned(),
            source: source.to_owned(),
            time: now,
            trace_parent: spans::here(trace_parent),
            attempt: 0,
            addressee: None,
            payload: serde_json::to_vec(payload)?,
        })
    }

    /// The same event with other data.
    ///
    /// # Errors
    /// When the payload cannot be written as JSON.
    pub fn with_payload<P: Payload>(&self, payload: &P) -> Result<Self, serde_json::Error> {
        Ok(Self { payload: serde_json::to_vec(payload)?, ..self.clone() })
    }

    /// The payload as its type.
    ///
    /// # Errors
    /// When it is not the JSON of a `P`.
    pub fn payload<P: Payload>(&self) -> Result<P, DecodeError> {
        serde_json::from_slice(&self.payload)
            .map_err(|source| DecodeError::Payload { job_type: self.job_type.clone(), source })
    }

    /// The headers of the event's record.
    pub fn headers(&self) -> Vec<(String, String)> {
        let mut headers = vec![
            ("ce_specversion".to_owned(), SPEC_VERSION.to_owned()),
            ("ce_id".to_owned(), self.id.to_string()),
            ("ce_type".to_owned(), self.job_type.clone()),
            ("ce_source".to_owned(), self.source.clone()),
            ("ce_time".to_owned(), self.time.to_string()),
            ("content-type".to_owned(), CONTENT_TYPE.to_owned()),
            ("traceparent".to_owned(), self.trace_parent.to_string()),
        ];
        if self.attempt > 0 {
            headers.push(("attempt".to_owned(), self.attempt.to_string()));
        }
        headers.extend(self.addressee.iter().map(|group| (ADDRESSEE.to_owned(), group.clone())));
        headers
    }

    /// The event as a record of the bus.
    pub fn to_record(&self) -> Record {
        Record {
            topic: self.topic.name().to_owned(),
            key: Some(self.key.clone().into_bytes()),
            headers: self.headers().into_iter().map(|(name, value)| (name, value.into_bytes())).collect(),
            payload: self.payload.clone(),
        }
    }

    /// The event that a record holds. The payload is not looked into.
    ///
    /// # Errors
    /// When the record is not an event of Tipstaff.
    pub fn from_record(record: &Record) -> Result<Self, DecodeError> {
        let topic: Topic = record.topic.parse()?;
        let key = record.key.clone().and_then(|key| String::from_utf8(key).ok()).ok_or(DecodeError::Key)?;
        let version = text_header(record, "ce_specversion")?;
        if version != SPEC_VERSION {
            let detail = format!("`{version}` instead of `{SPEC_VERSION}`");
            return Err(DecodeError::InvalidHeader { header: "ce_specversion", detail });
        }
        Ok(Self {
            topic,
            key,
            id: parsed_header(record, "ce_id")?,
            job_type: text_header(record, "ce_type")?,
            source: text_header(record, "ce_source")?,
            time: parsed_header(record, "ce_time")?,
            trace_parent: parsed_header(record, "traceparent")?,
            attempt: match record.header("attempt") {
                Some(_) => parsed_header(record, "attempt")?,
                None => 0,
            },
            addressee: record.header(ADDRESSEE).map(|_| text_header(record, ADDRESSEE)).transpose()?,
            payload: record.payload.clone(),
        })
    }
}

fn text_header(record: &Record, header: &'static str) -> Result<String, DecodeError> {
    let value = record.header(header).ok_or(DecodeError::MissingHeader(header))?;
    String::from_utf8(value.to_vec())
        .map_err(|error| DecodeError::InvalidHeader { header, detail: error.to_string() })
}

fn parsed_header<T>(record: &Record, header: &'static str) -> Result<T, DecodeError>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text_header(record, header)?
        .parse()
        .map_err(|error: T::Err| DecodeError::InvalidHeader { header, detail: error.to_string() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{CrawlUrl, SubscriptionScheduled};

    fn scheduled() -> Event {
        let run_id = Uuid::from_u128(7);
        let payload = SubscriptionScheduled {
            run_id,
            subscription_id: 4,
            scheduled_for: "2026-01-01T00:00:00Z".parse().unwrap(),
            trigger: "Schedule".into(),
        };
        Event::of_run(run_id, "/tipstaff/operator", "2026-01-01T00:00:00.01Z".parse().unwrap(), &payload)
            .unwrap()
    }

    fn crawl(parent: &Event, url: &str) -> Event {
        let payload = CrawlUrl {
            run_id: Uuid::from_u128(7),
            subscription_id: 4,
            source_id: 2,
            url: url.into(),
            host: "example.org".into(),
            slot_promised: false,
        };
        parent.child(url, "/tipstaff/worker", parent.time, &payload).unwrap()
    }

    #[test]
    fn an_event_survives_its_record() {
        let mut event = scheduled();
        event.attempt = 3;
        event.addressee = Some("tipstaff.crawl".to_owned());
        assert_eq!(Event::from_record(&event.to_record()).unwrap(), event);
    }

    #[test]
    fn headers_follow_the_cloudevents_kafka_binding() {
        let record = scheduled().to_record();
        let header = |name| String::from_utf8(record.header(name).unwrap().to_vec()).unwrap();
        assert_eq!(header("ce_specversion"), "1.0");
        assert_eq!(header("ce_type"), "subscription.scheduled");
        assert_eq!(header("ce_time"), "2026-01-01T00:00:00.01Z");
        assert_eq!(header("content-type"), "application/json");
        assert!(record.header("attempt").is_none());
        let payload: serde_json::Value = serde_json::from_slice(&record.payload).unwrap();
        assert_eq!(payload["subscription_id"], 4);
    }

    #[test]
    fn handling_twice_emits_the_same_ids_and_one_handling_different_ones() {
        let parent = scheduled();
        let (a, again, b) =
            (crawl(&parent, "https://a/"), crawl(&parent, "https://a/"), crawl(&parent, "https://b/"));
        assert_eq!(a.id, again.id);
        assert_ne!(a.id, b.id);
        assert_eq!(a.trace_parent, parent.trace_parent, "no span is made here that could be between them");
    }

    #[test]
    fn a_record_that_is_no_event_says_why() {
        let good = scheduled().to_record();
        let broken = |change: &dyn Fn(&mut Record)| {
            let mut record = good.clone();
            change(&mut record);
            Event::from_record(&record).unwrap_err().to_string()
        };
        let set = |name: &'static str, value: &'static str| {
            move |record: &mut Record| {
                record.headers.retain(|(header, _)| header != name);
                record.headers.push((name.into(), value.into()));
            }
        };
        let cases: [(String, &str); 6] = [
            (broken(&|record| record.topic = "other".into()), "not a topic"),
            (broken(&|record| record.key = None), "key"),
            (broken(&|record| record.headers.clear()), "`ce_specversion` is missing"),
            (broken(&set("ce_specversion", "0.3")), "`0.3` instead of `1.0`"),
            (broken(&set("ce_id", "x")), "`ce_id` is not readable"),
            (broken(&set("traceparent", "x")), "traceparent"),
        ];
        for (message, expected) in cases {
            assert!(message.contains(expected), "{message}");
        }
    }
}
