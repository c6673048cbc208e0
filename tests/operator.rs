//! The operator on a real API server: conditions, finalizers, two replicas, and that nothing is written at rest.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use serde_json::Value;
use stack::{Part, Stack, StackOptions};
use tests::{Installation, Origin, corpus, eventually};
use tokio::time::sleep;

/// A schedule that is not due during a test.
const NEVER_NOW: &str = "0 0 29 2 *";

fn source(name: &str) -> String {
    source_at(name, "http://127.0.0.1:9/")
}

fn source_at(name: &str, url: &str) -> String {
    format!(
        "---\napiVersion: tipstaff.dev/v1alpha1\nkind: Source\nmetadata: {{ name: {name} }}\n\
         spec: {{ kind: html, baseURL: \"{url}\" }}\n"
    )
}

fn subscription(name: &str, source: &str, schedule: &str, more: &str) -> String {
    format!(
        "---\napiVersion: tipstaff.dev/v1alpha1\nkind: Subscription\nmetadata: {{ name: {name} }}\n\
         spec: {{ sourceRef: {{ name: {source} }}, schedule: \"{schedule}\"{more} }}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_object_says_why_and_disturbs_no_other() {
    let tipstaff = Installation::new("invalid").await;
    let _operator = tipstaff.operator(&[]);
    let bad = subscription("bad", "court", "99 * * * *", "");
    tipstaff.apply(&(bad + &source("court") + &subscription("good", "court", NEVER_NOW, ""))).await;
    let message = tipstaff.condition("tsub/bad", "Ready", "False", Some("InvalidSpec")).await;
    assert!(message.contains("spec.schedule") && message.contains("99"), "{message}");
    tipstaff.condition("tsub/bad", "Stalled", "True", Some("InvalidSpec")).await;
    tipstaff.condition("tsub/good", "Ready", "True", Some("Scheduled")).await;
    let event = eventually("an Event about the bad one", Duration::from_secs(30), async || {
        let events = tipstaff.kubectl(&["get", "events.events.k8s.io"], "").await.unwrap();
        if events.contains("InvalidSpec") { Ok(events) } else { Err(events) }
    })
    .await;
    assert!(event.contains("subscription/bad") && event.contains("Warning"), "{event}");

    tipstaff.apply(&subscription("bad", "court", NEVER_NOW, "")).await;
    tipstaff.condition("tsub/bad", "Ready", "True", Some("Scheduled")).await;
    let object = tipstaff.object("tsub/bad").await;
    let conditions = conditions(&object);
    assert_eq!(conditions.len(), 1, "{conditions:?}");
    assert_eq!(object["status"]["observedGeneration"], 2);
    assert_eq!(conditions[0]["observedGeneration"], 2);
    tipstaff.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_cannot_be_parsed_says_so_and_can_be_deleted() {
    // Definitions that let anything pass, as those of another release might: for that the API server is the test's own.
    let stack = Stack::start(&[Part::Etcd, Part::KubeApiserver, Part::Postgres], StackOptions::default())
        .await
        .unwrap();
    let tipstaff = Installation::on(stack, "unreadable").await;
    for definition in ["crd/sources.tipstaff.dev", "crd/subscriptions.tipstaff.dev"] {
        let schema = r#"[{"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema",
            "value": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}]"#;
        tipstaff.stack.kubectl(&["patch", definition, "--type=json", "-p", schema], "").await.unwrap();
    }
    let _operator = tipstaff.operator(&[("KAFKA_BROKERS", "127.0.0.1:1".to_owned())]);
    let bad = "apiVersion: tipstaff.dev/v1alpha1\nkind: Subscription\nmetadata: { name: bad }\n\
               spec: { sourceRef: { name: court }, schedule: { every: minute } }\n";
    let bad_source = "---\napiVersion: tipstaff.dev/v1alpha1\nkind: Source\nmetadata: { name: bad }\nspec: { baseURL: 5 }\n";
    // A change of a definition reaches the API server's handlers a moment later.
    eventually("the lax definitions", Duration::from_secs(30), async || {
        tipstaff.kubectl(&["apply", "--validate=false", "-f", "-"], &format!("{bad}{bad_source}")).await
    })
    .await;
    tipstaff
        .apply(&(source("court") + &subscription("good", "court", NEVER_NOW, ", timeZone: Etc/UTC")))
        .await;
    let message = tipstaff.condition("tsub/bad", "Ready", "False", Some("Unreadable")).await;
    assert!(message.contains("cannot be read"), "{message}");
    tipstaff.condition("tsrc/bad", "Ready", "False", Some("Unreadable")).await;
    tipstaff.condition("tsub/good", "Ready", "True", Some("Scheduled")).await;
    tipstaff.kubectl(&["delete", "tsub/bad", "tsrc/bad", "--timeout=30s"], "").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_waits_for_its_source_and_a_source_for_its_subscriptions() {
    let tipstaff = Installation::new("lifecycle").await;
    let _operator = tipstaff.operator(&[]);
    tipstaff.apply(&subscription("opinions", "court", NEVER_NOW, "")).await;
    tipstaff.condition("tsub/opinions", "Ready", "False", Some("SourceNotFound")).await;
    tipstaff.condition("tsub/opinions", "Reconciling", "True", None).await;
    tipstaff.apply(&source("court")).await;
    tipstaff.condition("tsub/opinions", "Ready", "True", Some("Scheduled")).await;

    // No worker runs: the run stays active.
    tipstaff.request("opinions", "now").await;
    eventually("a run", Duration::from_secs(30), async || {
        let runs = tipstaff.runs("opinions").await;
        if runs.len() == 1 { Ok(()) } else { Err(runs) }
    })
    .await;
    tipstaff.kubectl(&["delete", "tsrc/court", "--wait=false"], "").await.unwrap();
    let message = tipstaff.condition("tsrc/court", "Ready", "False", Some("InUse")).await;
    assert!(message.contains("opinions"), "{message}");
    tipstaff.kubectl(&["delete", "tsub/opinions", "--timeout=30s"], "").await.unwrap();
    let runs = tipstaff.ended_runs("opinions", 1).await;
    assert_eq!(
        (runs.len(), runs[0].phase.as_str(), runs[0].reason.as_deref()),
        (1, "Failed", Some("SubscriptionDeleted"))
    );
    tipstaff.kubectl(&["wait", "--for=delete", "tsrc/court", "--timeout=30s"], "").await.unwrap();
    assert_eq!(tipstaff.count("select count(*) from sources where deleted_at is null").await, 0);
    assert_eq!(tipstaff.count("select count(*) from sources").await, 1);
    tipstaff.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_while_no_operator_runs_goes_at_once_and_is_closed_by_the_next_one() {
    let tipstaff = Installation::new("deleted").await;
    let operator = tipstaff.operator(&[]);
    let names = ["gone", "anew", "stays"];
    let objects: String = names.iter().map(|name| subscription(name, "court", NEVER_NOW, "")).collect();
    tipstaff.apply(&(source("court") + &objects)).await;
    for name in names {
        tipstaff.condition(&format!("tsub/{name}"), "Ready", "True", None).await;
        tipstaff.request(name, "now").await;
    }
    let live = "select count(*) from runs r join subscriptions s on s.id = r.subscription_id
        where r.finished_at is null and s.deleted_at is null";
    let eventually_live = async |count: i64| {
        eventually(&format!("{count} active runs"), Duration::from_secs(60), async || {
            let found = tipstaff.count(live).await;
            if found == count { Ok(()) } else { Err(found) }
        })
        .await;
    };
    eventually_live(3).await;
    operator.kill().await;

    tipstaff.kubectl(&["delete", "tsub/gone", "tsub/anew", "--timeout=10s"], "").await.unwrap();
    tipstaff.apply(&subscription("anew", "court", NEVER_NOW, "")).await;
    let _operator = tipstaff.operator(&[]);
    tipstaff.condition("tsub/anew", "Ready", "True", None).await;
    eventually_live(1).await;
    let ended = tipstaff.ended_runs("gone", 1).await;
    assert_eq!(ended[0].reason.as_deref(), Some("SubscriptionDeleted"));
    assert_eq!(tipstaff.count("select count(*) from subscriptions where deleted_at is null").await, 2);
    assert_eq!(tipstaff.count("select count(*) from subscriptions").await, 4, "history stays");
    tipstaff.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_rest_nothing_is_written_and_a_restart_changes_nothing() {
    let (origin, away) = (Origin::start(corpus::CA11).await, Origin::start("").await);
    away.set(404, "");
    let tipstaff = Installation::new("rest").await;
    let operator = tipstaff.operator(&[]);
    let _worker = tipstaff.worker(&[]);
    for (name, source, url, outcome) in
        [("opinions", "court", origin.url(), "True"), ("nothing", "away", away.url(), "False")]
    {
        tipstaff.apply(&(source_at(source, &url) + &subscription(name, source, NEVER_NOW, ""))).await;
        let patch = r#"{"spec": {"expect": {"cadence": "1h"}}}"#;
        tipstaff.kubectl(&["patch", "tsrc", source, "--type=merge", "-p", patch], "").await.unwrap();
        tipstaff.condition(&format!("tsrc/{source}"), "Fresh", "True", None).await;
        tipstaff.condition(&format!("tsub/{name}"), "Ready", "True", None).await;
        tipstaff.request(name, "now").await;
        tipstaff.ended_runs(name, 1).await;
        tipstaff.condition(&format!("tsub/{name}"), "Succeeding", outcome, None).await;
        tipstaff.condition(&format!("tsrc/{source}"), "Reachable", outcome, None).await;
    }
    let settled = settle(&tipstaff).await;

    operator.terminate().await;
    let _operator = tipstaff.operator(&[]);
    eventually("the next leader", Duration::from_secs(30), async || {
        let holder = tipstaff.object("lease/tipstaff-operator").await["spec"]["holderIdentity"].clone();
        if holder.as_str().is_some_and(|holder| !holder.is_empty()) { Ok(()) } else { Err(holder) }
    })
    .await;
    // The window in which a restless operator would give itself away: many beats, relays and reconciliations long.
    sleep(Duration::from_secs(8)).await;
    assert_eq!(written(&tipstaff).await, settled);
    tipstaff.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_and_metrics_say_how_it_is() {
    let tipstaff = Installation::new("probes").await;
    let (succeeded, log) = tipstaff.operator_without_catalog().await;
    assert!(!succeeded && log.contains("run `tipstaff-operator migrate` first"), "{log}");

    let operator = tipstaff.operator(&[("KAFKA_BROKERS", "127.0.0.1:1".to_owned())]);
    eventually("an operator that is not ready without Kafka", Duration::from_secs(60), async || {
        let answer = operator.probe("/readyz").await;
        if answer.starts_with("HTTP/1.1 503") && answer.contains("bus: ") { Ok(()) } else { Err(answer) }
    })
    .await;
    assert!(operator.probe("/livez").await.starts_with("HTTP/1.1 200"));
    operator.terminate().await;

    let operator = tipstaff.operator(&[]);
    let worker = tipstaff.worker(&[]);
    for process in [&operator, &worker] {
        eventually("a process that is ready", Duration::from_secs(60), async || {
            let answer = process.probe("/readyz").await;
            if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(answer) }
        })
        .await;
    }
    let follower = tipstaff.operator(&[("POD_NAME", "follower".to_owned())]);
    for (process, leads) in [(&operator, 1), (&follower, 0)] {
        eventually("who leads", Duration::from_secs(60), async || {
            let metrics = process.probe("/metrics").await;
            if metrics.contains(&format!("\ntipstaff_leader {leads}\n")) { Ok(()) } else { Err(metrics) }
        })
        .await;
        let metrics = process.probe("/metrics").await;
        for name in
            ["tipstaff_runs_fired_total", "tipstaff_beat_lateness_seconds", "tipstaff_outbox_relayed_total"]
        {
            assert!(metrics.contains(name), "{name} in {metrics}");
        }
    }
    assert!(worker.probe("/metrics").await.contains("tipstaff_events_in_flight"));
    tipstaff.remove().await;
}

/// As when the pod is there before its permissions.
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_may_not_use_its_lease_says_so_until_it_may() {
    let tipstaff = Installation::new("forbidden").await;
    let operator = tipstaff.operator(&[("TIPSTAFF_LEASE_NAME", "elsewhere".to_owned())]);
    eventually("an operator that misses a permission", Duration::from_secs(60), async || {
        let answer = operator.probe("/readyz").await;
        let says_so = answer.contains("lease: ") && answer.contains("get, create and update of Leases");
        if answer.starts_with("HTTP/1.1 503") && says_so { Ok(()) } else { Err(answer) }
    })
    .await;
    let role = [
        "create",
        "role",
        "elsewhere",
        "--verb=get,update",
        "--resource=leases",
        "--resource-name=elsewhere",
    ];
    tipstaff.kubectl(&role, "").await.unwrap();
    let binding = ["create", "rolebinding", "elsewhere", "--role=elsewhere", "--user=tipstaff-operator"];
    tipstaff.kubectl(&binding, "").await.unwrap();
    eventually("an operator that is ready", Duration::from_secs(60), async || {
        let answer = operator.probe("/readyz").await;
        if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(answer) }
    })
    .await;
    operator.terminate().await;
    tipstaff.remove().await;
}

/// Waits until two looks in a row see the same.
async fn settle(tipstaff: &Installation) -> Vec<(String, String)> {
    let mut before = Vec::new();
    eventually("rest", Duration::from_secs(60), async || {
        sleep(Duration::from_secs(2)).await;
        let now = written(tipstaff).await;
        let is_settled = now == before;
        before.clone_from(&now);
        if is_settled { Ok(now) } else { Err(now) }
    })
    .await
}

/// A row version has the transactions that wrote and locked it; the outbox leaves the last number it gave.
const ROWS: &str = "select concat_ws(' ',
    (select md5(string_agg(concat_ws(' ', t.xmin, t.xmax, t), ',' order by t.id)) from sources t),
    (select md5(string_agg(concat_ws(' ', t.xmin, t.xmax, t), ',' order by t.id)) from subscriptions t),
    (select md5(string_agg(concat_ws(' ', t.xmin, t.xmax, t), ',' order by t.id)) from runs t),
    (select md5(string_agg(concat_ws(' ', t.xmin, t.xmax, t), ',' order by t.url)) from documents t),
    (select md5(string_agg(concat_ws(' ', t.xmin, t.xmax, t), ',' order by t.id)) from artifacts t),
    (select last_value from outbox_id_seq))";

/// What changes with every write: the objects' resource versions, the rows written, the ends of the topics.
async fn written(tipstaff: &Installation) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for object in ["tsrc/court", "tsrc/away", "tsub/opinions", "tsub/nothing"] {
        all.push((
            object.to_owned(),
            tipstaff.object(object).await["metadata"]["resourceVersion"].to_string(),
        ));
    }
    let rows: String = sqlx::query_scalar(ROWS).fetch_one(&tipstaff.pool).await.unwrap();
    all.push(("rows".to_owned(), rows));
    let topics = format!("{}.*", tipstaff.prefix.replace('.', "\\."));
    let offsets = tipstaff
        .stack
        .kafka_tool("org.apache.kafka.tools.GetOffsetShell", &["--topic", &topics], "")
        .await
        .unwrap();
    all.push(("offsets".to_owned(), offsets));
    all
}

fn conditions(object: &Value) -> Vec<Value> {
    object["status"]["conditions"].as_array().cloned().unwrap_or_default()
}
