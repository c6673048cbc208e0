//! The commands that read the catalog, on that of a `tipstaff local` that runs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code, reason = "the tests of `local` use all of it")]
#[path = "local/process.rs"]
mod process;

use std::fs;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use cli::sample_site::SampleSite;
use jiff::Timestamp;
use rustix::process::Signal;
use serde_json::Value;
use tokio::process::Command;

use process::Tipstaff;

/// A Source and a Subscription that runs when the token is a new one.
fn manifest(url: &str, token: &str) -> String {
    format!(
        "apiVersion: tipstaff.dev/v1alpha1\nkind: Source\nmetadata: {{name: court}}\n\
         spec: {{kind: html, baseURL: '{url}'}}\n---\n\
         apiVersion: tipstaff.dev/v1alpha1\nkind: Subscription\n\
         metadata: {{name: court, annotations: {{tipstaff.dev/requestedAt: {token}}}}}\n\
         spec: {{sourceRef: {{name: court}}, schedule: '0 0 1 1 *'}}\n"
    )
}

/// Runs a command on the catalog of the process that keeps everything here.
async fn command(data: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tipstaff"));
    for variable in ["DATABASE_URL", "TIPSTAFF_DATA_DIR", "TIPSTAFF_DATABASE_URL", "RUST_LOG"] {
        command.env_remove(variable);
    }
    command.args(arguments).arg("--data").arg(data).kill_on_drop(true).output().await.unwrap()
}

async fn printed(data: &Path, arguments: &[&str]) -> String {
    let output = command(data, arguments).await;
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

async fn rows(data: &Path, arguments: &[&str]) -> Vec<Value> {
    let printed = printed(data, &[arguments, &["-o", "json"]].concat()).await;
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn refused(data: &Path, arguments: &[&str]) -> String {
    let output = command(data, arguments).await;
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test]
async fn what_a_running_process_has_done_is_shown() {
    let place = tempfile::tempdir().unwrap();
    let second = Arc::new(AtomicI64::new(1_800_000_000));
    let clock = second.clone();
    let now = move || Timestamp::from_second(clock.load(Ordering::SeqCst)).unwrap();
    let site = SampleSite::start_with_clock(None, Duration::from_secs(60), now).await.unwrap();
    let url = site.opinions_url();
    let (file, data) = (place.path().join("court.yaml"), place.path().join("data"));
    fs::write(&file, manifest(&url, "first")).unwrap();
    let mut local = Tipstaff::local(&file, &data, &["--allow-cidr", "127.0.0.1/32"]);
    local.wait_for("run_ended").await;
    second.fetch_add(60, Ordering::SeqCst);
    fs::write(&file, manifest(&url, "second")).unwrap();
    let run = local.wait_for("run_ended").await;
    assert_eq!(run["reason"], "Changed", "{run}");

    let runs = rows(&data, &["runs", "default/court"]).await;
    assert_eq!(runs.len(), 2);
    assert_eq!((&runs[0]["id"], &runs[0]["phase"]), (&run["run_id"], &Value::from("Succeeded")));
    let newest = command(&data, &["runs", "--limit", "1"]).await;
    let remark = String::from_utf8(newest.stderr).unwrap();
    assert_eq!(remark, format!("older ones: --before {}\n", runs[0]["id"].as_str().unwrap()));
    let older = rows(&data, &["runs", "--before", runs[0]["id"].as_str().unwrap()]).await;
    assert_eq!(older, runs[1..]);

    let artifacts = rows(&data, &["artifacts"]).await;
    assert_eq!(artifacts.iter().map(|artifact| &artifact["source_url"]).collect::<Vec<_>>(), [&url, &url]);
    let versions = rows(&data, &["versions", "default/court"]).await;
    let kinds: Vec<_> = versions.iter().map(|version| &version["kind"]).collect();
    assert_eq!(kinds, ["Changed", "Baseline"]);
    assert!(rows(&data, &["deliveries"]).await.is_empty());

    let diff = printed(&data, &["diff", "default/court"]).await;
    assert!(diff.starts_with(&format!("--- {url} (version 1)\n+++ {url} (version 2)\n@@ ")), "{diff}");
    let back = printed(&data, &["diff", "default/court", "--url", &url, "--from", "2", "--to", "1"]).await;
    assert!(back.starts_with(&format!("--- {url} (version 2)\n+++ {url} (version 1)\n@@ ")), "{back}");
    assert!(printed(&data, &["diff", "default/court", "--html"]).await.contains("<ins"));
    let same = command(&data, &["diff", "default/court", "--from", "2"]).await;
    assert!(same.status.success() && same.stdout.is_empty(), "{same:?}");

    let id = runs[0]["id"].as_str().unwrap();
    let trace: Value =
        serde_json::from_str(&printed(&data, &["trace", &id[..8], "-o", "json"]).await).unwrap();
    assert_eq!(trace["documents"][0]["version"]["number"], 2, "{trace}");
    assert_eq!(trace["documents"][0]["extract"]["parser"], "html");
    assert_eq!(trace["documents"][0]["artifact"]["id"], artifacts[0]["id"]);
    let tree = printed(&data, &["trace", id]).await;
    assert!(tree.starts_with(&format!("run {id}  default/court  Succeeded: Changed\n")), "{tree}");

    for (arguments, message) in [
        (&["runs", "default/nothing"][..], "no subscription default/nothing; it has default/court"),
        (&["diff", "default/court", "--to", "7"], "no version 7 of"),
        (&["diff", "default/court", "--to", "1"], "so nothing to compare it with"),
        (&["diff", "default/court", "--url", "https://court.example/"], "it has some of http://127.0.0.1"),
        (&["trace", "00000000-0000-0000-0000-000000000000"], "no run whose id begins so"),
    ] {
        let errors = refused(&data, arguments).await;
        assert!(errors.contains(message), "{arguments:?}: {errors}");
    }

    local.signal(Signal::INT);
    assert_eq!(local.finish().await.code, Some(0));
    let errors = refused(&data, &["runs"]).await;
    assert!(errors.contains("no `tipstaff local` or `tipstaff demo` runs on"), "{errors}");
    site.stop().await;
}
