//! What targets get, with operator and worker as processes on the real stack, from sites on loopback.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use serde_json::Value;
use standardwebhooks::Webhook;
use tests::{Installation, KafkaRecord, KafkaTopic, Origin, Request, eventually, read_blob};

const SOON: Duration = Duration::from_secs(60);
const HTML: &str = "text/html; charset=utf-8";
const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// A page with links to follow, and a subscription that is not due during a test.
fn manifests(site: &Origin, delivery: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{ name: clerks }}\nstringData: {{ key: {SECRET} }}\n---\n\
         apiVersion: tipstaff.dev/v1alpha1\nkind: Source\nmetadata: {{ name: court }}\n\
         spec: {{ baseURL: '{}', robotsMode: allow, politeness: {{ minInterval: 0s }}, follow: {{ links: a }} }}\n---\n\
         apiVersion: tipstaff.dev/v1alpha1\nkind: Subscription\nmetadata: {{ name: court }}\n\
         spec: {{ sourceRef: {{ name: court }}, schedule: '0 0 29 2 *', delivery: [{delivery}] }}\n",
        site.at("/list")
    )
}

fn list(paths: &[&str]) -> String {
    paths.iter().map(|path| format!("<li><a href='{path}'>{path}</a>")).collect()
}

async fn run(tipstaff: &Installation, number: usize) {
    tipstaff.request("court", &format!("request-{number}")).await;
    let runs = tipstaff.ended_runs("court", number).await;
    assert_eq!(runs[number - 1].phase, "Succeeded", "{runs:?}");
}

async fn posted(hook: &Origin, count: usize) -> Vec<Request> {
    eventually("the requests of deliveries", SOON, async || {
        let requests = hook.all_requests();
        if requests.len() >= count { Ok(requests) } else { Err(requests.len()) }
    })
    .await
}

