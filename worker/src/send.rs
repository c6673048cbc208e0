//! Sending: one attempt to hand a delivery to its target. docs/deliveries.md says what holds of it.
//!
//! Whatever happens, there is an [`Attempt`] to be kept: nothing that a target does or that its settings lack is an error
//! of the caller's. What it says holds no secret and no query string.

mod email;
mod error;
pub mod excerpt;
mod http;
mod kafka;
mod s3;
mod slack;
mod webhook;

use std::{sync::Arc, time::Duration};

use changes::{Delivery, Outcome};
use events::{Bus, error_chain, run_reasons};
use jiff::{SignedDuration, Timestamp};
use store::{
    blobs::Blobs,
    catalog::{SecretKey, TargetPlace, TargetSettings},
};
use tokio::time::Instant;

use crate::{
    fetch::GuardedClient,
    secrets::{SecretName, SecretReader},
};

pub use email::{Mailer, MailerError};
use error::SendError;
use excerpt::Hidden;

/// How long an HTTP endpoint has for the whole of its answer.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// Sends deliveries to targets of every kind. Cloning is cheap; clones share connections.
#[derive(Clone)]
pub struct Sender {
    client: GuardedClient,
    answer_within: Duration,
    secrets: Arc<dyn SecretReader>,
    mailer: Option<Mailer>,
    bus: Arc<dyn Bus>,
    blobs: Arc<dyn Blobs>,
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// What becomes of the delivery.
    pub outcome: Outcome,
    /// The HTTP status, if there was one.
    pub status: Option<u16>,
    /// How long it took.
    pub duration: SignedDuration,
    /// The beginning of the answer, or what went wrong: one line of at most 500 characters.
    pub detail: String,
    /// The class of it, stable: one of [`run_reasons`].
    pub reason: &'static str,
}

/// An attempt before its time is taken.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    outcome: Outcome,
    status: Option<u16>,
    detail: String,
    reason: &'static str,
}

impl Sender {
    /// A sender of webhooks by `client`, of records by `bus` and of objects to where `blobs` are kept. Signing secrets
    /// and Slack's URLs come from `secrets`. Without a `mailer` targets of the kind e-mail fail.
    pub fn new(
        client: GuardedClient,
        secrets: Arc<dyn SecretReader>,
        mailer: Option<Mailer>,
        bus: Arc<dyn Bus>,
        blobs: Arc<dyn Blobs>,
    ) -> Self {
        Self { client, answer_within: ANSWER_WITHIN, secrets, mailer, bus, blobs }
    }

    /// Waits so long for an HTTP endpoint instead of [`ANSWER_WITHIN`].
    #[must_use]
    pub fn answer_within(self, answer_within: Duration) -> Self {
        Self { answer_within, ..self }
    }

    /// Makes one attempt at `now`. Secrets are those of `namespace`, which is the subscription's.
    pub async fn send(
        &self,
        target: &TargetSettings,
        namespace: &str,
        delivery: &Delivery,
        now: Timestamp,
    ) -> Attempt {
        let begun = Instant::now();
        let tried = match &target.place {
            TargetPlace::Webhook { url, secret, previous_secret } => {
                let secrets = [secret, previous_secret].map(Option::as_ref);
                self.send_webhook(url, secrets, namespace, delivery, now).await
            }
            TargetPlace::Slack { url_secret } => self.send_slack(url_secret, namespace, delivery, now).await,
            TargetPlace::Email { to } => self.send_email(to, delivery).await,
            TargetPlace::Kafka { topic } => self.send_record(topic, delivery).await,
            TargetPlace::S3 { bucket, prefix } => self.send_object(bucket, prefix, delivery).await,
        };
        let answer = tried.unwrap_or_else(|error| Answer {
            outcome: Outcome::Retry { not_before: None },
            status: None,
            detail: Hidden::default().excerpt(&error_chain(&error)),
            reason: error.reason(),
        });
        let duration = SignedDuration::try_from(begun.elapsed()).unwrap_or(SignedDuration::MAX);
        let Answer { outcome, status, detail, reason } = answer;
        Attempt { outcome, status, duration, detail, reason }
    }

    /// The value under a key of a Secret, read anew for each attempt: nothing else keeps it.
    async fn secret(&self, namespace: &str, key: &SecretKey) -> Result<String, SendError> {
        let secret = secret_name(namespace, key);
        let values = self.secrets.read(&secret).await?;
        let value = values.get(&secret, &key.key)?;
        Ok(String::from_utf8_lossy(value.as_bytes()).into_owned())
    }
}

impl Answer {
    /// What a target took that says no more of it.
    fn delivered(detail: String) -> Self {
        Self { outcome: Outcome::Delivered, status: None, detail, reason: run_reasons::DELIVERED }
    }
}

fn secret_name(namespace: &str, key: &SecretKey) -> SecretName {
    SecretName { namespace: namespace.to_owned(), name: key.name.clone() }
}
