//! Retention: what is not kept goes, with all that stands for it alone, and nothing else does.

use jiff::{SignedDuration, Timestamp};
use store::catalog::{
    Catalog, DeliveryAttempt, DeliveryOutcome, DigestSettings, Evidence, KeepingSubscription, KeepingTime,
    Removed, RetentionSettings, ScheduledSubscription, StoredDocument, WantedBy,
};
use uuid::Uuid;

use crate::place::{
    OTHER_URL, Place, SOON, URL, compare, document, due, fetched, minute, subscription_record,
};

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// A time at which what happened in the hour before is kept.
fn at(now: Timestamp) -> KeepingTime {
    KeepingTime::new(now, SignedDuration::from_hours(1))
}

fn newest(versions: u32) -> RetentionSettings {
    RetentionSettings { versions: Some(versions), age_ms: None }
}

fn younger_than(age: SignedDuration) -> RetentionSettings {
    RetentionSettings { versions: None, age_ms: Some(u64::try_from(age.as_millis()).unwrap()) }
}

async fn subscription(
    place: &Place,
    name: &str,
    retention: Option<RetentionSettings>,
) -> ScheduledSubscription {
    let mut record = subscription_record(name, place.source(name).await);
    record.settings.retention = retention;
    place.catalog.put_subscription(&record, minute(0)).await.unwrap().scheduled
}

/// Fetches a body in a run of its own, whose text is its hash, and finds that no target wants it. Returns the version.
async fn see(place: &Place, subscription: &ScheduledSubscription, number: i64, digit: char) -> Option<i64> {
    let version = see_unplanned(place, subscription, number, URL, digit).await;
    if let Some(version) = version {
        place.catalog.plan_deliveries(version, &[], minute(number)).await.unwrap();
    }
    version
}

async fn see_unplanned(
    place: &Place,
    subscription: &ScheduledSubscription,
    number: i64,
    url: &str,
    digit: char,
) -> Option<i64> {
    let at = minute(number);
    let run = place.begun_run(subscription, at, &[url]).await;
    let mut evidence = fetched(digit);
    evidence.fetched_at = at;
    publish(place).await;
    match place.catalog.store_document(run, url, &document(Evidence::New(&evidence)), at).await.unwrap() {
        StoredDocument::Fetched(artifact) => {
            Some(compare(&place.catalog, run, url, &artifact, &artifact.fetch_hash, at).await?.id)
        }
        StoredDocument::Finished(_) => None,
        StoredDocument::NotWaitedFor => panic!("the run waits for it"),
    }
}

/// The relay takes all events.
async fn publish(place: &Place) {
    place.execute("delete from outbox").await;
}

/// Removes all that is not kept, as the keeper does it.
async fn clear(place: &Place, now: Timestamp) -> Removed {
    let mut all = Removed::default();
    for subscription in place.catalog.keeping_subscriptions(0, 100, at(now)).await.unwrap() {
        loop {
            let removed = place.catalog.remove_not_kept(subscription.id, at(now)).await.unwrap();
            // What is looked for in many subscriptions at once is what is found in each.
            let found = all != Removed::default() || removed.is_any();
            assert_eq!(subscription.has_not_kept, found, "{subscription:?} {removed:?}");
            if !removed.is_any() {
                break;
            }
            all += removed;
        }
    }
    all
}

async fn numbers(place: &Place) -> Vec<i32> {
    sqlx::query_scalar("select number from versions order by id").fetch_all(&place.sql).await.unwrap()
}

/// Runs, documents, artifacts and extracts.
async fn rows(place: &Place) -> [i64; 4] {
    [
        place.number("select count(*) from runs").await,
        place.number("select count(*) from documents").await,
        place.number("select count(*) from artifacts").await,
        place.number("select count(*) from extracts").await,
    ]
}

/// The digits of the bodies that are to be deleted.
async fn bodies_to_delete(place: &Place) -> String {
    let uris = place.catalog.blobs_to_delete("", 100).await.unwrap();
    uris.iter().filter_map(|uri| uri.strip_prefix("s3://tipstaff/raw/")?.chars().next()).collect()
}

