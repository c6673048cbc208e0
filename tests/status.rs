//! Statuses at scale, on a real API server: many results are few writes, few are shown at once, none is lost.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use crds::{Subscription, SubscriptionStatus, conditions};
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use kube::{
    Api, Client, Config, ResourceExt,
    config::{KubeConfigOptions, Kubeconfig},
    runtime::{WatchStreamExt, watcher},
};
use sqlx::Row;
use stack::{Part, Stack, StackOptions};
use tests::{Installation, Process, eventually};
use tokio::{
    task::AbortHandle,
    time::{Instant, sleep},
};

/// How many subscriptions there are: enough to be load for the writer.
const MANY: usize = 320;
/// How many runs of each end, one after the other.
const ROUNDS: i64 = 10;
const SOON: Duration = Duration::from_secs(120);
/// A schedule that is not due during a test.
const NEVER_NOW: &str = "0 0 29 2 *";

#[tokio::test(flavor = "multi_thread")]
async fn many_results_are_few_writes_and_few_are_shown_at_once() {
    let tipstaff = Installation::new("status").await;
    let operator = tipstaff.operator(&[]);
    let names: Vec<String> = (0..MANY).map(|number| format!("s{number}")).collect();
    create(&tipstaff, &names).await;
    let api = subscriptions(&tipstaff).await;
    all_show(&api, "ready subscriptions", is_ready).await;
    operator.terminate().await;
    make_runs(&tipstaff, ROUNDS).await;
    let operator = tipstaff.operator(&[]);
    all_show(&api, "the runs of each", |status| status.active_runs == Some(ROUNDS)).await;

    let watch = Watch::start(api.clone()).await;
    let written_before = status_writes(&operator).await;
    for round in 0..ROUNDS {
        end_a_run_of_each(&tipstaff, if round % 2 == 0 { "Succeeded" } else { "Failed" }).await;
        match round {
            3 => make_anew(&tipstaff, "s7").await,
            // Others change the objects while they are written.
            5 | 6 => {
                let label = format!("round={round}");
                tipstaff.kubectl(&["label", "--overwrite", "tsub", "--all", &label], "").await.unwrap();
            }
            _ => {}
        }
        // Longer altogether than two writes of an object are apart.
        sleep(Duration::from_secs(2)).await;
    }
    let ended = Instant::now();
    all_show(&api, "the last state of each", |status| status.active_runs == Some(0)).await;
    let last_shown = ended.elapsed();
    assert_statuses_are_as_the_catalog_has_it(&tipstaff, &api).await;

    let writes = eventually("all writes, seen by the watch", SOON, async || {
        let (writes, expected) = (watch.writes(), status_writes(&operator).await - written_before);
        let count = writes.values().map(Vec::len).sum::<usize>();
        if count == expected { Ok(writes) } else { Err((count, expected)) }
    })
    .await;
    let count = writes.values().map(Vec::len).sum::<usize>();
    println!("{} results were {count} writes; the last was shown after {last_shown:?}", ROUNDS * MANY as i64);
    for ((name, _), writes) in &writes {
        for pair in writes.windows(2) {
            let apart = pair[1].as_second() - pair[0].as_second();
            assert!(apart >= 10, "{name} was written twice within {apart} s");
        }
    }
    assert!(!operator.log().contains("a status was refused"), "{}", operator.log());

    // From now on little happens. The load is forgotten ten seconds after it.
    sleep(Duration::from_secs(11)).await;
    for number in 0..3 {
        let started = Instant::now();
        tipstaff.request("s1", &format!("request-{number}")).await;
        one_shows(&api, "s1", |status| status.active_runs == Some(1)).await;
        let made = started.elapsed();
        let started = Instant::now();
        end_a_run_of_each(&tipstaff, "Succeeded").await;
        one_shows(&api, "s1", |status| status.active_runs == Some(0)).await;
        println!("a run that was asked for was shown after {made:?}, its end after {:?}", started.elapsed());
    }
    let news = eventually("the Events about s1", SOON, async || {
        let news = events_about(&tipstaff, "s1").await;
        if news.iter().any(|reason| reason == "RunSucceeded") { Ok(news) } else { Err(news) }
    })
    .await;
    assert_eq!(news, ["RunFailed", "RunSucceeded"], "one for each turn, not one for each run");
    tipstaff.kubectl(&["delete", "tsub", "--all", "--timeout=120s"], "").await.unwrap();
    tipstaff.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_is_refused_keeps_no_other_waiting_and_is_written_when_it_is_accepted() {
    let tipstaff = Installation::new("refused").await;
    tipstaff.stack.kubectl(&["apply", "-f", "-"], &refusal(&tipstaff.namespace)).await.unwrap();
    create(&tipstaff, &["refused".to_owned(), "good".to_owned()]).await;
    let attempt = [
        "patch",
        "tsub/refused",
        "--subresource=status",
        "--type=merge",
        "--dry-run=server",
        "-p",
        "{\"status\": {\"versions\": 1}}",
    ];
    eventually("the refusal", SOON, async || match tipstaff.kubectl(&attempt, "").await {
        Err(error) if error.contains("because the test says so") => Ok(()),
        other => Err(other),
    })
    .await;
    let operator = tipstaff.operator(&[]);
    let api = subscriptions(&tipstaff).await;
    for request in ["one", "two", "three"] {
        tipstaff.request("refused", request).await;
        tipstaff.request("good", request).await;
        one_shows(&api, "good", |status| status.last_handled_request_at.as_deref() == Some(request)).await;
    }
    assert!(operator.log().contains("a status was refused"), "{}", operator.log());
    assert_eq!(api.get("refused").await.unwrap().status, None);
    tipstaff.stack.kubectl(&["delete", "-f", "-"], &refusal(&tipstaff.namespace)).await.unwrap();
    one_shows(&api, "refused", |status| status.last_handled_request_at.as_deref() == Some("three")).await;
    tipstaff.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn due_times_without_a_run_are_shown() {
    let tipstaff = Installation::new("skips").await;
    let operator = tipstaff.operator(&[]);
    tipstaff.apply(&(source() + &subscription("paused", "* * * * *", ", suspend: true"))).await;
    tipstaff.condition("tsub/paused", "Ready", "True", Some("Suspended")).await;
    operator.kill().await;
    // As if nobody had been there for ten minutes.
    sqlx::query("update subscriptions set scheduled_through = scheduled_through - interval '10 minutes'")
        .execute(&tipstaff.pool)
        .await
        .unwrap();
    let _operator = tipstaff.operator(&[]);
    let api = subscriptions(&tipstaff).await;
    eventually("the latest skip", SOON, async || {
        let latest: Option<jiff_sqlx::Timestamp> =
            sqlx::query_scalar("select max(scheduled_for) from runs where phase = 'Skipped'")
                .fetch_one(&tipstaff.pool)
                .await
                .unwrap();
        let status = api.get("paused").await.unwrap().status.unwrap();
        let shown = status.last_skip.as_ref().map(|skip| (skip.scheduled_for.0, skip.reason.as_str()));
        let is_shown = shown.is_some() && shown == latest.map(|latest| (latest.to_jiff(), "Suspended"));
        if is_shown && status.last_run.is_none() { Ok(()) } else { Err(status) }
    })
    .await;
    tipstaff.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_comes_back_is_told_what_changed_and_no_more() {
    let parts = [Part::Etcd, Part::KubeApiserver, Part::Postgres];
    let stack = Stack::start(&parts, StackOptions::default()).await.unwrap();
    let tipstaff = Installation::on(stack, "away").await;
    let no_kafka = [("KAFKA_BROKERS", "127.0.0.1:1".to_owned())];
    let operator = tipstaff.operator(&no_kafka);
    let names: Vec<String> = (0..50).map(|number| format!("s{number}")).collect();
    create(&tipstaff, &names).await;
    let api = subscriptions(&tipstaff).await;
    all_show(&api, "ready subscriptions", is_ready).await;
    operator.terminate().await;
    make_runs(&tipstaff, 1).await;
    let operator = tipstaff.operator(&no_kafka);
    all_show(&api, "the run of each", |status| status.active_runs == Some(1)).await;

    let written_before = status_writes(&operator).await;
    let apiserver = tipstaff.stack.service(Part::KubeApiserver).unwrap();
    apiserver.kill().await.unwrap();
    sqlx::query(
        "update runs set phase = 'Succeeded', reason = 'Unchanged', finished_at = now() from subscriptions s
         where s.id = subscription_id and s.name in ('s1', 's2', 's3')",
    )
    .execute(&tipstaff.pool)
    .await
    .unwrap();
    eventually("a write that fails", SOON, async || {
        let log = operator.log();
        if log.contains("statuses were not written") { Ok(()) } else { Err(log) }
    })
    .await;
    apiserver.start().await.unwrap();
    for name in ["s1", "s2", "s3"] {
        one_shows(&api, name, |status| status.active_runs == Some(0)).await;
    }
    // The watch is there again: what is asked for is done. All that it brought anew has been looked at before.
    tipstaff.request("s4", "now").await;
    one_shows(&api, "s4", |status| status.active_runs == Some(2)).await;
    assert_eq!(status_writes(&operator).await - written_before, 4);
}

/// The writes of statuses, as a watch sees them.
struct Watch {
    seen: Arc<Mutex<HashMap<(String, String), Seen>>>,
    watching: AbortHandle,
}

#[derive(Default)]
struct Seen {
    status: Option<SubscriptionStatus>,
    /// When the API server took them.
    writes: Vec<Timestamp>,
}

impl Watch {
    /// Counts from now on.
    async fn start(api: Api<Subscription>) -> Self {
        let seen = Arc::<Mutex<HashMap<_, Seen>>>::default();
        for object in api.list(&Default::default()).await.unwrap() {
            let seen_before = Seen { status: object.status.clone(), writes: Vec::new() };
            seen.lock().unwrap().insert(identity(&object), seen_before);
        }
        let shared = seen.clone();
        let watching = tokio::spawn(async move {
            let mut objects = watcher(api, watcher::Config::default()).applied_objects().boxed();
            while let Some(object) = objects.try_next().await.unwrap() {
                let mut seen = shared.lock().unwrap();
                let before = seen.entry(identity(&object)).or_default();
                if before.status != object.status {
                    before.writes.push(written_at(&object));
                    before.status = object.status;
                }
            }
        });
        Self { seen, watching: watching.abort_handle() }
    }

    fn writes(&self) -> HashMap<(String, String), Vec<Timestamp>> {
        self.seen.lock().unwrap().iter().map(|(key, seen)| (key.clone(), seen.writes.clone())).collect()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

fn identity(object: &Subscription) -> (String, String) {
    (object.name_any(), object.uid().unwrap())
}

fn written_at(object: &Subscription) -> Timestamp {
    let entry = object
        .managed_fields()
        .iter()
        .find(|entry| {
            entry.manager.as_deref() == Some(crds::FIELD_MANAGER)
                && entry.subresource.as_deref() == Some("status")
        })
        .unwrap();
    entry.time.as_ref().unwrap().0
}

async fn subscriptions(tipstaff: &Installation) -> Api<Subscription> {
    // The process may have a provider already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let kubeconfig = Kubeconfig::read_from(tipstaff.stack.kubeconfig_path().unwrap()).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Api::namespaced(Client::try_from(config).unwrap(), &tipstaff.namespace)
}

async fn all_show(api: &Api<Subscription>, what: &str, is_so: impl Fn(&SubscriptionStatus) -> bool) {
    eventually(what, SOON, async || {
        let objects = api.list(&Default::default()).await.map_err(|error| error.to_string())?;
        let other = objects.iter().find(|object| !object.status.as_ref().is_some_and(&is_so));
        match other {
            None => Ok(()),
            Some(other) => {
                sleep(Duration::from_millis(300)).await;
                Err(format!("{}: {:?}", other.name_any(), other.status))
            }
        }
    })
    .await;
}

async fn one_shows(api: &Api<Subscription>, name: &str, is_so: impl Fn(&SubscriptionStatus) -> bool) {
    eventually(&format!("the status of {name}"), SOON, async || {
        let status = api.get(name).await.map_err(|error| error.to_string())?.status;
        if status.as_ref().is_some_and(&is_so) { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
}

fn is_ready(status: &SubscriptionStatus) -> bool {
    conditions::is_true(&status.conditions, conditions::READY)
}

/// Each status shows its subscription's latest run.
async fn assert_statuses_are_as_the_catalog_has_it(tipstaff: &Installation, api: &Api<Subscription>) {
    let rows = sqlx::query(
        "select distinct on (s.id) s.name, r.id, r.phase, r.reason from subscriptions s
         left join runs r on r.subscription_id = s.id where s.deleted_at is null
         order by s.id, r.created_at desc, r.scheduled_for desc",
    )
    .fetch_all(&tipstaff.pool)
    .await
    .unwrap();
    let objects = api.list(&Default::default()).await.unwrap();
    assert_eq!(rows.len(), objects.items.len());
    for row in rows {
        let name: String = row.get("name");
        let object = objects.iter().find(|object| object.name_any() == name).unwrap();
        let shown = object.status.as_ref().unwrap().last_run.as_ref();
        let shown = shown.map(|run| (run.id.clone(), format!("{:?}", run.phase), run.reason.clone()));
        let id: Option<uuid::Uuid> = row.get("id");
        assert_eq!(shown, id.map(|id| (id.to_string(), row.get("phase"), row.get("reason"))), "{name}");
    }
}

/// How many statuses of subscriptions an operator wrote, those included that changed nothing.
async fn status_writes(operator: &Process) -> usize {
    let metrics = operator.probe("/metrics").await;
    let name = "tipstaff_status_writes_total{kind=\"Subscription\"} ";
    metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap().parse().unwrap()
}

/// The reasons of the Events about a subscription, in their order.
async fn events_about(tipstaff: &Installation, name: &str) -> Vec<String> {
    let field = format!("--field-selector=regarding.kind=Subscription,regarding.name={name}");
    let template =
        "jsonpath={range .items[*]}{.eventTime}{\" \"}{.reason}{\" \"}{.series.count}{\"\\n\"}{end}";
    let events =
        tipstaff.kubectl(&["get", "events.events.k8s.io", &field, "-o", template], "").await.unwrap();
    let mut lines: Vec<&str> = events.lines().collect();
    lines.sort_unstable();
    lines.into_iter().map(|line| line.split_once(' ').unwrap().1.trim().to_owned()).collect()
}

fn source() -> String {
    "---\napiVersion: tipstaff.dev/v1alpha1\nkind: Source\nmetadata: { name: court }\n\
     spec: { kind: html, baseURL: \"http://127.0.0.1:9/\" }\n"
        .to_owned()
}

fn subscription(name: &str, schedule: &str, more: &str) -> String {
    format!(
        "---\napiVersion: tipstaff.dev/v1alpha1\nkind: Subscription\nmetadata: {{ name: {name} }}\n\
         spec: {{ sourceRef: {{ name: court }}, schedule: \"{schedule}\"{more} }}\n"
    )
}

async fn create(tipstaff: &Installation, names: &[String]) {
    let objects: String = names.iter().map(|name| subscription(name, NEVER_NOW, "")).collect();
    tipstaff.kubectl(&["create", "-f", "-"], &(source() + &objects)).await.unwrap();
}

/// Runs that no worker will ever end: the test does. The operator takes them over when it starts.
async fn make_runs(tipstaff: &Installation, of_each: i64) {
    sqlx::query(
        "insert into runs (id, subscription_id, scheduled_for, trigger, phase, trace_id, created_at)
         select gen_random_uuid(), s.id, now() - (number || ' minutes')::interval, 'Request', 'Pending', '', now()
         from subscriptions s, generate_series(1, $1) number",
    )
    .bind(of_each)
    .execute(&tipstaff.pool)
    .await
    .unwrap();
}

/// Ends the oldest active run of each subscription that has one.
async fn end_a_run_of_each(tipstaff: &Installation, phase: &str) {
    sqlx::query(
        "update runs set phase = $1, finished_at = now(),
             reason = case $1 when 'Failed' then 'HttpStatus' else 'Unchanged' end
         where id in (select distinct on (subscription_id) id from runs where finished_at is null
             order by subscription_id, scheduled_for)",
    )
    .bind(phase)
    .execute(&tipstaff.pool)
    .await
    .unwrap();
}

/// Takes an object away, and makes one of the same name before the operator has closed the first.
async fn make_anew(tipstaff: &Installation, name: &str) {
    tipstaff.kubectl(&["delete", &format!("tsub/{name}"), "--timeout=60s"], "").await.unwrap();
    tipstaff.kubectl(&["create", "-f", "-"], &subscription(name, NEVER_NOW, "")).await.unwrap();
}

/// The API server takes no status of an object named `refused` in the namespace.
fn refusal(namespace: &str) -> String {
    format!(
        "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicy\n\
         metadata: {{ name: {namespace} }}\n\
         spec:\n  matchConstraints:\n    resourceRules:\n    - apiGroups: [tipstaff.dev]\n      apiVersions: [v1alpha1]\n      \
         operations: [CREATE, UPDATE]\n      resources: [subscriptions/status]\n  validations:\n  \
         - expression: object.metadata.name != 'refused'\n    message: because the test says so\n    reason: Invalid\n\
         ---\napiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicyBinding\n\
         metadata: {{ name: {namespace} }}\n\
         spec:\n  policyName: {namespace}\n  validationActions: [Deny]\n  matchResources:\n    namespaceSelector:\n      \
         matchLabels: {{ kubernetes.io/metadata.name: {namespace} }}\n"
    )
}
