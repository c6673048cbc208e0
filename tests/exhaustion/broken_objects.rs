//! A thousand broken objects applied by kubectl, half of them Sources and half Subscriptions.

use std::time::Duration;

use futures::{StreamExt, stream};
use serde_json::Value;
use tests::{Installation, eventually};
use tokio::time::Instant;

use crate::objects::{MB, NEVER_NOW, assert_grew_less, metric_reaches, source, subscription_to};

/// Of each: what the schema lets pass, and what it refuses.
const BROKEN: usize = 1_000;
/// So many at a time: each kubectl limits itself.
const KUBECTLS: usize = 4;
/// How soon what is right is ready beside them.
const SOON: Duration = Duration::from_secs(20);
const IN_TIME: Duration = Duration::from_secs(90);

/// Every other object is of the one kind, and every other of the other.
const KINDS: [&str; 2] = ["Subscription", "Source"];
/// What the schema lets pass and cannot work, of each kind, with what is said of it: reason, and a part of the message.
const PASSING: [&[(&str, &str, &str)]; 2] = [
    &[
        ("sourceRef: { name: nowhere }, schedule: '0 0 29 2 *'", "SourceNotFound", "nowhere"),
        ("sourceRef: { name: court }, schedule: '0 0 30 2 *'", "InvalidSpec", "spec.schedule"),
        (
            "sourceRef: { name: court }, schedule: '0 0 29 2 *', timeZone: Europe/Atlantis",
            "InvalidSpec",
            "spec.timeZone",
        ),
        (
            "sourceRef: { name: court }, schedule: '0 0 29 2 *', selectors: { title: 'h1[' }",
            "InvalidSpec",
            "spec.selectors.title",
        ),
        (
            "sourceRef: { name: court }, schedule: '0 0 29 2 *', selectors: { title: { css: a, atr: href } }",
            "Unreadable",
            "atr",
        ),
        (
            "sourceRef: { name: court }, schedule: '0 0 29 2 *', remove: ['::']",
            "InvalidSpec",
            "spec.remove[0]",
        ),
        (
            "sourceRef: { name: court }, schedule: '0 0 29 2 *', ignore: ['(?:a{1000}){1000}']",
            "InvalidSpec",
            "spec.ignore[0]",
        ),
        (
            "sourceRef: { name: court }, schedule: '0 0 29 2 *', ignore: ['[0-9']",
            "InvalidSpec",
            "spec.ignore[0]",
        ),
    ],
    &[
        ("baseURL: 'https://court.example:99999/'", "InvalidSpec", "spec.baseURL"),
        ("baseURL: 'https://court.example/', follow: { links: 'a[' }", "InvalidSpec", "spec.follow.links"),
        (
            "baseURL: 'https://court.example/', follow: { include: ['ok', 'a('] }",
            "InvalidSpec",
            "spec.follow.include[1]",
        ),
        (
            "baseURL: 'https://court.example/', follow: { exclude: ['(?:a{1000}){1000}'] }",
            "InvalidSpec",
            "spec.follow.exclude[0]",
        ),
    ],
];
/// What the schema refuses, with a part of the API server's answer.
const REFUSED: [&[(&str, &str)]; 2] = [
    &[
        ("sourceRef: { name: court }, schedule: '@reboot'", "spec.schedule"),
        ("sourceRef: { name: court }, schedule: '0 0 29 2 *', timeZone: 'UTC+02:00'", "spec.timeZone"),
        (
            "sourceRef: { name: court }, schedule: '0 0 29 2 *', concurrencyPolicy: Maybe",
            "spec.concurrencyPolicy",
        ),
        ("sourceRef: { name: court }, schedule: '0 0 29 2 *', jitterSeconds: -1", "spec.jitterSeconds"),
    ],
    &[
        ("baseURL: 'ftp://court.example/'", "spec.baseURL"),
        ("baseURL: 'https://court.example/', kind: book", "spec.kind"),
        ("baseURL: 'https://court.example/', follow: { limit: 0 }", "spec.follow.limit"),
        ("baseURL: 'https://court.example/', fetch: { timeout: 1h }", "spec.fetch.timeout"),
    ],
];

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_broken_objects_each_say_why_and_keep_no_other_waiting() {
    let tipstaff = Installation::new("broken-objects").await;
    let operator = tipstaff.operator(&[]);
    tipstaff
        .apply(
            &(source("court", "http://127.0.0.1:9/", "") + &subscription_to("first", "court", NEVER_NOW, "")),
        )
        .await;
    tipstaff.condition("tsub/first", "Ready", "True", Some("Scheduled")).await;
    let before = operator.peak_memory();

    let refused = (0..BROKEN).map(|number| broken("refused", number, of(REFUSED, number).0));
    let answers = create(&tipstaff, refused.collect()).await;
    let answers = answers.concat();
    for rows in REFUSED {
        for (_, field) in rows {
            let said = answers.matches(&format!("{field}: ")).count();
            assert!(said >= BROKEN / 2 / rows.len(), "{field}: {said} times in {answers}");
        }
    }

    let passing = (0..BROKEN).map(|number| broken("broken", number, of(PASSING, number).0));
    let answers = create(&tipstaff, passing.collect()).await;
    assert!(answers.iter().all(String::is_empty), "{answers:?}");
    let applied = Instant::now();
    tipstaff.apply(&subscription_to("good", "court", NEVER_NOW, "")).await;
    tipstaff.condition("tsub/good", "Ready", "True", Some("Scheduled")).await;
    assert!(applied.elapsed() < SOON, "it was ready after {:?}", applied.elapsed());

    eventually("what is wrong with each", IN_TIME, async || {
        let list = tipstaff.kubectl(&["get", "tsub,tsrc", "-o", "json"], "").await.unwrap();
        let list: Value = serde_json::from_str(&list).unwrap();
        let items = list["items"].as_array().unwrap();
        // With the source and the two that are right.
        assert_eq!(items.len(), BROKEN + 3);
        let unsaid: Vec<String> = items.iter().filter(|item| !says_why(item)).map(Value::to_string).collect();
        if unsaid.is_empty() { Ok(()) } else { Err((unsaid.len(), unsaid[0].clone())) }
    })
    .await;
    eventually("an empty queue of statuses", IN_TIME, async || {
        match operator.metric("tipstaff_statuses_waiting").await {
            Some(0.0) => Ok(()),
            waiting => Err(waiting),
        }
    })
    .await;
    for kind in KINDS {
        let series = format!("tipstaff_status_writes_total{{kind=\"{kind}\"}}");
        metric_reaches(&operator, &series, (BROKEN / 2) as f64, IN_TIME).await;
        // They are the objects' faults, and nothing is tried again for them.
        for class in ["Catalog", "ApiServer"] {
            let series = format!("tipstaff_reconcile_errors_total{{kind=\"{kind}\",class=\"{class}\"}}");
            assert_eq!(operator.metric(&series).await, Some(0.0), "{series}");
        }
    }
    assert_grew_less(&operator, before, 100 * MB);
    operator.terminate().await;
    tipstaff.remove().await;
}

