use std::time::Duration;

use futures::future::join_all;
use jiff::SignedDuration;
use store::catalog::{Catalog, Evidence, NewArtifact, Slot, SlotRequest, StoredDocument};
use tokio::time::timeout;
use uuid::Uuid;

use crate::place::{NOON, OTHER_URL, Place, SOON, URL, document, fetched, minute};

/// Runs of subscriptions of their own, each of which waits for the document.
async fn begun_runs(place: &Place, count: usize) -> Vec<Uuid> {
    let mut runs = Vec::new();
    for number in 0..count {
        let subscription = place.subscription(&format!("subscription-{number}")).await;
        runs.push(place.begun_run(&subscription, minute(1), &[URL]).await);
    }
    runs
}

/// What came, without the run: `None` when the catalog failed.
async fn stored(catalog: &Catalog, run: Uuid, evidence: &NewArtifact) -> Option<StoredDocument> {
    catalog.store_document(run, URL, &document(Evidence::New(evidence)), minute(2)).await.ok()
}

#[tokio::test]
async fn what_is_asked_together_is_answered_to_each_who_asked() {
    let place = Place::new().await;
    let runs = begun_runs(&place, 20).await;
    let unknown = Uuid::new_v4();
    let asked = runs.iter().flat_map(|run| [(*run, URL), (*run, OTHER_URL)]).chain([(unknown, URL)]);
    let work = join_all(asked.clone().map(|(run, url)| place.catalog.crawl_work(run, url))).await;
    for ((run, url), work) in asked.zip(work) {
        let is_there = run != unknown && url == URL;
        assert_eq!(work.unwrap().map(|work| work.is_pending), is_there.then_some(true), "{run} {url}");
    }

    let digits: Vec<char> = "0123456789abcdef".chars().cycle().take(runs.len()).collect();
    let evidence: Vec<NewArtifact> = digits.iter().map(|digit| fetched(*digit)).collect();
    let all = join_all(runs.iter().zip(&evidence).map(|(run, new)| stored(&place.catalog, *run, new))).await;
    for ((run, new), stored) in runs.iter().zip(&evidence).zip(all) {
        let Some(StoredDocument::Fetched(artifact)) = stored else { panic!("{run} was not stored") };
        assert_eq!(artifact.fetch_hash, new.fetch_hash);
        let kept = place.catalog.run_artifacts(*run).await.unwrap();
        assert_eq!(kept, [artifact]);
    }
    assert_eq!(place.number("select count(*) from artifacts").await, 20);
}

#[tokio::test]
async fn one_that_cannot_be_stored_fails_alone() {
    let place = Place::new().await;
    let runs = begun_runs(&place, 8).await;
    let evidence: Vec<NewArtifact> = (0..runs.len())
        .map(|number| NewArtifact {
            fetch_hash: if number == 3 { "XYZ".to_owned() } else { "a".repeat(64) },
            ..fetched('a')
        })
        .collect();
    let all = join_all(runs.iter().zip(&evidence).map(|(run, new)| stored(&place.catalog, *run, new))).await;
    for (number, stored) in all.iter().enumerate() {
        assert_eq!(stored.is_some(), number != 3, "document {number}: {stored:?}");
    }
    assert!(place.catalog.crawl_work(runs[3], URL).await.unwrap().unwrap().is_pending);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_that_store_the_same_documents_in_other_orders_store_each_once() {
    let place = Place::new().await;
    let runs = begun_runs(&place, 40).await;
    let other = place.other_process().await;
    let evidence = fetched('a');
    let forwards = join_all(runs.iter().map(|run| stored(&place.catalog, *run, &evidence)));
    let backwards = join_all(runs.iter().rev().map(|run| stored(&other, *run, &evidence)));
    let (forwards, backwards) = tokio::join!(forwards, backwards);
    for stored in forwards.iter().chain(&backwards) {
        assert!(matches!(stored, Some(StoredDocument::Fetched(_))), "{stored:?}");
    }
    assert_eq!(place.number("select count(*) from artifacts").await, 40);
}

#[tokio::test]
async fn who_waits_for_a_lock_does_not_hold_up_those_that_come_later() {
    let place = Place::new().await;
    let runs = begun_runs(&place, 2).await;
    let mut holding = place.sql.begin().await.unwrap();
    sqlx::query("select from runs where id = $1 for update")
        .bind(runs[0])
        .execute(&mut *holding)
        .await
        .unwrap();
    let (held, free) = (fetched('a'), fetched('b'));
    let held = stored(&place.catalog, runs[0], &held);
    tokio::pin!(held);
    // It has begun to wait when it is asked for the first time and does not answer.
    assert!(timeout(Duration::from_millis(200), &mut held).await.is_err());
    let free = timeout(SOON, stored(&place.catalog, runs[1], &free)).await.expect("it waits too");
    assert!(matches!(free, Some(StoredDocument::Fetched(_))), "{free:?}");
    holding.rollback().await.unwrap();
    assert!(matches!(timeout(SOON, held).await, Ok(Some(StoredDocument::Fetched(_)))));
}

#[tokio::test]
async fn many_who_claim_a_slot_of_one_host_get_one_each_and_others_do_not_wait_for_them() {
    let place = Place::new().await;
    let claim = async |host: &'static str| {
        let interval = SignedDuration::from_secs(1);
        let request = SlotRequest { host, interval, patience: SignedDuration::ZERO, is_promised: false };
        place.catalog.claim_slot(&request, NOON).await.unwrap()
    };
    let hosts = std::iter::repeat_n("example.org", 100).chain(["example.net"]);
    let mut slots = join_all(hosts.map(claim)).await;
    assert_eq!(slots.pop(), Some(Slot::Granted(NOON)));
    slots.sort_by_key(|slot| match slot {
        Slot::Granted(at) | Slot::Promised(at) => *at,
    });
    for (second, slot) in (0..).zip(slots) {
        let at = NOON + SignedDuration::from_secs(second);
        assert_eq!(slot, if second == 0 { Slot::Granted(at) } else { Slot::Promised(at) });
    }
}

/// Statements are planned when tables are small, and once a connection.
#[tokio::test]
async fn a_worker_finds_and_stores_documents_without_reading_those_that_are_there() {
    let place = Place::new().await;
    let runs = begun_runs(&place, 100).await;
    let read = "select sum(seq_tup_read)::bigint from pg_stat_user_tables
        where relname in ('artifacts', 'document_heads', 'documents', 'runs', 'sources', 'subscriptions')";
    let before = place.counted(read).await;
    let worker = place.worker().await;
    for (run, source) in runs.iter().zip(1..) {
        assert!(worker.crawl_work(*run, URL).await.unwrap().unwrap().is_pending);
        let evidence = fetched('a');
        assert_eq!(worker.stored_blob(source, &evidence.fetch_hash).await.unwrap().blob_uri, None);
        assert!(matches!(stored(&worker, *run, &evidence).await, Some(StoredDocument::Fetched(_))));
    }
    drop(worker);
    assert_eq!(place.counted(read).await - before, 0, "rows were read that nobody asked for");
}
