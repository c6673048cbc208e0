//! What Subscriptions say of how their targets take what is sent, and what follows from other selectors, with operator and
//! worker as processes on the real stack, of sites on loopback.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tests::{Installation, Origin, eventually};

const SOON: Duration = Duration::from_secs(60);
const PAGE: &str =
    "<!DOCTYPE html><html><body><h1>Opinions</h1><div class=list><p>Smith v. Jones</p></div></body></html>";

/// A source, and a subscription that is not due during a test and tells `hook` of everything.
fn manifests(page: &Origin, hook: &Origin, selectors: &str) -> String {
    format!(
        "apiVersion: tipstaff.dev/v1alpha1\nkind: Source\nmetadata: {{ name: court }}\n\
         spec: {{ baseURL: '{}', robotsMode: allow, politeness: {{ minInterval: 0s }} }}\n---\n\
         apiVersion: tipstaff.dev/v1alpha1\nkind: Subscription\nmetadata: {{ name: court }}\n\
         spec:\n  sourceRef: {{ name: court }}\n  schedule: '0 0 29 2 *'\n  selectors: {{ {selectors} }}\n\
         \x20 delivery: [{{ name: clerks, webhook: {{ url: '{}' }}, when: {{ changes: [Always] }} }}]\n",
        page.url(),
        hook.url()
    )
}

async fn condition(tipstaff: &Installation, kind: &str) -> Option<Value> {
    let object = tipstaff.object("tsub/court").await;
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.into_iter().find(|condition| condition["type"] == kind)
}

