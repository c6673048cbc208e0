use std::collections::BTreeSet;

use sqlx::Row;
use store::catalog::{Artifact, Catalog, Evidence, NewArtifact, RunPhase, StoredDocument};
use uuid::Uuid;

use crate::place::{OTHER_URL, Place, URL, document, fetched, minute, see_through};

#[tokio::test]
async fn an_artifact_is_stored_with_its_evidence_and_ends_the_run() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    let run = place.begun_run(&subscription, minute(1), &[URL]).await;
    let artifact = store(&place.catalog, run, URL, 'a').await;
    let expected = Artifact {
        id: artifact.id,
        source_url: URL.to_owned(),
        fetch_hash: "a".repeat(64),
        blob_uri: format!("s3://tipstaff/raw/{}.bin", "a".repeat(64)),
        content_type: Some("text/html".to_owned()),
        byte_size: 4_200,
        changed: true,
        fetched_at: minute(1),
    };
    assert_eq!(artifact, expected);
    assert_eq!(place.catalog.run_artifacts(run).await.unwrap(), [expected]);
    let evidence =
        "select concat_ws(' ', final_url, redirects, request_headers, robots, status, headers, remote_address)
         from artifacts where id = $1";
    assert_eq!(
        place.text_of(evidence, artifact.id).await,
        [
            &format!("{URL}/"),
            r#"[["https://example.org/", 301, "/opinions/"]]"#,
            r#"[["authorization", "(not kept)"]] Allowed 200"#,
            r#"[["etag", "\"1\""], ["etag", "\"2\""]] 192.0.2.1:443"#,
        ]
        .join(" ")
    );
    let report = place.ended(run).await;
    assert_eq!((report.phase, report.reason.as_deref()), (RunPhase::Succeeded, Some("Changed")));
    assert_eq!((report.changed, report.finished_at), (Some(true), Some(minute(2))));
}

#[tokio::test]
async fn storing_again_gives_the_artifact_that_is_there() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    let run = place.begun_run(&subscription, minute(1), &[URL, OTHER_URL]).await;
    let first = store(&place.catalog, run, URL, 'a').await;
    // The page has changed between two deliveries of the event: what was stored first stands.
    assert_eq!(store(&place.catalog, run, URL, 'b').await, first);
    assert!(place.is_active(run).await);
    // Also once the run has ended.
    store(&place.catalog, run, OTHER_URL, 'c').await;
    assert_eq!(store(&place.catalog, run, URL, 'b').await, first);
    assert_eq!(place.number("select count(*) from artifacts").await, 2);
}

#[tokio::test]
async fn changed_compares_with_what_the_subscription_last_stored_of_the_url() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    let mut number = 0;
    let mut visit = async |digit| {
        number += 1;
        let run = place.begun_run(&subscription, minute(number), &[URL]).await;
        let artifact = store(&place.catalog, run, URL, digit).await;
        let report = place.ended(run).await;
        let reason = if artifact.changed { "Changed" } else { "Unchanged" };
        assert_eq!((report.phase, report.reason.as_deref()), (RunPhase::Succeeded, Some(reason)));
        assert_eq!(report.changed, Some(artifact.changed));
        (run, artifact)
    };
    let first = visit('a').await;
    let same = visit('a').await;
    let other = visit('b').await;
    let back = visit('a').await;
    assert_eq!([&first, &same, &other, &back].map(|visit| visit.1.changed), [true, false, true, true]);
    let before = async |run: Uuid| place.catalog.artifact_before(run, URL).await.unwrap();
    assert_eq!(before(first.0).await, None);
    assert_eq!(before(back.0).await, Some(other.1));
}

