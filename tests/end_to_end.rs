//! From `kubectl apply` to a row in the catalog and an object in the bucket, with operator and worker as processes on
//! the real stack; and the same while they are killed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "end_to_end/dead_letters.rs"]
mod dead_letters;
#[path = "end_to_end/retention.rs"]
mod retention;

use std::time::Duration;

use events::{Bus, Event, ParseRequest, Topic};
use sqlx::Row;
use tests::{Installation, Origin, corpus, eventually, read_blob, sha256};

const SUBSCRIPTION: &str = "slip-opinions";

fn manifests(origin: &Origin, schedule: &str) -> String {
    format!(
        r#"
apiVersion: tipstaff.dev/v1alpha1
kind: Source
metadata: {{ name: supreme-court }}
spec: {{ kind: html, baseURL: "{}" }}
---
apiVersion: tipstaff.dev/v1alpha1
kind: Subscription
metadata: {{ name: {SUBSCRIPTION} }}
spec:
  sourceRef: {{ name: supreme-court }}
  jurisdiction: US
  schedule: "{schedule}"
"#,
        origin.url()
    )
}

/// A schedule that is not due during a test: the test asks for its runs.
const NEVER_NOW: &str = "0 0 29 2 *";

#[tokio::test(flavor = "multi_thread")]
async fn a_source_and_a_subscription_become_runs_events_artifacts_and_status() {
    let origin = Origin::start(corpus::SCOTUS).await;
    let tipstaff = Installation::new("journey").await;
    let operator = tipstaff.operator(&[]);
    let worker = tipstaff.worker(&[]);
    tipstaff.apply(&manifests(&origin, "* * * * *")).await;

    for object in ["tsrc/supreme-court", "tsub/slip-opinions"] {
        tipstaff.kubectl(&["wait", "--for=condition=Ready", "--timeout=60s", object], "").await.unwrap();
    }
    // Due at the next full minute.
    let runs = tipstaff.ended_runs(SUBSCRIPTION, 1).await;
    assert_eq!((runs[0].trigger.as_str(), runs[0].phase.as_str()), ("Schedule", "Succeeded"));
    tipstaff.condition("tsub/slip-opinions", "Succeeding", "True", Some("RunSucceeded")).await;

    // The artifact is evidence: its hash is that of the page, and of the object in the bucket.
    let row = sqlx::query(
        "select a.*, to_char(a.fetched_at at time zone 'UTC', 'YYYY/MM/DD') as day from artifacts a where run_id = $1",
    )
    .bind(runs[0].id)
    .fetch_one(&tipstaff.pool)
    .await
    .unwrap();
    let (hash, uri): (String, String) = (row.get("fetch_hash"), row.get("blob_uri"));
    assert_eq!(row.get::<String, _>("source_url"), origin.url());
    assert_eq!(row.get::<i32, _>("status"), 200);
    let s3 = tipstaff.s3();
    let (source_id, day): (i64, String) = (row.get("source_id"), row.get("day"));
    assert_eq!(uri, format!("s3://{}/raw/{source_id}/{day}/{hash}.bin", s3.bucket));
    let body = read_blob(&tipstaff.stack, &uri).await;
    assert_eq!(body, corpus::SCOTUS.as_bytes());
    assert_eq!(hash, sha256(&body));

    // The topics carry the run's events, with one trace.
    let events = events_of_first_run(&tipstaff).await;
    let types: Vec<&str> = events.iter().map(|event| event.job_type.as_str()).collect();
    let jobs = ["subscription.scheduled", "crawl.url", "parse.content", "version.document", "delivery.plan"];
    assert_eq!(types, jobs);
    assert!(events.iter().all(|event| event.trace_parent.trace_id == events[0].trace_parent.trace_id));
    assert!(events.is_sorted_by_key(|event| event.time));

    // What a user sees.
    let status = tipstaff.object("tsub/slip-opinions").await["status"].clone();
    assert_eq!(status["lastRun"]["phase"], "Succeeded");
    assert_eq!(status["observedGeneration"], 1);
    for field in ["lastScheduleTime", "nextScheduleTime", "lastChangeTime"] {
        assert!(status[field].is_string(), "{field} in {status}");
    }
    let trace_id = events[0].trace_parent.trace_id.to_string();
    assert!(
        status["lastRun"]["id"].is_string()
            && status["lastRun"]["traceId"].as_str().unwrap().len() == trace_id.len()
    );
    let table = tipstaff.kubectl(&["get", "tsub"], "").await.unwrap();
    assert!(table.contains("LAST RUN") && table.contains("Succeeded") && table.contains("True"), "{table}");
    let table = tipstaff.kubectl(&["get", "tipstaff"], "").await.unwrap();
    assert!(table.contains("supreme-court") && table.contains("slip-opinions"), "{table}");

    worker.terminate().await;
    operator.terminate().await;
    tipstaff.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_works_on_what_was_last_stored_again_and_fetches_nothing() {
    let origin = Origin::start(corpus::CA11).await;
    let tipstaff = Installation::new("backfill").await;
    let _operator = tipstaff.operator(&[]);
    let _worker = tipstaff.worker(&[]);
    tipstaff.apply(&manifests(&origin, NEVER_NOW)).await;
    tipstaff.condition("tsub/slip-opinions", "Ready", "True", Some("Scheduled")).await;
    for number in 1..=3 {
        tipstaff.request(SUBSCRIPTION, &format!("request-{number}")).await;
        tipstaff.ended_runs(SUBSCRIPTION, number).await;
    }
    let fetched = origin.requests();
    let object = format!("tsub/{SUBSCRIPTION}");
    let annotation = "tipstaff.dev/backfillAt=new-selectors";
    tipstaff.kubectl(&["annotate", &object, annotation], "").await.unwrap();
    let runs = tipstaff.ended_runs(SUBSCRIPTION, 4).await;
    let run = &runs[3];
    assert_eq!(
        (run.trigger.as_str(), run.phase.as_str(), run.reason.as_deref()),
        ("Backfill", "Succeeded", Some("Backfilled"))
    );
    let events = tipstaff.events_of(Topic::ParseRequest, 1).await;
    let asked: ParseRequest = events[0].payload().unwrap();
    assert_eq!((asked.run_id, asked.source_url), (run.id, origin.url()));
    assert_eq!(asked.artifact_id, tipstaff.count("select max(id) from artifacts").await);
    assert_eq!(tipstaff.count("select count(*) from versions").await, 1, "it was extracted as before");
    assert_eq!(origin.requests(), fetched);
    eventually("the request in the status", Duration::from_secs(30), async || {
        let status = tipstaff.object(&object).await["status"].clone();
        if status["lastHandledBackfillAt"] == "new-selectors" && status["lastRun"]["phase"] == "Succeeded" {
            Ok(())
        } else {
            Err(status)
        }
    })
    .await;
    tipstaff.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unchanged_bytes_are_not_stored_twice_and_a_failure_says_why() {
    let origin = Origin::start(corpus::CA11).await;
    let tipstaff = Installation::new("unchanged").await;
    let _operator = tipstaff.operator(&[]);
    let _worker = tipstaff.worker(&[]);
    tipstaff.apply(&manifests(&origin, NEVER_NOW)).await;
    tipstaff.condition("tsub/slip-opinions", "Ready", "True", Some("Scheduled")).await;
    let mut reasons = Vec::new();
    for (number, (status, page)) in
        [(200, corpus::CA11), (200, corpus::CA11), (200, corpus::SCOTUS), (404, "gone")]
            .into_iter()
            .enumerate()
    {
        origin.set(status, page);
        tipstaff.request(SUBSCRIPTION, &format!("request-{number}")).await;
        let runs = tipstaff.ended_runs(SUBSCRIPTION, number + 1).await;
        reasons.push(runs.last().unwrap().reason.clone().unwrap());
    }
    assert_eq!(reasons, ["Changed", "Unchanged", "Changed", "HttpStatus"]);
    assert_eq!(tipstaff.count("select count(*) from artifacts").await, 3);
    assert_eq!(tipstaff.count("select count(distinct blob_uri) from artifacts").await, 2);
    let message = tipstaff.condition("tsub/slip-opinions", "Succeeding", "False", Some("RunFailed")).await;
    assert!(message.contains("404"), "{message}");
    let handled = eventually("the token in the status", Duration::from_secs(30), async || {
        let status = tipstaff.object("tsub/slip-opinions").await["status"].clone();
        if status["lastHandledRequestAt"] == "request-3" { Ok(status) } else { Err(status) }
    })
    .await;
    assert_eq!(handled["activeRuns"], 0);
    tipstaff.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_killed_between_run_and_relay_loses_nothing() {
    let origin = Origin::start(corpus::CA11).await;
    let tipstaff = Installation::new("relay").await;
    let _worker = tipstaff.worker(&[]);
    // With a Kafka that is not there, the run is made and its event stays in the outbox.
    let operator = tipstaff.operator(&[("KAFKA_BROKERS", "127.0.0.1:1".to_owned())]);
    tipstaff.apply(&manifests(&origin, NEVER_NOW)).await;
    tipstaff.request(SUBSCRIPTION, "now").await;
    eventually("the run and its event", Duration::from_secs(60), async || {
        let runs = tipstaff.runs(SUBSCRIPTION).await;
        let waiting = tipstaff.count("select count(*) from outbox").await;
        if runs.len() == 1 && waiting == 1 { Ok(()) } else { Err((runs, waiting)) }
    })
    .await;
    operator.kill().await;
    assert_eq!(origin.requests(), 0);

    let _operator = tipstaff.operator(&[]);
    let runs = tipstaff.ended_runs(SUBSCRIPTION, 1).await;
    assert_eq!(runs.len(), 1);
    assert_eq!(runs[0].phase, "Succeeded");
    assert_eq!(tipstaff.count("select count(*) from artifacts").await, 1);
    assert_eq!(tipstaff.count("select count(*) from outbox").await, 0);
    assert_eq!(origin.requests(), 1);
    tipstaff.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_between_blob_and_row_loses_nothing_and_stores_nothing_twice() {
    let origin = Origin::start(corpus::CA11).await;
    let tipstaff = Installation::new("blobrow").await;
    let _operator = tipstaff.operator(&[]);
    let worker = tipstaff.worker(&[("KAFKA_PROPERTIES", "session.timeout.ms=6000".to_owned())]);
    tipstaff.apply(&manifests(&origin, NEVER_NOW)).await;
    tipstaff.condition("tsub/slip-opinions", "Ready", "True", Some("Scheduled")).await;

    // Rows can be read and not written: the worker stops right before the artifact's row.
    let mut lock = tipstaff.pool.begin().await.unwrap();
    sqlx::query("lock table artifacts in share mode").execute(&mut *lock).await.unwrap();
    tipstaff.request(SUBSCRIPTION, "now").await;
    eventually("a worker that waits for the lock", Duration::from_secs(60), async || {
        let waiting = tipstaff
            .count(
                "select count(*) from pg_locks
                 where database = (select oid from pg_database where datname = current_database())
                     and relation = 'artifacts'::regclass and not granted",
            )
            .await;
        if waiting == 1 { Ok(()) } else { Err(waiting) }
    })
    .await;
    worker.kill().await;
    // Its statement waits on in the server; without this it would go on when the lock is gone, and be rolled back.
    sqlx::query(
        "select pg_terminate_backend(pid) from pg_locks
         where database = (select oid from pg_database where datname = current_database())
             and relation = 'artifacts'::regclass and not granted",
    )
    .execute(&mut *lock)
    .await
    .unwrap();
    lock.rollback().await.unwrap();
    assert_eq!(tipstaff.count("select count(*) from artifacts").await, 0);

    let worker = tipstaff.worker(&[]);
    let runs = tipstaff.ended_runs(SUBSCRIPTION, 1).await;
    assert_eq!((runs.len(), runs[0].phase.as_str()), (1, "Succeeded"));
    assert_eq!(tipstaff.count("select count(*) from artifacts").await, 1);
    let uri: String =
        sqlx::query_scalar("select blob_uri from artifacts").fetch_one(&tipstaff.pool).await.unwrap();
    assert_eq!(read_blob(&tipstaff.stack, &uri).await, corpus::CA11.as_bytes());
    worker.terminate().await;
    tipstaff.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_asked_to_end_finishes_what_it_does() {
    let origin = Origin::start(corpus::CA11).await;
    let tipstaff = Installation::new("sigterm").await;
    let _operator = tipstaff.operator(&[]);
    let worker = tipstaff.worker(&[]);
    origin.hold();
    tipstaff.apply(&manifests(&origin, NEVER_NOW)).await;
    tipstaff.request(SUBSCRIPTION, "now").await;
    eventually("the request", Duration::from_secs(60), async || {
        if origin.requests() == 1 { Ok(()) } else { Err(origin.requests()) }
    })
    .await;
    worker.signal("TERM").await;
    origin.release();
    assert!(worker.wait().await.success());
    assert_eq!(tipstaff.count("select count(*) from artifacts").await, 1);

    // The next worker goes on from there.
    let worker = tipstaff.worker(&[]);
    let runs = tipstaff.ended_runs(SUBSCRIPTION, 1).await;
    assert_eq!(runs[0].phase, "Succeeded");
    tipstaff.request(SUBSCRIPTION, "again").await;
    tipstaff.ended_runs(SUBSCRIPTION, 2).await;
    assert_eq!(origin.requests(), 2);
    worker.terminate().await;
    tipstaff.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_no_event_goes_to_the_dead_letters_and_work_goes_on() {
    let origin = Origin::start(corpus::CA11).await;
    let tipstaff = Installation::new("garbage").await;
    let _operator = tipstaff.operator(&[("KAFKA_PARTITIONS", "1".to_owned())]);
    let _worker = tipstaff.worker(&[]);
    tipstaff.apply(&manifests(&origin, NEVER_NOW)).await;
    tipstaff.request(SUBSCRIPTION, "before").await;
    tipstaff.ended_runs(SUBSCRIPTION, 1).await;
    let record = events::Record {
        topic: Topic::CrawlRequest.name().to_owned(),
        key: None,
        headers: Vec::new(),
        payload: b"{ this is not an event".to_vec(),
    };
    tipstaff.bus().publish(&[record]).await.unwrap();
    tipstaff.request(SUBSCRIPTION, "after").await;
    let runs = tipstaff.ended_runs(SUBSCRIPTION, 2).await;
    assert!(runs.iter().all(|run| run.phase == "Succeeded"), "{runs:?}");
    let letters = format!("{}crawl.request.dlq", tipstaff.prefix);
    let printed = tipstaff
        .stack
        .kafka_tool(
            "org.apache.kafka.tools.consumer.ConsoleConsumer",
            &[
                "--topic",
                &letters,
                "--from-beginning",
                "--max-messages",
                "1",
                "--timeout-ms",
                "20000",
                "--property",
                "print.headers=true",
            ],
            "",
        )
        .await
        .unwrap();
    assert!(printed.contains("this is not an event") && printed.contains("dead_letter_reason"), "{printed}");
    tipstaff.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_leaves_the_bucket_of_another_catalog_alone() {
    let (one, other) = tokio::join!(Installation::new("own-bucket"), Installation::new("no-bucket"));
    let worker = one.worker(&[]);
    eventually("a worker that works", Duration::from_secs(60), async || {
        let log = worker.log();
        if log.contains("working") { Ok(()) } else { Err(log) }
    })
    .await;

    let refused = other.worker(&[("S3_BUCKET", one.s3().bucket)]);
    let log = refused.log_path().to_owned();
    assert!(!refused.wait().await.success());
    let log = std::fs::read_to_string(log).unwrap();
    let marker = format!("s3://{}/raw/catalog", one.s3().bucket);
    assert!(
        log.contains(&format!("{marker} says")) && log.contains("a bucket or directory of its own"),
        "{log}"
    );

    // A second worker of the first is welcome.
    worker.terminate().await;
    let again = one.worker(&[]);
    eventually("a worker that works again", Duration::from_secs(60), async || {
        let log = again.log();
        if log.contains("working") { Ok(()) } else { Err(log) }
    })
    .await;
    again.terminate().await;
    one.remove().await;
    other.remove().await;
}

/// The first event of each of the topics that a run passes through.
async fn events_of_first_run(tipstaff: &Installation) -> Vec<Event> {
    let mut events = Vec::new();
    for topic in [
        Topic::SubsSchedule,
        Topic::CrawlRequest,
        Topic::CrawlResult,
        Topic::ParseResult,
        Topic::VersioningResult,
    ] {
        events.extend(tipstaff.events_of(topic, 1).await);
    }
    events
}
