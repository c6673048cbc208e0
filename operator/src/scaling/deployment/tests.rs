#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;

const WORKERS: &str = "
instance: court
image: example.org/tipstaff:1
imagePullPolicy: IfNotPresent
env:
  - { name: S3_BUCKET, value: evidence }
  - { name: RUST_LOG, value: info }
envFrom: [{ secretRef: { name: keys } }]
resources: { limits: { memory: 512Mi } }
volumes: [{ name: ca, configMap: { name: ca } }]
volumeMounts: [{ name: ca, mountPath: /ca }]
podLabels: { team: archive }
drainSeconds: 40
roles:
  schedule: { min: 0, max: 2, targetLag: 500 }
  crawl:
    { min: 1, max: 4, targetLag: 100, resources: { limits: { memory: 1Gi } },
      serviceAccountName: court-crawl, automountServiceAccountToken: true,
      env: [{ name: RUST_LOG, value: debug }, { name: TIPSTAFF_CONCURRENCY, value: '64' }] }
";

fn made(role: Role) -> Value {
    let workers = Workers::parse(WORKERS).unwrap();
    let made = deployment(&workers, role, workers.role(role).unwrap(), &place(), 3, "LagKnown: 3 of 1..4");
    serde_json::to_value(made).unwrap()
}

fn place() -> Place {
    let owner = OwnerReference {
        api_version: "apps/v1".to_owned(),
        kind: "Deployment".to_owned(),
        name: "tipstaff-operator".to_owned(),
        uid: "5f1c".to_owned(),
        ..OwnerReference::default()
    };
    Place { namespace: "archive".to_owned(), owner: Some(owner), kafka_prefix: "court.".to_owned() }
}

fn crawl_labels() -> Value {
    json!({
        "app.kubernetes.io/name": "tipstaff-worker",
        "app.kubernetes.io/instance": "court",
        "app.kubernetes.io/component": "crawl",
        "app.kubernetes.io/part-of": "tipstaff",
        "app.kubernetes.io/managed-by": "tipstaff-operator",
    })
}

fn crawl_selector() -> Value {
    json!({ "matchLabels": {
        "app.kubernetes.io/name": "tipstaff-worker",
        "app.kubernetes.io/instance": "court",
        "app.kubernetes.io/component": "crawl",
    }})
}

#[test]
fn a_deployment_is_labelled_owned_and_says_its_state() {
    let made = made(Role::Crawl);
    assert_eq!(
        made["metadata"],
        json!({
            "name": "court-worker-crawl",
            "namespace": "archive",
            "labels": crawl_labels(),
            "annotations": { "tipstaff.dev/scaling": "LagKnown: 3 of 1..4" },
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "Deployment", "name": "tipstaff-operator", "uid": "5f1c",
            }],
        })
    );
    assert_eq!(made["spec"]["replicas"], 3);
    assert_eq!(made["spec"]["selector"], crawl_selector());
    let mut pod_labels = crawl_labels();
    pod_labels["team"] = json!("archive");
    assert_eq!(made["spec"]["template"]["metadata"], json!({ "labels": pod_labels }));
}

#[test]
fn a_pod_is_restricted_spread_and_drained() {
    let made = made(Role::Crawl);
    let mut pod = made["spec"]["template"]["spec"].clone();
    pod.as_object_mut().unwrap().remove("containers");
    let spread = |key: &str| {
        json!({
            "maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": crawl_selector(),
        })
    };
    assert_eq!(
        pod,
        json!({
            "serviceAccountName": "court-crawl",
            "automountServiceAccountToken": true,
            "enableServiceLinks": false,
            "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
            // Longer than the drain.
            "terminationGracePeriodSeconds": 50,
            "topologySpreadConstraints": [
                spread("kubernetes.io/hostname"), spread("topology.kubernetes.io/zone"),
            ],
            "volumes": [
                { "name": "spool", "emptyDir": { "sizeLimit": "2Gi" } },
                { "name": "ca", "configMap": { "name": "ca" } },
            ],
        })
    );
}

