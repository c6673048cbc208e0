//! The custom resource definitions on a real API server: which objects it accepts, what it says of others, which
//! defaults it fills in, and what kubectl prints.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use stack::Stack;

/// A row of the table that `crds/tests/objects.rs` reads too; the table says what its fields mean.
#[derive(Deserialize)]
struct Row {
    name: String,
    kind: String,
    spec: Value,
    refused: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    by: Option<String>,
    field: String,
    message: String,
}

/// A namespace of the test's own, on an API server that has the definitions.
struct Cluster {
    stack: Stack,
    namespace: String,
}

impl Cluster {
    async fn new() -> Self {
        let stack = Stack::shared().await.unwrap();
        tests::install_definitions(&stack).await;
        let namespace = format!("crd-validation-{}", uuid::Uuid::new_v4().simple());
        stack.kubectl(&["create", "namespace", &namespace], "").await.unwrap();
        Self { stack, namespace }
    }

    /// Runs kubectl in the namespace; what it printed, or what it said went wrong.
    async fn kubectl(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let arguments: Vec<&str> =
            arguments.iter().copied().chain(["--namespace", &self.namespace]).collect();
        self.stack.kubectl(&arguments, input).await.map_err(|error| error.to_string())
    }

    async fn remove(self) {
        self.stack.kubectl(&["delete", "namespace", &self.namespace, "--wait=false"], "").await.unwrap();
    }
}

fn manifest(kind: &str, name: &str, spec: &Value) -> Value {
    json!({ "apiVersion": "tipstaff.dev/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec })
}

/// The spec as the operator would write it after reading it: with the defaults that the Rust types fill in.
fn read_and_written<K: DeserializeOwned + Serialize>(manifest: &Value) -> Value {
    let object: K = serde_json::from_value(manifest.clone()).unwrap();
    serde_json::to_value(object).unwrap()["spec"].take()
}

#[tokio::test]
async fn objects_are_accepted_or_refused_with_their_message() {
    let cluster = Cluster::new().await;
    let rows: Vec<Row> = serde_saphyr::from_str(include_str!("../crds/tests/objects.yaml")).unwrap();
    assert!(rows.len() > 80, "the table has lost rows");
    let mut wrong = Vec::new();
    for row in rows {
        let manifest = manifest(&row.kind, "example", &row.spec);
        let answer = cluster
            .kubectl(&["create", "--dry-run=server", "-o", "json", "-f", "-"], &manifest.to_string())
            .await;
        let refusal = row.refused.filter(|refusal| refusal.by.as_deref() != Some("reconciler"));
        match (answer, refusal) {
            (Err(said), Some(refusal))
                if said.contains(&refusal.field) && said.contains(&refusal.message) => {}
            (Err(said), _) => wrong.push(format!("{}: {said}", row.name)),
            (Ok(_), Some(_)) => wrong.push(format!("{}: accepted", row.name)),
            (Ok(_), None) => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    cluster.remove().await;
}

#[tokio::test]
async fn defaults_of_the_schema_are_those_of_the_types() {
    let cluster = Cluster::new().await;
    for (kind, spec) in [
        ("Source", json!({ "baseURL": "https://example.org" })),
        ("Source", json!({ "baseURL": "https://example.org", "fetch": {}, "politeness": {}, "follow": {} })),
        ("Source", json!({ "baseURL": "https://example.org", "fetch": { "timeout": "5s" } })),
        ("Subscription", json!({ "sourceRef": { "name": "notices" }, "schedule": "@daily" })),
    ] {
        let manifest = manifest(kind, "example", &spec);
        let stored = cluster
            .kubectl(&["create", "--dry-run=server", "-o", "json", "-f", "-"], &manifest.to_string())
            .await
            .unwrap();
        let stored: Value = serde_json::from_str(&stored).unwrap();
        let expected = match kind {
            "Source" => read_and_written::<crds::Source>(&manifest),
            _ => read_and_written::<crds::Subscription>(&manifest),
        };
        assert_eq!(stored["spec"], expected, "{spec}");
    }
    cluster.remove().await;
}

#[tokio::test]
async fn the_source_of_a_subscription_cannot_be_changed() {
    let cluster = Cluster::new().await;
    let spec = json!({ "sourceRef": { "name": "notices" }, "schedule": "@daily" });
    cluster
        .kubectl(&["create", "-f", "-"], &manifest("Subscription", "example", &spec).to_string())
        .await
        .unwrap();

    let patch = async |patch: &str| {
        cluster.kubectl(&["patch", "subscription", "example", "--type=merge", "-p", patch], "").await
    };
    patch(r#"{"spec":{"schedule":"@hourly"}}"#).await.unwrap();
    let said = patch(r#"{"spec":{"sourceRef":{"name":"other"}}}"#).await.unwrap_err();
    assert!(
        said.contains("spec.sourceRef") && said.contains("is immutable: versions are a history"),
        "{said}"
    );
    cluster.remove().await;
}

#[tokio::test]
async fn columns_tell_the_state() {
    let cluster = Cluster::new().await;
    let source = json!({ "kind": "html", "baseURL": "https://example.org/notices" });
    let subscription = json!({ "sourceRef": { "name": "notices" }, "schedule": "0 9 * * 1" });
    for object in [manifest("Source", "notices", &source), manifest("Subscription", "weekly", &subscription)]
    {
        cluster.kubectl(&["create", "-f", "-"], &object.to_string()).await.unwrap();
    }
    let now = Timestamp::now();
    let condition = |kind: &str, status: &str, reason: &str| {
        json!({
            "type": kind, "status": status, "reason": reason, "message": "", "lastTransitionTime": now.to_string(),
        })
    };
    let source_status = json!({ "status": {
        "conditions": [
            condition("Ready", "True", "Registered"),
            condition("Reachable", "False", "Timeout"),
            condition("Fresh", "True", "AsExpected"),
        ],
        "lastChangeTime": (now - SignedDuration::from_hours(49)).to_string(),
    } });
    let status = json!({ "status": {
        "conditions": [condition("Ready", "True", "Scheduled")],
        "nextScheduleTime": "2099-01-05T09:00:00Z",
        "lastRun": { "id": "7", "phase": "Succeeded", "reason": "Unchanged" },
    } });
    for (kind, name, status) in [("subscription", "weekly", status), ("source", "notices", source_status)] {
        let patch = status.to_string();
        cluster
            .kubectl(&["patch", kind, name, "--subresource=status", "--type=merge", "-p", &patch], "")
            .await
            .unwrap();
    }

    for (resource, header, row) in [
        (
            "tsub",
            "NAME SOURCE SCHEDULE READY LAST RUN REASON NEXT AGE",
            "weekly notices 0 9 * * 1 True Succeeded Unchanged 2099-01-05T09:00:00Z ",
        ),
        (
            "tsrc",
            "NAME KIND URL READY REACHABLE FRESH LAST CHANGE AGE",
            "notices html https://example.org/notices True False True 2d1h ",
        ),
    ] {
        let printed = cluster.kubectl(&["get", resource], "").await.unwrap();
        let lines: Vec<_> =
            printed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines.len(), 2, "{printed}");
        assert_eq!(lines[0], header);
        assert!(lines[1].starts_with(row), "{printed}");
    }

    let names = cluster.kubectl(&["get", "tipstaff", "-o", "name"], "").await.unwrap();
    assert_eq!(names, "source.tipstaff.dev/notices\nsubscription.tipstaff.dev/weekly\n");
    cluster.remove().await;
}
