//! Webhooks: what arrives, and what is made of the answers.

use axum::http::{HeaderMap, Method};
use changes::{Delivery, Outcome};
use events::run_reasons;
use jiff::{SignedDuration, Timestamp};
use standardwebhooks::Webhook;
use tokio::net::TcpListener;
use worker::fetch::DEFAULT_USER_AGENT;

use crate::receiver::{Receiver, answer};
use crate::sending::{RETRY, Sending, delivery, webhook};

const NEW: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const KEYS: [(&str, &str); 3] = [("new", NEW), ("old", OLD), ("password", "s3cret-password")];

fn accepts(secret: &str, headers: &HeaderMap, body: &[u8]) -> bool {
    Webhook::new(secret).unwrap().verify(body, headers).is_ok()
}

#[tokio::test]
async fn a_receiver_checks_and_reads_what_it_gets_and_gets_the_same_again() {
    let (receiver, sending) = (Receiver::willing().await, Sending::local(&KEYS).await);
    let place = webhook(&receiver.url("/hook?a=1"), Some("new"), None);
    for _ in 0..2 {
        let attempt = sending.send(place.clone()).await;
        assert_eq!((attempt.outcome, attempt.status), (Outcome::Delivered, Some(200)));
        assert_eq!((attempt.reason, attempt.detail.as_str()), (run_reasons::DELIVERED, "ok"));
        assert!(attempt.duration.is_positive());
    }
    let received = receiver.take();
    assert_eq!(received.len(), 2);
    for (parts, body) in &received {
        assert_eq!((&parts.method, parts.uri.to_string().as_str()), (&Method::POST, "/hook?a=1"));
        assert_eq!(parts.headers["content-type"], "application/json");
        assert_eq!(parts.headers["user-agent"], DEFAULT_USER_AGENT);
        assert_eq!(parts.headers["webhook-id"], delivery().data.id.to_string());
        assert!(accepts(NEW, &parts.headers, body) && !accepts(OLD, &parts.headers, body));
        assert_eq!(serde_json::from_slice::<Delivery>(body).unwrap(), delivery());
    }
    assert_eq!(received[0].1, received[1].1);
}

#[tokio::test]
async fn while_a_secret_is_replaced_old_and_new_receivers_accept() {
    let (receiver, sending) = (Receiver::willing().await, Sending::local(&KEYS).await);
    let place = webhook(&receiver.url("/"), Some("new"), Some("old"));
    assert_eq!(sending.send(place).await.outcome, Outcome::Delivered);
    let (parts, body) = &receiver.take()[0];
    assert!(accepts(NEW, &parts.headers, body) && accepts(OLD, &parts.headers, body));
    let other = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    assert!(!accepts(other, &parts.headers, body));
    assert!(!accepts(NEW, &parts.headers, b"{}"));
}

#[tokio::test]
async fn without_a_secret_a_request_is_not_signed_and_says_which_delivery_it_is() {
    let (receiver, sending) = (Receiver::willing().await, Sending::local(&[]).await);
    let now = Timestamp::now();
    assert_eq!(
        sending.send_at(webhook(&receiver.url("/"), None, None), now).await.outcome,
        Outcome::Delivered
    );
    let (parts, _) = &receiver.take()[0];
    assert!(!parts.headers.contains_key("webhook-signature"));
    assert_eq!(parts.headers["webhook-id"], delivery().data.id.to_string());
    assert_eq!(parts.headers["webhook-timestamp"], now.as_second().to_string());
}

#[tokio::test]
async fn a_secret_that_cannot_be_used_is_named_and_nothing_is_sent() {
    let (receiver, sending) = (Receiver::willing().await, Sending::local(&KEYS).await);
    let url = receiver.url("/");
    for (secret, previous, reason, said) in [
        ("missing", None, run_reasons::SECRET_KEY_NOT_FOUND, "courts/clerks has no key missing"),
        ("password", None, run_reasons::INVALID_SECRET, "does not begin with whsec_"),
        ("new", Some("password"), run_reasons::INVALID_SECRET, "key password of the Secret courts/clerks"),
    ] {
        let attempt = sending.send(webhook(&url, Some(secret), previous)).await;
        assert_eq!((attempt.outcome, attempt.status, attempt.reason), (RETRY, None, reason));
        assert!(attempt.detail.contains(said), "{}", attempt.detail);
        assert!(!attempt.detail.contains("s3cret"), "{}", attempt.detail);
    }
    assert!(receiver.take().is_empty());
}

