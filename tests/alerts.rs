//! Prometheus takes the alerts of the chart, and they fire when they should: `alerts.yaml` says when.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use stack::Artifact;
use tokio::process::Command;

#[tokio::test]
async fn prometheus_takes_the_rules() {
    promtool(&["check", "rules", "--lint=all", "--lint-fatal", "charts/tipstaff/alerts/tipstaff.yaml"]).await;
}

#[tokio::test]
async fn alerts_fire_when_they_should_and_not_when_all_is_well() {
    promtool(&["test", "rules", "tests/alerts.yaml"]).await;
}

/// Runs promtool in the checkout.
async fn promtool(arguments: &[&str]) {
    stack::build(&[Artifact::Promtool]).await.unwrap();
    let output = Command::new(Artifact::Promtool.path().unwrap())
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .args(arguments)
        .output()
        .await
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "promtool {arguments:?}: {}", String::from_utf8_lossy(&text));
}
