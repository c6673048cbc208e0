//! What Sources say of how they answer, with operator and worker as processes on the real stack, of sites on loopback.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tests::{Installation, Origin, corpus, eventually};

const SOON: Duration = Duration::from_secs(60);

/// A source of a site, and a subscription of its name that is not due during a test.
fn manifests(name: &str, url: &str, more: &str) -> String {
    format!(
        "apiVersion: tipstaff.dev/v1alpha1\nkind: Source\nmetadata: {{ name: {name} }}\n\
         spec: {{ baseURL: '{url}', robotsMode: allow, politeness: {{ minInterval: 0s }}{more} }}\n---\n\
         apiVersion: tipstaff.dev/v1alpha1\nkind: Subscription\nmetadata: {{ name: {name} }}\n\
         spec: {{ sourceRef: {{ name: {name} }}, schedule: '0 0 29 2 *' }}\n"
    )
}

/// Runs the subscription once more and waits for the end.
async fn run(tipstaff: &Installation, name: &str, number: usize) {
    tipstaff.request(name, &format!("request-{number}")).await;
    tipstaff.ended_runs(name, number).await;
}

async fn status(tipstaff: &Installation, name: &str) -> Value {
    tipstaff.object(&format!("tsrc/{name}")).await["status"].clone()
}

fn time(value: &Value) -> Option<Timestamp> {
    value.as_str().map(|text| text.parse().unwrap())
}

/// Since when a condition has its status.
async fn since(tipstaff: &Installation, name: &str, kind: &str) -> Timestamp {
    let status = status(tipstaff, name).await;
    let conditions = status["conditions"].as_array().unwrap();
    let condition = conditions.iter().find(|condition| condition["type"] == kind).unwrap();
    time(&condition["lastTransitionTime"]).unwrap()
}

/// A time in the row of a source, in whole seconds as the API has them.
async fn in_catalog(tipstaff: &Installation, sql: &'static str, name: &str) -> Option<Timestamp> {
    let time: Option<jiff_sqlx::Timestamp> =
        sqlx::query_scalar(sql).bind(name).fetch_one(&tipstaff.pool).await.unwrap();
    time.map(|time| Timestamp::from_second(time.to_jiff().as_second()).unwrap())
}

/// Waits for an Event about a source.
async fn told(tipstaff: &Installation, name: &str, kind: &str, reason: &str) {
    let field = format!("--field-selector=regarding.kind=Source,regarding.name={name}");
    let template = "jsonpath={range .items[*]}{.type} {.reason}{\"\\n\"}{end}";
    eventually(&format!("the Event {reason} about {name}"), SOON, async || {
        let events = tipstaff.kubectl(&["get", "events.events.k8s.io", &field, "-o", template], "").await;
        let events = events.unwrap();
        if events.lines().any(|line| line == format!("{kind} {reason}")) { Ok(()) } else { Err(events) }
    })
    .await;
}

