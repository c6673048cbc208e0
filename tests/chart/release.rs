//! A release over its life, on an API server of its own: definitions belong to the whole cluster.

use std::{fs, path::Path, time::Duration};

use serde_json::Value;
use stack::{Part, Stack, StackOptions};
use tests::eventually;

use crate::{RELEASE, REQUIRED, folder};

const NAMESPACE: &str = "court";
const OBJECTS: &str = "
apiVersion: tipstaff.dev/v1alpha1
kind: Source
metadata: {name: opinions, namespace: court}
spec: {baseURL: 'https://court.example/'}
---
apiVersion: tipstaff.dev/v1alpha1
kind: Subscription
metadata: {name: opinions, namespace: court}
spec: {sourceRef: {name: opinions}, schedule: '@daily'}
";

/// Runs a command of Helm on the release. Hooks would wait for pods, which no node runs.
async fn helm(stack: &Stack, command: &str, more: &[&str]) -> String {
    let all = [&[command, RELEASE, "--namespace", NAMESPACE, "--no-hooks"], more].concat();
    stack.helm(&all, REQUIRED).await.unwrap()
}

/// What of the release is there, and what Kubernetes made of it.
async fn present(stack: &Stack) -> Vec<String> {
    let kinds = "deployments,serviceaccounts,configmaps,roles,rolebindings,poddisruptionbudgets,clusterroles,\
                 clusterrolebindings,networkpolicies,jobs,replicasets";
    let selector = ["--selector", "app.kubernetes.io/part-of=tipstaff"];
    let arguments = [&["get", kinds, "--namespace", NAMESPACE, "--output", "name"], &selector[..]].concat();
    stack.kubectl(&arguments, "").await.unwrap().lines().map(str::to_owned).collect()
}

async fn definition(stack: &Stack, name: &str) -> Option<Value> {
    let text =
        stack.kubectl(&["get", "crd", name, "--ignore-not-found", "--output", "json"], "").await.unwrap();
    (!text.is_empty()).then(|| serde_json::from_str(&text).unwrap())
}

/// Whether the API server has the property of a Subscription.
async fn has_jitter(stack: &Stack) -> bool {
    let definition = definition(stack, "subscriptions.tipstaff.dev").await.unwrap();
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    schema["properties"]["spec"]["properties"].get("jitterSeconds").is_some()
}

/// The chart as if it were of an earlier release, whose Subscriptions had no `jitterSeconds`.
fn earlier_chart(place: &Path) -> String {
    let chart = place.join("tipstaff");
    copy(Path::new(&folder("tipstaff")), &chart);
    let edit = |file: &str, change: &dyn Fn(String) -> String| {
        let path = chart.join(file);
        let before = fs::read_to_string(&path).unwrap();
        let after = change(before.clone());
        assert_ne!(before, after, "{file}");
        fs::write(path, after).unwrap();
    };
    edit("Chart.yaml", &|text| text.replace("version: 0.1.0\n", "version: 0.0.9\n"));
    edit("files/crds/subscription.yaml", &|text| {
        let mut definition: Value = serde_saphyr::from_str(&text).unwrap();
        let spec = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        spec["properties"].as_object_mut().unwrap().remove("jitterSeconds").unwrap();
        definition.to_string()
    });
    chart.display().to_string()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_brings_everything_up_to_date_and_an_uninstall_leaves_what_is_the_users() {
    let stack = Stack::start(&[Part::KubeControllerManager], StackOptions::default()).await.unwrap();
    let place = tempfile::tempdir().unwrap();
    let current = folder("tipstaff");

    helm(&stack, "install", &[&earlier_chart(place.path()), "--create-namespace", "--values", "-"]).await;
    assert!(!has_jitter(&stack).await);
    let names = ["crd/sources.tipstaff.dev", "crd/subscriptions.tipstaff.dev"];
    let wait = ["wait", "--for=condition=Established", "--timeout=30s", names[0], names[1]];
    stack.kubectl(&wait, "").await.unwrap();
    stack.kubectl(&["apply", "--filename", "-"], OBJECTS).await.unwrap();
    let installed = present(&stack).await;
    assert!(installed.contains(&"deployment.apps/tipstaff-operator".to_owned()), "{installed:?}");

    let kept = "leaves the definitions with all Sources and Subscriptions";
    let said = helm(&stack, "upgrade", &[&current, "--values", "-"]).await;
    assert!(said.contains(kept), "{said}");
    assert!(has_jitter(&stack).await);
    let upgraded = present(&stack).await;
    assert!(installed.iter().all(|object| upgraded.contains(object)), "{installed:?}, then {upgraded:?}");

    helm(&stack, "uninstall", &["--wait"]).await;
    eventually("the end of all that was installed", Duration::from_secs(60), async || {
        let left = present(&stack).await;
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
    let left = ["get", "sources,subscriptions", "--namespace", NAMESPACE, "--output", "name"];
    let objects = "source.tipstaff.dev/opinions\nsubscription.tipstaff.dev/opinions\n";
    assert_eq!(stack.kubectl(&left, "").await.unwrap(), objects);

    // What was left is taken up again, and goes where that is asked for.
    let said = helm(&stack, "install", &[&current, "--values", "-", "--set", "crds.keep=false"]).await;
    assert!(!said.contains(kept), "{said}");
    assert_eq!(stack.kubectl(&left, "").await.unwrap(), objects);
    helm(&stack, "uninstall", &["--wait"]).await;
    for name in ["sources.tipstaff.dev", "subscriptions.tipstaff.dev"] {
        assert!(definition(&stack, name).await.is_none(), "{name}");
    }
}
