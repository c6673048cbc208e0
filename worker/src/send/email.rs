//! E-mail: a message with a plain and an HTML part, handed to the administrator's mail server (SMTP, RFC 5321).
//!
//! The server is not one of those that a subscription names, so that the rules for addresses do not hold for it.

use std::{fmt, time::Duration};

use changes::{Delivery, Email, Outcome, email};
use events::run_reasons;
use lettre::{
    Address, AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    address::AddressError,
    message::{
        Mailbox, MultiPart,
        header::{HeaderName, HeaderValue},
    },
    transport::smtp,
};
use percent_encoding::percent_decode_str;
use tokio::time::timeout;
use url::Url;

use super::{Answer, SendError, Sender, excerpt::Hidden};
use crate::fetch::install_crypto_provider;

/// How long a mail server has for the whole of a message: it may look for viruses before it answers.
const TAKE_WITHIN: Duration = Duration::from_secs(60);

/// Hands messages to a mail server. Each has a connection of its own.
#[derive(Clone)]
pub struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    take_within: Duration,
    hidden: Hidden,
}

/// Why there is no mailer. The URL, which may hold a password, is not repeated.
#[derive(Debug, thiserror::Error)]
pub enum MailerError {
    /// The URL is none, or of another protocol.
    #[error(
        "the mail server's URL cannot be used; it is smtps://user:password@host:port, or smtp:// with ?tls=required for STARTTLS"
    )]
    Url(#[source] smtp::Error),
    /// The sender's address is none.
    #[error("{address:?} is not a sender; it is an address, or a name and an address in angle brackets")]
    From {
        /// What was given.
        address: String,
        /// What is wrong with it.
        #[source]
        source: AddressError,
    },
}

impl Mailer {
    /// A mailer that hands messages from `from`, such as `Tipstaff <tipstaff@example.org>`, to the server at `url`:
    ///
    /// - `smtps://user:password@host:465`: TLS from the start
    /// - `smtp://user:password@host:587?tls=required`: STARTTLS, or nothing is sent
    /// - `smtp://user:password@host:587?tls=opportunistic`: STARTTLS if the server has it
    /// - `smtp://host:25`: without encryption
    ///
    /// User name and password are percent-encoded and may be left out. A path, as in `smtps://host/worker.example.org`,
    /// is the name by which the server is greeted. Certificates are checked against the system's roots.
    ///
    /// # Errors
    /// When either cannot be used. Whether the server answers is not asked.
    pub fn new(url: &str, from: &str) -> Result<Self, MailerError> {
        install_crypto_provider();
        let builder = AsyncSmtpTransport::<Tokio1Executor>::from_url(url).map_err(MailerError::Url)?;
        let from = from.parse().map_err(|source| MailerError::From { address: from.to_owned(), source })?;
        let transport = builder.timeout(Some(TAKE_WITHIN)).build();
        Ok(Self { transport, from, take_within: TAKE_WITHIN, hidden: password_of(url) })
    }

    /// Waits so long for the server instead of a minute.
    #[must_use]
    pub fn take_within(self, take_within: Duration) -> Self {
        Self { take_within, ..self }
    }
}

impl fmt::Debug for Mailer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Mailer").field("from", &self.from).finish_non_exhaustive()
    }
}

/// As it stands in the URL, and as the server gets it.
fn password_of(url: &str) -> Hidden {
    let url: Option<Url> = url.parse().ok();
    let encoded = url.as_ref().and_then(Url::password).unwrap_or_default();
    let decoded = percent_decode_str(encoded).decode_utf8_lossy();
    Hidden::new([encoded.to_owned(), decoded.into_owned()])
}

