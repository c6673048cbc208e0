//! `tipstaff local` and `tipstaff demo` as processes, on real servers: PostgreSQL, HTTP, files, signals.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "local/held_site.rs"]
mod held_site;
#[path = "local/process.rs"]
mod process;
#[path = "local/rows.rs"]
mod rows;
#[path = "local/secrets.rs"]
mod secrets;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use cli::sample_site::SampleSite;
use jiff::Timestamp;
use rustix::process::Signal;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use held_site::HeldSite;
use process::{Finished, Tipstaff};
use rows::Rows;

/// Due so rarely that only requests make runs.
const YEARLY: &str = "0 0 1 1 *";
const LOOPBACK: [&str; 2] = ["--allow-cidr", "127.0.0.1/32"];

/// A Source and a Subscription of one name.
fn manifest(name: &str, url: &str, schedule: &str, request: Option<&str>) -> String {
    let annotations = request.map(|token| format!("\n  annotations:\n    tipstaff.dev/requestedAt: {token}"));
    format!(
        "apiVersion: tipstaff.dev/v1alpha1\nkind: Source\nmetadata:\n  name: {name}\nspec:\n  kind: html\n  baseURL: {url}\n\
         ---\napiVersion: tipstaff.dev/v1alpha1\nkind: Subscription\nmetadata:\n  name: {name}{}\n\
         spec:\n  sourceRef:\n    name: {name}\n  jurisdiction: US\n  schedule: \"{schedule}\"\n",
        annotations.unwrap_or_default()
    )
}

/// A site whose edition the test sets.
async fn site_with_editions() -> (SampleSite, Arc<AtomicI64>) {
    let second = Arc::new(AtomicI64::new(1_800_000_000));
    let clock = second.clone();
    let now = move || Timestamp::from_second(clock.load(Ordering::SeqCst)).unwrap();
    (SampleSite::start_with_clock(None, Duration::from_secs(60), now).await.unwrap(), second)
}

async fn once(manifests: &Path, data: &Path, arguments: &[&str]) -> Finished {
    Tipstaff::local(manifests, data, &[&["--once"], arguments].concat()).finish().await
}

fn summary(finished: &Finished) -> &Value {
    finished.events.iter().find(|event| event["event"] == "summary").expect("a summary")
}

#[tokio::test]
async fn every_version_is_stored_once_with_its_evidence() {
    let place = tempfile::tempdir().unwrap();
    let (site, second) = site_with_editions().await;
    let file = place.path().join("court.yaml");
    // The annotation would make a second run, beside the one that is asked for.
    fs::write(&file, manifest("court", &site.opinions_url(), "* * * * *", Some("first"))).unwrap();
    let data = place.path().join("data");

    let first = once(&file, &data, &LOOPBACK).await;
    assert_eq!(first.code, Some(0), "{first:?}");
    let run = &summary(&first)["runs"][0];
    assert_eq!((&run["phase"], &run["reason"]), (&json!("Succeeded"), &json!("Changed")));
    assert_eq!(run["artifacts"][0]["previous_hash"], Value::Null);

    let second_time = once(&file, &data, &LOOPBACK).await;
    assert_eq!(second_time.code, Some(0), "{second_time:?}");
    assert_eq!(summary(&second_time)["runs"][0]["reason"], "Unchanged");

    let rows = Rows::open(&data).await;
    let stored = rows.artifacts().await;
    assert_eq!(stored.len(), 2, "one for each run");
    assert_eq!(stored[0].blob_uri, stored[1].blob_uri, "the same bytes are stored once");
    assert_eq!(rows.count("runs").await, 2, "no run but those that were asked for");
    assert_eq!(rows.generations().await, [1, 1], "nothing changed between the two starts");
    rows.close().await;
    assert_eq!(blobs(&data).len(), 1);
    let artifact = &stored[0];
    let day = artifact.fetched_at.strftime("%Y/%m/%d");
    let path = data.join(format!("blobs/raw/{}/{day}/{}.bin", artifact.source_id, artifact.fetch_hash));
    assert_eq!(artifact.blob_uri, format!("file://{}", path.canonicalize().unwrap().display()));
    let bytes = fs::read(&path).unwrap();
    assert_eq!(sha256(&bytes), artifact.fetch_hash);
    assert!(String::from_utf8(bytes).unwrap().contains("<h1>Recent opinions</h1>"));
    assert_eq!(artifact.source_url, site.opinions_url());

    second.fetch_add(60, Ordering::SeqCst);
    let third = once(&file, &data, &LOOPBACK).await;
    let document = &summary(&third)["runs"][0]["artifacts"][0];
    assert_eq!(document["changed"], true, "{third:?}");
    assert_eq!(document["previous_hash"], artifact.fetch_hash.as_str());
    assert_ne!(document["fetch_hash"], artifact.fetch_hash.as_str());
    assert_eq!(blobs(&data).len(), 2);
    site.stop().await;
}