#[test]
fn a_role_without_an_account_of_its_own_gets_no_token() {
    for (file, account) in [("", json!(null)), ("serviceAccountName: court\n", json!("court"))] {
        let workers = Workers::parse(&format!("{WORKERS}{file}")).unwrap();
        let settings = workers.role(Role::Schedule).unwrap();
        let made = deployment(&workers, Role::Schedule, settings, &place(), 1, "");
        let pod = serde_json::to_value(made).unwrap()["spec"]["template"]["spec"].clone();
        assert_eq!(pod["automountServiceAccountToken"], false);
        assert_eq!(pod["serviceAccountName"], account);
    }
}

#[test]
fn a_container_has_one_role_and_what_the_file_gives_it() {
    let made = made(Role::Crawl);
    let probe = |path: &str, period: i32, failures: i32| {
        json!({
            "httpGet": { "path": path, "port": "health" }, "periodSeconds": period,
            "failureThreshold": failures, "timeoutSeconds": 4,
        })
    };
    assert_eq!(
        made["spec"]["template"]["spec"]["containers"],
        json!([{
            "name": "worker",
            "image": "example.org/tipstaff:1",
            "imagePullPolicy": "IfNotPresent",
            "command": ["tipstaff-worker"],
            "args": [
                "--roles=crawl", "--listen=0.0.0.0:8080", "--drain-seconds=40",
                "--spool-dir=/var/spool/tipstaff", "--kafka-prefix=court.",
            ],
            // The role's own replaces that of all.
            "env": [
                { "name": "S3_BUCKET", "value": "evidence" },
                { "name": "RUST_LOG", "value": "debug" },
                { "name": "TIPSTAFF_CONCURRENCY", "value": "64" },
            ],
            "envFrom": [{ "secretRef": { "name": "keys" } }],
            "resources": { "limits": { "memory": "1Gi" } },
            "ports": [{ "name": "health", "containerPort": 8080, "protocol": "TCP" }],
            "volumeMounts": [
                { "name": "spool", "mountPath": "/var/spool/tipstaff" },
                { "name": "ca", "mountPath": "/ca" },
            ],
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "capabilities": { "drop": ["ALL"] },
                "readOnlyRootFilesystem": true,
                "runAsNonRoot": true,
            },
            "startupProbe": probe("/livez", 2, 30),
            "livenessProbe": probe("/livez", 10, 6),
            "readinessProbe": probe("/readyz", 5, 2),
        }])
    );
}

#[test]
fn a_role_without_resources_of_its_own_has_those_of_all() {
    let made = made(Role::Schedule);
    let container = &made["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["resources"], json!({ "limits": { "memory": "512Mi" } }));
    assert_eq!(container["env"][1], json!({ "name": "RUST_LOG", "value": "info" }));
}

#[test]
fn a_disruption_budget_lets_one_pod_go_at_a_time() {
    let workers = Workers::parse(WORKERS).unwrap();
    let made = serde_json::to_value(disruption_budget(&workers, Role::Crawl, &place())).unwrap();
    assert_eq!(made["metadata"]["name"], "court-worker-crawl");
    assert_eq!(made["metadata"]["labels"], crawl_labels());
    assert_eq!(made["metadata"]["ownerReferences"][0]["uid"], "5f1c");
    assert_eq!(
        made["spec"],
        json!({
            "maxUnavailable": 1, "selector": crawl_selector(), "unhealthyPodEvictionPolicy": "AlwaysAllow",
        })
    );
}

#[test]
fn objects_are_found_by_their_labels() {
    let workers = Workers::parse(WORKERS).unwrap();
    assert_eq!(
        objects_selector(&workers),
        "app.kubernetes.io/instance=court,app.kubernetes.io/managed-by=tipstaff-operator,\
         app.kubernetes.io/name=tipstaff-worker,app.kubernetes.io/part-of=tipstaff"
    );
    for role in Role::ALL {
        assert_eq!(role_of(Some(&labels(&workers, role))), Some(role));
    }
    assert_eq!(role_of(Some(&shared_labels(&workers))), None);
}
