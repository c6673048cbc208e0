use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::Topic;

/// What an event carries: plain JSON with snake_case fields.
///
/// The topic and job type stand with the type, so that an event cannot be sent where nobody expects it.
pub trait Payload: Serialize + DeserializeOwned {
    /// The topic that such an event is published to.
    const TOPIC: Topic;
    /// The event's type (`ce_type`): the job it asks for.
    const JOB_TYPE: &'static str;

    /// The partition key: events of one key are handled in order.
    fn key(&self) -> String;
}

/// A subscription is due: its run exists and waits to be planned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionScheduled {
    /// The run that this event begins.
    pub run_id: Uuid,
    /// The catalog's id of the subscription.
    pub subscription_id: i64,
    /// The due time that the run answers.
    pub scheduled_for: Timestamp,
    /// What made the run: `Schedule`, `Request` or `Backfill`.
    pub trigger: String,
}

impl Payload for SubscriptionScheduled {
    const TOPIC: Topic = Topic::SubsSchedule;
    const JOB_TYPE: &'static str = "subscription.scheduled";

    fn key(&self) -> String {
        self.subscription_id.to_string()
    }
}

/// A URL is to be fetched for a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrawlUrl {
    /// The run that the document belongs to.
    pub run_id: Uuid,
    /// The catalog's id of the subscription.
    pub subscription_id: i64,
    /// The catalog's id of the source.
    pub source_id: i64,
    /// The URL to fetch.
    pub url: String,
    /// The host of the URL, with its port where one is given: what politeness counts by.
    pub host: String,
    /// Whether a slot of the host was kept for it, and it waited until then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub slot_promised: bool,
}

impl Payload for CrawlUrl {
    const TOPIC: Topic = Topic::CrawlRequest;
    const JOB_TYPE: &'static str = "crawl.url";

    fn key(&self) -> String {
        self.host.clone()
    }
}

/// A URL was fetched: its bytes are stored and its artifact stands in the catalog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrawlResult {
    /// The run that the document belongs to.
    pub run_id: Uuid,
    /// The catalog's id of the subscription.
    pub subscription_id: i64,
    /// The catalog's id of the source.
    pub source_id: i64,
    /// The catalog's id of the artifact.
    pub artifact_id: i64,
    /// The URL that was asked for.
    pub source_url: String,
    /// The SHA-256 of the body, in lower-case hexadecimal.
    pub fetch_hash: String,
    /// Where the body is stored.
    pub blob_uri: String,
    /// The content type that the server declared.
    pub content_type: Option<String>,
    /// The length of the body in bytes.
    pub byte_size: i64,
    /// Whether the bytes differ from what the subscription last stored of this URL.
    pub changed: bool,
}

impl Payload for CrawlResult {
    const TOPIC: Topic = Topic::CrawlResult;
    const JOB_TYPE: &'static str = "parse.content";

    fn key(&self) -> String {
        format!("{} {}", self.source_id, self.source_url)
    }
}

/// A stored artifact is to be parsed again: nothing is fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParseRequest {
    /// The run whose document it is. One that waits for it goes on with it; for another, it is only parsed.
    pub run_id: Uuid,
    /// The catalog's id of the subscription.
    pub subscription_id: i64,
    /// The catalog's id of the source.
    pub source_id: i64,
    /// The catalog's id of the artifact.
    pub artifact_id: i64,
    /// The URL that the artifact was fetched from.
    pub source_url: String,
}

impl Payload for ParseRequest {
    const TOPIC: Topic = Topic::ParseRequest;
    const JOB_TYPE: &'static str = "parse.content";

    fn key(&self) -> String {
        format!("{} {}", self.source_id, self.source_url)
    }
}

/// A document was parsed: its text is to be compared with the last version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParseResult {
    /// The run that the document belongs to.
    pub run_id: Uuid,
    /// The catalog's id of the subscription.
    pub subscription_id: i64,
    /// The document's URL.
    pub url: String,
    /// The catalog's id of the artifact that was parsed.
    pub artifact_id: i64,
    /// The catalog's id of what was taken out of it.
    pub extract_id: i64,
    /// The SHA-256 of the text, in lower-case hexadecimal.
    pub text_hash: String,
}

impl Payload for ParseResult {
    const TOPIC: Topic = Topic::ParseResult;
    const JOB_TYPE: &'static str = "version.document";

    fn key(&self) -> String {
        format!("{} {}", self.subscription_id, self.url)
    }
}

/// A document is to be compared without having been parsed now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersioningRequest {
    /// The run that asks for it.
    pub run_id: Uuid,
    /// The catalog's id of the subscription.
    pub subscription_id: i64,
    /// The document's URL.
    pub url: String,
    /// What was taken out of it; none when the document is not there any more.
    pub extract_id: Option<i64>,
}

impl Payload for VersioningRequest {
    const TOPIC: Topic = Topic::VersioningRequest;
    const JOB_TYPE: &'static str = "version.document";

    fn key(&self) -> String {
        format!("{} {}", self.subscription_id, self.url)
    }
}

/// A version was made: whoever wants to know of it is to be found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersioningResult {
    /// The run that made it.
    pub run_id: Uuid,
    /// The catalog's id of the subscription.
    pub subscription_id: i64,
    /// The document's URL.
    pub url: String,
    /// The catalog's id of the version.
    pub version_id: i64,
    /// Its number, from 1, of this URL in this subscription.
    pub number: i32,
    /// What happened: `Baseline`, `New`, `Changed`, `Removed` or `Returned`.
    pub kind: String,
}

impl Payload for VersioningResult {
    const TOPIC: Topic = Topic::VersioningResult;
    const JOB_TYPE: &'static str = "delivery.plan";

    fn key(&self) -> String {
        self.subscription_id.to_string()
    }
}

/// A delivery is due.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryRequest {
    /// The delivery, the same for all its attempts.
    pub delivery_id: Uuid,
    /// The catalog's id of the subscription.
    pub subscription_id: i64,
    /// The target's name in the subscription.
    pub target: String,
}

impl Payload for DeliveryRequest {
    const TOPIC: Topic = Topic::DeliveryRequest;
    const JOB_TYPE: &'static str = "delivery.send";

    fn key(&self) -> String {
        format!("{}/{}", self.subscription_id, self.target)
    }
}
