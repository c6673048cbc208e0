//! A thousand broken objects applied by kubectl.

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

/// What the schema lets pass and cannot work, with what is said of it: reason, and a part of the message.
const PASSING: [(&str, &str, &str, &str); 8] = [
    (NEVER_NOW, "", "SourceNotFound", "nowhere"),
    ("0 0 30 2 *", "", "InvalidSpec", "spec.schedule"),
    (NEVER_NOW, ", timeZone: Europe/Atlantis", "InvalidSpec", "spec.timeZone"),
    (NEVER_NOW, ", selectors: { title: \"h1[\" }", "InvalidSpec", "spec.selectors.title"),
    (NEVER_NOW, ", selectors: { title: { css: a, atr: href } }", "Unreadable", "atr"),
    (NEVER_NOW, ", remove: [\"::\"]", "InvalidSpec", "spec.remove[0]"),
    (NEVER_NOW, ", ignore: [\"(?:a{1000}){1000}\"]", "InvalidSpec", "spec.ignore[0]"),
    (NEVER_NOW, ", ignore: [\"[0-9\"]", "InvalidSpec", "spec.ignore[0]"),
];
/// What the schema refuses, with a part of the API server's answer.
const REFUSED: [(&str, &str, &str); 4] = [
    ("@reboot", "", "spec.schedule"),
    (NEVER_NOW, ", timeZone: \"UTC+02:00\"", "spec.timeZone"),
    (NEVER_NOW, ", concurrencyPolicy: Maybe", "spec.concurrencyPolicy"),
    (NEVER_NOW, ", jitterSeconds: -1", "spec.jitterSeconds"),
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

    let refused = (0..BROKEN).map(|number| {
        let (schedule, more, _) = REFUSED[number % REFUSED.len()];
        subscription_to(&format!("refused-{number}"), "court", schedule, more)
    });
    let answers = create(&tipstaff, refused.collect()).await;
    let answers = answers.concat();
    for (_, _, field) in REFUSED {
        let said = answers.matches(&format!("{field}: ")).count();
        assert!(said >= BROKEN / REFUSED.len(), "{field}: {said} times in {answers}");
    }

    let passing = (0..BROKEN).map(|number| {
        let (schedule, more, _, _) = PASSING[number % PASSING.len()];
        let source = if number % PASSING.len() == 0 { "nowhere" } else { "court" };
        subscription_to(&format!("broken-{number}"), source, schedule, more)
    });
    let answers = create(&tipstaff, passing.collect()).await;
    assert!(answers.iter().all(String::is_empty), "{answers:?}");
    let applied = Instant::now();
    tipstaff.apply(&subscription_to("good", "court", NEVER_NOW, "")).await;
    tipstaff.condition("tsub/good", "Ready", "True", Some("Scheduled")).await;
    assert!(applied.elapsed() < SOON, "it was ready after {:?}", applied.elapsed());

    eventually("what is wrong with each", IN_TIME, async || {
        let list = tipstaff.kubectl(&["get", "tsub", "-o", "json"], "").await.unwrap();
        let list: Value = serde_json::from_str(&list).unwrap();
        let items = list["items"].as_array().unwrap();
        assert_eq!(items.len(), BROKEN + 2);
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
    metric_reaches(
        &operator,
        "tipstaff_status_writes_total{kind=\"Subscription\"}",
        (BROKEN + 2) as f64,
        IN_TIME,
    )
    .await;
    // They are the objects' faults, and nothing is tried again for them.
    for class in ["Catalog", "ApiServer"] {
        let series = format!("tipstaff_reconcile_errors_total{{kind=\"Subscription\",class=\"{class}\"}}");
        assert_eq!(operator.metric(&series).await, Some(0.0), "{series}");
    }
    assert_grew_less(&operator, before, 100 * MB);
    operator.terminate().await;
    tipstaff.remove().await;
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
    let (_, _, reason, message) = PASSING[number.parse::<usize>().unwrap() % PASSING.len()];
    ready["status"] == "False"
        && ready["reason"] == reason
        && ready["message"].as_str().is_some_and(|said| said.contains(message))
}
