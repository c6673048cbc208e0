//! The chart on a real node: a release is installed, does its work, scales, survives what befalls its pods, is upgraded,
//! and goes without a trace but those that are documented.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "release/cluster.rs"]
mod cluster;

use std::collections::BTreeSet;

use cluster::{Cluster, NAMESPACE};
use stack::{Part, Stack, StackError, StackOptions};
use tests::eventually;

/// Enough events that the crawl role wants all the replicas that it may have.
const MANY: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn a_release_works_scales_survives_is_upgraded_and_goes() {
    if stack::can_run_node().is_err() {
        // The stack says why.
        let refused = Stack::start(&Part::NODE, StackOptions::default()).await.unwrap_err();
        assert!(matches!(refused, StackError::NoNode { .. }), "{refused}");
        return;
    }
    let cluster = Cluster::start().await;
    cluster.helm("install", &[]).await;
    cluster.ready("tipstaff-operator", 2).await;
    cluster.ready("tipstaff-worker-schedule", 1).await;
    cluster.ready("tipstaff-worker-crawl", 1).await;
    everything_is_restricted(&cluster).await;
    nobody_may_do_more_than_is_documented(&cluster).await;

    cluster.create(&["first".to_owned()]).await;
    cluster.request("first", "one").await;
    cluster.ended(1).await;
    cluster.condition("tsub/first", "Succeeding", "True").await;
    cluster.artifacts_are_what_was_served().await;
    cluster.the_page_was_asked_for_with_the_key();
    cluster.condition("tsub/first", "Delivering", "True").await;
    cluster.versions_are_delivered(1).await;

    let said = cluster.stack.helm(&["test", "tipstaff", "--namespace", NAMESPACE], "").await.unwrap();
    assert_eq!(
        said.matches("Phase:          Succeeded").count(),
        4,
        "an account, its role and binding, the pod: {said}"
    );

    load_scales_up_and_down_and_nothing_is_lost(&cluster).await;

    cluster.helm("upgrade", &["--set", "workers.podLabels.round=two"]).await;
    eventually("workers with the new label", cluster::LONG, async || {
        let pods = cluster.pods("app.kubernetes.io/name=tipstaff-worker").await;
        let relabelled = cluster.pods("app.kubernetes.io/name=tipstaff-worker,round=two").await;
        if pods == relabelled && pods.len() == 5 { Ok(()) } else { Err((pods, relabelled)) }
    })
    .await;
    cluster.request("first", "two").await;
    cluster.ended(cluster.count("select count(*) from runs").await).await;

    let runs = cluster.count("select count(*) from runs").await;
    cluster.stack.helm(&["uninstall", "tipstaff", "--namespace", NAMESPACE], "").await.unwrap();
    let kept =
        ["lease/tipstaff-operator", "secret/court-portal", "secret/tipstaff-database", "secret/tipstaff-s3"];
    cluster.left(&kept).await;
    let kept = cluster.kubectl(&["get", "tsub", "-o", "name"], "").await.unwrap();
    assert_eq!(kept.lines().count(), MANY + 1, "Subscriptions stay");
    // They go without an operator; Sources wait for one.
    cluster.kubectl(&["delete", "tsub", "--all", "--timeout=60s"], "").await.unwrap();
    assert_eq!(cluster.count("select count(*) from runs").await, runs, "the history stays");
}

