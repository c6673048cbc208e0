//! Bodies go when nothing points at them, and nothing points at one that goes.

use jiff::Timestamp;
use store::catalog::{Catalog, Evidence, Removed, StoredDocument};
use uuid::Uuid;

use super::{DAY, at, bodies_to_delete, clear, newest, publish, rows, see, subscription};
use crate::place::{Place, SOON, URL, compare, document, fetched, minute, subscription_record};

#[tokio::test]
async fn a_body_that_another_artifact_points_at_stays() {
    let place = Place::new().await;
    let subscription = subscription(&place, "opinions", Some(newest(1))).await;
    for (number, digit) in (1..).zip("aba".chars()) {
        see(&place, &subscription, number, digit).await.unwrap();
    }
    clear(&place, minute(0) + DAY).await;
    assert_eq!(bodies_to_delete(&place).await, "b");
    let gone = place.catalog.blobs_to_delete("", 10).await.unwrap();
    assert_eq!(place.catalog.blobs_to_delete(&gone[0], 10).await.unwrap(), [] as [String; 0]);
    assert_eq!(place.catalog.blobs_deleted(&gone, minute(0) + DAY).await.unwrap(), 1);
    assert_eq!(place.catalog.blobs_deleted(&gone, minute(0) + DAY).await.unwrap(), 0);
    assert_eq!(bodies_to_delete(&place).await, "");
}

#[tokio::test]
async fn an_artifact_that_a_run_of_another_subscription_shares_stays() {
    let place = Place::new().await;
    let source = place.source("court").await;
    let mut few = subscription_record("few", source);
    few.settings.retention = Some(newest(1));
    let few = place.catalog.put_subscription(&few, minute(0)).await.unwrap().scheduled;
    let all = subscription_record("all", source);
    let all = place.catalog.put_subscription(&all, minute(0)).await.unwrap().scheduled;
    for (number, digit) in (1..).zip("ab".chars()) {
        see(&place, &few, number, digit).await.unwrap();
        let run = place.begun_run(&all, minute(number), &[URL]).await;
        let shared = place.catalog.crawl_work(run, URL).await.unwrap().unwrap().latest.unwrap().id;
        let known = document(Evidence::Known(shared));
        let stored = place.catalog.store_document(run, URL, &known, minute(number)).await.unwrap();
        let StoredDocument::Fetched(artifact) = stored else { panic!("{stored:?}") };
        compare(&place.catalog, run, URL, &artifact, &artifact.fetch_hash, minute(number)).await.unwrap();
    }
    publish(&place).await;
    let removed = clear(&place, minute(0) + DAY).await;
    assert_eq!(removed, Removed { versions: 1, ..Removed::default() });
    assert_eq!(rows(&place).await[..3], [4, 4, 2]);
    assert_eq!(bodies_to_delete(&place).await, "");
}

/// Stores a body, at the address at which the catalog says that it is or may be put.
async fn store_as_crawled(catalog: &Catalog, run: Uuid, source: i64, digit: char, at: Timestamp) -> bool {
    let mut evidence = fetched(digit);
    let known = catalog.stored_blob(source, &evidence.fetch_hash).await.unwrap();
    evidence.fetched_at = at;
    evidence.blob_uri = known
        .blob_uri
        .unwrap_or_else(|| format!("s3://tipstaff/raw/{digit}-{source}-{}.bin", known.removals));
    catalog.store_document(run, URL, &document(Evidence::New(&evidence)), at).await.is_ok()
}

#[tokio::test]
async fn a_body_that_was_removed_is_never_pointed_at_again() {
    let place = Place::new().await;
    let subscription = subscription(&place, "opinions", Some(newest(1))).await;
    for (number, digit) in (1..).zip("abc".chars()) {
        see(&place, &subscription, number, digit).await.unwrap();
    }
    // A worker has looked up where the body is, and stands still.
    let source =
        place.catalog.run_plan(place.run(&subscription, minute(4)).await).await.unwrap().unwrap().source_id;
    let known = place.catalog.stored_blob(source, &"a".repeat(64)).await.unwrap();
    assert!(known.blob_uri.is_some());
    clear(&place, minute(0) + DAY).await;
    assert_eq!(bodies_to_delete(&place).await, "ab");
    let run = place.begun_run(&subscription, minute(5), &[URL]).await;
    let evidence = fetched('a');
    let refused =
        place.catalog.store_document(run, URL, &document(Evidence::New(&evidence)), minute(5)).await;
    assert!(format!("{:?}", refused.unwrap_err()).contains("was removed meanwhile"));
    // It looks again, and is told to store it elsewhere.
    let known = place.catalog.stored_blob(source, &"a".repeat(64)).await.unwrap();
    assert_eq!((known.blob_uri, known.removals), (None, 1));
    assert!(store_as_crawled(&place.catalog, run, source, 'a', minute(5)).await);
}

