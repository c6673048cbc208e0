//! Retention: what is not kept goes, with all that stands for it alone, and nothing else does.

#[path = "retention/bodies.rs"]
mod bodies;
#[path = "retention/needed.rs"]
mod needed;

use jiff::{SignedDuration, Timestamp};
use store::catalog::{
    Evidence, KeepingSubscription, KeepingTime, Removed, RetentionSettings, ScheduledSubscription, Skip,
    StoredDocument, WhenActive,
};
use uuid::Uuid;

use crate::place::{OTHER_URL, Place, URL, compare, document, due, fetched, minute, subscription_record};

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

/// Nothing came of the one document of a run.
async fn fail(place: &Place, run: Uuid, number: i64) {
    place.catalog.fail_document(run, URL, "TimedOut", "no answer", minute(number)).await.unwrap();
    publish(place).await;
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
    fail(&place, place.begun_run(&few, minute(10), &[URL]).await, 10).await;
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
async fn without_an_age_each_document_has_a_history_of_its_own_and_skips_stay() {
    let place = Place::new().await;
    let subscription = subscription(&place, "opinions", Some(newest(1))).await;
    for number in [1, 2] {
        let mut skipped = due(&subscription, minute(number), WhenActive::RunBoth);
        skipped.skip = Some(Skip { reason: "Suspended", message: "spec.suspend is true".to_owned() });
        place.fire(&[skipped], minute(number)).await.unwrap();
    }
    let see_other = async |number| {
        let version = see_unplanned(&place, &subscription, number, OTHER_URL, 'f').await;
        if let Some(version) = version {
            place.catalog.plan_deliveries(version, &[], minute(number)).await.unwrap();
        }
    };
    see_other(3).await;
    see(&place, &subscription, 4, 'a').await.unwrap();
    // That it was as it was counts as long as the version does.
    see_other(5).await;
    see(&place, &subscription, 6, 'b').await.unwrap();
    see_other(7).await;
    see(&place, &subscription, 8, 'c').await.unwrap();
    let removed = clear(&place, minute(0) + DAY).await;
    assert_eq!(removed, Removed { versions: 2, deliveries: 0, runs: 2, artifacts: 2 });
    assert_eq!(place.number("select count(*) from runs where phase = 'Skipped'").await, 2);
    assert_eq!(rows(&place).await, [6, 4, 4, 2]);
}