/// Each document is asked for while workers and operators come and go: every run ends, once, with its artifact.
async fn load_scales_up_and_down_and_nothing_is_lost(cluster: &Cluster) {
    let before = cluster.count("select count(*) from runs").await;
    let names: Vec<String> = (0..MANY).map(|number| format!("load-{number}")).collect();
    cluster.create(&names).await;
    cluster.origin.hold();
    cluster
        .kubectl(&["annotate", "tsub", "--all", "--overwrite", "tipstaff.dev/requestedAt=load"], "")
        .await
        .unwrap();
    cluster.replicas("tipstaff-worker-crawl", 3).await;
    cluster.ready("tipstaff-worker-crawl", 3).await;

    // While they work, one goes, then who leads, then the kubelet.
    let busy = cluster.pods("app.kubernetes.io/component=crawl").await;
    cluster.kubectl(&["delete", "pod", busy.first().unwrap(), "--wait=false"], "").await.unwrap();
    cluster.origin.release();
    let leader = cluster
        .kubectl(&["get", "lease/tipstaff-operator", "-o", "jsonpath={.spec.holderIdentity}"], "")
        .await;
    cluster.kubectl(&["delete", "pod", &leader.unwrap(), "--wait=false"], "").await.unwrap();
    cluster.stack.service(Part::Kubelet).unwrap().restart().await.unwrap();

    let made = i64::try_from(MANY).unwrap() + 1;
    cluster.ended(before + made).await;
    let once = cluster
        .count(
            "select count(*) from (select subscription_id from runs where trigger = 'Request'
             group by subscription_id, scheduled_for having count(*) > 1) twice",
        )
        .await;
    assert_eq!(once, 0, "no request was run twice");
    cluster.artifacts_are_what_was_served().await;
    cluster.versions_are_delivered(made).await;
    cluster.replicas("tipstaff-worker-crawl", 1).await;
    cluster.ready("tipstaff-operator", 2).await;
}

/// The namespace takes no pods that are not `restricted`; what it does not ask for is seen on the pods.
async fn everything_is_restricted(cluster: &Cluster) {
    let pods = cluster.json(&["get", "pods", "-o", "json"]).await;
    let pods = pods["items"].as_array().unwrap();
    // Two operators and a worker of each role.
    assert_eq!(pods.len(), 7);
    for pod in pods {
        let labels = &pod["metadata"]["labels"];
        let asks_the_api_server = labels["app.kubernetes.io/name"] == "tipstaff-operator"
            || ["crawl", "deliver"].iter().any(|role| labels["app.kubernetes.io/component"] == *role);
        let volumes = pod["spec"]["volumes"].as_array().cloned().unwrap_or_default();
        let has_token = volumes.iter().any(|volume| volume.get("projected").is_some());
        assert_eq!(has_token, asks_the_api_server, "{labels}");
        for container in pod["spec"]["containers"].as_array().unwrap() {
            assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true, "{labels}");
        }
        let name = pod["metadata"]["name"].as_str().unwrap();
        // On a busy machine a leader may lose its lease, and its container is started again just then.
        eventually("a container without a shell", cluster::LONG, async || {
            match cluster.kubectl(&["exec", name, "--", "sh", "-c", "true"], "").await {
                Ok(_) => panic!("{name} has a shell"),
                Err(shell) if shell.contains("executable file not found") => Ok(()),
                Err(error) => Err(error),
            }
        })
        .await;
    }
}

/// As the table in docs/architecture.md has it.
async fn nobody_may_do_more_than_is_documented(cluster: &Cluster) {
    let operator = cluster.permissions("tipstaff-operator").await;
    let documented = [
        "deployments.apps create delete get list patch watch",
        "events.events.k8s.io create patch",
        "leases.coordination.k8s.io create",
        "leases.coordination.k8s.io/tipstaff-operator get update",
        "poddisruptionbudgets.policy create delete list patch watch",
        "sources.tipstaff.dev get list patch watch",
        "sources.tipstaff.dev/status get patch",
        "subscriptions.tipstaff.dev get list watch",
        "subscriptions.tipstaff.dev/status get patch",
    ];
    assert_eq!(operator, BTreeSet::from(documented.map(str::to_owned)));
    for reader in ["tipstaff-worker-crawl", "tipstaff-worker-deliver"] {
        assert_eq!(cluster.permissions(reader).await, BTreeSet::from(["secrets get".to_owned()]), "{reader}");
    }
    assert_eq!(cluster.permissions("tipstaff-worker").await, BTreeSet::new());
    assert_eq!(cluster.permissions("default").await, BTreeSet::new());
}