#[tokio::test]
async fn a_bad_manifest_is_named_and_the_others_run() {
    let place = tempfile::tempdir().unwrap();
    let (site, _) = site_with_editions().await;
    let manifests = place.path().join("manifests");
    fs::create_dir(&manifests).unwrap();
    let good = manifest("good", &site.opinions_url(), YEARLY, None);
    let paused = manifest("paused", &site.opinions_url(), YEARLY, None) + "  suspend: true\n";
    let bad = manifest("bad", &site.opinions_url(), "61 * * * *", None);
    let wrong_line = 1 + bad.lines().position(|line| line.contains("schedule")).unwrap();
    for (name, text) in [("good.yaml", &good), ("paused.yaml", &paused), ("bad.yaml", &bad)] {
        fs::write(manifests.join(name), text).unwrap();
    }
    let data = place.path().join("data");
    let finished = once(&manifests, &data, &LOOPBACK).await;
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let problem = finished.events.iter().find(|event| event["event"] == "problem").unwrap();
    assert_eq!(problem["file"], manifests.join("bad.yaml").display().to_string());
    assert_eq!(problem["line"], wrong_line);
    assert!(problem["message"].as_str().unwrap().starts_with("spec.schedule"), "{problem}");
    let summary = summary(&finished);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let runs = summary["runs"].as_array().unwrap();
    let rows: Vec<_> =
        runs.iter().map(|run| ["subscription", "phase", "reason"].map(|field| text(&run[field]))).collect();
    assert_eq!(rows, [["good", "Succeeded", "Changed"], ["paused", "Skipped", "Suspended"]]);
    assert_eq!((&summary["failed"], &summary["problems"]), (&json!(0), &json!(1)));
    site.stop().await;
}

#[tokio::test]
async fn closed_addresses_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let (site, _) = site_with_editions().await;
    let file = place.path().join("court.yaml");
    fs::write(&file, manifest("court", &site.opinions_url(), YEARLY, None)).unwrap();
    let finished = once(&file, &place.path().join("data"), &[]).await;
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let run = &summary(&finished)["runs"][0];
    assert_eq!((&run["phase"], &run["reason"]), (&json!("Failed"), &json!("AddressNotAllowed")));
    assert_eq!(run["artifacts"], json!([]));
    site.stop().await;
}

#[tokio::test]
async fn a_run_survives_a_kill_and_an_interruption() {
    let place = tempfile::tempdir().unwrap();
    let mut site = HeldSite::start().await;
    let file = place.path().join("court.yaml");
    fs::write(&file, manifest("court", &site.url(), YEARLY, Some("first"))).unwrap();
    let data = place.path().join("data");

    let mut killed = Tipstaff::local(&file, &data, &LOOPBACK);
    let run_id = killed.wait_for("run_started").await["run_id"].clone();
    site.wait_for_request().await;
    killed.signal(Signal::KILL);
    assert_eq!(killed.finish().await.code, None);

    let mut interrupted = Tipstaff::local(&file, &data, &LOOPBACK);
    assert_eq!(interrupted.wait_for("started").await["resumed_runs"], 1);
    site.wait_for_request().await;
    interrupted.signal(Signal::INT);
    let finished = interrupted.finish().await;
    assert_eq!(finished.code, Some(0), "{finished:?}");

    site.answer("<p>at last</p>");
    let mut last = Tipstaff::local(&file, &data, &LOOPBACK);
    let ended = last.wait_for("run_ended").await;
    assert_eq!((&ended["run_id"], &ended["reason"]), (&run_id, &json!("Changed")));
    let document = &ended["artifacts"][0];
    assert_eq!(document["fetch_hash"], sha256(b"<p>at last</p>"));
    last.signal(Signal::INT);
    assert_eq!(last.finish().await.code, Some(0));

    let rows = Rows::open(&data).await;
    assert_eq!((rows.count("runs").await, rows.artifacts().await.len()), (1, 1));
    rows.close().await;
    assert_eq!(blobs(&data).len(), 1);
}

