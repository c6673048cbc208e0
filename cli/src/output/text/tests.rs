#![allow(clippy::unwrap_used)]
use uuid::Uuid;

use super::*;
use crate::output::{SubscriptionName, Summary, Version};

const HASH: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const OTHER_HASH: &str = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100";

fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}

fn name(namespace: &str) -> SubscriptionName {
    SubscriptionName { namespace: namespace.into(), subscription: "court".into() }
}

fn document(changed: bool, previous: Option<&str>) -> Document {
    Document {
        url: "https://court.example/opinions".into(),
        byte_size: 4711,
        fetch_hash: HASH.into(),
        blob_uri: "file:///data/blobs/raw/1/with%20space.bin".into(),
        changed,
        previous_hash: previous.map(Into::into),
        version: changed.then(|| Version {
            number: 1 + i32::from(previous.is_some()),
            kind: if previous.is_some() { "Changed" } else { "Baseline" }.into(),
            diff: "--- before\n+++ after\n@@ -1 +1 @@\n-one\n+two\n".into(),
        }),
    }
}

fn run(phase: &'static str, reason: &str, message: Option<&str>, artifacts: Vec<Document>) -> RunRow {
    RunRow {
        subscription: name("default"),
        run_id: Some(Uuid::from_u128(1)),
        phase,
        reason: reason.into(),
        message: message.map(Into::into),
        trace_id: None,
        artifacts,
    }
}

fn delivery(retry_at: Option<Timestamp>) -> Delivery {
    Delivery {
        subscription: name("default"),
        delivery_id: Uuid::from_u128(2),
        target: "clerks".into(),
        changes: 2,
        reason: "HttpStatus",
        detail: "busy".into(),
        retry_at,
    }
}

#[test]
fn each_event_is_told() {
    // An hour before UTC's midnight it is already tomorrow there.
    let now = at("2026-03-01T23:00:00Z").to_zoned(TimeZone::get("Europe/Berlin").unwrap());
    let object = ObjectName { kind: "Subscription", namespace: "eu".into(), name: "court".into() };
    let verdict = |reason, next_due| ObjectVerdict {
        object: object.clone(),
        reason,
        message: "because".into(),
        next_due,
    };
    let skips = |count| Skips {
        subscription: name("default"),
        reason: "Superseded",
        message: "it was missed".into(),
        count,
        scheduled_for: at("2026-03-01T22:00:00Z"),
        scheduled_through: at("2026-03-01T23:00:00Z"),
    };
    let start = |trigger: &str| RunStart {
        subscription: name("default"),
        run_id: Uuid::from_u128(1),
        trigger: trigger.into(),
        scheduled_for: at("2026-03-01T23:00:00Z"),
    };
    let cases = [
        (
            Notice::Problem { file: "a.yaml".into(), line: 7, message: "is wrong".into() },
            "00:00:00  problem    a.yaml:7: is wrong",
        ),
        (
            Notice::Ready(verdict("Scheduled", Some(at("2026-03-01T23:01:00Z")))),
            "00:00:00  ready      Subscription eu/court, due next at 00:01:00",
        ),
        (
            Notice::Ready(verdict("Scheduled", Some(at("2026-03-01T23:00:00Z")))),
            "00:00:00  ready      Subscription eu/court, due since 00:00:00",
        ),
        (
            Notice::Ready(verdict("Suspended", Some(at("2026-03-01T23:01:00Z")))),
            "00:00:00  ready      Subscription eu/court: Suspended: because",
        ),
        (
            Notice::NotReady(verdict("InvalidSpec", None)),
            "00:00:00  not ready  Subscription eu/court: InvalidSpec: because",
        ),
        (
            Notice::Deleted(object.clone()),
            "00:00:00  deleted    Subscription eu/court is no longer among the manifests; what it stored stays",
        ),
        (Notice::RunStarted(start("Request")), "00:00:00  started    court  on request"),
        (Notice::RunStarted(start("Schedule")), "00:00:00  started    court  due at 00:00:00"),
        (
            Notice::RunSkipped(skips(1)),
            "00:00:00  skipped    court  due at 2026-03-01 23:00:00: Superseded: it was missed",
        ),
        (
            Notice::RunSkipped(skips(60)),
            "00:00:00  skipped    court  60 due times from 2026-03-01 23:00:00 to 00:00:00: Superseded: it was missed",
        ),
        (
            Notice::RunEnded(run("Succeeded", "Changed", None, vec![document(true, None)])),
            "00:00:00  new        court  https://court.example/opinions  4711 bytes, sha256 001122334455\n                     \
             /data/blobs/raw/1/with space.bin",
        ),
        (
            Notice::RunEnded(run("Succeeded", "Changed", None, vec![document(true, Some(OTHER_HASH))])),
            "00:00:00  changed    court  https://court.example/opinions  4711 bytes, sha256 001122334455, was ffeeddccbbaa\n\
             \u{20}                    /data/blobs/raw/1/with space.bin\n\
             \u{20}                    @@ -1 +1 @@\n\
             \u{20}                    -one\n\
             \u{20}                    +two",
        ),
        (Notice::Delivered(delivery(None)), "00:00:00  delivered  court  2 changes to clerks: busy"),
        (
            Notice::NotDelivered(delivery(Some(at("2026-03-01T23:05:00Z")))),
            "00:00:00  not sent   court  2 changes to clerks: HttpStatus: busy; next attempt at 00:05:00",
        ),
        (
            Notice::NotDelivered(delivery(None)),
            "00:00:00  not sent   court  2 changes to clerks: HttpStatus: busy; it is given up",
        ),
        (
            Notice::RunEnded(run("Succeeded", "Unchanged", None, vec![document(false, Some(HASH))])),
            "00:00:00  unchanged  court  https://court.example/opinions",
        ),
        (
            Notice::RunEnded(run("Failed", "HttpStatus", Some("the server answered 404"), Vec::new())),
            "00:00:00  failed     court  HttpStatus: the server answered 404",
        ),
        (
            Notice::RunEnded(run("Failed", "AddressNotAllowed", Some("it is closed"), Vec::new())),
            "00:00:00  failed     court  AddressNotAllowed: it is closed; --allow-cidr opens it",
        ),
    ];
    for (notice, expected) in cases {
        assert_eq!(render(&notice, &now), expected);
    }
}

#[test]
fn the_table_has_a_row_for_each_document() {
    let runs = vec![
        run("Succeeded", "Changed", None, vec![document(true, None), document(false, Some(HASH))]),
        run("Failed", "HttpStatus", Some("the server answered 404"), Vec::new()),
    ];
    let table = table::render(&Summary { runs, failed: 1, problems: 0 });
    let expected = "
SUBSCRIPTION  PHASE      REASON      URL                             BYTES  SHA256
court         Succeeded  Changed     https://court.example/opinions   4711  001122334455
court         Succeeded  Changed     https://court.example/opinions   4711  001122334455
court         Failed     HttpStatus  -                                   -  -

court: HttpStatus: the server answered 404
2 subscriptions, 1 failed, 0 problems in the manifests.";
    assert_eq!(table, expected);
}