#[tokio::test]
async fn each_status_has_its_meaning_and_redirects_are_not_followed() {
    // The path is the status, the query what `Retry-After` says.
    let receiver = Receiver::start(|parts| {
        let status = parts.uri.path()[1..].parse().unwrap();
        let mut headers = vec![("location", "/200")];
        let retry_after = parts.uri.query().map(|query| query.replace('_', " "));
        headers.extend(retry_after.as_deref().map(|value| ("retry-after", value)));
        answer(status, &headers, if status == 204 || status == 304 { "" } else { "said so" })
    })
    .await;
    let sending = Sending::local(&[]).await;
    let now: Timestamp = "1994-11-06T08:00:00Z".parse().unwrap();
    let later = |seconds| Outcome::Retry { not_before: Some(now + SignedDuration::from_secs(seconds)) };
    for (path, outcome, detail) in [
        ("200", Outcome::Delivered, "said so"),
        ("201", Outcome::Delivered, "said so"),
        ("202?120", Outcome::Delivered, "said so"),
        ("204", Outcome::Delivered, ""),
        ("300", RETRY, "HTTP status 300: redirects are not followed"),
        ("301", RETRY, "HTTP status 301: redirects are not followed"),
        ("302", RETRY, "HTTP status 302: redirects are not followed"),
        ("303", RETRY, "HTTP status 303: redirects are not followed"),
        ("304", RETRY, "HTTP status 304: redirects are not followed"),
        ("307", RETRY, "HTTP status 307: redirects are not followed"),
        ("308", RETRY, "HTTP status 308: redirects are not followed"),
        ("400", RETRY, "HTTP status 400: said so"),
        ("401", RETRY, "HTTP status 401: said so"),
        ("404", RETRY, "HTTP status 404: said so"),
        ("410", Outcome::TargetGone, "HTTP status 410: said so"),
        ("410?120", Outcome::TargetGone, "HTTP status 410: said so"),
        ("429", RETRY, "HTTP status 429: said so"),
        ("429?120", later(120), "HTTP status 429: said so"),
        ("429?soon", RETRY, "HTTP status 429: said so"),
        ("500", RETRY, "HTTP status 500: said so"),
        ("502?0", later(0), "HTTP status 502: said so"),
        ("503?Sun,_06_Nov_1994_08:49:37_GMT", later(49 * 60 + 37), "HTTP status 503: said so"),
        ("504?60", later(60), "HTTP status 504: said so"),
    ] {
        let attempt = sending.send_at(webhook(&receiver.url(&format!("/{path}")), None, None), now).await;
        assert_eq!((attempt.outcome, attempt.detail.as_str()), (outcome, detail), "{path}");
        assert_eq!(attempt.status, path[..3].parse().ok(), "{path}");
        let reason = match outcome {
            Outcome::Delivered => run_reasons::DELIVERED,
            Outcome::TargetGone => run_reasons::TARGET_GONE,
            Outcome::Retry { .. } => run_reasons::HTTP_STATUS,
        };
        assert_eq!(attempt.reason, reason, "{path}");
        assert_eq!(receiver.take().len(), 1, "{path}");
    }
}

#[tokio::test]
async fn a_receiver_that_repeats_everything_does_not_bring_secrets_to_light() {
    let receiver = Receiver::start(|parts| {
        let status = if parts.uri.path() == "/taken" { 200 } else { 500 };
        let said =
            format!("Cannot {} {}\n{:?}\nbad token s3cret-token", parts.method, parts.uri, parts.headers);
        answer(status, &[], &said)
    })
    .await;
    let sending = Sending::local(&KEYS).await;
    for path in ["/taken", "/refused"] {
        let url = receiver.url(&format!("{path}?token=s3cret-token&to=all"));
        let place = webhook(&url, Some("new"), Some("old"));
        let attempt = sending.send(place).await;
        let shown = format!("{attempt:?}");
        for secret in ["s3cret", "to=all", &NEW[6..], &OLD[6..]] {
            assert!(!shown.contains(secret), "{shown}");
        }
        assert!(attempt.detail.contains(&format!("Cannot POST {path}?…")), "{shown}");
        assert!(!attempt.detail.contains(char::is_control) && attempt.detail.chars().count() <= 500);
    }
}

#[tokio::test]
async fn why_no_answer_came_is_said_without_the_url() {
    let sending = Sending::local(&[]).await;
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let plain = Receiver::willing().await;
    for (url, reason, said) in [
        (
            format!("http://{nobody}/s3cret?s3cret"),
            run_reasons::CONNECT_FAILED,
            "no connection to 127.0.0.1: ",
        ),
        (
            "http://gazette.invalid/s3cret".to_owned(),
            run_reasons::HOST_NOT_FOUND,
            "known for gazette.invalid",
        ),
        (plain.url("/s3cret").replace("http", "https"), run_reasons::TLS_FAILED, "no secure connection to"),
        ("ftp://example.org/s3cret".to_owned(), run_reasons::SCHEME_NOT_ALLOWED, "neither http nor https"),
        ("s3cret".to_owned(), run_reasons::INVALID_URL, "the target's URL cannot be used: "),
    ] {
        let attempt = sending.send(webhook(&url, None, None)).await;
        assert_eq!((attempt.outcome, attempt.status, attempt.reason), (RETRY, None, reason), "{attempt:?}");
        assert!(attempt.detail.contains(said) && !attempt.detail.contains("s3cret"), "{}", attempt.detail);
    }
}