/// Waits for an Event about the subscription.
async fn told(tipstaff: &Installation, kind: &str, reason: &str) {
    let field = "--field-selector=regarding.kind=Subscription,regarding.name=court";
    let template = "jsonpath={range .items[*]}{.type} {.reason}{\"\\n\"}{end}";
    eventually(&format!("the Event {reason}"), SOON, async || {
        let events = tipstaff.kubectl(&["get", "events.events.k8s.io", field, "-o", template], "").await;
        let events = events.unwrap();
        if events.lines().any(|line| line == format!("{kind} {reason}")) { Ok(()) } else { Err(events) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_says_which_target_does_not_take_what_is_sent_and_that_it_takes_it_again() {
    let (page, hook) = (Origin::start(PAGE).await, Origin::start("").await);
    let tipstaff = Installation::new("delivering").await;
    let _operator = tipstaff.operator(&[]);
    let _worker = tipstaff.worker(&[]);
    tipstaff.apply(&manifests(&page, &hook, "")).await;
    tipstaff.condition("tsub/court", "Ready", "True", None).await;
    assert_eq!(condition(&tipstaff, "Delivering").await, None, "nothing was sent yet");

    hook.set(503, "not now");
    tipstaff.request("court", "request-1").await;
    let message = tipstaff.condition("tsub/court", "Delivering", "False", Some("HttpStatus")).await;
    assert!(message.starts_with("clerks has failed since 20"), "{message}");
    assert!(message.contains("503") && message.contains("; the next attempt is at 20"), "{message}");
    let since: jiff_sqlx::Timestamp =
        sqlx::query_scalar("select failing_since from targets").fetch_one(&tipstaff.pool).await.unwrap();
    let since = Timestamp::from_second(since.to_jiff().as_second()).unwrap();
    let shown = condition(&tipstaff, "Delivering").await.unwrap()["lastTransitionTime"].clone();
    assert_eq!(shown, since.to_string());
    told(&tipstaff, "Warning", "HttpStatus").await;

    // The second attempt comes some seconds after the first one.
    hook.set(200, "");
    tipstaff.condition("tsub/court", "Delivering", "True", Some("Delivered")).await;
    told(&tipstaff, "Normal", "Delivered").await;

    // Of a target that is gone from the spec nothing is said.
    let patch = r#"{"spec": {"delivery": []}}"#;
    tipstaff.kubectl(&["patch", "tsub/court", "--type=merge", "-p", patch], "").await.unwrap();
    eventually("a status without targets", SOON, async || match condition(&tipstaff, "Delivering").await {
        None => Ok(()),
        some => Err(some),
    })
    .await;
    tipstaff.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn under_other_selectors_stored_documents_are_extracted_again_and_nothing_is_fetched() {
    let (page, hook) = (Origin::start(PAGE).await, Origin::start("").await);
    let tipstaff = Installation::new("selecting").await;
    let operator = tipstaff.operator(&[]);
    let _worker = tipstaff.worker(&[]);
    tipstaff.apply(&manifests(&page, &hook, "")).await;
    tipstaff.condition("tsub/court", "Ready", "True", None).await;
    tipstaff.request("court", "request-1").await;
    tipstaff.ended_runs("court", 1).await;
    let fetched = page.requests();

    tipstaff.apply(&manifests(&page, &hook, "body: { xpath: \"//div[@class='list']\" }")).await;
    let runs = tipstaff.ended_runs("court", 2).await;
    let ended: Vec<_> =
        runs.iter().map(|run| (run.trigger.as_str(), run.phase.as_str(), run.reason.as_deref())).collect();
    assert_eq!(
        ended,
        [("Request", "Succeeded", Some("Changed")), ("Backfill", "Succeeded", Some("Backfilled"))]
    );
    assert_eq!(page.requests(), fetched);
    let texts: Vec<String> = sqlx::query_scalar(
        "select v.kind || ': ' || e.text from versions v join extracts e on e.id = v.extract_id order by v.number",
    )
    .fetch_all(&tipstaff.pool)
    .await
    .unwrap();
    assert_eq!(texts, ["Baseline: Opinions\nSmith v. Jones", "Baseline: Smith v. Jones"]);

    // Another operator finds nothing that is left to do.
    drop(operator);
    let _operator = tipstaff.operator(&[]);
    tipstaff.request("court", "request-2").await;
    let runs = tipstaff.ended_runs("court", 3).await;
    assert_eq!(runs.len(), 3);
    assert_eq!((runs[2].trigger.as_str(), runs[2].reason.as_deref()), ("Request", Some("Unchanged")));
    tipstaff.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_stored_is_read_under_other_selectors_on_request_and_makes_no_version() {
    let (page, hook) = (Origin::start(PAGE).await, Origin::start("").await);
    let tipstaff = Installation::new("all-stored").await;
    let _operator = tipstaff.operator(&[]);
    let _worker = tipstaff.worker(&[]);
    tipstaff.apply(&manifests(&page, &hook, "")).await;
    tipstaff.condition("tsub/court", "Ready", "True", None).await;
    // The second page has nothing of what is selected later.
    for (number, list) in [(1, "<div class=list>one</div>"), (2, "two"), (3, "<div class=list>three</div>")] {
        page.set(200, &format!("<!DOCTYPE html><html><body><h1>Opinions</h1>{list}</body></html>"));
        tipstaff.request("court", &format!("request-{number}")).await;
        tipstaff.ended_runs("court", number).await;
    }
    tipstaff.apply(&manifests(&page, &hook, "body: .list")).await;
    tipstaff.ended_runs("court", 4).await;
    let texts = async || -> Vec<String> {
        sqlx::query_scalar(
            "select e.text from extracts e join subscriptions s using (selection_hash) order by e.artifact_id",
        )
        .fetch_all(&tipstaff.pool)
        .await
        .unwrap()
    };
    assert_eq!(texts().await, ["three"], "other selectors ask for the latest");
    let state = "select md5(string_agg(v::text, ' ' order by v.id))::text || (select string_agg(h::text, ' ') from document_heads h)
                 from versions v";
    let state = async || -> String { sqlx::query_scalar(state).fetch_one(&tipstaff.pool).await.unwrap() };
    let before = state().await;
    let (fetched, told) = (page.requests(), posted(&tipstaff, 4).await);

    for (token, runs) in [("all-1", 5), ("all-1", 5), ("all-2", 6)] {
        let annotation = format!("tipstaff.dev/backfillAt={token}");
        tipstaff.kubectl(&["annotate", "--overwrite", "tsub/court", &annotation], "").await.unwrap();
        eventually("the request in the status", SOON, async || {
            let status = tipstaff.object("tsub/court").await["status"].clone();
            if status["lastHandledBackfillAt"] == token { Ok(()) } else { Err(status) }
        })
        .await;
        let ended = tipstaff.ended_runs("court", runs).await;
        assert_eq!(ended.len(), runs);
        let last = &ended[runs - 1];
        assert_eq!((last.trigger.as_str(), last.reason.as_deref()), ("Backfill", Some("Backfilled")));
        eventually("what was stored before", SOON, async || {
            let texts = texts().await;
            if texts == ["one", "three"] { Ok(()) } else { Err(texts) }
        })
        .await;
    }
    assert_eq!((state().await, page.requests()), (before, fetched));
    assert_eq!(posted(&tipstaff, 4).await, told);
    assert_eq!(hook.all_requests().len(), 4);
    tipstaff.remove().await;
}

/// Waits until so many deliveries are delivered; returns how many there are.
async fn posted(tipstaff: &Installation, count: i64) -> i64 {
    eventually("deliveries", SOON, async || {
        let delivered = tipstaff.count("select count(*) from deliveries where phase = 'Delivered'").await;
        if delivered == count { Ok(()) } else { Err(delivered) }
    })
    .await;
    tipstaff.count("select count(*) from deliveries").await
}
