//! Where changes are delivered.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Duration,
    destination::{prefix_rules, topic_rules},
    rules::{Bounds, rules},
};

/// How long changes may be gathered: a minute to a day.
pub(crate) const WINDOW: Bounds = Bounds::seconds(60, 24 * 3600);

/// Said when a delivery target names no kind of target, or several.
pub(crate) const ONE_KIND_OF_TARGET: &str = "must have exactly one of webhook, slack, email, kafka and s3";

/// Said when changes are to be gathered for a target that takes them one by one.
pub(crate) const NO_DIGEST: &str = "must not have digest with kafka or s3, which get each change by itself";

/// Said when a digest does not say until when it gathers, or says it twice.
pub(crate) const ONE_DIGEST: &str = "must have exactly one of window and perRun: true";

/// Said when an older signing secret is given without the one that is in force.
pub(crate) const SECRET_BEFORE_PREVIOUS: &str = "must have secretRef where it has previousSecretRef";

/// Said when the URL of a webhook is not usable.
pub(crate) const WEBHOOK_URL: &str =
    "must be an absolute http or https URL with a host, without user name or password";

/// A named place to which changes are delivered, at least once, until they are acknowledged or given up on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules(&[
    (
        "[has(self.webhook), has(self.slack), has(self.email), has(self.kafka), has(self.s3)].filter(given, given).size() == 1",
        ONE_KIND_OF_TARGET,
    ),
    ("!has(self.digest) || !(has(self.kafka) || has(self.s3))", NO_DIGEST),
])))]
pub struct DeliveryTarget {
    /// Name of the target, unique within the subscription: lower-case letters, digits and dashes. A delivery is
    /// recorded under this name, so renaming a target makes it a new one.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// HTTP endpoint that is sent a signed POST request with the changes as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookTarget>,

    /// Slack channel, reached through an incoming webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slack: Option<SlackTarget>,

    /// Mailboxes, reached through the mail server that Tipstaff is configured with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<EmailTarget>,

    /// Topic on the Kafka cluster that Tipstaff itself uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaTarget>,

    /// Objects in the object store that Tipstaff itself uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Target>,

    /// Which changes the target wants. Without it, all but baselines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<When>,

    /// Which changes are gathered and sent together. Without it, each change is sent by itself. Not with kafka and s3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

/// Which changes a target wants.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct When {
    /// Kinds of changes: `Changed` (text or fields differ), `New` (a list names the document for the first time),
    /// `Removed` (it does not any more), `Returned` (it does again), `Baseline` (a first version, with which later ones
    /// are compared), or `Always` for all of them. Without any, all but `Baseline`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 6), extend("x-kubernetes-list-type" = "set"))]
    pub changes: Vec<WantedChange>,

    /// Regular expression that a line which was added, removed or changed must match, or a value of a field that
    /// changed, such as `(?i)\bsanctions?\b`. Without it, every change counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub matches: Option<String>,
}

/// A kind of change that a target wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WantedChange {
    /// Text or fields differ.
    Changed,
    /// A list names the document for the first time.
    New,
    /// A list does not name the document any more.
    Removed,
    /// A list names the document again.
    Returned,
    /// A first version, with which later ones are compared.
    Baseline,
    /// Each of them.
    Always,
}

/// Until when changes are gathered that are sent together: exactly one of `window` and `perRun: true`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules(&[(
    "has(self.window) != (has(self.perRun) && self.perRun)",
    ONE_DIGEST,
)])))]
pub struct Digest {
    /// Time for which changes are gathered after a first one, between 1m and 24h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = WINDOW.rules()))]
    pub window: Option<Duration>,

    /// Whether the changes that one run saw are sent together when it has ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub per_run: bool,
}

/// An HTTP endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules(&[(
    "!has(self.previousSecretRef) || has(self.secretRef)",
    SECRET_BEFORE_PREVIOUS,
)])))]
pub struct WebhookTarget {
    /// URL that receives the POST requests: http or https, without user name or password.
    #[schemars(length(min = 1, max = 2048), extend("x-kubernetes-validations" = rules(&[(
        "isURL(self) && url(self).getScheme() in ['http', 'https'] && url(self).getHostname() != '' && !self.matches('^[a-zA-Z]+://[^/?#]*@')",
        WEBHOOK_URL,
    )])))]
    pub url: String,

    /// Key of a Secret, in the same namespace, that holds the signing secret (Standard Webhooks: `whsec_` and
    /// base64). Without it requests are not signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretKeyReference>,

    /// Key of a Secret, in the same namespace, that holds the signing secret before that one: requests are signed with
    /// both, until receivers know the newer one. Only with secretRef.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_secret_ref: Option<SecretKeyReference>,
}

/// A Slack channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SlackTarget {
    /// Key of a Secret, in the same namespace, that holds the incoming webhook's URL. The URL is a credential, so it
    /// cannot be given in plain text.
    pub url_secret_ref: SecretKeyReference,
}

/// Mailboxes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EmailTarget {
    /// Addresses that receive each message, such as `clerk@example.org`. At least one, at most 50.
    #[schemars(
        length(min = 1, max = 50),
        inner(length(min = 3, max = 254), regex(pattern = "^[^@\\s]+@[^@\\s]+$")),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub to: Vec<String>,
}

/// A Kafka topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KafkaTarget {
    /// Topic that receives one CloudEvent for each change. Tipstaff does not create it. Its name must not be one of
    /// Tipstaff's own topics or end in one, nor begin with `__`.
    #[schemars(
        length(min = 1, max = 249),
        regex(pattern = "^[a-zA-Z0-9._-]+$"),
        extend("x-kubernetes-validations" = topic_rules())
    )]
    pub topic: String,
}

/// Objects in an object store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct S3Target {
    /// Bucket that receives one object for each change. Tipstaff does not create it.
    #[schemars(length(min = 3, max = 63), regex(pattern = "^[a-z0-9][a-z0-9.-]+[a-z0-9]$"))]
    pub bucket: String,

    /// What the objects' keys begin with, such as `changes/`: letters, digits, `-`, `_` and `.` between single slashes, no
    /// slash first, not below `raw/`. Namespace, subscription, day and the delivery's id follow.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(
        length(max = 512),
        regex(pattern = "^([-_.a-zA-Z0-9]+/)*[-_.a-zA-Z0-9]*$"),
        extend("x-kubernetes-validations" = prefix_rules())
    )]
    pub prefix: String,
}

/// One key of a Secret in the same namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyReference {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// Key within the Secret's data.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}
