use jiff::SignedDuration;
use store::catalog::{CatalogError, Concurrency, DeletedSource, RunPhase, WhenActive};
use uuid::Uuid;

use crate::place::{NOON, Place, URL, due, minute, object, source_record, subscription_record};

/// Changes with every write of the row.
const SOURCE_ROW: &str = "select xmin::text || ctid::text from sources where id = $1";
const SUBSCRIPTION_ROW: &str = "select xmin::text || ctid::text from subscriptions where id = $1";

#[tokio::test]
async fn a_source_is_written_only_when_it_differs() {
    let place = Place::new().await;
    let mut record = source_record("scotus");
    let id = place.catalog.put_source(&record, NOON).await.unwrap().id;
    let written = place.text_of(SOURCE_ROW, id).await;

    assert_eq!(place.catalog.put_source(&record, minute(1)).await.unwrap().id, id);
    assert_eq!(place.text_of(SOURCE_ROW, id).await, written);

    record.generation = 2;
    record.settings.max_bytes = 5;
    assert_eq!(place.catalog.put_source(&record, minute(2)).await.unwrap().id, id);
    assert_ne!(place.text_of(SOURCE_ROW, id).await, written);
    let settings = "select (settings ->> 'max_bytes') || ' ' || generation from sources where id = $1";
    assert_eq!(place.text_of(settings, id).await, "5 2");
    assert_eq!(place.number("select count(*) from sources").await, 1);
}

#[tokio::test]
async fn a_source_made_anew_takes_the_name_of_the_old_one() {
    let place = Place::new().await;
    let old = place.source("scotus").await;
    let new = place.source("scotus").await;
    assert_ne!(old, new);
    assert_eq!(place.catalog.source_id("courts", "scotus").await.unwrap(), Some(new));
    assert_eq!(place.number("select count(*) from sources where deleted_at is null").await, 1);
    assert_eq!(place.number("select count(*) from sources").await, 2);
}

#[tokio::test]
async fn live_sources_are_found_by_name_and_listed() {
    let place = Place::new().await;
    let (gone, kept) = (source_record("ca11"), source_record("scotus"));
    place.catalog.put_source(&gone, NOON).await.unwrap();
    let id = place.catalog.put_source(&kept, NOON).await.unwrap().id;
    place.catalog.delete_source(gone.key.uid, NOON).await.unwrap();
    assert_eq!(place.catalog.source_id("courts", "scotus").await.unwrap(), Some(id));
    assert_eq!(place.catalog.source_id("other", "scotus").await.unwrap(), None);
    assert_eq!(place.catalog.source_id("courts", "ca11").await.unwrap(), None);
    assert_eq!(place.catalog.live_sources().await.unwrap(), [kept.key]);
}

#[tokio::test]
async fn a_source_in_use_is_not_deleted() {
    let place = Place::new().await;
    let record = source_record("scotus");
    let source = place.catalog.put_source(&record, NOON).await.unwrap().id;
    let mut users = Vec::new();
    for name in ["f", "e", "d", "c", "b", "a"] {
        let user = subscription_record(name, source);
        place.catalog.put_subscription(&user, NOON).await.unwrap();
        users.push(user.key.uid);
    }
    let examples = ["courts/a", "courts/b", "courts/c", "courts/d", "courts/e"].map(str::to_owned).to_vec();
    assert_eq!(
        place.catalog.delete_source(record.key.uid, minute(1)).await.unwrap(),
        DeletedSource::InUse { examples, count: 6 }
    );
    assert_eq!(place.catalog.source_id("courts", "scotus").await.unwrap(), Some(source));

    for user in users {
        place.catalog.delete_subscriptions(&[user], minute(2)).await.unwrap();
    }
    let deleted = place.catalog.delete_source(record.key.uid, minute(3)).await.unwrap();
    assert_eq!(deleted, DeletedSource::Deleted);
    assert_eq!(place.catalog.source_id("courts", "scotus").await.unwrap(), None);
    let unknown = place.catalog.delete_source(Uuid::new_v4(), minute(3)).await.unwrap();
    assert_eq!(unknown, DeletedSource::Deleted);
}

