//! E-mail: what a mail server gets, and what is made of its answers.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use changes::{Outcome, email};
use events::run_reasons;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use store::catalog::TargetPlace;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use worker::send::{Attempt, Mailer};

use crate::mail_server::{Heard, MailServer, Manners};
use crate::sending::{LONG_ENOUGH, RETRY, SHORT, Sending, delivery};

const FROM: &str = "Tipstaff <tipstaff@example.org>";
/// `clerk` and `s3cret-pass`, as PLAIN has it (RFC 4616).
const AUTH: &str = "AUTH PLAIN AGNsZXJrAHMzY3JldC1wYXNz";

const FOLDER: &str = "TIPSTAFF_TEST_MAIL_CERTIFICATES";

fn to(addresses: &[&str]) -> TargetPlace {
    TargetPlace::Email { to: addresses.iter().map(|address| (*address).to_owned()).collect() }
}

/// Sends by a server at `url`.
async fn send_by(url: &str) -> Attempt {
    let mailer = Mailer::new(url, FROM).unwrap();
    Sending::with_mailer(mailer).await.send(to(&["clerk@example.org"])).await
}

fn assert_not_sent(attempt: &Attempt, reason: &str) {
    assert_eq!((attempt.outcome, attempt.status, attempt.reason), (RETRY, None, reason), "{attempt:?}");
    assert!(!format!("{attempt:?}").contains("s3cret"), "{attempt:?}");
}

/// A header's value on one line.
fn header<'a>(headers: &'a str, name: &str) -> &'a str {
    let begin = headers.find(&format!("{name}: ")).unwrap_or_else(|| panic!("no {name}: {headers}"));
    headers[begin + name.len() + 2..].lines().next().unwrap()
}

fn split(entity: &str) -> (String, &str) {
    let (headers, body) = entity.split_once("\r\n\r\n").unwrap();
    (headers.replace("\r\n ", " "), body)
}

/// RFC 2045, section 6.7.
fn decoded(quoted: &str) -> String {
    let mut bytes = Vec::new();
    let mut pieces = quoted.split('=');
    bytes.extend_from_slice(pieces.next().unwrap().as_bytes());
    for piece in pieces {
        match piece.strip_prefix("\r\n") {
            Some(rest) => bytes.extend_from_slice(rest.as_bytes()),
            None => {
                bytes.push(u8::from_str_radix(&piece[..2], 16).unwrap());
                bytes.extend_from_slice(&piece.as_bytes()[2..]);
            }
        }
    }
    String::from_utf8(bytes).unwrap().replace("\r\n", "\n")
}

#[tokio::test]
async fn both_parts_arrive_and_a_further_attempt_has_the_same_message_id() {
    let server = MailServer::start(Manners::default()).await;
    let mailer = Mailer::new(&format!("smtp://{}/worker.example.org", server.address), FROM).unwrap();
    let sending = Sending::with_mailer(mailer).await;
    for _ in 0..2 {
        let attempt = sending.send(to(&["clerk@example.org", "judge@example.net"])).await;
        assert_eq!((attempt.outcome, attempt.status), (Outcome::Delivered, None));
        assert_eq!(
            (attempt.reason, attempt.detail.as_str()),
            (run_reasons::DELIVERED, "2.0.0 queued as 4F2A")
        );
    }
    let Heard { commands, messages } = server.take();
    let commands: Vec<&str> = commands.iter().map(|(command, _)| command.as_str()).collect();
    let one = [
        "EHLO worker.example.org",
        "MAIL FROM:<tipstaff@example.org>",
        "RCPT TO:<clerk@example.org>",
        "RCPT TO:<judge@example.net>",
        "DATA",
        "QUIT",
    ];
    assert_eq!(commands, [one, one].concat());
    assert_eq!(messages.len(), 2);
    let expected = email(&delivery());
    for message in &messages {
        let (headers, body) = split(message);
        for (name, value) in [
            ("From", FROM),
            ("To", "clerk@example.org, judge@example.net"),
            ("Subject", expected.subject.as_str()),
            ("Message-ID", "<00000000-0000-0000-0000-0000000000ff@example.org>"),
            ("Date", "Mon, 09 Mar 2026 09:00:06 +0000"),
            ("Auto-Submitted", "auto-generated"),
            ("MIME-Version", "1.0"),
        ] {
            assert_eq!(header(&headers, name).replace('"', ""), value);
        }
        let kind = header(&headers, "Content-Type");
        let (kind, boundary) = kind.split_once("; boundary=").unwrap();
        assert_eq!(kind, "multipart/alternative");
        let parts: Vec<&str> = body.split(&format!("--{}", boundary.trim_matches('"'))).collect();
        assert_eq!(parts.len(), 4, "{body}");
        assert_eq!((parts[0].trim(), parts[3].trim()), ("", "--"));
        let bodies = [("text/plain", &expected.text), ("text/html", &expected.html)];
        for (part, (kind, expected)) in parts[1..3].iter().zip(bodies) {
            let (headers, body) = split(part.trim_start());
            assert_eq!(header(&headers, "Content-Type"), format!("{kind}; charset=utf-8"));
            assert_eq!(header(&headers, "Content-Transfer-Encoding"), "quoted-printable");
            assert_eq!(decoded(body).trim_end(), expected.trim_end());
            assert!(expected.contains('§'), "{expected}");
        }
    }
}