#[tokio::test]
async fn the_newest_versions_stay_and_the_rest_goes_with_its_evidence() {
    let place = Place::new().await;
    let subscription = subscription(&place, "opinions", Some(newest(2))).await;
    for (number, digit) in (1..).zip("abcde".chars()) {
        assert!(see(&place, &subscription, number, digit).await.is_some());
    }
    // As it was: of a day on which it had not changed.
    assert_eq!(see(&place, &subscription, 6, 'e').await, None);

    let removed = clear(&place, minute(0) + DAY).await;
    assert_eq!(removed, Removed { versions: 3, deliveries: 0, runs: 3, artifacts: 3 });
    assert_eq!(numbers(&place).await, [4, 5]);
    assert_eq!(rows(&place).await, [3, 3, 3, 2]);
    assert_eq!(bodies_to_delete(&place).await, "abc");
    // The next version goes on from the newest.
    see(&place, &subscription, 7, 'f').await.unwrap();
    assert_eq!(numbers(&place).await, [4, 5, 6]);
}

#[tokio::test]
async fn what_is_too_old_goes_but_for_the_newest() {
    let place = Place::new().await;
    let subscription = subscription(&place, "opinions", Some(younger_than(DAY))).await;
    for (number, digit) in (1..).zip("abc".chars()) {
        see(&place, &subscription, number, digit).await.unwrap();
    }
    // The second is as old as can be.
    clear(&place, minute(2) + DAY - SignedDuration::from_secs(1)).await;
    assert_eq!(numbers(&place).await, [2, 3]);
    clear(&place, minute(2) + DAY).await;
    assert_eq!(numbers(&place).await, [3]);
    clear(&place, minute(0) + 400 * DAY).await;
    assert_eq!(numbers(&place).await, [3]);
    assert_eq!(rows(&place).await, [1, 1, 1, 1]);
    assert_eq!(bodies_to_delete(&place).await, "ab");
}

#[tokio::test]
async fn with_both_a_version_stays_as_long_as_one_keeps_it() {
    let place = Place::new().await;
    let both = RetentionSettings { versions: Some(2), ..younger_than(DAY) };
    let subscription = subscription(&place, "opinions", Some(both)).await;
    for (number, digit) in (1..).zip("abcd".chars()) {
        see(&place, &subscription, number, digit).await.unwrap();
    }
    // As it was: what is not a version goes by age.
    for number in [5, 6, 7] {
        see(&place, &subscription, number, 'd').await;
    }
    clear(&place, minute(1) + DAY).await;
    assert_eq!(numbers(&place).await, [2, 3, 4]);
    assert_eq!(rows(&place).await[0], 6);
    clear(&place, minute(0) + 30 * DAY).await;
    assert_eq!(numbers(&place).await, [3, 4]);
    // Those of the versions, and the last.
    assert_eq!(rows(&place).await, [3, 3, 3, 2]);
}

#[tokio::test]
async fn without_a_retention_and_within_the_hour_everything_stays() {
    let place = Place::new().await;
    let all = subscription(&place, "all", None).await;
    for (number, digit) in (1..).zip("abc".chars()) {
        see(&place, &all, number, digit).await.unwrap();
    }
    let now = minute(0) + 400 * DAY;
    assert_eq!(place.catalog.keeping_subscriptions(0, 10, at(now)).await.unwrap(), []);
    assert_eq!(place.catalog.remove_not_kept(all.id, at(now)).await.unwrap(), Removed::default());
    let few = subscription(&place, "few", Some(newest(1))).await;
    for (number, digit) in (11..).zip("def".chars()) {
        see(&place, &few, number, digit).await.unwrap();
    }
    let expected = KeepingSubscription { id: few.id, has_not_kept: true };
    assert_eq!(place.catalog.keeping_subscriptions(0, 10, at(now)).await.unwrap(), [expected]);
    assert_eq!(place.catalog.keeping_subscriptions(few.id, 10, at(now)).await.unwrap(), []);
    assert_eq!(clear(&place, minute(65)).await, Removed::default());
    clear(&place, minute(0) + 400 * DAY).await;
    assert_eq!(numbers(&place).await, [1, 2, 3, 3]);
    assert_eq!(rows(&place).await, [4, 4, 4, 4]);
}

