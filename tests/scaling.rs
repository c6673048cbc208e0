//! Workers per role on a real API server and a real Kafka: they come and go with the lag, and with nothing else.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{collections::BTreeMap, time::Duration};

use events::{
    Bus, Record,
    kafka::{KafkaBus, KafkaOptions},
};
use serde_json::{Value, json};
use stack::{Part, Stack, StackOptions};
use tempfile::TempDir;
use tests::{Installation, Origin, Process, corpus, eventually};
use tokio::time::sleep;

const SOON: Duration = Duration::from_secs(60);
/// Partitions of each topic.
const PARTITIONS: i32 = 3;
/// The window before replicas go down. Readings are 5 s apart.
const WINDOW: u32 = 8;
const BOTH_ROLES: &str =
    "{ schedule: { min: 0, max: 2, targetLag: 10 }, crawl: { min: 0, max: 5, targetLag: 10 } }";

/// What kubectl is told, and how the object is when that is put right.
type Change<'a> = (&'a [&'a str], fn(&Value) -> bool);

/// An installation whose operator runs workers.
struct Scaled {
    tipstaff: Installation,
    folder: TempDir,
}

impl Scaled {
    async fn new(test: &str, roles: &str) -> Self {
        Self::on(Installation::new(test).await, roles).await
    }

    async fn on(tipstaff: Installation, roles: &str) -> Self {
        let scaled = Self { tipstaff, folder: tempfile::tempdir().unwrap() };
        scaled.write(roles);
        scaled.tipstaff.apply(&manifest("tipstaff-operator", "the-operator:1")).await;
        scaled
    }

    fn write(&self, roles: &str) {
        let file = format!(
            "image: tipstaff-worker:test\nimagePullPolicy: Never\nstabilisationSeconds: {WINDOW}\n\
             env: [{{ name: S3_BUCKET, value: evidence }}]\nresources: {{ limits: {{ cpu: 1000m }} }}\nroles: {roles}\n"
        );
        std::fs::write(self.folder.path().join("workers.yaml"), file).unwrap();
    }

    fn operator(&self) -> Process {
        self.tipstaff.operator(&[
            ("TIPSTAFF_WORKERS_FILE", self.folder.path().join("workers.yaml").display().to_string()),
            ("TIPSTAFF_OWNER_DEPLOYMENT", "tipstaff-operator".to_owned()),
            ("KAFKA_PARTITIONS", PARTITIONS.to_string()),
        ])
    }

    /// What the role's Deployment would start, without a kubelet: a process.
    fn worker(&self, role: &str) -> Process {
        self.tipstaff.worker(&[("TIPSTAFF_ROLES", role.to_owned())])
    }

    /// Puts events on the role's topic; they make no sense, and a worker that handles them puts them away.
    async fn publish(&self, count: usize) {
        let bus = KafkaBus::new(KafkaOptions {
            brokers: self.tipstaff.stack.kafka_brokers().unwrap(),
            prefix: self.tipstaff.prefix.clone(),
            properties: BTreeMap::new(),
            partitions: PARTITIONS,
            replication: 1,
            revoke: Duration::from_secs(5),
        })
        .unwrap();
        let record = |number: usize| Record {
            topic: "crawl.request".to_owned(),
            key: Some(number.to_string().into_bytes()),
            headers: Vec::new(),
            payload: b"?".to_vec(),
        };
        bus.publish(&(0..count).map(record).collect::<Vec<_>>()).await.unwrap();
    }

    async fn get(&self, object: &str) -> Option<Value> {
        let found = self.tipstaff.kubectl(&["get", object, "--ignore-not-found", "-o", "json"], "").await;
        let found = found.unwrap();
        (!found.is_empty()).then(|| serde_json::from_str(&found).unwrap())
    }

    /// Waits until the role's Deployment shall have so many replicas and its state begins so; returns it.
    async fn reaches(&self, role: &str, replicas: u32, state: &str) -> Value {
        let what = format!("{replicas} replicas of {role}, {state}");
        eventually(&what, SOON + SOON, async || {
            let found = self.get(&format!("deployment/tipstaff-worker-{role}")).await;
            let seen = found.as_ref().map(|found| (found["spec"]["replicas"].clone(), state_of(found)));
            match (found, &seen) {
                (Some(found), Some((seen_replicas, seen_state)))
                    if *seen_replicas == replicas && seen_state.starts_with(state) =>
                {
                    Ok(found)
                }
                _ => Err(seen),
            }
        })
        .await
    }

    /// Waits until an object is as asked for.
    async fn becomes(&self, object: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("{object}: {what}"), SOON, async || match self.get(object).await {
            Some(found) if is(&found) => Ok(found),
            other => Err(other.map(|found| found["metadata"].clone())),
        })
        .await
    }

    async fn is_gone(&self, object: &str) {
        eventually(&format!("the end of {object}"), SOON, async || match self.get(object).await {
            None => Ok(()),
            Some(found) => Err(found["metadata"].clone()),
        })
        .await;
    }

    /// Waits until an Event about the role's Deployment has this reason; returns its note.
    async fn event(&self, role: &str, reason: &str) -> String {
        eventually(&format!("the event {reason} of {role}"), SOON, async || {
            let events = self.tipstaff.kubectl(&["get", "events.events.k8s.io", "-o", "json"], "").await;
            let events: Value = serde_json::from_str(&events.unwrap()).unwrap();
            let name = format!("tipstaff-worker-{role}");
            let ours: Vec<_> = events["items"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|event| event["regarding"]["name"] == name.as_str())
                .map(|event| (text(&event["reason"]), text(&event["note"])))
                .collect();
            let found = ours.iter().find(|(seen, _)| seen == reason).map(|(_, note)| note.clone());
            found.ok_or(ours)
        })
        .await
    }

    /// What changes with every write to what the operator keeps.
    async fn versions(&self) -> Vec<String> {
        let selector = "app.kubernetes.io/managed-by=tipstaff-operator";
        let columns =
            "jsonpath={range .items[*]}{.kind}/{.metadata.name} {.metadata.resourceVersion}{\"\\n\"}{end}";
        let objects = self
            .tipstaff
            .kubectl(&["get", "deployments,poddisruptionbudgets", "-l", selector, "-o", columns], "")
            .await
            .unwrap();
        let events = ["get", "events.events.k8s.io", "-o", "name"];
        let events = self.tipstaff.kubectl(&events, "").await.unwrap();
        objects.lines().chain(events.lines()).map(str::to_owned).collect()
    }

    /// Waits until two looks in a row, a round apart, see the same.
    async fn settled(&self) -> Vec<String> {
        let mut before = Vec::new();
        eventually("rest", SOON, async || {
            sleep(Duration::from_secs(6)).await;
            let now = self.versions().await;
            let is_settled = now == before;
            before.clone_from(&now);
            if is_settled { Ok(now) } else { Err(now) }
        })
        .await
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn state_of(deployment: &Value) -> String {
    text(&deployment["metadata"]["annotations"]["tipstaff.dev/scaling"])
}

/// A Deployment that is not the operator's.
fn manifest(name: &str, image: &str) -> String {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name },
        "spec": {
            "replicas": 0,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{ "name": "main", "image": image }] },
            },
        },
    })
    .to_string()
}