#[tokio::test]
async fn edits_take_effect_and_nothing_stays_behind() {
    let place = tempfile::tempdir().unwrap();
    let (site, _) = site_with_editions().await;
    let manifests = place.path().join("manifests");
    fs::create_dir(&manifests).unwrap();
    let (one, two) = (manifests.join("one.yaml"), manifests.join("two.yaml"));
    fs::write(&one, manifest("one", &site.opinions_url(), YEARLY, None)).unwrap();
    let data = place.path().join("data");
    let mut tipstaff = Tipstaff::local(&manifests, &data, &LOOPBACK);
    tipstaff.wait_for_object("ready", "Subscription", "one").await;

    fs::write(&two, manifest("two", &site.opinions_url(), YEARLY, Some("first"))).unwrap();
    tipstaff.wait_for_object("ready", "Subscription", "two").await;
    assert_eq!(tipstaff.wait_for("run_ended").await["subscription"], "two");

    let before = fs::read_to_string(&one).unwrap();
    fs::write(&one, before.replace(YEARLY, "61 * * * *")).unwrap();
    tipstaff.wait_for("problem").await;
    fs::write(&one, before.replace(YEARLY, "@yearly")).unwrap();
    tipstaff.wait_for("problems_solved").await;
    tipstaff.wait_for_object("ready", "Subscription", "one").await;

    fs::remove_file(&two).unwrap();
    tipstaff.wait_for_object("deleted", "Subscription", "two").await;
    tipstaff.wait_for_object("deleted", "Source", "two").await;

    let postgres = postgres_pid(&data);
    assert!(is_running(postgres));
    tipstaff.signal(Signal::INT);
    let finished = tipstaff.finish().await;
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(!is_running(postgres), "PostgreSQL ended before the process that started it");
    let rows = Rows::open(&data).await;
    assert_eq!(rows.generations().await, [1, 2], "of the source and the subscription that are left");
    rows.close().await;

    // What was taken away meanwhile does not go on firing, missed due times included.
    fs::write(&two, manifest("two", &site.opinions_url(), "* * * * *", None)).unwrap();
    assert_eq!(once(&manifests, &data, &LOOPBACK).await.code, Some(0));
    Rows::open(&data).await.miss_due_times("two").await;
    fs::remove_file(&two).unwrap();
    let mut tipstaff = Tipstaff::local(&manifests, &data, &LOOPBACK);
    tipstaff.wait_for_object("deleted", "Source", "two").await;
    let last = manifest("last", &site.opinions_url(), YEARLY, Some("first"));
    fs::write(manifests.join("last.yaml"), last).unwrap();
    tipstaff.wait_for("run_ended").await;
    tipstaff.signal(Signal::INT);
    let finished = tipstaff.finish().await;
    let started: Vec<_> = finished.events.iter().filter(|event| event["event"] == "run_started").collect();
    assert_eq!(started.len(), 1, "{finished:?}");
    assert_eq!(started[0]["subscription"], "last");
    site.stop().await;
}

#[tokio::test]
async fn the_blobs_of_another_database_are_left_alone() {
    let place = tempfile::tempdir().unwrap();
    let (site, _) = site_with_editions().await;
    let (file, data) = (place.path().join("court.yaml"), place.path().join("data"));
    fs::write(&file, manifest("court", &site.opinions_url(), YEARLY, Some("first"))).unwrap();
    assert_eq!(once(&file, &data, &LOOPBACK).await.code, Some(0));
    assert_eq!(once(&file, &data, &LOOPBACK).await.code, Some(0));

    fs::write(data.join("blobs/raw/catalog"), "ae0e9e2a-6f6b-4a0e-8c86-3f1d1b0a2a11").unwrap();
    let refused = once(&file, &data, &LOOPBACK).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let said =
        "blobs/raw/catalog says that what is stored there belongs to ae0e9e2a-6f6b-4a0e-8c86-3f1d1b0a2a11";
    assert!(refused.errors.contains(said), "{refused:?}");
    site.stop().await;
}

