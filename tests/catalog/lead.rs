use std::time::Duration;

use store::catalog::{CatalogError, StuckPolicy, WhenActive};
use tests::eventually;
use tokio::time::timeout;

use crate::place::{NOON, Place, SOON, due, minute, request};

fn is_refused<T>(result: Result<T, CatalogError>, own: i64, newer: i64) -> bool {
    matches!(result, Err(CatalogError::NoLongerLeading { own: o, newer: n }) if (o, n) == (own, newer))
}

#[tokio::test]
async fn under_a_newer_epoch_an_older_one_makes_ends_and_restarts_nothing() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    let active = place.run(&subscription, minute(1)).await;
    let newer = place.catalog.lead(7, "another", minute(1)).await.unwrap();
    assert_eq!((newer.epoch(), place.catalog.epoch().await.unwrap()), (7, 7));
    let events = place.number("select last_value from outbox_id_seq").await;

    let old = place.lead();
    let replacing = [due(&subscription, minute(2), WhenActive::Replace)];
    assert!(is_refused(old.fire(&replacing, minute(2)).await, 1, 7));
    assert!(is_refused(old.request_run(&request(&subscription, "now"), minute(2)).await, 1, 7));
    assert!(is_refused(old.rewind(&[subscription.id], NOON).await, 1, 7));
    let policy = StuckPolicy {
        restart_after: minute(1).duration_since(NOON),
        give_up_after: minute(9).duration_since(NOON),
    };
    assert!(is_refused(old.mend_stuck_runs(&policy, minute(60)).await, 1, 7));
    assert!(place.is_active(active).await);
    assert_eq!(place.number("select count(*) from runs").await, 1);
    assert_eq!(place.number("select last_value from outbox_id_seq").await, events);
    assert_eq!(place.catalog.scheduled_subscriptions().await.unwrap()[0].scheduled_through, minute(1));

    assert_eq!(newer.fire(&replacing, minute(2)).await.unwrap().runs.len(), 1);
}

#[tokio::test]
async fn an_epoch_is_taken_once_and_none_below_the_newest() {
    let place = Place::new().await;
    for epoch in [0, 1] {
        assert!(is_refused(place.catalog.lead(epoch, "late", NOON).await, epoch, 1));
    }
    place.catalog.lead(2, "next", NOON).await.unwrap();
    assert!(is_refused(place.catalog.lead(2, "late", NOON).await, 2, 2));
}

#[tokio::test]
async fn who_begins_to_lead_waits_for_what_the_one_before_has_begun() {
    let place = Place::new().await;
    let mut begun = place.sql.begin().await.unwrap();
    // As every transaction that makes runs.
    sqlx::query("select epoch from leadership for share").execute(&mut *begun).await.unwrap();
    let catalog = place.catalog.clone();
    let leading = tokio::spawn(async move { catalog.lead(2, "next", NOON).await });
    eventually("a lock that is waited for", SOON, async || {
        let waiting = place.number("select count(*) from pg_locks where not granted").await;
        if waiting > 0 { Ok(()) } else { Err(waiting) }
    })
    .await;
    assert!(!leading.is_finished());
    begun.commit().await.unwrap();
    timeout(SOON, leading).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_transaction_whose_process_stands_still_is_given_up() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    place.run(&subscription, minute(1)).await;
    // A process that was stopped between taking events and publishing them.
    let held = place.catalog.take_outbox(10, minute(1)).await.unwrap();
    assert_eq!(held.records.len(), 1);
    let other = place.other_process().await;
    eventually("the event back", SOON + Duration::from_secs(15), async || {
        let batch = other.take_outbox(10, minute(1)).await.unwrap();
        if batch.records.len() == 1 { Ok(()) } else { Err(batch.records) }
    })
    .await;
    held.commit().await.unwrap_err();
}
