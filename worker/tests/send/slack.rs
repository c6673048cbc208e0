//! Slack: the message, its answers, and the URL that nobody may see.

use changes::{Outcome, slack_message};
use events::run_reasons;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::receiver::{Receiver, answer};
use crate::sending::{RETRY, Sending, delivery, slack};

const PATH: &str = "/services/T0000001/B0000001/s3cretXXXXYYYYZZZZ";

#[tokio::test]
async fn a_channel_gets_the_message() {
    let receiver = Receiver::willing().await;
    // As a file has it, with a line feed.
    let sending = Sending::local(&[("url", &(receiver.url(PATH) + "\n"))]).await;
    let attempt = sending.send(slack("url")).await;
    assert_eq!((attempt.outcome, attempt.status), (Outcome::Delivered, Some(200)));
    assert_eq!((attempt.reason, attempt.detail.as_str()), (run_reasons::DELIVERED, "ok"));
    let (parts, body) = &receiver.take()[0];
    assert_eq!(parts.uri.path(), PATH);
    assert_eq!(parts.headers["content-type"], "application/json");
    assert!(!parts.headers.contains_key("webhook-id"));
    assert_eq!(serde_json::from_slice::<Value>(body).unwrap(), slack_message(&delivery()));
}

#[tokio::test]
async fn only_what_slack_says_counts_as_taken() {
    for (status, headers, body, outcome, reason, detail) in [
        (200, &[][..], "ok\n", Outcome::Delivered, run_reasons::DELIVERED, "ok"),
        (200, &[], "<html>Log in</html>", RETRY, run_reasons::UNEXPECTED_ANSWER, "<html>Log in</html>"),
        (200, &[], "", RETRY, run_reasons::UNEXPECTED_ANSWER, ""),
        (403, &[], "invalid_token", RETRY, run_reasons::HTTP_STATUS, "HTTP status 403: invalid_token"),
        (404, &[], "no_service", RETRY, run_reasons::HTTP_STATUS, "HTTP status 404: no_service"),
        (
            410,
            &[],
            "channel_is_archived",
            Outcome::TargetGone,
            run_reasons::TARGET_GONE,
            "HTTP status 410: channel_is_archived",
        ),
    ] {
        let receiver = Receiver::start(move |_| answer(status, headers, body)).await;
        let sending = Sending::local(&[("url", &receiver.url(PATH))]).await;
        let attempt = sending.send(slack("url")).await;
        assert_eq!((attempt.outcome, attempt.reason), (outcome, reason), "{status} {body}");
        assert_eq!((attempt.status, attempt.detail.as_str()), (Some(status), detail));
    }
    let receiver = Receiver::start(|_| answer(429, &[("retry-after", "30")], "rate_limited")).await;
    let sending = Sending::local(&[("url", &receiver.url(PATH))]).await;
    let attempt = sending.send(slack("url")).await;
    assert!(matches!(attempt.outcome, Outcome::Retry { not_before: Some(_) }), "{attempt:?}");
}

#[tokio::test]
async fn the_url_is_never_seen() {
    let echo = Receiver::start(|parts| answer(404, &[], &format!("no route for {}", parts.uri))).await;
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for (url, reason) in [
        (echo.url(PATH), run_reasons::HTTP_STATUS),
        (echo.url("/?token=s3cretXXXXYYYYZZZZ"), run_reasons::HTTP_STATUS),
        (echo.url(PATH).replace("http", "https"), run_reasons::TLS_FAILED),
        (format!("http://{nobody}{PATH}"), run_reasons::CONNECT_FAILED),
        (format!("http://hooks.invalid{PATH}"), run_reasons::HOST_NOT_FOUND),
        (format!("http://10.0.0.1{PATH}"), run_reasons::ADDRESS_NOT_ALLOWED),
        (format!("ftp://127.0.0.1{PATH}"), run_reasons::SCHEME_NOT_ALLOWED),
        ("s3cretXXXXYYYYZZZZ".to_owned(), run_reasons::INVALID_SECRET),
        ("http://s3cret XXXXYYYYZZZZ/".to_owned(), run_reasons::INVALID_SECRET),
        ("https://[s3cretXXXXYYYYZZZZ".to_owned(), run_reasons::INVALID_SECRET),
        ("two\nlines-s3cret".to_owned(), run_reasons::INVALID_SECRET),
    ] {
        let sending = Sending::local(&[("url", &url)]).await;
        let attempt = sending.send(slack("url")).await;
        let shown = format!("{attempt:?}");
        assert_eq!(attempt.reason, reason, "{shown}");
        assert!(!shown.contains("s3cret") && !shown.contains("B0000001"), "{shown}");
        assert!(!attempt.detail.is_empty());
    }
    let attempt = Sending::local(&[]).await.send(slack("url")).await;
    assert_eq!(attempt.reason, run_reasons::SECRET_KEY_NOT_FOUND);
}