#[tokio::test]
async fn a_body_that_is_about_to_be_pointed_at_again_is_not_removed() {
    let place = Place::new().await;
    let subscription = subscription(&place, "opinions", Some(newest(1))).await;
    for (number, digit) in (1..).zip("abc".chars()) {
        see(&place, &subscription, number, digit).await.unwrap();
    }
    // Another process has inserted its artifact and not come to commit.
    let mut crawl = place.sql.begin().await.unwrap();
    sqlx::query(
        "insert into artifacts (source_id, run_id, source_url, final_url, fetch_hash, blob_uri, status, headers, byte_size,
             fetched_at)
         select a.source_id, (select id from runs order by scheduled_for desc limit 1), 'https://example.org/again',
             a.final_url, a.fetch_hash, a.blob_uri, a.status, a.headers, a.byte_size, a.fetched_at
         from artifacts a where a.fetch_hash like 'a%'",
    )
    .execute(&mut *crawl)
    .await
    .unwrap();
    let now = minute(0) + DAY;
    let keeper = place.other_process().await;
    let removing =
        tokio::spawn(async move { keeper.remove_not_kept(subscription.id, at(now)).await.unwrap() });
    tests::eventually("who removes waits for who adds", SOON, async || {
        let waiting = "select count(*) from pg_stat_activity
             where datname = current_database() and wait_event_type = 'Lock' and wait_event = 'advisory'";
        if place.number(waiting).await == 1 { Ok(()) } else { Err("nobody waits") }
    })
    .await;
    crawl.commit().await.unwrap();
    assert_eq!(removing.await.unwrap().runs, 2);
    assert_eq!(bodies_to_delete(&place).await, "b");
}

#[tokio::test]
async fn what_is_added_to_a_run_at_the_last_moment_stays() {
    let place = Place::new().await;
    let subscription = subscription(&place, "opinions", Some(newest(1))).await;
    for (number, digit) in (1..).zip("abc".chars()) {
        see(&place, &subscription, number, digit).await.unwrap();
    }
    // Late evidence of the first run, of a URL that nothing else shows.
    let mut crawl = place.sql.begin().await.unwrap();
    sqlx::query(
        "insert into artifacts (source_id, run_id, source_url, final_url, fetch_hash, blob_uri, status, headers, byte_size,
             fetched_at)
         select a.source_id, a.run_id, 'https://example.org/late', a.final_url, a.fetch_hash, a.blob_uri, a.status, a.headers,
             a.byte_size, a.fetched_at
         from artifacts a where a.fetch_hash like 'a%'",
    )
    .execute(&mut *crawl)
    .await
    .unwrap();
    let now = minute(0) + DAY;
    let keeper = place.other_process().await;
    let removing =
        tokio::spawn(async move { keeper.remove_not_kept(subscription.id, at(now)).await.unwrap() });
    tests::eventually("who removes waits for who adds", SOON, async || {
        let waiting = "select count(*) from pg_stat_activity
             where datname = current_database() and wait_event_type = 'Lock' and wait_event = 'advisory'";
        if place.number(waiting).await == 1 { Ok(()) } else { Err("nobody waits") }
    })
    .await;
    crawl.commit().await.unwrap();
    assert_eq!(removing.await.unwrap().runs, 1);
    assert_eq!(place.number("select count(*) from artifacts where source_url like '%/late'").await, 1);
    assert_eq!(bodies_to_delete(&place).await, "b");
}

/// The body changes to and fro while what is not kept is removed all the time: never is an artifact left whose body may go.
#[tokio::test]
async fn fetching_and_removing_at_the_same_time_leave_no_artifact_without_its_body() {
    let place = Place::new().await;
    let few = subscription(&place, "opinions", Some(newest(1))).await;
    let source = place.catalog.run_plan(place.run(&few, minute(1)).await).await.unwrap().unwrap().source_id;
    let now = minute(0) + 30 * DAY;
    let keeper = place.other_process().await;
    let mut refused = 0;
    for number in 0..48 {
        let (at_time, digit) = (minute(2 + number), if number % 2 == 0 { 'a' } else { 'b' });
        let run = place.begun_run(&few, at_time, &[URL]).await;
        publish(&place).await;
        if number % 8 == 7 {
            // Whoever stores may always have been the first.
            keeper.remove_not_kept(few.id, at(now)).await.unwrap();
        }
        let (is_stored, removed) = tokio::join!(
            store_as_crawled(&place.catalog, run, source, digit, at_time),
            keeper.remove_not_kept(few.id, at(now))
        );
        removed.unwrap();
        if !is_stored {
            refused += 1;
            assert!(store_as_crawled(&place.catalog, run, source, digit, at_time).await);
        }
        let stored = place.catalog.run_artifacts(run).await.unwrap().remove(0);
        let made = compare(&place.catalog, run, URL, &stored, &stored.fetch_hash, at_time).await.unwrap();
        place.catalog.plan_deliveries(made.id, &[], at_time).await.unwrap();
        let lost = "select count(*) from artifacts a join removed_blobs b using (blob_uri)";
        assert_eq!(place.number(lost).await, 0, "fetch {number}, {refused} refused");
    }
    assert!(place.number("select count(*) from removed_blobs").await > 0);
}
