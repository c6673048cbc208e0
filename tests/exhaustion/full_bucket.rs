//! The disk under the bucket is full.

use std::time::Duration;

use sqlx::Row;
use stack::{Part, Stack, StackOptions};
use tests::{Installation, Origin, eventually, read_blob, sha256};

use crate::{
    objects::{MB, all_is_done, assert_grew_less, metric_reaches, source, subscription},
    small_disk::SmallDisk,
};

const SOON: Duration = Duration::from_secs(60);
const CHANGING: [&str; 4] = ["one", "two", "three", "four"];
const QUIET: &str = "quiet";

/// A megabyte that ends otherwise in each edition.
fn page(name: &str, edition: u32) -> Vec<u8> {
    let lines: String = (0..25_000).map(|line| format!("{name}, line {line}: it is so ordered.\n")).collect();
    format!("{lines}edition {edition}\n").into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_full_bucket_refuses_is_said_and_stored_once_when_there_is_room() {
    let store = Stack::start(&[Part::Minio], StackOptions::default()).await.unwrap();
    let service = store.service(Part::Minio).unwrap();
    service.stop().await.unwrap();
    let folder = store.data(Part::Minio);
    let disk = match SmallDisk::mount(&folder, 128 * MB) {
        Ok(disk) => disk,
        // Whoever may run a node may mount.
        Err(reason) => {
            assert!(stack::can_run_node().is_err(), "no small disk was mounted: {reason}");
            return eprintln!("not run, since no small disk can be mounted here: {reason}");
        }
    };
    service.start().await.unwrap();

    let tipstaff = Installation::new("full-bucket").await;
    let s3 = store.s3().unwrap();
    let worker = tipstaff.worker(&[
        ("AWS_ENDPOINT_URL", s3.endpoint),
        ("AWS_ACCESS_KEY_ID", s3.access_key),
        ("AWS_SECRET_ACCESS_KEY", s3.secret_key),
    ]);
    let _operator = tipstaff.operator(&[]);
    let origin = Origin::start("").await;
    let names = || CHANGING.into_iter().chain([QUIET]);
    for name in names() {
        let path = format!("/{name}");
        origin.put(&path, "text/plain", page(name, 1));
        tipstaff.apply(&(source(name, &origin.at(&path), "") + &subscription(name))).await;
    }
    for name in names() {
        tipstaff.request(name, "1").await;
    }
    for name in names() {
        assert_eq!(tipstaff.ended_runs(name, 1).await[0].reason.as_deref(), Some("Changed"), "{name}");
    }
    let before = worker.peak_memory();

    disk.fill();
    for name in CHANGING {
        origin.put(&format!("/{name}"), "text/plain", page(name, 2));
    }
    for name in names() {
        tipstaff.request(name, "2").await;
    }
    let refused = "tipstaff_events_put_off_total{job_type=\"crawl.url\",reason=\"BlobNotStored\"}";
    metric_reaches(&worker, refused, CHANGING.len() as f64, SOON).await;
    for name in CHANGING {
        let said = eventually("the object store's answer", SOON, async || {
            let run = tipstaff.object(&format!("tsub/{name}")).await["status"]["lastRun"].clone();
            if run["reason"] == "BlobNotStored" { Ok(run) } else { Err(run) }
        })
        .await;
        assert_eq!(said["phase"], "Running", "{said}");
        let message = said["message"].as_str().unwrap();
        assert!(message.contains("XMinioStorageFull") && message.contains("tried again"), "{message}");
    }
    // What needs no room goes on.
    assert_eq!(tipstaff.ended_runs(QUIET, 2).await[1].reason.as_deref(), Some("Unchanged"));

    disk.make_room();
    for name in CHANGING {
        let runs = tipstaff.ended_runs(name, 2).await;
        assert_eq!((runs.len(), runs[1].reason.as_deref()), (2, Some("Changed")), "{name}: {runs:?}");
    }
    all_is_done(&tipstaff, SOON).await;
    let artifacts =
        sqlx::query("select distinct blob_uri, fetch_hash from artifacts").fetch_all(&tipstaff.pool);
    let artifacts = artifacts.await.unwrap();
    assert_eq!(artifacts.len(), 2 * CHANGING.len() + 1);
    for artifact in artifacts {
        let blob = read_blob(&store, artifact.get("blob_uri")).await;
        assert_eq!(sha256(&blob), artifact.get::<String, _>("fetch_hash"));
    }
    assert_eq!(tipstaff.count("select count(*) from versions").await, 9);
    assert_grew_less(&worker, before, 100 * MB);
    worker.terminate().await;
    tipstaff.remove().await;
}