#[tokio::test]
async fn each_subscription_and_each_url_has_its_own_history() {
    let place = Place::new().await;
    let (one, other) = (place.subscription("opinions").await, place.subscription("orders").await);
    let run = place.begun_run(&one, minute(1), &[URL, OTHER_URL]).await;
    assert!(store(&place.catalog, run, URL, 'a').await.changed);
    let of_other_url = store(&place.catalog, run, OTHER_URL, 'a').await;
    assert!(of_other_url.changed);
    let others_run = place.begun_run(&other, minute(1), &[URL]).await;
    let of_other = store(&place.catalog, others_run, URL, 'a').await;
    assert!(of_other.changed);
    for (run, url) in [(run, OTHER_URL), (others_run, URL)] {
        assert_eq!(place.catalog.artifact_before(run, url).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_run_ends_with_the_last_of_its_documents() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    let run = place.begun_run(&subscription, minute(1), &[URL, OTHER_URL]).await;
    store(&place.catalog, run, URL, 'a').await;
    assert!(place.is_active(run).await);
    store(&place.catalog, run, OTHER_URL, 'b').await;
    assert_eq!(place.ended(run).await.reason.as_deref(), Some("Changed"));
    let stored = place.catalog.run_artifacts(run).await.unwrap();
    assert_eq!(
        stored.iter().map(|artifact| artifact.source_url.as_str()).collect::<Vec<_>>(),
        [URL, OTHER_URL]
    );

    // One of two changed is a change.
    let run = place.begun_run(&subscription, minute(2), &[URL, OTHER_URL]).await;
    assert!(!store(&place.catalog, run, URL, 'a').await.changed);
    assert!(store(&place.catalog, run, OTHER_URL, 'c').await.changed);
    assert_eq!(place.ended(run).await.changed, Some(true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_documents_stored_at_the_same_time_end_the_run_once() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    place
        .execute(
            "create table endings (run_id uuid);
             create function note_ending() returns trigger language plpgsql as
                 $$ begin insert into endings values (new.id); return new; end $$;
             create trigger note_ending after update on runs for each row
                 when (old.finished_at is distinct from new.finished_at) execute function note_ending()",
        )
        .await;
    let processes = [place.catalog.clone(), place.other_process().await];
    for round in 1..=40 {
        let run = place.begun_run(&subscription, minute(round), &[URL, OTHER_URL]).await;
        let [one, other] = processes.clone();
        let one = tokio::spawn(async move { store(&one, run, URL, 'a').await });
        let other = tokio::spawn(async move { store(&other, run, OTHER_URL, 'a').await });
        one.await.unwrap();
        other.await.unwrap();
        assert_eq!(place.ended(run).await.phase, RunPhase::Succeeded, "round {round}");
    }
    assert_eq!(place.number("select count(*) from endings").await, 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_document_stored_twice_at_the_same_time_is_one_artifact() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    let processes = [place.catalog.clone(), place.other_process().await];
    for round in 1..=40 {
        let run = place.begun_run(&subscription, minute(round), &[URL]).await;
        let [one, other] = processes.clone();
        let one = tokio::spawn(async move { store(&one, run, URL, 'a').await });
        let other = tokio::spawn(async move { store(&other, run, URL, 'b').await });
        assert_eq!(one.await.unwrap(), other.await.unwrap(), "round {round}");
    }
    assert_eq!(place.number("select count(*) from artifacts").await, 40);
}

#[tokio::test]
async fn nothing_is_stored_for_a_run_that_has_ended() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    let run = place.begun_run(&subscription, minute(1), &[URL]).await;
    place.catalog.fail_run(run, "Replaced", "", minute(2)).await.unwrap();
    let stored = place.store(run, URL, 'a', minute(3)).await;
    assert_eq!(stored, StoredDocument::NotWaitedFor);
    let stored = place.store(Uuid::new_v4(), URL, 'a', minute(3)).await;
    assert_eq!(stored, StoredDocument::NotWaitedFor);
    assert_eq!(place.number("select count(*) from artifacts").await, 0);
    assert_eq!(place.ended(run).await.finished_at, Some(minute(2)));
}

#[tokio::test]
async fn an_artifact_that_cannot_be_stored_leaves_its_document_waiting() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    let run = place.begun_run(&subscription, minute(1), &[URL]).await;
    let no_hash = NewArtifact { fetch_hash: "XYZ".to_owned(), ..fetched('a') };
    let stored = place.catalog.store_document(run, URL, &document(Evidence::New(&no_hash)), minute(2)).await;
    stored.unwrap_err();
    assert!(place.catalog.crawl_work(run, URL).await.unwrap().unwrap().is_pending);
    store(&place.catalog, run, URL, 'a').await;
    assert_eq!(place.ended(run).await.phase, RunPhase::Succeeded);
}

#[tokio::test]
async fn the_work_on_a_document_is_known_until_it_is_done() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    let run = place.begun_run(&subscription, minute(1), &[URL, OTHER_URL]).await;
    let work = place.catalog.crawl_work(run, URL).await.unwrap().unwrap();
    assert!(work.is_pending);
    assert_eq!(work.artifact, None);
    assert_eq!(work.source, place.catalog.run_plan(run).await.unwrap().unwrap().source);

    let artifact = store(&place.catalog, run, URL, 'a').await;
    let work = place.catalog.crawl_work(run, URL).await.unwrap().unwrap();
    assert!(!work.is_pending);
    assert_eq!(work.artifact, Some(artifact));

    place.catalog.fail_run(run, "Replaced", "", minute(3)).await.unwrap();
    let work = place.catalog.crawl_work(run, OTHER_URL).await.unwrap().unwrap();
    assert!(!work.is_pending);
    assert_eq!(work.artifact, None);
    assert!(place.catalog.crawl_work(run, "https://example.org/other").await.unwrap().is_none());
    assert!(place.catalog.crawl_work(Uuid::new_v4(), URL).await.unwrap().is_none());
}

#[tokio::test]
async fn a_body_is_found_again_by_its_source_and_hash() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    let other = place.subscription("orders").await;
    let run = place.begun_run(&subscription, minute(1), &[URL]).await;
    let others_run = place.run(&other, minute(1)).await;
    let source_of = async |run| place.catalog.run_plan(run).await.unwrap().unwrap().source_id;
    let (source, others_source) = (source_of(run).await, source_of(others_run).await);
    let artifact = store(&place.catalog, run, URL, 'a').await;
    let stored = async |source, digit: &str| {
        place.catalog.stored_blob(source, &digit.repeat(64)).await.unwrap().blob_uri
    };
    assert_eq!(stored(source, "a").await, Some(artifact.blob_uri));
    assert_eq!(stored(source, "b").await, None);
    assert_eq!(stored(others_source, "a").await, None);
}

async fn store(catalog: &Catalog, run: Uuid, url: &str, digit: char) -> Artifact {
    match see_through(catalog, run, url, &fetched(digit), minute(2)).await {
        StoredDocument::Fetched(artifact) | StoredDocument::Finished(artifact) => artifact,
        StoredDocument::NotWaitedFor => panic!("the run has ended"),
    }
}

/// `docs/evidence.md`.
const EVIDENCE: &str = include_str!("../../docs/evidence.md");

#[tokio::test]
async fn the_documented_question_shows_what_was_seen_by_then() {
    let place = Place::new().await;
    let subscription = place.subscription("slip-opinions").await;
    for (number, digit) in (1..).zip(['a', 'b', 'c']) {
        let run = place.begun_run(&subscription, minute(number), &[URL]).await;
        let evidence = NewArtifact { fetched_at: minute(number), ..fetched(digit) };
        see_through(&place.catalog, run, URL, &evidence, minute(number)).await;
    }
    let (_, rest) = EVIDENCE.split_once("```sql\n").unwrap();
    let (question, _) = rest.split_once(";\n```").unwrap();
    let by_then = "'2026-03-09 12:00+00'";
    assert!(question.contains(by_then) && question.contains(URL), "{question}");
    // The second was the latest then.
    let question = question.replace(by_then, &format!("timestamptz '{}'", minute(2)));
    let rows = sqlx::query(sqlx::AssertSqlSafe(question)).fetch_all(&place.sql).await.unwrap();
    let seen: Vec<(String, bool)> =
        rows.iter().map(|row| (row.get("fetch_hash"), row.get("changed"))).collect();
    assert_eq!(seen, [("b".repeat(64), true)]);
}

#[tokio::test]
async fn every_column_of_an_artifact_is_documented_and_no_other() {
    let place = Place::new().await;
    let sql = "select column_name::text from information_schema.columns where table_name = 'artifacts'";
    let columns: BTreeSet<String> =
        sqlx::query_scalar(sql).fetch_all(&place.sql).await.unwrap().into_iter().collect();
    let named = EVIDENCE
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|row| row.split(" | ").next());
    let documented: BTreeSet<String> = named
        .flat_map(|cell| cell.split('`'))
        .filter(|word| {
            word.chars().all(|letter| letter == '_' || letter.is_ascii_lowercase()) && !word.is_empty()
        })
        .map(str::to_owned)
        .collect();
    assert_eq!(documented, columns);
}