#[tokio::test]
async fn a_lost_database_is_a_clear_error() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("court.yaml");
    fs::write(&file, manifest("court", "http://127.0.0.1:1/", YEARLY, None)).unwrap();
    let data = place.path().join("data");
    let mut tipstaff = Tipstaff::local(&file, &data, &LOOPBACK);
    tipstaff.wait_for_object("ready", "Subscription", "court").await;
    process::send(postgres_pid(&data), Signal::QUIT);
    let finished = tipstaff.finish().await;
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.errors.contains("tipstaff: the private PostgreSQL ended unexpectedly"), "{finished:?}");
}

#[tokio::test]
async fn a_failure_that_may_pass_is_told_and_tried_again() {
    let place = tempfile::tempdir().unwrap();
    // A port that was free a moment ago refuses connections.
    let refusing = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let file = place.path().join("court.yaml");
    fs::write(&file, manifest("court", &format!("http://{refusing}/"), YEARLY, Some("first"))).unwrap();
    let mut tipstaff = Tipstaff::local(&file, &place.path().join("data"), &LOOPBACK);
    let waiting = tipstaff.wait_for("run_waiting").await;
    assert_eq!((&waiting["subscription"], &waiting["reason"]), (&json!("court"), &json!("ConnectFailed")));
    assert!(waiting["retry_at"].as_str().unwrap() > waiting["time"].as_str().unwrap(), "{waiting}");
    tipstaff.signal(Signal::TERM);
    assert_eq!(tipstaff.finish().await.code, Some(0));
}

#[tokio::test]
async fn what_needs_kafka_is_not_called_delivered() {
    let place = tempfile::tempdir().unwrap();
    let (site, _) = site_with_editions().await;
    let file = place.path().join("court.yaml");
    let manifest = manifest("court", &site.opinions_url(), YEARLY, Some("first"));
    let delivery = "  delivery: [{name: stream, kafka: {topic: court.changes}, when: {changes: [Always]}}]\n";
    fs::write(&file, manifest + delivery).unwrap();
    let mut tipstaff = Tipstaff::local(&file, &place.path().join("data"), &LOOPBACK);
    let told = tipstaff.wait_for("not_delivered").await;
    assert_eq!((&told["target"], &told["reason"]), (&json!("stream"), &json!("KafkaNotConfigured")));
    assert!(told["detail"].as_str().unwrap().contains("there is no Kafka here"), "{told}");
    tipstaff.signal(Signal::TERM);
    let finished = tipstaff.finish().await;
    assert!(finished.events.iter().all(|event| event["event"] != "delivered"), "{finished:?}");
}

#[tokio::test]
async fn once_ends_when_each_delivery_was_tried() {
    let place = tempfile::tempdir().unwrap();
    let (site, _) = site_with_editions().await;
    // A port that was free a moment ago refuses connections.
    let refusing = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let file = place.path().join("court.yaml");
    let webhook = |name: &str, url: &str| {
        format!(
            "  - name: {name}\n    webhook: {{url: \"{url}\", secretRef: {{name: hook, key: secret}}}}\n\
             \x20   when: {{changes: [Always]}}\n    digest: {{perRun: true}}\n"
        )
    };
    let inbox = site.opinions_url().replace("/opinions", "/inbox");
    let delivery = "  delivery:\n".to_owned()
        + &webhook("inbox", &inbox)
        + &webhook("away", &format!("http://{refusing}/"));
    let secret = "---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: hook\nstringData:\n  secret: whsec_dGVzdCBzZWNyZXQgb2YgMjQgYnl0ZXMh\n";
    fs::write(&file, manifest("court", &site.opinions_url(), YEARLY, None) + &delivery + secret).unwrap();
    let finished = once(&file, &place.path().join("data"), &LOOPBACK).await;
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let of_target = |target: &str| {
        let told = finished.events.iter().find(|event| event["target"] == target);
        told.unwrap_or_else(|| panic!("nothing of {target}: {finished:?}"))
    };
    assert_eq!(of_target("inbox")["event"], "delivered");
    assert_eq!(of_target("away")["event"], "not_delivered");
    assert_eq!(finished.events.last().unwrap()["event"], "summary");
    site.stop().await;
}