/// What a delivery says happened to which document.
fn changes(request: &Request) -> Vec<(String, String)> {
    let delivery: Value = serde_json::from_slice(&request.body).unwrap();
    let changes = delivery["data"]["changes"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut changes: Vec<_> =
        changes.iter().map(|change| (text(&change["url"]), text(&change["kind"]))).collect();
    changes.sort();
    changes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_one_signed_digest_and_each_of_its_changes_an_object() {
    let (site, hook) = (Origin::start("").await, Origin::start("").await);
    site.put("/list", HTML, list(&["/1", "/2"]));
    site.put("/1", HTML, "<p>one");
    site.put("/2", HTML, "<p>two");
    let tipstaff = Installation::new("digest").await;
    let _operator = tipstaff.operator(&[]);
    let _worker = tipstaff.worker(&[]);
    let bucket = tipstaff.s3().bucket;
    let delivery = format!(
        "{{ name: clerks, webhook: {{ url: '{}', secretRef: {{ name: clerks, key: key }} }}, digest: {{ perRun: true }} }},
         {{ name: archive, s3: {{ bucket: {bucket}, prefix: delivered/ }} }}",
        hook.url()
    );
    tipstaff.apply(&manifests(&site, &delivery)).await;
    tipstaff.condition("tsub/court", "Ready", "True", Some("Scheduled")).await;
    run(&tipstaff, 1).await;
    site.put("/1", HTML, "<p>one, amended");
    site.put("/list", HTML, list(&["/1", "/3"]));
    site.put("/3", HTML, "<p>three");
    run(&tipstaff, 2).await;

    let requests = posted(&hook, 1).await;
    let change = |path: &str, kind: &str| (site.at(path), kind.to_owned());
    // The first run told nobody: what was there when it was first looked at is no news.
    assert_eq!(
        changes(&requests[0]),
        [change("/1", "changed"), change("/2", "removed"), change("/3", "new")]
    );
    Webhook::new(SECRET).unwrap().verify(&requests[0].body, &requests[0].headers).unwrap();

    let delivered = "select count(*) from deliveries where phase = 'Delivered'";
    eventually("all deliveries", SOON, async || {
        let delivered = tipstaff.count(delivered).await;
        if delivered == 4 { Ok(()) } else { Err(delivered) }
    })
    .await;
    assert_eq!(hook.all_requests().len(), 1);
    let keys: Vec<String> = sqlx::query_scalar(
        "select to_char(created_at at time zone 'UTC', 'YYYY/MM/DD/') || id from deliveries where target = 'archive'",
    )
    .fetch_all(&tipstaff.pool)
    .await
    .unwrap();
    assert_eq!(keys.len(), 3);
    for key in keys {
        let uri = format!("s3://{bucket}/delivered/{}/court/{key}.json", tipstaff.namespace);
        let object: Value = serde_json::from_slice(&read_blob(&tipstaff.stack, &uri).await).unwrap();
        assert_eq!(object["data"]["changes"].as_array().unwrap().len(), 1);
    }
    tipstaff.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_change_is_an_event_in_a_topic_and_one_that_does_not_exist_keeps_nothing_from_others() {
    let (site, hook) = (Origin::start("").await, Origin::start("").await);
    site.put("/list", HTML, list(&["/1", "/2"]));
    site.put("/1", HTML, "<p>one");
    site.put("/2", HTML, "<p>two");
    let tipstaff = Installation::new("topic").await;
    let _operator = tipstaff.operator(&[]);
    let _worker = tipstaff.worker(&[]);
    let topic = KafkaTopic::create(&tipstaff.stack, format!("{}.changes", tipstaff.namespace)).await;
    let missing = format!("{}.missing", tipstaff.namespace);
    let delivery = format!(
        "{{ name: nowhere, kafka: {{ topic: {missing} }} }}, {{ name: stream, kafka: {{ topic: {} }} }},
         {{ name: clerks, webhook: {{ url: '{}' }} }}",
        topic.name,
        hook.url()
    );
    tipstaff.apply(&manifests(&site, &delivery)).await;
    tipstaff.condition("tsub/court", "Ready", "True", Some("Scheduled")).await;
    run(&tipstaff, 1).await;
    site.put("/1", HTML, "<p>one, amended");
    site.put("/2", HTML, "<p>two, amended");
    run(&tipstaff, 2).await;

    let mut records = topic.records(2).await;
    records.sort_by(|one, other| one.key.cmp(&other.key));
    for (record, path) in records.iter().zip(["/1", "/2"]) {
        let KafkaRecord { key, headers, value } = record;
        assert_eq!(key, &site.at(path));
        let event: Value = serde_json::from_slice(value).unwrap();
        let (data, changes) = (&event["data"], event["data"]["changes"].as_array().unwrap());
        assert_eq!((&event["type"], &data["target"]), (&"subscription.changed".into(), &"stream".into()));
        assert_eq!((changes.len(), changes[0]["url"].as_str()), (1, Some(key.as_str())));
        assert_eq!(changes[0]["kind"], "changed");
        let expected = [
            ("ce_specversion", "1.0"),
            ("ce_id", data["id"].as_str().unwrap()),
            ("ce_type", "subscription.changed"),
            ("ce_source", &format!("/subscriptions/{}/court", tipstaff.namespace)),
            ("ce_subject", key),
            ("ce_time", event["timestamp"].as_str().unwrap()),
            ("content-type", "application/json"),
        ];
        for (name, value) in expected {
            assert_eq!(headers[name], value, "{name}");
        }
        let trace = format!("00-{}-", changes[0]["trace_id"].as_str().unwrap());
        assert!(headers["traceparent"].starts_with(&trace), "{headers:?}");
        assert_eq!(headers.len(), expected.len() + 1, "{headers:?}");
    }
    let reason = Some("TopicNotFound");
    let message = tipstaff.condition("tsub/court", "Delivering", "False", reason).await;
    assert!(message.contains("nowhere") && message.contains(&format!("no topic {missing}")), "{message}");
    let mut told: Vec<_> = posted(&hook, 2).await.iter().flat_map(changes).collect();
    told.sort();
    assert_eq!(told, ["/1", "/2"].map(|path| (site.at(path), "changed".to_owned())));
    topic.remove().await;
    tipstaff.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_gone_gets_nothing_more_until_its_spec_changes() {
    let (site, hook) = (Origin::start("").await, Origin::start("").await);
    site.put("/list", HTML, list(&["/1"]));
    site.put("/1", HTML, "<p>one");
    let tipstaff = Installation::new("gone").await;
    let _operator = tipstaff.operator(&[]);
    let _worker = tipstaff.worker(&[]);
    let delivery = |path: &str| format!("{{ name: clerks, webhook: {{ url: '{}' }} }}", hook.at(path));
    tipstaff.apply(&manifests(&site, &delivery("/old"))).await;
    tipstaff.condition("tsub/court", "Ready", "True", Some("Scheduled")).await;
    run(&tipstaff, 1).await;
    hook.set(410, "gone");
    for number in 2..=3 {
        site.put("/1", HTML, format!("<p>amended, {number}"));
        run(&tipstaff, number).await;
        let given_up = i64::try_from(number).unwrap() - 1;
        eventually("a delivery that is given up", SOON, async || {
            let found = tipstaff.count("select count(*) from deliveries where phase = 'GivenUp'").await;
            if found == given_up { Ok(()) } else { Err(found) }
        })
        .await;
    }
    assert_eq!(hook.all_requests().len(), 1, "the second was not sent");
    tipstaff.condition("tsub/court", "Delivering", "False", Some("TargetGone")).await;

    hook.set(200, "");
    tipstaff.apply(&manifests(&site, &delivery("/new"))).await;
    site.put("/1", HTML, "<p>amended again");
    run(&tipstaff, 4).await;
    assert_eq!(posted(&hook, 2).await[1].path, "/new");
    tipstaff.condition("tsub/court", "Delivering", "True", Some("Delivered")).await;
    tipstaff.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_delivery_tries_a_target_that_fails_and_the_others_follow_it() {
    let (site, hook) = (Origin::start("").await, Origin::start("").await);
    site.put("/list", HTML, list(&["/1"]));
    site.put("/1", HTML, "<p>one");
    let tipstaff = Installation::new("failing").await;
    let _operator = tipstaff.operator(&[]);
    let _worker = tipstaff.worker(&[]);
    let delivery = format!("{{ name: clerks, webhook: {{ url: '{}' }} }}", hook.url());
    tipstaff.apply(&manifests(&site, &delivery)).await;
    tipstaff.condition("tsub/court", "Ready", "True", Some("Scheduled")).await;
    run(&tipstaff, 1).await;
    hook.set(503, "busy");
    let changed = async |number: usize| {
        site.put("/1", HTML, format!("<p>amended, {number}"));
        run(&tipstaff, number).await;
    };
    changed(2).await;
    tipstaff.condition("tsub/court", "Delivering", "False", Some("HttpStatus")).await;
    // The next attempt is a minute off when the second has failed.
    posted(&hook, 2).await;
    changed(3).await;
    let put_off =
        "select count(*) from deliveries where attempts = 0 and due_at > created_at + interval '5 seconds'";
    eventually("a delivery that waits for the other", SOON, async || {
        let found = tipstaff.count(put_off).await;
        if found == 1 { Ok(()) } else { Err(found) }
    })
    .await;
    assert_eq!(hook.all_requests().len(), 2, "it was not sent itself");
    tipstaff.remove().await;
}
