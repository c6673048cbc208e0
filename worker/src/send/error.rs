//! Why a delivery did not get as far as an answer.

use events::{BusError, run_reasons};
use lettre::address::AddressError;
use store::blobs::BlobError;

use crate::secrets::{SecretError, SecretName};

/// Why nothing was sent, or no answer came. Messages hold no secret: neither a value nor a URL that is one.
///
/// Each is tried again: what is wrong with a target, a Secret or a server may be mended within the time of the retries.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    /// A Secret that the target names could not be read.
    #[error(transparent)]
    Secret(#[from] SecretError),

    /// What is in it signs nothing.
    #[error("the key {key} of the Secret {secret} cannot sign")]
    SigningSecret {
        secret: SecretName,
        key: String,
        #[source]
        source: changes::SecretError,
    },

    /// What is in it is no URL.
    #[error("the key {key} of the Secret {secret} is not the URL of an incoming webhook")]
    SlackUrl {
        secret: SecretName,
        key: String,
        #[source]
        source: url::ParseError,
    },

    /// The settings have no URL. What passed the operator does not come to this.
    #[error("the target's URL cannot be used")]
    Url(#[from] url::ParseError),

    /// No answer came over HTTP. Not with the client's error, which may name the URL.
    #[error("{why}")]
    NoAnswer { why: String, reason: &'static str },

    /// What is sent cannot be written as JSON.
    #[error("the delivery cannot be written as JSON")]
    Json(#[from] serde_json::Error),

    /// There is no mail server.
    #[error("no mail server is configured: an administrator has to name one for targets of this kind")]
    EmailNotConfigured,

    /// A recipient's address is none. What passed the operator may come to this: the rules for addresses are long.
    #[error("{address:?} is not an e-mail address")]
    EmailAddress {
        address: String,
        #[source]
        source: AddressError,
    },

    /// The message cannot be put together.
    #[error("the message cannot be written")]
    EmailNotWritten(#[from] lettre::error::Error),

    /// The mail server could not be spoken to.
    #[error("the message did not come to the mail server")]
    EmailNotSent(#[source] lettre::transport::smtp::Error),

    /// The mail server did not answer in time.
    #[error("the mail server did not take the message within {seconds} seconds")]
    EmailTimeout { seconds: u64 },

    /// The topic is Tipstaff's own.
    #[error("nothing is sent to the topic {topic}: topics of this name are Tipstaff's own, or Kafka's")]
    TopicNotAllowed { topic: String },

    /// Kafka did not acknowledge the record.
    #[error("the record was not taken")]
    NotAcknowledged(#[source] BusError),

    /// The object store did not take the object.
    #[error("the object was not stored; the bucket must be there, Tipstaff does not create it")]
    NotStored(#[source] BlobError),
}

impl SendError {
    /// The class of the failure, stable: for conditions and rows.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Secret(SecretError::Unfit { .. }) | Self::SigningSecret { .. } | Self::SlackUrl { .. } => {
                run_reasons::INVALID_SECRET
            }
            Self::Secret(error) => error.reason(),
            Self::Url(_) => run_reasons::INVALID_URL,
            Self::NoAnswer { reason, .. } => reason,
            Self::Json(_) => run_reasons::EVENT_NOT_WRITTEN,
            Self::EmailNotConfigured => run_reasons::EMAIL_NOT_CONFIGURED,
            Self::EmailAddress { .. } => run_reasons::INVALID_EMAIL_ADDRESS,
            Self::EmailNotWritten(_) | Self::EmailNotSent(_) => run_reasons::EMAIL_NOT_SENT,
            Self::EmailTimeout { .. } => run_reasons::TIMEOUT,
            Self::TopicNotAllowed { .. } => run_reasons::TOPIC_NOT_ALLOWED,
            Self::NotAcknowledged(BusError::NoTopic { .. }) => run_reasons::TOPIC_NOT_FOUND,
            Self::NotAcknowledged(BusError::TopicForbidden { .. }) => run_reasons::TOPIC_FORBIDDEN,
            Self::NotAcknowledged(BusError::NoKafka { .. }) => run_reasons::KAFKA_NOT_CONFIGURED,
            Self::NotAcknowledged(_) => run_reasons::RECORD_NOT_ACKNOWLEDGED,
            Self::NotStored(_) => run_reasons::OBJECT_NOT_STORED,
        }
    }
}
