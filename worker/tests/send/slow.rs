//! Endpoints that take their time.

use std::time::{Duration, Instant};

use changes::Outcome;
use events::run_reasons;
use tokio::time::timeout;

use crate::receiver::dripping;
use crate::sending::{LONG_ENOUGH, RETRY, SHORT, Sending, webhook};

const OFTEN: Duration = Duration::from_millis(20);

#[tokio::test]
async fn an_endpoint_that_never_answers_or_drips_its_headers_is_given_up() {
    let mut sending = Sending::local(&[]).await;
    sending.sender = sending.sender.answer_within(SHORT);
    for (begin, more, pause) in [
        ("", "", LONG_ENOUGH),
        ("HTTP/1.1 200 OK\r\n", "", LONG_ENOUGH),
        ("HTTP/1.1 200 OK\r\nx-slow: ", "x", OFTEN),
    ] {
        let (address, _) = dripping(begin, more, pause).await;
        let begun = Instant::now();
        let attempt = sending.send(webhook(&format!("http://{address}/?s3cret"), None, None)).await;
        assert!((SHORT..LONG_ENOUGH).contains(&begun.elapsed()));
        assert_eq!((attempt.outcome, attempt.status), (RETRY, None));
        assert_eq!(attempt.reason, run_reasons::TIMEOUT);
        assert_eq!(attempt.detail, "127.0.0.1 did not answer in time");
    }
}

#[tokio::test]
async fn a_status_counts_though_the_body_drips() {
    let mut sending = Sending::local(&[]).await;
    sending.sender = sending.sender.answer_within(SHORT);
    for (begin, outcome, detail) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 99999\r\n\r\ntaken", Outcome::Delivered, "taken"),
        ("HTTP/1.1 503 Busy\r\ncontent-length: 99999\r\n\r\nbusy", RETRY, "HTTP status 503: busy"),
    ] {
        let (address, ended) = dripping(begin, " .", OFTEN).await;
        let begun = Instant::now();
        let attempt = sending.send(webhook(&format!("http://{address}/"), None, None)).await;
        assert!((SHORT..LONG_ENOUGH).contains(&begun.elapsed()));
        assert_eq!(attempt.outcome, outcome);
        assert!(attempt.detail.starts_with(detail), "{}", attempt.detail);
        timeout(LONG_ENOUGH, ended.notified()).await.expect("the connection is closed");
    }
}

#[tokio::test]
async fn of_a_body_without_end_the_beginning_is_read() {
    let sending = Sending::local(&[]).await;
    let (address, ended) = dripping("HTTP/1.1 200 OK\r\n\r\n", "word ", Duration::ZERO).await;
    let attempt = sending.send(webhook(&format!("http://{address}/"), None, None)).await;
    assert_eq!(attempt.outcome, Outcome::Delivered);
    assert_eq!(attempt.detail.chars().count(), 500);
    timeout(LONG_ENOUGH, ended.notified()).await.expect("the connection is closed");
}