#[tokio::test]
async fn a_subscription_is_written_only_when_it_differs() {
    let place = Place::new().await;
    let mut record = subscription_record("opinions", place.source("scotus").await);
    let row = place.catalog.put_subscription(&record, NOON).await.unwrap();
    assert_eq!(row.scheduled.key, record.key);
    assert_eq!(row.scheduled.settings, record.settings);
    assert_eq!(row.scheduled.generation, 1);
    assert_eq!(row.last_request, None);
    let id = row.scheduled.id;
    let written = place.text_of(SUBSCRIPTION_ROW, id).await;

    assert_eq!(place.catalog.put_subscription(&record, minute(1)).await.unwrap(), row);
    assert_eq!(place.text_of(SUBSCRIPTION_ROW, id).await, written);

    record.generation = 2;
    record.settings.jitter_seconds = 30;
    record.source_id = place.source("ca11").await;
    let changed = place.catalog.put_subscription(&record, minute(2)).await.unwrap();
    assert_eq!(changed.scheduled.id, id);
    assert_eq!(changed.scheduled.settings.jitter_seconds, 30);
    assert_eq!(changed.scheduled.generation, 2);
    let source_of = "select source_id::text from subscriptions where id = $1";
    assert_eq!(place.text_of(source_of, id).await, record.source_id.to_string());
}

#[tokio::test]
async fn only_a_changed_schedule_is_counted_from_now() {
    let place = Place::new().await;
    let mut record = subscription_record("opinions", place.source("scotus").await);
    // Seen by the operator only some minutes after it was made.
    let row = place.catalog.put_subscription(&record, minute(9)).await.unwrap();
    assert_eq!(row.scheduled.scheduled_through, NOON);

    record.generation = 2;
    record.settings.concurrency = Concurrency::Replace;
    record.settings.suspend = true;
    let row = place.catalog.put_subscription(&record, minute(20)).await.unwrap();
    assert_eq!(row.scheduled.scheduled_through, NOON);

    record.generation = 3;
    record.settings.schedule = "0 * * * *".to_owned();
    let row = place.catalog.put_subscription(&record, minute(30)).await.unwrap();
    assert_eq!(row.scheduled.scheduled_through, minute(30));

    record.generation = 4;
    record.settings.time_zone = "Asia/Tokyo".to_owned();
    let row = place.catalog.put_subscription(&record, minute(40)).await.unwrap();
    assert_eq!(row.scheduled.scheduled_through, minute(40));

    // A clock that was set back does not open what is accounted for.
    record.generation = 5;
    record.settings.schedule = "* * * * *".to_owned();
    let row = place.catalog.put_subscription(&record, minute(35)).await.unwrap();
    assert_eq!(row.scheduled.scheduled_through, minute(40));
}

#[tokio::test]
async fn an_object_of_the_future_is_accounted_for_up_to_now() {
    let place = Place::new().await;
    let mut record = subscription_record("opinions", place.source("scotus").await);
    record.created_at = minute(5);
    let row = place.catalog.put_subscription(&record, NOON).await.unwrap();
    assert_eq!(row.scheduled.scheduled_through, NOON);
}

#[tokio::test]
async fn an_object_that_was_not_valid_for_long_is_accounted_for_up_to_now() {
    let place = Place::new().await;
    let record = subscription_record("opinions", place.source("scotus").await);
    let row = place.catalog.put_subscription(&record, minute(11)).await.unwrap();
    assert_eq!(row.scheduled.scheduled_through, minute(11));
}

#[tokio::test]
async fn an_older_state_of_an_object_does_not_overwrite_a_newer_one() {
    let place = Place::new().await;
    let mut source = source_record("scotus");
    source.generation = 2;
    let id = place.catalog.put_source(&source, NOON).await.unwrap().id;
    let mut record = subscription_record("opinions", id);
    record.generation = 2;
    let newer = place.catalog.put_subscription(&record, NOON).await.unwrap();

    source.generation = 1;
    source.settings.base_url = "https://example.org/old".to_owned();
    assert_eq!(place.catalog.put_source(&source, minute(1)).await.unwrap().id, id);
    let state = "select (settings ->> 'base_url') || ' ' || generation from sources where id = $1";
    assert_eq!(place.text_of(state, id).await, format!("{URL} 2"));
    record.generation = 1;
    record.settings.schedule = "0 * * * *".to_owned();
    assert_eq!(place.catalog.put_subscription(&record, minute(1)).await.unwrap(), newer);
}