#[tokio::test]
async fn what_a_server_refuses_is_tried_again_whether_it_says_4xx_or_5xx() {
    for (command, reply, detail) in [
        ("", "421 4.3.2 closing", "the mail server answered: transient error (421): 4.3.2 closing"),
        ("", "554 5.7.1 blocked", "the mail server answered: permanent error (554): 5.7.1 blocked"),
        ("AUTH", "535 5.7.8 no s3cret-pass", "the mail server answered: permanent error (535): 5.7.8 no …"),
        ("MAIL", "451 4.3.0 later", "the mail server answered: transient error (451): 4.3.0 later"),
        ("RCPT", "550 5.1.1 who?", "the mail server answered: permanent error (550): 5.1.1 who?"),
        (
            "RCPT",
            "450-4.2.0 grey\r\n450 4.2.0 list",
            "the mail server answered: transient error (450): 4.2.0 grey list",
        ),
        ("DATA", "554 5.5.1 none", "the mail server answered: permanent error (554): 5.5.1 none"),
        (".", "451 4.3.0 later", "the mail server answered: transient error (451): 4.3.0 later"),
        (".", "552 5.3.4 too large", "the mail server answered: permanent error (552): 5.3.4 too large"),
    ] {
        let refusal = Some((command, reply));
        let server = MailServer::start(Manners { refusal, ..Manners::default() }).await;
        let attempt = send_by(&format!("smtp://clerk:s3cret-pass@{}", server.address)).await;
        assert_not_sent(&attempt, run_reasons::EMAIL_REFUSED);
        assert_eq!(attempt.detail, detail);
    }
}

#[tokio::test]
async fn a_server_that_cannot_be_spoken_to_is_said() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let attempt = send_by(&format!("smtp://clerk:s3cret-pass@{nobody}")).await;
    assert_not_sent(&attempt, run_reasons::EMAIL_NOT_SENT);
    assert!(attempt.detail.contains("refused"), "{}", attempt.detail);

    let refusal = Some(("", "HTTP/1.1 400 Bad Request"));
    let other = MailServer::start(Manners { refusal, ..Manners::default() }).await;
    let attempt = send_by(&format!("smtp://clerk:s3cret-pass@{}", other.address)).await;
    assert_not_sent(&attempt, run_reasons::EMAIL_NOT_SENT);

    // It accepts connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("smtp://clerk:s3cret-pass@{}", silent.local_addr().unwrap());
    let sending = Sending::with_mailer(Mailer::new(&url, FROM).unwrap().take_within(SHORT)).await;
    let begun = Instant::now();
    let attempt = sending.send(to(&["clerk@example.org"])).await;
    assert!((SHORT..LONG_ENOUGH).contains(&begun.elapsed()));
    assert_not_sent(&attempt, run_reasons::TIMEOUT);
}

#[tokio::test]
async fn without_a_server_or_with_an_address_that_is_none_nothing_is_sent() {
    let attempt = Sending::local(&[]).await.send(to(&["clerk@example.org"])).await;
    assert_not_sent(&attempt, run_reasons::EMAIL_NOT_CONFIGURED);

    let server = MailServer::start(Manners::default()).await;
    let mailer = Mailer::new(&format!("smtp://{}", server.address), FROM).unwrap();
    let sending = Sending::with_mailer(mailer).await;
    for address in ["clerk", "clerk@", "a b@example.org", "a@example.org>\r\nRCPT TO:<b@example.org"] {
        let attempt = sending.send(to(&["judge@example.net", address])).await;
        assert_not_sent(&attempt, run_reasons::INVALID_EMAIL_ADDRESS);
    }
    assert!(server.take().commands.is_empty());
}

