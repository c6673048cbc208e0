//! The targets of a subscription with their values parsed.

use std::time::Duration;

use serde::Serialize;
use url::Url;

use super::{Violations, checks};
use crate::{
    DeliveryTarget, Digest, KafkaTarget, S3Target, SecretKeyReference, WantedChange, WebhookTarget,
    delivery::{NO_DIGEST, ONE_DIGEST, ONE_KIND_OF_TARGET, SECRET_BEFORE_PREVIOUS, WEBHOOK_URL, WINDOW},
    destination::{check_prefix, check_topic},
};

/// A named place to which changes are delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ValidatedTarget {
    /// Its name, unique within the subscription.
    pub name: String,
    /// What it is.
    pub target: Target,
    /// The kinds of changes that it wants; none: all but baselines.
    pub changes: Vec<WantedChange>,
    /// A regular expression, which compiles, that what changed must match.
    pub matches: Option<String>,
    /// What is sent together.
    pub digest: ValidatedDigest,
}

/// A place to which changes are delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// An HTTP endpoint: http or https, with a host, without credentials.
    Webhook {
        /// Its URL.
        url: Url,
        /// Where the signing secret is.
        secret: Option<SecretKeyReference>,
        /// Where the signing secret before that is; only with one.
        previous_secret: Option<SecretKeyReference>,
    },
    /// A Slack channel.
    Slack {
        /// Where the incoming webhook's URL is.
        url_secret: SecretKeyReference,
    },
    /// Mailboxes, at least one.
    Email {
        /// Their addresses.
        to: Vec<String>,
    },
    /// A Kafka topic.
    Kafka {
        /// Its name.
        topic: String,
    },
    /// Objects in the object store.
    S3 {
        /// The bucket.
        bucket: String,
        /// What their keys begin with.
        prefix: String,
    },
}

/// What of a target's changes is sent together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ValidatedDigest {
    /// Nothing: each change is sent by itself.
    #[default]
    None,
    /// What one run saw.
    PerRun,
    /// What is seen within so long after a first change.
    Window(Duration),
}

pub(super) fn validated_target(
    target: &DeliveryTarget,
    path: &str,
    violations: &mut Violations,
) -> Option<ValidatedTarget> {
    let place = place(target, path, violations);
    let when = target.when.clone().unwrap_or_default();
    if let Some(expression) = &when.matches {
        violations.take(format!("{path}.when.matches"), checks::regex(expression));
    }
    let digest = match &target.digest {
        Some(_) if target.kafka.is_some() || target.s3.is_some() => {
            violations.add(path, NO_DIGEST);
            None
        }
        Some(spec) => digest(spec, &format!("{path}.digest"), violations),
        None => Some(ValidatedDigest::None),
    };
    Some(ValidatedTarget {
        name: target.name.clone(),
        target: place?,
        changes: when.changes,
        matches: when.matches,
        digest: digest?,
    })
}

fn place(target: &DeliveryTarget, path: &str, violations: &mut Violations) -> Option<Target> {
    let DeliveryTarget { webhook, slack, email, kafka, s3, .. } = target;
    Some(match (webhook, slack, email, kafka, s3) {
        (Some(hook), None, None, None, None) => webhook_place(hook, &format!("{path}.webhook"), violations)?,
        (None, Some(slack), None, None, None) => Target::Slack { url_secret: slack.url_secret_ref.clone() },
        (None, None, Some(email), None, None) => Target::Email { to: email.to.clone() },
        (None, None, None, Some(KafkaTarget { topic }), None) => {
            violations.take(format!("{path}.kafka.topic"), check_topic(topic))?;
            Target::Kafka { topic: topic.clone() }
        }
        (None, None, None, None, Some(S3Target { bucket, prefix })) => {
            violations.take(format!("{path}.s3.prefix"), check_prefix(prefix))?;
            Target::S3 { bucket: bucket.clone(), prefix: prefix.clone() }
        }
        _ => {
            violations.add(path, ONE_KIND_OF_TARGET);
            return None;
        }
    })
}

fn webhook_place(webhook: &WebhookTarget, path: &str, violations: &mut Violations) -> Option<Target> {
    if webhook.previous_secret_ref.is_some() && webhook.secret_ref.is_none() {
        violations.add(path, SECRET_BEFORE_PREVIOUS);
    }
    let url = checks::http_url(&webhook.url, WEBHOOK_URL)
        .and_then(|url| if checks::has_credentials(&url) { Err(WEBHOOK_URL.to_owned()) } else { Ok(url) });
    Some(Target::Webhook {
        url: violations.take(format!("{path}.url"), url)?,
        secret: webhook.secret_ref.clone(),
        previous_secret: webhook.previous_secret_ref.clone(),
    })
}

fn digest(digest: &Digest, path: &str, violations: &mut Violations) -> Option<ValidatedDigest> {
    match (digest.window, digest.per_run) {
        (Some(window), false) => violations
            .take(format!("{path}.window"), checks::bounded(window, WINDOW))
            .map(ValidatedDigest::Window),
        (None, true) => Some(ValidatedDigest::PerRun),
        _ => {
            violations.add(path, ONE_DIGEST);
            None
        }
    }
}
