//! What is sent is signed, and what is answered is kept or emitted.

use std::collections::HashSet;

use changes::{SigningSecret, sign};
use events::{CrawlResult, Event, Topic};
use http::HeaderMap;
use jiff::Timestamp;
use standardwebhooks::Webhook;
use url::Url;
use uuid::Uuid;
use worker::{
    http_routes::{self, HttpRoute},
    send::excerpt::{Hidden, LONGEST, SHORTEST_SECRET},
};

use crate::input::{parts, texts};

const RUN: Uuid = Uuid::from_u128(7);
const NOW: Timestamp = Timestamp::constant(1_780_477_200, 0);

/// A secret, a body, and another body.
pub(crate) fn webhook(input: &[u8]) {
    let [secret, body, other] = parts(input);
    let secret = String::from_utf8_lossy(secret);
    let Ok(signing) = secret.parse::<SigningSecret>() else { return };
    // The reference implementation signs text alone, and so do we: a body is JSON.
    if std::str::from_utf8(body).is_err() {
        return;
    }
    // Whatever is taken for a secret, the reference implementation takes too.
    let receiver = Webhook::new(secret.trim()).unwrap();
    assert!(!format!("{signing:?}").contains(secret.trim()));
    // The reference implementation has its own clock.
    let signed = sign(std::slice::from_ref(&signing), "id", Timestamp::now(), body);
    let mut headers = HeaderMap::new();
    headers.insert("webhook-id", signed.id.parse().unwrap());
    headers.insert("webhook-timestamp", signed.timestamp.parse().unwrap());
    headers.insert("webhook-signature", signed.signature.parse().unwrap());
    assert!(receiver.verify(body, &headers).is_ok());
    assert_eq!(receiver.verify(other, &headers).is_ok(), body == other, "it is of this body alone");
    headers.insert("webhook-id", "other".parse().unwrap());
    assert!(receiver.verify(body, &headers).is_err(), "it is of this id alone");
}

/// A URL and a secret of a target, what it answers, and what a route's service answers.
pub(crate) fn answers(input: &[u8]) {
    let [url, secret, text, answer] = texts(input);
    let secret = secret.into_owned();
    let kept = Hidden::new([secret.clone()]).excerpt(&text);
    is_a_line(&kept);
    // What stands for it may stand in it, or be found where it was taken out.
    if secret.len() >= SHORTEST_SECRET && !secret.contains('…') {
        assert!(!kept.contains(&secret), "{secret:?} in {kept:?}");
    }
    if let Ok(url) = Url::parse(&url) {
        for hidden in [Hidden::query_of(&url), Hidden::all_of(&url)] {
            is_a_line(&hidden.excerpt(&text));
            let echoed = hidden.excerpt(&format!("cannot post {url}"));
            is_a_line(&echoed);
            let is_long = |part: &str| part.len() >= SHORTEST_SECRET && !"cannot post".contains(part);
            for part in [url.query(), url.password()].into_iter().flatten().filter(|part| is_long(part)) {
                let rest = url.as_str().replacen(part, "", 1);
                assert!(rest.contains(part) || !echoed.contains(part), "{part:?} in {echoed:?}");
            }
        }
    }
    emitted(answer.as_bytes());
}

fn is_a_line(kept: &str) {
    assert!(kept.chars().count() <= LONGEST, "{}", kept.len());
    assert!(!kept.chars().any(char::is_control), "{kept:?}");
    assert_eq!(kept.split_whitespace().collect::<Vec<_>>().join(" "), kept);
}

fn emitted(answer: &[u8]) {
    let (route, event) = (route(), event());
    let Ok(emitted) = http_routes::emitted(&route, &event, answer, NOW) else { return };
    let ids: HashSet<Uuid> = emitted.iter().map(|emitted| emitted.id).collect();
    assert_eq!(ids.len(), emitted.len(), "each has its own id");
    for child in &emitted {
        assert!(route.emits.contains(&child.topic));
        assert_eq!(child.trace_parent.trace_id, event.trace_parent.trace_id);
        let payload: serde_json::Value = serde_json::from_slice(&child.payload).unwrap();
        assert_eq!(payload["run_id"], RUN.to_string(), "of the same run");
        assert_eq!(&Event::from_record(&child.to_record()).unwrap(), child);
    }
    assert_eq!(http_routes::emitted(&route, &event, answer, NOW).unwrap(), emitted);
}

fn route() -> HttpRoute {
    let text = "routes: [{name: x, topic: crawl.result, url: 'http://x/', emits: [parse.request, versioning.request]}]";
    let route = http_routes::parse(text).unwrap().remove(0);
    assert_eq!(route.topic, Topic::CrawlResult);
    route
}

fn event() -> Event {
    let payload = CrawlResult {
        run_id: RUN,
        subscription_id: 1,
        source_id: 2,
        artifact_id: 3,
        source_url: "https://example.org/".to_owned(),
        fetch_hash: "00".repeat(32),
        blob_uri: "s3://bucket/key".to_owned(),
        content_type: None,
        byte_size: 1,
        changed: true,
    };
    Event::of_run(RUN, "/fuzz", NOW, &payload).unwrap()
}