#[tokio::test]
async fn a_row_that_cannot_be_read_disturbs_no_other() {
    let place = Place::new().await;
    let readable = place.subscription("opinions").await;
    place.subscription("orders").await;
    place.execute("update subscriptions set settings = '{\"suspend\": 3}' where name = 'orders'").await;
    assert_eq!(place.catalog.scheduled_subscriptions().await.unwrap(), [readable]);
}

#[tokio::test]
async fn a_live_subscription_is_found_by_its_uid() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    let found = async || place.catalog.subscription_id(subscription.key.uid).await.unwrap();
    assert_eq!(found().await, Some(subscription.id));
    place.catalog.delete_subscriptions(&[subscription.key.uid], NOON).await.unwrap();
    assert_eq!(found().await, None);
}

#[tokio::test]
async fn a_subscription_made_anew_retires_the_old_one_and_its_runs() {
    let place = Place::new().await;
    let old = place.subscription("opinions").await;
    let run = place.run(&old, minute(1)).await;
    let record = subscription_record("opinions", place.source("scotus").await);
    let new = place.catalog.put_subscription(&record, minute(2)).await.unwrap().scheduled;
    assert_ne!(new.id, old.id);
    assert_eq!(place.catalog.scheduled_subscriptions().await.unwrap(), [new]);
    assert_eq!(place.ended(run).await.reason.as_deref(), Some("SubscriptionDeleted"));
}

#[tokio::test]
async fn a_deleted_subscription_ends_its_runs_and_keeps_its_history() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    let other = place.subscription("orders").await;
    let done = place.begun_run(&subscription, minute(1), &[URL]).await;
    place.store(done, URL, 'a', minute(1)).await;
    let active = place.run(&subscription, minute(2)).await;
    let other_run = place.run(&other, minute(2)).await;

    place.catalog.delete_subscriptions(&[subscription.key.uid], minute(3)).await.unwrap();
    let ended = place.ended(active).await;
    assert_eq!((ended.phase, ended.reason.as_deref()), (RunPhase::Failed, Some("SubscriptionDeleted")));
    assert_eq!(ended.finished_at, Some(minute(3)));
    assert_eq!(place.ended(done).await.phase, RunPhase::Succeeded);
    assert_eq!(place.catalog.run_artifacts(done).await.unwrap().len(), 1);
    assert_eq!(place.catalog.active_runs().await.unwrap(), [other_run]);
    assert_eq!(place.catalog.scheduled_subscriptions().await.unwrap().len(), 1);

    // Again, or what never was: nothing happens.
    place.catalog.delete_subscriptions(&[subscription.key.uid], minute(4)).await.unwrap();
    place.catalog.delete_subscriptions(&[Uuid::new_v4()], minute(4)).await.unwrap();
    assert_eq!(place.ended(active).await.finished_at, Some(minute(3)));
}

#[tokio::test]
async fn a_deleted_subscription_that_comes_back_counts_from_now() {
    let place = Place::new().await;
    let record = subscription_record("opinions", place.source("scotus").await);
    let first = place.catalog.put_subscription(&record, NOON).await.unwrap().scheduled;
    place.catalog.delete_subscriptions(&[record.key.uid], minute(1)).await.unwrap();
    let again = place.catalog.put_subscription(&record, minute(9)).await.unwrap().scheduled;
    assert_eq!((again.id, again.scheduled_through), (first.id, minute(9)));
    assert_eq!(place.catalog.scheduled_subscriptions().await.unwrap(), [again]);
}