impl Sender {
    /// Sends to all of the addresses, or to none: the server has either the whole message or nothing of it.
    pub(super) async fn send_email(&self, to: &[String], delivery: &Delivery) -> Result<Answer, SendError> {
        let mailer = self.mailer.as_ref().ok_or(SendError::EmailNotConfigured)?;
        let message = message(&mailer.from, to, delivery)?;
        let sent = match timeout(mailer.take_within, mailer.transport.send(message)).await {
            Ok(sent) => sent,
            Err(_) => return Err(SendError::EmailTimeout { seconds: mailer.take_within.as_secs() }),
        };
        match sent {
            Ok(response) => {
                let lines: Vec<&str> = response.message().collect();
                Ok(Answer::delivered(mailer.hidden.excerpt(&lines.join(" "))))
            }
            // RFC 5321 has 4xx for what passes and 5xx for what does not. Both are tried again: servers say 5xx of full
            // mailboxes, of blocklists and while an administrator mends their configuration, and there are ten attempts
            // in all, not the thousands that a mail server's own queue would make.
            Err(error) if error.status().is_some() => Ok(Answer {
                outcome: Outcome::Retry { not_before: None },
                status: None,
                detail: mailer.hidden.excerpt(&format!("the mail server answered: {error}")),
                reason: run_reasons::EMAIL_REFUSED,
            }),
            Err(error) => Err(SendError::EmailNotSent(error)),
        }
    }
}

/// The message. Further attempts have the same `Message-ID`, so that a mailbox that has it already can tell.
fn message(from: &Mailbox, to: &[String], delivery: &Delivery) -> Result<Message, SendError> {
    let Email { subject, text, html } = email(delivery);
    let mut builder = Message::builder()
        .from(from.clone())
        .subject(subject)
        // A delivery is made now, not before 1970 or after 9999, which such a header cannot say.
        .date(delivery.timestamp.into())
        .message_id(Some(format!("<{}@{}>", delivery.data.id, from.email.domain())))
        // RFC 3834: nobody's holiday is to be answered to it.
        .raw_header(HeaderValue::new(
            HeaderName::new_from_ascii_str("Auto-Submitted"),
            "auto-generated".to_owned(),
        ));
    for address in to {
        let parsed: Address =
            address.parse().map_err(|source| SendError::EmailAddress { address: address.clone(), source })?;
        builder = builder.to(parsed.into());
    }
    Ok(builder.multipart(MultiPart::alternative_plain_html(text, html))?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use events::error_chain;

    use super::*;

    #[test]
    fn a_server_has_a_url_and_a_sender_has_an_address() {
        for (url, from) in [
            ("smtp://mail.example.org", "tipstaff@example.org"),
            ("smtp://mail.example.org:2525/worker.example.org", "Tipstaff <tipstaff@example.org>"),
            (
                "smtp://user:pass%20word@mail.example.org?tls=required",
                "\"Law, Order\" <tipstaff@example.org>",
            ),
            ("smtps://user:password@mail.example.org", "tipstaff@example.org"),
        ] {
            Mailer::new(url, from).unwrap();
        }
        for url in ["", "mail.example.org", "https://example.org", "smtp://user:hunter2@example.org?tls=no"] {
            let error = Mailer::new(url, "tipstaff@example.org").unwrap_err();
            assert!(matches!(error, MailerError::Url(_)), "{url}");
            assert!(!error_chain(&error).contains("hunter2"), "{}", error_chain(&error));
        }
        for from in
            ["", "tipstaff", "tipstaff@", "a@example.org, b@example.org", "a@example.org\r\nBcc: b@c.org"]
        {
            let error = Mailer::new("smtp://mail.example.org", from).unwrap_err();
            assert!(matches!(error, MailerError::From { .. }), "{from}");
        }
    }

    #[test]
    fn nothing_shows_the_password() {
        let mailer =
            Mailer::new("smtp://user:pass%20word+1@mail.example.org", "tipstaff@example.org").unwrap();
        assert!(!format!("{mailer:?}").contains("pass"));
        for said in ["pass word+1 is wrong", "pass%20word+1 is wrong"] {
            assert_eq!(mailer.hidden.excerpt(said), "… is wrong");
        }
    }
}