/// When the status of a source was last written, by the API server's clock.
async fn written_at(tipstaff: &Installation, name: &str) -> Timestamp {
    let object = ["get", "tsrc", name, "-o", "json", "--show-managed-fields"];
    let object: Value = serde_json::from_str(&tipstaff.kubectl(&object, "").await.unwrap()).unwrap();
    let fields = object["metadata"]["managedFields"].as_array().unwrap();
    time(&fields.iter().find(|entry| entry["subresource"] == "status").unwrap()["time"]).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_says_why_it_does_not_answer_and_when_it_is_tried_and_that_it_answers_again() {
    let origin = Origin::start(corpus::CA11).await;
    let tipstaff = Installation::new("reachable").await;
    let _operator = tipstaff.operator(&[]);
    let _worker = tipstaff.worker(&[]);
    tipstaff.apply(&manifests("court", &origin.url(), "")).await;
    tipstaff.condition("tsub/court", "Ready", "True", None).await;
    tipstaff.condition("tsrc/court", "Reachable", "Unknown", Some("NotFetched")).await;

    // For good: no attempt is made again within the run.
    origin.set(404, "gone");
    run(&tipstaff, "court", 1).await;
    let message = tipstaff.condition("tsrc/court", "Reachable", "False", Some("HttpStatus")).await;
    assert!(message.contains("404") && message.contains("; it is tried again from 20"), "{message}");
    let failing_since = "select failing_since from sources where name = $1";
    let first = in_catalog(&tipstaff, failing_since, "court").await;
    assert_eq!(Some(since(&tipstaff, "court", "Reachable").await), first);
    let next_try = in_catalog(&tipstaff, "select next_try_at from sources where name = $1", "court").await;
    assert!(next_try > first);
    assert_eq!(time(&status(&tipstaff, "court").await["nextTryTime"]), next_try);
    told(&tipstaff, "court", "Warning", "HttpStatus").await;

    // For now: it is seen while the run still tries.
    origin.set(503, "not now");
    tipstaff.request("court", "request-2").await;
    eventually("a failure of another kind", SOON, async || {
        let message = tipstaff.condition("tsrc/court", "Reachable", "False", Some("HttpStatus")).await;
        if message.contains("503") { Ok(()) } else { Err(message) }
    })
    .await;
    assert_eq!(Some(since(&tipstaff, "court", "Reachable").await), first, "it has failed all the time");
    assert_eq!(tipstaff.runs("court").await[1].phase, "Running");

    origin.set(200, corpus::CA11);
    tipstaff.condition("tsrc/court", "Reachable", "True", Some("Answers")).await;
    assert_eq!(tipstaff.ended_runs("court", 2).await[1].phase, "Succeeded");
    let shown = status(&tipstaff, "court").await;
    let fetched = in_catalog(&tipstaff, "select last_fetch_at from sources where name = $1", "court").await;
    let changed = in_catalog(&tipstaff, "select last_change_at from sources where name = $1", "court").await;
    assert!(fetched.is_some() && fetched == changed);
    assert_eq!((time(&shown["lastFetchTime"]), time(&shown["lastChangeTime"])), (fetched, changed));
    assert_eq!(shown["nextTryTime"], Value::Null);
    told(&tipstaff, "court", "Normal", "Answers").await;

    // A fetch alone is not worth a write at once.
    run(&tipstaff, "court", 3).await;
    let again = in_catalog(&tipstaff, "select last_fetch_at from sources where name = $1", "court").await;
    eventually("the last fetch", SOON, async || {
        let shown = status(&tipstaff, "court").await;
        if time(&shown["lastFetchTime"]) == again { Ok(()) } else { Err((shown, again)) }
    })
    .await;
    assert_eq!(time(&status(&tipstaff, "court").await["lastChangeTime"]), changed);
    let written = written_at(&tipstaff, "court").await;
    assert!(written >= fetched.unwrap() + SignedDuration::from_secs(15), "{written} {fetched:?}");

    tipstaff
        .kubectl(&["patch", "tsrc/court", "--type=merge", "-p", "{\"spec\": {\"suspend\": true}}"], "")
        .await
        .unwrap();
    tipstaff.condition("tsrc/court", "Reachable", "Unknown", Some("Suspended")).await;
    tipstaff.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_does_not_change_as_expected_says_so_when_its_time_is_over() {
    let origin = Origin::start(corpus::CA11).await;
    let tipstaff = Installation::new("fresh").await;
    let _operator = tipstaff.operator(&[]);
    let _worker = tipstaff.worker(&[]);
    let expecting = ", expect: { cadence: 1h }";
    for name in ["court", "silent"] {
        tipstaff.apply(&manifests(name, &origin.url(), expecting)).await;
        tipstaff.condition(&format!("tsub/{name}"), "Ready", "True", None).await;
        let message = tipstaff.condition(&format!("tsrc/{name}"), "Fresh", "True", Some("AsExpected")).await;
        assert!(message.contains("expected before 20"), "{message}");
    }
    run(&tipstaff, "court", 1).await;
    tipstaff.condition("tsrc/court", "Reachable", "True", None).await;

    // As if it had all been an hour ago, but for a while in which the operator learns of it.
    let ago = "update sources set created_at = now() - interval '59 minutes 45 seconds',
        last_change_at = case when last_change_at is not null then now() - interval '59 minutes 45 seconds' end,
        health_written_at = clock_timestamp()";
    sqlx::query(ago).execute(&tipstaff.pool).await.unwrap();
    let due = "select coalesce(last_change_at, created_at) + interval '1 hour' from sources where name = $1";
    for (name, expected) in
        [("court", "Nothing has changed since 20"), ("silent", "Nothing was fetched since")]
    {
        let message =
            tipstaff.condition(&format!("tsrc/{name}"), "Fresh", "False", Some("ChangeOverdue")).await;
        assert!(message.contains(expected) && message.contains("every 1h"), "{message}");
        assert_eq!(Some(since(&tipstaff, name, "Fresh").await), in_catalog(&tipstaff, due, name).await);
        assert!(written_at(&tipstaff, name).await >= in_catalog(&tipstaff, due, name).await.unwrap());
        told(&tipstaff, name, "Warning", "ChangeOverdue").await;
    }
    tipstaff.condition("tsrc/court", "Reachable", "True", Some("Answers")).await;

    // It is fetched, and is as it was; then it changes.
    run(&tipstaff, "court", 2).await;
    origin.set(200, "<p>something new");
    assert_eq!(status(&tipstaff, "court").await["conditions"][2]["status"], "False");
    run(&tipstaff, "court", 3).await;
    tipstaff.condition("tsrc/court", "Fresh", "True", Some("AsExpected")).await;
    told(&tipstaff, "court", "Normal", "AsExpected").await;

    // Nothing is expected any more.
    tipstaff.apply(&manifests("silent", &origin.url(), "")).await;
    eventually("a status without Fresh", SOON, async || {
        let status = status(&tipstaff, "silent").await;
        let is_so = !status["conditions"].to_string().contains("Fresh");
        if is_so && status["observedGeneration"] == 2 { Ok(()) } else { Err(status) }
    })
    .await;
    tipstaff.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_fails_is_left_alone_for_a_while_and_is_asked_as_before_once_it_answers() {
    let origin = Origin::start(corpus::CA11).await;
    origin.set(404, "gone");
    let tipstaff = Installation::new("alone").await;
    let _operator = tipstaff.operator(&[]);
    let _worker = tipstaff.worker(&[]);
    tipstaff.apply(&manifests("court", &origin.url(), "").replace("0 0 29 2 *", "* * * * *")).await;
    let shown = async |what: &str, field: &str, reason: &str| {
        eventually(what, SOON + SOON, async || {
            let status = tipstaff.object("tsub/court").await["status"].clone();
            if status[field]["reason"] == reason { Ok(()) } else { Err(status) }
        })
        .await;
    };
    shown("a failed run", "lastRun", "HttpStatus").await;
    // The next due time is less than a minute after it.
    shown("a due time without a run", "lastSkip", "SourceFailing").await;
    let requests = origin.requests();
    let runs = tipstaff.runs("court").await.len();
    assert_eq!(requests, runs, "nothing was asked for the due time that was skipped");

    origin.set(200, corpus::CA11);
    tipstaff.request("court", "now").await;
    tipstaff.condition("tsrc/court", "Reachable", "True", Some("Answers")).await;
    shown("a run that is due", "lastRun", "Unchanged").await;
    tipstaff.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_whose_site_asks_not_to_be_fetched_says_so() {
    let origin = Origin::start(corpus::CA11).await;
    origin.set_robots(200, "User-agent: *\nDisallow: /opinions\n");
    let tipstaff = Installation::new("disallowed").await;
    let _operator = tipstaff.operator(&[]);
    let _worker = tipstaff.worker(&[]);
    let permitted = manifests("court", &origin.url(), "");
    tipstaff.apply(&permitted.replace("robotsMode: allow", "robotsMode: obey")).await;
    tipstaff.condition("tsub/court", "Ready", "True", None).await;

    run(&tipstaff, "court", 1).await;
    let message = tipstaff.condition("tsrc/court", "Reachable", "False", Some("RobotsDisallowed")).await;
    assert!(message.contains("robots.txt") && message.contains("; it is tried again from 20"), "{message}");
    told(&tipstaff, "court", "Warning", "RobotsDisallowed").await;
    assert_eq!(origin.requests(), 0, "the page was not asked for");

    // With the publisher's permission.
    tipstaff.apply(&permitted).await;
    run(&tipstaff, "court", 2).await;
    tipstaff.condition("tsrc/court", "Reachable", "True", Some("Answers")).await;
    assert_eq!(origin.requests(), 1);
    tipstaff.remove().await;
}