#[tokio::test]
async fn the_beat_sees_what_it_needs_of_each_subscription() {
    let place = Place::new().await;
    let mut source = source_record("scotus");
    source.settings.suspend = true;
    let source = place.catalog.put_source(&source, NOON).await.unwrap().id;
    let record = subscription_record("opinions", source);
    let suspended = place.catalog.put_subscription(&record, NOON).await.unwrap().scheduled;
    let other = place.subscription("orders").await;
    assert!(suspended.source_suspended);
    assert!(!other.source_suspended);

    place.run(&other, minute(3)).await;
    let mut seen = place.catalog.scheduled_subscriptions().await.unwrap();
    seen.sort_by_key(|subscription| subscription.id);
    assert_eq!(seen[0], suspended);
    assert_eq!(seen[1].key, other.key);
    assert_eq!(seen[1].scheduled_through, minute(3));
}

#[tokio::test]
async fn generations_are_counted_for_objects_that_do_not_count_them() {
    let place = Place::new().await;
    let catalog = &place.catalog;
    let source = source_record("scotus");
    let uid = source.key.uid;
    assert_eq!(catalog.source_generation(uid, &source.settings).await.unwrap(), 1);
    let source_id = catalog.put_source(&source, NOON).await.unwrap().id;
    assert_eq!(catalog.source_generation(uid, &source.settings).await.unwrap(), 1);
    let mut changed = source.settings.clone();
    changed.suspend = true;
    assert_eq!(catalog.source_generation(uid, &changed).await.unwrap(), 2);

    let record = subscription_record("opinions", source_id);
    let generation = async |source_id, settings| {
        catalog.subscription_generation(record.key.uid, source_id, settings).await.unwrap()
    };
    assert_eq!(generation(source_id, &record.settings).await, 1);
    catalog.put_subscription(&record, NOON).await.unwrap();
    assert_eq!(generation(source_id, &record.settings).await, 1);
    assert_eq!(generation(source_id + 1, &record.settings).await, 2);
    let mut changed = record.settings.clone();
    changed.jitter_seconds = 7;
    assert_eq!(generation(source_id, &changed).await, 2);
}

#[tokio::test]
async fn a_subscription_of_no_source_is_refused() {
    let place = Place::new().await;
    let record = subscription_record("opinions", 404);
    let error = place.catalog.put_subscription(&record, NOON).await.unwrap_err();
    assert!(matches!(error, CatalogError::Statement { action: "write a subscription", .. }), "{error:?}");
    assert_eq!(place.number("select count(*) from subscriptions").await, 0);
}

#[tokio::test]
async fn instants_are_kept_to_the_microsecond() {
    let place = Place::new().await;
    let mut record = subscription_record("opinions", place.source("scotus").await);
    record.key = object("opinions");
    record.created_at = NOON + SignedDuration::from_nanos(1_999);
    let row = place.catalog.put_subscription(&record, minute(1)).await.unwrap().scheduled;
    assert_eq!(row.scheduled_through, NOON + SignedDuration::from_nanos(1_000));
    // The very due time that is accounted for, in nanoseconds: still the same one.
    let again = due(&row, record.created_at, WhenActive::RunBoth);
    assert_eq!(place.fire(&[again], minute(1)).await.unwrap(), []);
}

/// Statements are planned when tables are empty, and once a connection.
#[tokio::test]
async fn objects_are_put_and_found_without_reading_those_that_are_there() {
    const COUNT: u64 = 300;
    let place = Place::new().await;
    for number in 0..COUNT {
        let source = source_record(&format!("source-{number}"));
        let source_id = place.catalog.put_source(&source, NOON).await.unwrap().id;
        assert!(place.catalog.source_health(source.key.uid).await.unwrap().is_some());
        let subscription = subscription_record(&format!("subscription-{number}"), source_id);
        place.catalog.put_subscription(&subscription, NOON).await.unwrap();
        assert!(place.catalog.subscription_id(subscription.key.uid).await.unwrap().is_some());
    }
    let sources = "select seq_tup_read + idx_tup_fetch from pg_stat_user_tables where relname = 'sources'";
    let subscriptions =
        "select seq_tup_read + idx_tup_fetch from pg_stat_user_tables where relname = 'subscriptions'";
    let read = (place.counted(sources).await, place.counted(subscriptions).await);
    let few = i64::try_from(COUNT).unwrap()..=i64::try_from(10 * COUNT).unwrap();
    assert!(few.contains(&read.0) && few.contains(&read.1), "of {COUNT} each, so many were read: {read:?}");
}
