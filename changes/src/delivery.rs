//! What is delivered: one or several changes to one target. Its JSON is documented by `docs/delivery.schema.json`.

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, generate::SchemaSettings, transform::RecursiveTransform};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    compare::Change,
    fields::{Fields, bounded},
    unified::unified,
};

/// A delivery, in the envelope that Standard Webhooks recommends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Delivery {
    /// What is told.
    #[serde(rename = "type")]
    pub event_type: EventType,
    /// When the delivery was made. Further attempts have the same.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub timestamp: Timestamp,
    /// What changed.
    pub data: Data,
}

/// What is told by a delivery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EventType {
    /// Documents of a subscription changed.
    #[default]
    #[serde(rename = "subscription.changed")]
    SubscriptionChanged,
}

/// What changed, where and for whom.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Data {
    /// Id of the delivery. Further attempts have the same; it is also the webhook's `webhook-id`.
    #[schemars(with = "String", extend("format" = "uuid"))]
    pub id: Uuid,
    /// Name of the target in the subscription.
    pub target: String,
    /// The subscription.
    pub subscription: Subscription,
    /// Jurisdiction, as the subscription has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jurisdiction: Option<String>,
    /// The source.
    pub source: Source,
    /// The changes, in the order in which they were seen; at least one.
    #[schemars(length(min = 1))]
    pub changes: Vec<DocumentChange>,
}

/// The subscription that a change belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Subscription {
    /// Its namespace, which is also that of the source.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// The source that was fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// Its `baseURL`.
    #[schemars(extend("format" = "uri"))]
    pub url: String,
}

/// A change of one document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DocumentChange {
    /// Which document.
    #[serde(flatten)]
    pub document: Document,
    /// What changed.
    #[serde(flatten)]
    pub change: Change,
    /// The change of the text as a unified diff, for `patch`; empty when the texts are equal. Its first line begins with
    /// `#` when something was left out.
    pub diff: String,
}

/// A document, and the versions that are compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Document {
    /// Its URL, as it was asked for.
    #[schemars(extend("format" = "uri"))]
    pub url: String,
    /// When the change was seen.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub detected_at: Timestamp,
    /// Run that saw it.
    #[schemars(with = "String", extend("format" = "uuid"))]
    pub run_id: Uuid,
    /// Id under which everything the run did can be found in traces and logs (W3C Trace Context, 32 hex digits).
    #[schemars(extend("pattern" = "^[0-9a-f]{32}$"))]
    pub trace_id: String,
    /// Version before the change. Absent: there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<Version>,
    /// Version after the change. Absent: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<Version>,
    /// Named values of the newest of these versions: text, or a list of texts. Long ones end in an ellipsis.
    pub fields: Fields,
}

/// A version of a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Version {
    /// Its number, from 1, of this URL in this subscription.
    pub number: u32,
    /// SHA-256 of its text.
    #[schemars(extend("pattern" = "^[0-9a-f]{64}$"))]
    pub text_hash: String,
    /// Evidence of where the text came from.
    pub artifact: Artifact,
}

/// What a server answered: a row of `artifacts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Artifact {
    /// Its id in the catalog.
    pub id: i64,
    /// SHA-256 of the body.
    #[schemars(extend("pattern" = "^[0-9a-f]{64}$"))]
    pub fetch_hash: String,
    /// Where the body is stored, such as `s3://bucket/key`.
    pub blob_uri: String,
    /// When the answer came.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub fetched_at: Timestamp,
}

impl DocumentChange {
    /// A change with its diff. Fields that are too long are cut: see [`Extent`](crate::Extent).
    pub fn new(document: Document, change: Change) -> Self {
        let label = |version: &Option<Version>| match version {
            Some(version) => format!("{} (version {})", document.url, version.number),
            None => document.url.clone(),
        };
        let diff = unified(&change, &label(&document.old), &label(&document.new));
        let fields = bounded(document.fields);
        Self { document: Document { fields, ..document }, change, diff }
    }
}

/// The JSON Schema (draft 2020-12) of a delivery, as it stands in `docs/delivery.schema.json`.
pub fn delivery_schema() -> String {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let settings = settings.with_transform(RecursiveTransform(join_description_lines));
    format!("{:#}\n", settings.into_generator().into_root_schema_for::<Delivery>().as_value())
}

/// Descriptions are doc comments, wrapped for the source file.
fn join_description_lines(schema: &mut Schema) {
    if let Some(Value::String(description)) = schema.get_mut("description") {
        *description =
            description.split("\n\n").map(|text| text.replace('\n', " ")).collect::<Vec<_>>().join("\n\n");
    }
}
