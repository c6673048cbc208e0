//! Where changes are delivered.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules::rules;

/// Said when a delivery target names no kind of target, or several.
pub(crate) const ONE_KIND_OF_TARGET: &str = "must have exactly one of webhook, slack, email and kafka";

/// Said when the URL of a webhook is not usable.
pub(crate) const WEBHOOK_URL: &str =
    "must be an absolute http or https URL with a host, without user name or password";

/// A named place to which every detected change is delivered, at least once, until it is acknowledged or given up on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules(&[(
    "[has(self.webhook), has(self.slack), has(self.email), has(self.kafka)].filter(given, given).size() == 1",
    ONE_KIND_OF_TARGET,
)])))]
pub struct DeliveryTarget {
    /// Name of the target, unique within the subscription: lower-case letters, digits and dashes. A delivery is
    /// recorded under this name, so renaming a target makes it a new one.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// HTTP endpoint that is sent a signed POST request with the change as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookTarget>,

    /// Slack channel, reached through an incoming webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slack: Option<SlackTarget>,

    /// Mailboxes, reached through the mail server that the operator is configured with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<EmailTarget>,

    /// Topic on the Kafka cluster that Tipstaff itself uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaTarget>,
}

/// An HTTP endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
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
    /// Addresses that receive one message for each change, such as `clerk@example.org`. At least one, at most 50.
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
    /// Topic that receives one CloudEvent for each change. Tipstaff does not create it.
    #[schemars(length(min = 1, max = 249), regex(pattern = "^[a-zA-Z0-9._-]+$"))]
    pub topic: String,
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