#[tokio::test]
async fn nothing_of_what_was_deleted_in_the_cluster_goes() {
    let place = Place::new().await;
    let mut record = subscription_record("opinions", place.source("opinions").await);
    record.settings.retention = Some(RetentionSettings { versions: Some(1), ..younger_than(DAY) });
    let subscription = place.catalog.put_subscription(&record, minute(0)).await.unwrap().scheduled;
    for (number, digit) in (1..).zip("abc".chars()) {
        see(&place, &subscription, number, digit).await.unwrap();
    }
    place.catalog.delete_subscriptions(&[record.key.uid], minute(4)).await.unwrap();
    place.execute("update sources set deleted_at = now()").await;
    let now = minute(0) + 400 * DAY;
    assert_eq!(place.catalog.keeping_subscriptions(0, 10, at(now)).await.unwrap(), []);
    assert_eq!(place.catalog.remove_not_kept(subscription.id, at(now)).await.unwrap(), Removed::default());
    assert_eq!(numbers(&place).await, [1, 2, 3]);
    assert_eq!(rows(&place).await, [3, 3, 3, 3]);
}

#[tokio::test]
async fn a_run_under_way_stays_however_old_it_is() {
    let place = Place::new().await;
    let subscription = subscription(&place, "opinions", Some(younger_than(DAY))).await;
    let run = place.begun_run(&subscription, minute(1), &[OTHER_URL]).await;
    publish(&place).await;
    for (number, digit) in (2..).zip("ab".chars()) {
        see(&place, &subscription, number, digit).await.unwrap();
    }
    assert_eq!(clear(&place, minute(0) + 40 * DAY).await.runs, 1);
    assert!(place.is_active(run).await);
}

/// Bytes that differ from each other, and whose text does not.
#[tokio::test]
async fn what_the_next_fetch_is_compared_with_stays() {
    let place = Place::new().await;
    let subscription = subscription(&place, "opinions", Some(younger_than(DAY))).await;
    for (number, digit) in (1..).zip("abbb".chars()) {
        let run = place.begun_run(&subscription, minute(number), &[URL]).await;
        publish(&place).await;
        let evidence = fetched(digit);
        let fetched = document(Evidence::New(&evidence));
        let stored = place.catalog.store_document(run, URL, &fetched, minute(number)).await.unwrap();
        if let StoredDocument::Fetched(artifact) = stored {
            let made = compare(&place.catalog, run, URL, &artifact, "the same", minute(number)).await;
            assert_eq!(made.is_some(), number == 1);
            if let Some(version) = made {
                place.catalog.plan_deliveries(version.id, &[], minute(number)).await.unwrap();
            }
        }
    }
    // The version, the text that was last looked at, and the last fetch.
    assert_eq!(clear(&place, minute(0) + 40 * DAY).await.runs, 1);
    assert_eq!(rows(&place).await, [3, 3, 3, 2]);
    assert_eq!(see(&place, &subscription, 5, 'b').await, None);
    assert_eq!(bodies_to_delete(&place).await, "");
}

#[tokio::test]
async fn what_an_open_delivery_needs_stays_until_it_is_finished() {
    let place = Place::new().await;
    let subscription = subscription(&place, "opinions", Some(newest(1))).await;
    see(&place, &subscription, 1, 'a').await.unwrap();
    see(&place, &subscription, 2, 'b').await.unwrap();
    let sent = see_unplanned(&place, &subscription, 3, URL, 'c').await.unwrap();
    see(&place, &subscription, 4, 'd').await.unwrap();
    let now = minute(0) + DAY;
    // Nobody has looked for its targets yet: it is needed, and the one that it was compared with.
    clear(&place, now).await;
    assert_eq!(numbers(&place).await, [2, 3, 4]);
    let wanted = WantedBy { target: "hook", digest: DigestSettings::None };
    place.catalog.plan_deliveries(sent, &[wanted], now).await.unwrap();
    clear(&place, now).await;
    assert_eq!(numbers(&place).await, [2, 3, 4]);

    let delivery: Uuid = sqlx::query_scalar("select id from deliveries").fetch_one(&place.sql).await.unwrap();
    let carried = place.catalog.close_delivery(delivery).await.unwrap();
    assert_eq!(carried[0].previous.as_ref().unwrap().number, 2);
    let work = place.catalog.delivery_work(delivery).await.unwrap().unwrap();
    let attempt = DeliveryAttempt {
        started_at: now,
        duration: SignedDuration::from_secs(1),
        status: Some(200),
        detail: "",
        reason: "Delivered",
    };
    place.catalog.record_attempt(&work, &attempt, DeliveryOutcome::Delivered, now).await.unwrap();
    publish(&place).await;
    let removed = clear(&place, now).await;
    assert_eq!((removed.versions, removed.deliveries, removed.runs), (2, 1, 2));
    assert_eq!(numbers(&place).await, [4]);
    assert_eq!(place.number("select count(*) from delivery_attempts").await, 0);
}