async fn metric(process: &Process, line: &str) {
    eventually(&format!("the metric {line}"), SOON, async || {
        let metrics = process.probe("/metrics").await;
        let ours: Vec<_> = metrics.lines().filter(|line| line.contains("tipstaff_role_")).collect();
        if ours.contains(&line) { Ok(()) } else { Err(ours.join("\n")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_are_made_as_the_file_says_and_pass_the_restricted_profile() {
    let roles = "{ schedule: { min: 0, max: 2, targetLag: 10 }, crawl: { min: 1, max: 5, targetLag: 10 } }";
    let scaled = Scaled::new("workers", roles).await;
    let tipstaff = &scaled.tipstaff;
    let profile = "pod-security.kubernetes.io/enforce=restricted";
    tipstaff.stack.kubectl(&["label", "namespace", &tipstaff.namespace, profile], "").await.unwrap();
    let operator = scaled.operator();
    scaled.reaches("schedule", 0, "LagKnown: 0 of 0..2").await;
    let crawl = scaled.reaches("crawl", 1, "LagKnown: 1 of 1..5").await;

    let owner = scaled.get("deployment/tipstaff-operator").await.unwrap();
    for object in ["deployment/tipstaff-worker-crawl", "poddisruptionbudget/tipstaff-worker-crawl"] {
        let metadata = scaled.get(object).await.unwrap()["metadata"].clone();
        assert_eq!(metadata["ownerReferences"].as_array().unwrap().len(), 1, "{object}");
        assert_eq!(metadata["ownerReferences"][0]["uid"], owner["metadata"]["uid"], "{object}");
        assert_eq!(metadata["labels"]["app.kubernetes.io/component"], "crawl", "{object}");
    }
    let budget = scaled.get("poddisruptionbudget/tipstaff-worker-crawl").await.unwrap();
    assert_eq!(budget["spec"]["maxUnavailable"], 1);
    assert_eq!(budget["spec"]["selector"], crawl["spec"]["selector"]);
    let pod = &crawl["spec"]["template"];
    let container = &pod["spec"]["containers"][0];
    assert_eq!(container["image"], "tipstaff-worker:test");
    assert_eq!(container["args"][0], "--roles=crawl");
    assert_eq!(container["args"][4], format!("--kafka-prefix={}", tipstaff.prefix));

    let dry_run = async |pod: &Value| {
        tipstaff.kubectl(&["create", "--dry-run=server", "-f", "-"], &pod.to_string()).await
    };
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "trial", "labels": pod["metadata"]["labels"] },
        "spec": pod["spec"],
    });
    dry_run(&pod).await.unwrap();
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = json!(true);
    let refusal = dry_run(&pod).await.unwrap_err();
    assert!(refusal.contains("violates PodSecurity"), "{refusal}");
    // The controllers make the pod that is wanted, which the budget protects.
    scaled
        .becomes("deployment/tipstaff-worker-crawl", "a pod", |found| found["status"]["replicas"] == 1)
        .await;
    scaled
        .becomes("poddisruptionbudget/tipstaff-worker-crawl", "its pod", |found| {
            found["status"]["expectedPods"] == 1
        })
        .await;
    metric(&operator, "tipstaff_role_replicas_desired{role=\"crawl\"} 1").await;
    metric(&operator, "tipstaff_role_replicas_ready{role=\"crawl\"} 0").await;
    metric(&operator, "tipstaff_role_lag{role=\"schedule\",topic=\"subs.schedule\"} 0").await;
    scaled.tipstaff.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_wakes_with_the_first_event_grows_with_its_lag_and_sleeps_when_all_is_done() {
    let scaled = Scaled::new("lag", BOTH_ROLES).await;
    let operator = scaled.operator();
    scaled.reaches("crawl", 0, "LagKnown: 0 of 0..5").await;
    scaled.publish(1).await;
    let awake = scaled.reaches("crawl", 1, "LagKnown: 1 of 0..5").await;
    assert!(state_of(&awake).contains("a lag of 1 at 10 per replica asked for 1"), "{}", state_of(&awake));
    // Ten replicas' worth, but there are three partitions.
    scaled.publish(99).await;
    let grown = scaled.reaches("crawl", 3, "LagKnown: 3 of 0..5").await;
    assert!(state_of(&grown).contains("a lag of 100 at 10 per replica asked for 10; 3 partitions"));
    metric(&operator, "tipstaff_role_lag{role=\"crawl\",topic=\"crawl.request\"} 100").await;
    metric(&operator, "tipstaff_role_lag_known{role=\"crawl\"} 1").await;
    metric(&operator, "tipstaff_role_replicas_desired{role=\"crawl\"} 3").await;
    assert!(scaled.event("crawl", "ScaledUp").await.starts_with("LagKnown: "));

    let worker = scaled.worker("crawl");
    metric(&operator, "tipstaff_role_lag{role=\"crawl\",topic=\"crawl.request\"} 0").await;
    scaled.reaches("crawl", 0, "LagKnown: 0 of 0..5").await;
    scaled.event("crawl", "ScaledDown").await;
    // The other role had nothing to do all the time.
    let other = scaled.get("deployment/tipstaff-worker-schedule").await.unwrap();
    assert!(state_of(&other).contains("0 of 0..2 replicas since a lag of 0"), "{}", state_of(&other));
    worker.terminate().await;
    scaled.tipstaff.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_wakes_the_roles_that_it_passes_through() {
    let origin = Origin::start(corpus::CA11).await;
    let roles = ["schedule", "crawl", "parse", "version"];
    let asleep = roles.map(|role| format!("{role}: {{ min: 0, max: 2, targetLag: 10 }}")).join(", ");
    let scaled = Scaled::new("wakes", &format!("{{ {asleep} }}")).await;
    let tipstaff = &scaled.tipstaff;
    let _operator = scaled.operator();
    tipstaff
        .apply(&format!(
            "apiVersion: tipstaff.dev/v1alpha1\nkind: Source\nmetadata: {{ name: court }}\n\
             spec: {{ kind: html, baseURL: \"{}\" }}\n---\n\
             apiVersion: tipstaff.dev/v1alpha1\nkind: Subscription\nmetadata: {{ name: opinions }}\n\
             spec: {{ sourceRef: {{ name: court }}, schedule: \"0 0 29 2 *\" }}\n",
            origin.url()
        ))
        .await;
    tipstaff.condition("tsub/opinions", "Ready", "True", Some("Scheduled")).await;
    scaled.reaches("schedule", 0, "LagKnown: 0").await;
    tipstaff.request("opinions", "now").await;
    let mut workers = Vec::new();
    for role in roles {
        scaled.reaches(role, 1, "LagKnown: 1").await;
        workers.push(scaled.worker(role));
    }
    let runs = tipstaff.ended_runs("opinions", 1).await;
    assert_eq!(runs[0].phase, "Succeeded");
    for role in roles {
        scaled.reaches(role, 0, "LagKnown: 0").await;
    }
    scaled.tipstaff.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lag_that_cannot_be_read_changes_nothing_and_says_so() {
    let parts = [Part::KubeApiserver, Part::Kafka, Part::Postgres, Part::Minio];
    let stack = Stack::start(&parts, StackOptions::default()).await.unwrap();
    let roles = "{ crawl: { min: 0, max: 5, targetLag: 10 } }";
    let scaled = Scaled::on(Installation::on(stack, "unknown").await, roles).await;
    let operator = scaled.operator();
    scaled.reaches("crawl", 0, "LagKnown").await;
    scaled.publish(25).await;
    scaled.reaches("crawl", 3, "LagKnown").await;

    let kafka = scaled.tipstaff.stack.service(Part::Kafka).unwrap();
    kafka.kill().await.unwrap();
    let blind = scaled.reaches("crawl", 3, "LagUnknown: 3 of 0..5 replicas stay as they are: ").await;
    let note = scaled.event("crawl", "LagUnknown").await;
    assert_eq!(note, state_of(&blind));
    metric(&operator, "tipstaff_role_lag_known{role=\"crawl\"} 0").await;
    assert!(!operator.probe("/metrics").await.contains("tipstaff_role_lag{"));
    let settled = scaled.settled().await;
    // Longer than the window, in which a scaler that takes this for "no lag" would let the workers go.
    sleep(Duration::from_secs(u64::from(WINDOW) + 12)).await;
    assert_eq!(scaled.versions().await, settled);
    assert_eq!(scaled.get("deployment/tipstaff-worker-crawl").await.unwrap()["spec"]["replicas"], 3);

    // An operator that begins now changes nothing either.
    operator.terminate().await;
    let operator = scaled.operator();
    metric(&operator, "tipstaff_role_lag_known{role=\"crawl\"} 0").await;
    assert_eq!(scaled.settled().await, settled);

    kafka.start().await.unwrap();
    scaled.reaches("crawl", 3, "LagKnown").await;
    scaled.event("crawl", "LagKnown").await;
    let _worker = scaled.worker("crawl");
    scaled.reaches("crawl", 0, "LagKnown").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hands_change_is_put_right() {
    let scaled = Scaled::new("hands", "{ crawl: { min: 1, max: 5, targetLag: 10 } }").await;
    let _operator = scaled.operator();
    let first = scaled.reaches("crawl", 1, "LagKnown").await;
    let (deployment, budget) =
        ("deployment/tipstaff-worker-crawl", "poddisruptionbudget/tipstaff-worker-crawl");
    let kubectl = async |words: &[&str]| scaled.tipstaff.kubectl(words, "").await.unwrap();

    let changes: [Change<'_>; 5] = [
        (&["scale", deployment, "--replicas=4"], |found| found["spec"]["replicas"] == 1),
        (&["set", "image", deployment, "worker=another:1"], |found| {
            found["spec"]["template"]["spec"]["containers"][0]["image"] == "tipstaff-worker:test"
        }),
        (&["annotate", deployment, "tipstaff.dev/scaling-"], |found| state_of(found).starts_with("LagKnown")),
        (&["label", deployment, "app.kubernetes.io/part-of-"], |found| {
            found["metadata"]["labels"]["app.kubernetes.io/part-of"] == "tipstaff"
        }),
        (&["patch", deployment, "--type=merge", "-p", r#"{"metadata":{"ownerReferences":null}}"#], |found| {
            found["metadata"]["ownerReferences"][0]["name"] == "tipstaff-operator"
        }),
    ];
    for (words, is_right) in changes {
        let before = scaled.get(deployment).await.unwrap()["metadata"]["resourceVersion"].clone();
        kubectl(words).await;
        scaled
            .becomes(deployment, &format!("right after {words:?}"), |found| {
                is_right(found) && found["metadata"]["resourceVersion"] != before
            })
            .await;
    }
    // What others add beside stays theirs.
    kubectl(&["annotate", deployment, "example.org/mine=yes"]).await;
    scaled.settled().await;
    assert_eq!(scaled.get(deployment).await.unwrap()["metadata"]["annotations"]["example.org/mine"], "yes");

    for object in [deployment, budget] {
        let gone = scaled.get(object).await.unwrap()["metadata"]["uid"].clone();
        kubectl(&["delete", object, "--wait=false"]).await;
        scaled.becomes(object, "made again", |found| found["metadata"]["uid"] != gone).await;
    }
    let again = scaled.reaches("crawl", 1, "LagKnown").await;
    assert_eq!(again["metadata"]["labels"], first["metadata"]["labels"]);
    kubectl(&["patch", budget, "--type=merge", "-p", r#"{"spec":{"maxUnavailable":0}}"#]).await;
    scaled.becomes(budget, "one pod may go", |found| found["spec"]["maxUnavailable"] == 1).await;
    scaled.tipstaff.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_rest_nothing_is_written_a_role_that_is_not_in_the_file_goes_and_all_go_with_the_owner() {
    let scaled = Scaled::new("leaves", BOTH_ROLES).await;
    let operator = scaled.operator();
    scaled.reaches("schedule", 0, "LagKnown").await;
    scaled.reaches("crawl", 0, "LagKnown").await;
    let settled = scaled.settled().await;
    operator.terminate().await;
    // A restart is no reason to write either; not even for quantities that the API server writes otherwise.
    let operator = scaled.operator();
    metric(&operator, "tipstaff_role_lag_known{role=\"crawl\"} 1").await;
    sleep(Duration::from_secs(11)).await;
    assert_eq!(scaled.versions().await, settled);
    operator.terminate().await;

    scaled.write("{ crawl: { min: 0, max: 5, targetLag: 10 } }");
    let mut operator = scaled.operator();
    for kind in ["deployment", "poddisruptionbudget"] {
        scaled.is_gone(&format!("{kind}/tipstaff-worker-schedule")).await;
    }
    let is_crawls = |line: &&String| line.contains("tipstaff-worker-crawl ");
    let crawls = |lines: &[String]| lines.iter().filter(is_crawls).cloned().collect::<Vec<_>>();
    assert_eq!(crawls(&scaled.settled().await), crawls(&settled));
    assert_eq!(crawls(&settled).len(), 2);

    scaled.tipstaff.kubectl(&["delete", "deployment/tipstaff-operator"], "").await.unwrap();
    for kind in ["deployment", "poddisruptionbudget"] {
        scaled.is_gone(&format!("{kind}/tipstaff-worker-crawl")).await;
    }
    // The operator, which lives on for a while when it is uninstalled, makes nothing again.
    eventually("an operator that says why", SOON, async || {
        let log = operator.log();
        if log.contains("which owns the workers, does not exist") { Ok(()) } else { Err(log) }
    })
    .await;
    for kind in ["deployment", "poddisruptionbudget"] {
        assert_eq!(scaled.get(&format!("{kind}/tipstaff-worker-crawl")).await, None);
    }
    assert!(operator.is_running());
    scaled.tipstaff.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_of_somebody_else_is_left_alone() {
    let scaled = Scaled::new("foreign", "{ crawl: { min: 1, max: 5, targetLag: 10 } }").await;
    scaled.tipstaff.apply(&manifest("tipstaff-worker-crawl", "theirs:1")).await;
    let operator = scaled.operator();
    eventually("an operator that says why", SOON, async || {
        let log = operator.log();
        if log.contains("the Deployment tipstaff-worker-crawl could not be applied") {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await;
    let found = scaled.get("deployment/tipstaff-worker-crawl").await.unwrap();
    assert_eq!(found["spec"]["template"]["spec"]["containers"][0]["image"], "theirs:1");
    assert_eq!(found["metadata"]["generation"], 1);
    scaled.tipstaff.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_workers_file_ends_the_operator_before_it_takes_the_lease() {
    let scaled = Scaled::new("badfile", "{ crawl: { min: 6, max: 5, targetLag: 10 } }").await;
    let operator = scaled.operator();
    let log = operator.log_path().to_owned();
    assert!(!operator.wait().await.success());
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("roles.crawl.min: 6 is more than max, 5"), "{log}");
    assert!(scaled.get("lease/tipstaff-operator").await.is_none());
    scaled.tipstaff.remove().await;
}