#[tokio::test]
async fn another_database_is_used_and_what_a_cluster_keeps_there_stays() {
    let place = tempfile::tempdir().unwrap();
    let (site, _) = site_with_editions().await;
    let file = place.path().join("court.yaml");
    fs::write(&file, manifest("court", &site.opinions_url(), YEARLY, None)).unwrap();
    let (data, elsewhere) = (place.path().join("data"), place.path().join("elsewhere"));
    let rows = Rows::create(&elsewhere).await;
    let url = rows.url();
    let arguments = [LOOPBACK.as_slice(), &["--database-url", url.as_str()]].concat();
    let first = once(&file, &data, &arguments).await;
    assert_eq!(first.code, Some(0), "{first:?}");
    assert_eq!(first.events[0]["psql_command"], Value::Null);
    assert!(!data.join("postgres").exists());
    assert_eq!(rows.artifacts().await.len(), 1);

    rows.insert_source_of_a_cluster("gazette").await;
    fs::write(&file, "# nothing is left\n").unwrap();
    let second = once(&file, &data, &arguments).await;
    assert_eq!(second.code, Some(0), "{second:?}");
    assert_eq!(rows.live_sources().await, ["gazette"]);
    rows.close().await;
    site.stop().await;
}

#[tokio::test]
async fn a_catalog_that_another_build_made_is_named_with_what_can_be_done() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("court.yaml");
    fs::write(&file, "# nothing\n").unwrap();
    let data = place.path().join("data");
    let rows = Rows::create(&data).await;
    rows.make_other_table_of_runs().await;
    rows.close().await;
    let finished = once(&file, &data, &[]).await;
    assert_eq!(finished.code, Some(1), "{finished:?}");
    for part in [data.to_str().unwrap(), "--data", "already exists"] {
        assert!(finished.errors.contains(part), "{part}: {}", finished.errors);
    }
    let rows = Rows::open(&data).await;
    assert_eq!(rows.count("runs").await, 0);
    rows.close().await;
}

#[tokio::test]
async fn the_demo_ends_with_a_change() {
    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("data");
    let mut demo = Tipstaff::start(&["demo", "--interval", "1", "--until-changed", "--data"], &data);
    let started = demo.wait_for("started").await;
    assert!(started["sample_site"].as_str().unwrap().ends_with("/opinions"), "{started}");
    let first = demo.wait_for("run_ended").await;
    assert_eq!(first["artifacts"][0]["previous_hash"], Value::Null);
    // The next minute would bring the change as well; asking for runs does not wait for it.
    let path = data.join("manifests/sample.yaml");
    let sample = fs::read_to_string(&path).unwrap();
    for token in 0.. {
        fs::write(&path, sample.replace("first-run", &format!("again-{token}"))).unwrap();
        let run = demo.wait_for("run_ended").await;
        if run["reason"] == "Changed" {
            assert_eq!(run["artifacts"][0]["previous_hash"], first["artifacts"][0]["fetch_hash"]);
            break;
        }
    }
    let finished = demo.finish().await;
    assert_eq!(finished.code, Some(0), "{finished:?}");
    // Whoever reads along learns what changed, and then where it went.
    let is_delivered = |event: &Value| event["event"] == "delivered";
    let is_change = |event: &Value| event["event"] == "run_ended" && event["reason"] == "Changed";
    let change = finished.events.iter().position(is_change).unwrap();
    assert!(!finished.events[..change].iter().any(is_delivered), "{finished:?}");
    assert!(finished.events[change..].iter().any(is_delivered), "{finished:?}");
}

#[tokio::test]
async fn usage_errors_and_missing_files_are_told_apart() {
    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("data");
    let usage = Tipstaff::start(&["local", "--data"], &data).finish().await;
    assert_eq!(usage.code, Some(2), "{usage:?}");
    assert!(usage.errors.contains("--filename <PATH>"), "{usage:?}");
    let missing = once(&place.path().join("nowhere.yaml"), &data, &[]).await;
    assert_eq!(missing.code, Some(1), "{missing:?}");
    assert!(missing.errors.contains("nowhere.yaml: No such file or directory"), "{missing:?}");
    assert!(!data.exists(), "nothing was made for it");
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The names of all blobs, without the file that says whose they are.
fn blobs(data: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut directories = vec![data.join("blobs")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap().is_dir() {
                true => directories.push(entry.path()),
                false => names.push(entry.file_name().into_string().unwrap()),
            }
        }
    }
    names.retain(|name| name != "catalog");
    names
}

fn postgres_pid(data: &Path) -> u32 {
    let content = fs::read_to_string(data.join("postgres/cluster/postmaster.pid")).unwrap();
    content.lines().next().unwrap().trim().parse().unwrap()
}

fn is_running(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}