/// The row of the tables for the kinds that an object is made from.
fn of<Row>(tables: [&'static [Row]; 2], number: usize) -> &'static Row {
    let rows = tables[number % 2];
    &rows[number / 2 % rows.len()]
}

fn broken(name: &str, number: usize, spec: &str) -> String {
    format!(
        "---\napiVersion: tipstaff.dev/v1alpha1\nkind: {}\nmetadata: {{ name: {name}-{number} }}\n\
         spec: {{ {spec} }}\n",
        KINDS[number % 2]
    )
}

/// What kubectl complained of.
async fn create(tipstaff: &Installation, manifests: Vec<String>) -> Vec<String> {
    let parts: Vec<String> = manifests.chunks(manifests.len() / KUBECTLS).map(<[String]>::concat).collect();
    stream::iter(&parts)
        .map(|part| async { tipstaff.kubectl(&["create", "-f", "-"], part).await.err().unwrap_or_default() })
        .buffer_unordered(KUBECTLS)
        .collect()
        .await
}

fn says_why(object: &Value) -> bool {
    let name = object["metadata"]["name"].as_str().unwrap();
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let Some(ready) = conditions.iter().find(|condition| condition["type"] == "Ready") else { return false };
    let Some(number) = name.strip_prefix("broken-") else { return ready["status"] == "True" };
    let (_, reason, message) = of(PASSING, number.parse().unwrap());
    ready["status"] == "False"
        && ready["reason"] == *reason
        && ready["message"].as_str().is_some_and(|said| said.contains(*message))
}