#[tokio::test]
async fn without_the_encryption_that_is_required_neither_password_nor_message_is_sent() {
    let server = MailServer::start(Manners::default()).await;
    let url = format!("smtp://clerk:s3cret-pass@{}?tls=required", server.address);
    assert_not_sent(&send_by(&url).await, run_reasons::EMAIL_NOT_SENT);
    let heard = server.take();
    assert!(heard.commands.iter().all(|(command, _)| command.starts_with("EHLO")), "{:?}", heard.commands);
}

/// Which authorities are trusted is a matter of the process (`SSL_CERT_FILE`), so that the test starts itself again with
/// one of its own.
#[test]
fn with_encryption_a_message_goes_to_a_server_with_its_certificate_and_to_no_other() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return tokio::runtime::Runtime::new().unwrap().block_on(send_encrypted(folder.as_ref()));
    }
    let folder = TempDir::new().unwrap();
    write_certificates(folder.path());
    let own_name = "email::with_encryption_a_message_goes_to_a_server_with_its_certificate_and_to_no_other";
    let run = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", own_name, "--nocapture"])
        .env(FOLDER, folder.path())
        .env("SSL_CERT_FILE", folder.path().join("authority.pem"))
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{shown}{}", String::from_utf8_lossy(&run.stderr));
    assert!(shown.contains("1 passed"), "{shown}");
}

fn write_certificates(folder: &Path) {
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // A self-signed certificate, which has rcgen's own name, is not to look like one of its.
    parameters.distinguished_name.push(DnType::CommonName, "authority of a test");
    let authority = CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
    std::fs::write(folder.join("authority.pem"), authority.pem()).unwrap();
    for (file, name, is_signed) in
        [("own", "localhost", true), ("other", "mail.example", true), ("self-signed", "localhost", false)]
    {
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate =
            if is_signed { parameters.signed_by(&key, &authority) } else { parameters.self_signed(&key) };
        std::fs::write(folder.join(file), certificate.unwrap().pem() + &key.serialize_pem()).unwrap();
    }
}

fn acceptor(pem: &Path) -> TlsAcceptor {
    worker::fetch::install_crypto_provider();
    let certificate = CertificateDer::from_pem_file(pem).unwrap();
    let key = PrivateKeyDer::from_pem_file(pem).unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key);
    TlsAcceptor::from(Arc::new(config.unwrap()))
}

async fn send_encrypted(folder: &Path) {
    for (certificate, is_trusted) in [("own", true), ("other", false), ("self-signed", false)] {
        for is_encrypted in [true, false] {
            let tls = Some(acceptor(&folder.join(certificate)));
            let server = MailServer::start(Manners { tls, is_encrypted, refusal: None }).await;
            let (scheme, query) = if is_encrypted { ("smtps", "") } else { ("smtp", "?tls=required") };
            let port = server.address.port();
            let attempt = send_by(&format!("{scheme}://clerk:s3cret-pass@localhost:{port}{query}")).await;
            let Heard { commands, messages } = server.take();
            let plain: Vec<&str> = commands
                .iter()
                .filter(|(_, is_encrypted)| !is_encrypted)
                .map(|(command, _)| command.split(' ').next().unwrap())
                .collect();
            assert_eq!(plain, if is_encrypted { &[][..] } else { &["EHLO", "STARTTLS"] });
            if is_trusted {
                assert_eq!(attempt.outcome, Outcome::Delivered, "{attempt:?}");
                assert!(commands.contains(&(AUTH.to_owned(), true)), "{commands:?}");
                assert_eq!(messages.len(), 1);
            } else {
                assert_not_sent(&attempt, run_reasons::EMAIL_NOT_SENT);
                assert!(attempt.detail.contains("certificate"), "{}", attempt.detail);
                assert!(messages.is_empty() && !commands.iter().any(|(_, is_encrypted)| *is_encrypted));
            }
        }
    }
}