#[tokio::test]
async fn what_a_status_shows_of_runs_and_what_lists_need_stays() {
    let place = Place::new().await;
    let subscription = subscription(&place, "opinions", Some(younger_than(DAY))).await;
    let mut skipped = due(&subscription, minute(1), store::catalog::WhenActive::RunBoth);
    skipped.skip =
        Some(store::catalog::Skip { reason: "Suspended", message: "spec.suspend is true".to_owned() });
    place.fire(&[skipped], minute(1)).await.unwrap();
    see(&place, &subscription, 2, 'a').await.unwrap();
    let list = see(&place, &subscription, 3, 'b').await.unwrap();
    see(&place, &subscription, 4, 'a').await.unwrap();
    for number in 5..9 {
        assert_eq!(see(&place, &subscription, number, 'a').await, None);
    }
    // A document that runs do not ask for any more.
    see_unplanned(&place, &subscription, 9, OTHER_URL, 'c').await.unwrap();
    see(&place, &subscription, 10, 'a').await;
    sqlx::query(
        "update subscriptions set list_read_by = (select run_id from versions where id = $1) where id = $2",
    )
    .bind(list)
    .bind(subscription.id)
    .execute(&place.sql)
    .await
    .unwrap();
    let before = place.catalog.summaries(&[subscription.id]).await.unwrap();
    clear(&place, minute(0) + 40 * DAY).await;
    let mut after = place.catalog.summaries(&[subscription.id]).await.unwrap();
    assert_eq!(after[0].versions, 2);
    after[0].versions = before[0].versions;
    assert_eq!(after, before);
    assert_eq!(
        place.number("select count(*) from subscriptions s join runs r on r.id = s.list_read_by").await,
        1
    );
    // The skip, the run that read the list, the newest versions' own and the last: four quiet ones and the first are gone.
    assert_eq!(rows(&place).await[0], 5);
    // The due times of before do not come back.
    assert_eq!(
        place
            .fire(&[due(&subscription, minute(2), store::catalog::WhenActive::RunBoth)], minute(11))
            .await
            .unwrap(),
        []
    );
}

#[tokio::test]
async fn a_run_with_an_event_that_waits_stays_until_it_is_published() {
    let place = Place::new().await;
    let subscription = subscription(&place, "opinions", Some(newest(1))).await;
    for (number, digit) in (1..).zip("abc".chars()) {
        see(&place, &subscription, number, digit).await.unwrap();
    }
    place
        .execute(
            "insert into outbox (topic, key, headers, payload, available_at, run_id)
             select 'crawl.request', 'example.org', '[]', '', now(), id from runs order by scheduled_for limit 1",
        )
        .await;
    let now = minute(0) + DAY;
    let removed = clear(&place, now).await;
    assert_eq!((removed.versions, removed.runs), (2, 1));
    publish(&place).await;
    assert_eq!(clear(&place, now).await.runs, 1);
}

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

#[tokio::test]
async fn nothing_goes_while_stored_documents_are_worked_on_again() {
    let place = Place::new().await;
    let subscription = subscription(&place, "opinions", Some(newest(1))).await;
    for (number, digit) in (1..).zip("abc".chars()) {
        see(&place, &subscription, number, digit).await.unwrap();
    }
    let backfill = store::catalog::RequestedRun {
        trigger: store::catalog::Trigger::Backfill,
        ..crate::place::request(&subscription, "all-again")
    };
    let run = place.lead().request_run(&backfill, minute(5)).await.unwrap().unwrap().run_id;
    assert_eq!(clear(&place, minute(0) + DAY).await, Removed::default());
    sqlx::query("update runs set phase = 'Failed', finished_at = $2 where id = $1")
        .bind(run)
        .bind(jiff_sqlx::ToSqlx::to_sqlx(minute(6)))
        .execute(&place.sql)
        .await
        .unwrap();
    publish(&place).await;
    assert_eq!(clear(&place, minute(0) + DAY).await.versions, 2);
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
    for number in 0..80 {
        let (at_time, digit) = (minute(2 + number), if number % 2 == 0 { 'a' } else { 'b' });
        let run = place.begun_run(&few, at_time, &[URL]).await;
        publish(&place).await;
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
