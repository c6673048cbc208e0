//! What is not kept goes, bodies included, while a worker is killed; what comes back is stored anew.

use std::time::Duration;

use tests::{Installation, Origin, corpus, eventually, read_blob, s3_client, sha256};

use super::{NEVER_NOW, SUBSCRIPTION, manifests};

/// As if all had happened two days ago.
const TWO_DAYS_LATER: &str = "
    update versions set created_at = created_at - interval '2 days';
    update documents set finished_at = finished_at - interval '2 days';
    update artifacts set fetched_at = fetched_at - interval '2 days';
    update runs set created_at = created_at - interval '2 days', finished_at = finished_at - interval '2 days';";

#[tokio::test(flavor = "multi_thread")]
async fn versions_that_are_not_kept_go_with_their_bodies_though_a_worker_is_killed() {
    let origin = Origin::start(corpus::SCOTUS).await;
    let tipstaff = Installation::new("retention").await;
    let _operator = tipstaff.operator(&[]);
    let often = [("TIPSTAFF_RETENTION_SECONDS", "1".to_owned())];
    let worker = tipstaff.worker(&often);
    tipstaff.apply(&format!("{}  retention: {{ versions: 1 }}\n", manifests(&origin, NEVER_NOW))).await;
    tipstaff.condition("tsub/slip-opinions", "Ready", "True", Some("Scheduled")).await;
    for (number, page) in (1..).zip([corpus::SCOTUS, corpus::CA11, "<p>Closed for the holidays.</p>"]) {
        origin.set(200, page);
        tipstaff.request(SUBSCRIPTION, &format!("request-{number}")).await;
        tipstaff.ended_runs(SUBSCRIPTION, number).await;
    }
    let planned = "select count(*) from versions where planned_at is not null";
    eventually("targets looked for", Duration::from_secs(60), async || {
        let count = tipstaff.count(planned).await;
        if count == 3 { Ok(()) } else { Err(count) }
    })
    .await;
    let uris: Vec<String> = sqlx::query_scalar("select blob_uri from artifacts order by id")
        .fetch_all(&tipstaff.pool)
        .await
        .unwrap();

    sqlx::raw_sql(TWO_DAYS_LATER).execute(&tipstaff.pool).await.unwrap();
    // As many as are deleted at once, in a place that was configured before: none of them can be, which must not stop the others.
    sqlx::query(
        "insert into removed_blobs (blob_uri, source_id, fetch_hash, created_at)
         select 'file:///elsewhere/' || number, id, 'hash', now() from sources, generate_series(1, 100) as number",
    )
    .execute(&tipstaff.pool)
    .await
    .unwrap();
    worker.kill().await;
    let worker = tipstaff.worker(&often);
    eventually("bodies that are gone", Duration::from_secs(60), async || {
        let gone = tipstaff.count("select count(*) from removed_blobs where deleted_at is not null").await;
        if gone == 2 { Ok(()) } else { Err(gone) }
    })
    .await;
    for table in [
        "select count(*) from versions",
        "select count(*) from runs",
        "select count(*) from artifacts",
        "select count(*) from extracts",
    ] {
        assert_eq!(tipstaff.count(table).await, 1, "{table}");
    }
    let s3 = tipstaff.s3();
    let client = s3_client(&s3);
    for uri in &uris[..2] {
        let key = uri.strip_prefix(&format!("s3://{}/", s3.bucket)).unwrap();
        let error = client.head_object().bucket(&s3.bucket).key(key).send().await.unwrap_err();
        assert!(error.into_service_error().is_not_found(), "{uri}");
    }
    assert_eq!(read_blob(&tipstaff.stack, &uris[2]).await, b"<p>Closed for the holidays.</p>");
    assert!(worker.probe("/metrics").await.contains("tipstaff_retention_removed_total{kind=\"Body\"}"));

    // It is as it first was, and its bytes are at an address of their own.
    origin.set(200, corpus::SCOTUS);
    tipstaff.request(SUBSCRIPTION, "request-4").await;
    let runs = tipstaff.ended_runs(SUBSCRIPTION, 2).await;
    assert!(runs.iter().all(|run| run.phase == "Succeeded"), "{runs:?}");
    let again: String = sqlx::query_scalar("select blob_uri from artifacts order by id desc limit 1")
        .fetch_one(&tipstaff.pool)
        .await
        .unwrap();
    assert_eq!(again, uris[0].replace(".bin", "-1.bin"));
    assert_eq!(sha256(&read_blob(&tipstaff.stack, &again).await), sha256(corpus::SCOTUS.as_bytes()));
    worker.terminate().await;
    tipstaff.remove().await;
}
