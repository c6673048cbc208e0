use std::collections::BTreeSet;

use events::{Event, EventId, SubscriptionScheduled};
use jiff::Timestamp;
use store::catalog::{OutboxBacklog, OutboxBatch};
use uuid::Uuid;

use crate::place::{NOON, Place, SOON, minute};

#[tokio::test]
async fn events_are_taken_when_they_are_available_and_in_that_order() {
    let place = Place::new().await;
    assert_eq!(place.catalog.next_outbox().await.unwrap(), None);
    let [late, early, same_time, ahead] = [1, 2, 3, 4].map(event);
    delay(&place, &late, minute(2)).await;
    delay(&place, &early, minute(1)).await;
    delay(&place, &same_time, minute(2)).await;
    delay(&place, &ahead, minute(3)).await;
    assert_eq!(place.catalog.next_outbox().await.unwrap(), Some(minute(1)));

    assert!(ids(&place.catalog.take_outbox(10, NOON).await.unwrap()).is_empty());
    let batch = place.catalog.take_outbox(10, minute(2)).await.unwrap();
    assert_eq!(ids(&batch), [early.id, late.id, same_time.id]);
    batch.commit().await.unwrap();
    assert_eq!(place.catalog.next_outbox().await.unwrap(), Some(minute(3)));
    let batch = place.catalog.take_outbox(10, minute(3)).await.unwrap();
    assert_eq!(ids(&batch), [ahead.id]);
    batch.commit().await.unwrap();
    assert_eq!(place.catalog.next_outbox().await.unwrap(), None);
}

#[tokio::test]
async fn the_backlog_is_what_is_available_and_what_is_not_counted_up_to_a_limit() {
    let place = Place::new().await;
    let backlog = async |limit, now| place.catalog.outbox_backlog(limit, now).await.unwrap();
    let empty = OutboxBacklog { available: 0, delayed: 0, oldest: None };
    assert_eq!(backlog(10, NOON).await, empty);
    for (number, at) in [(1, 1), (2, 2), (3, 2), (4, 4), (5, 5)] {
        delay(&place, &event(number), minute(at)).await;
    }
    assert_eq!(backlog(10, NOON).await, OutboxBacklog { delayed: 5, ..empty });
    let oldest = Some(minute(1));
    assert_eq!(backlog(10, minute(2)).await, OutboxBacklog { available: 3, delayed: 2, oldest });
    assert_eq!(backlog(1, minute(2)).await, OutboxBacklog { available: 1, delayed: 1, oldest });
}

#[tokio::test]
async fn an_event_comes_out_as_it_went_in() {
    let place = Place::new().await;
    let mut event = event(1);
    event.attempt = 3;
    delay(&place, &event, NOON).await;
    let batch = place.catalog.take_outbox(1, NOON).await.unwrap();
    assert_eq!(Event::from_record(&batch.records[0]).unwrap(), event);
}

#[tokio::test]
async fn what_is_put_back_comes_out_later_as_it_was_and_the_others_are_gone() {
    let place = Place::new().await;
    let [first, mut held, last] = [1, 2, 3].map(event);
    held.attempt = 3;
    for event in [&first, &held, &last] {
        delay(&place, event, NOON).await;
    }
    let mut batch = place.catalog.take_outbox(10, NOON).await.unwrap();
    assert_eq!(ids(&batch), [first.id, held.id, last.id]);
    batch.put_back([1], minute(1)).await.unwrap();
    batch.commit().await.unwrap();
    assert_eq!(place.catalog.next_outbox().await.unwrap(), Some(minute(1)));
    let batch = place.catalog.take_outbox(10, minute(1)).await.unwrap();
    assert_eq!(batch.records.len(), 1);
    assert_eq!(Event::from_record(&batch.records[0]).unwrap(), held);
    // Whose run it is stays known: a run with an event in the outbox is not stuck.
    drop(batch);
    assert_eq!(place.number("select count(*) from outbox where run_id is not null").await, 1);
}

#[tokio::test]
async fn a_batch_that_is_dropped_is_put_back_and_one_that_is_committed_is_gone() {
    let place = Place::new().await;
    fill(&place, 3).await;
    let batch = place.catalog.take_outbox(2, NOON).await.unwrap();
    let taken = ids(&batch);
    drop(batch);
    let again = tests::eventually("the return of a dropped batch", SOON, async || {
        let batch = place.catalog.take_outbox(2, NOON).await.unwrap();
        // The connection of the dropped batch rolls back when it can.
        if ids(&batch) == taken { Ok(batch) } else { Err(ids(&batch)) }
    })
    .await;
    again.commit().await.unwrap();
    assert_eq!(place.number("select count(*) from outbox").await, 1);
}

#[tokio::test]
async fn a_batch_is_never_larger_than_its_limit() {
    let place = Place::new().await;
    fill(&place, 300).await;
    // With and without the planner knowing how much there is.
    for analyze in [false, true] {
        if analyze {
            place.execute("analyze outbox").await;
        }
        for limit in [1, 7, 100] {
            let batch = place.catalog.take_outbox(limit, NOON).await.unwrap();
            assert_eq!(batch.records.len(), usize::try_from(limit).unwrap());
            batch.commit().await.unwrap();
        }
    }
    assert_eq!(place.number("select count(*) from outbox").await, 300 - 2 * 108);
}

#[tokio::test]
async fn what_one_relay_holds_another_passes_over() {
    let place = Place::new().await;
    let other = place.other_process().await;
    fill(&place, 5).await;
    let one = place.catalog.take_outbox(3, NOON).await.unwrap();
    let another = other.take_outbox(3, NOON);
    let another = tokio::time::timeout(SOON, another).await.expect("it waits for the first").unwrap();
    assert_eq!((ids(&one).len(), ids(&another).len()), (3, 2));
    assert!(ids(&one).iter().all(|id| !ids(&another).contains(id)));
    assert!(ids(&other.take_outbox(3, NOON).await.unwrap()).is_empty());
    one.commit().await.unwrap();
    another.commit().await.unwrap();
    assert_eq!(place.number("select count(*) from outbox").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relays_at_the_same_time_share_the_events_among_them() {
    let place = Place::new().await;
    fill(&place, 400).await;
    let mut relays = Vec::new();
    for _ in 0..3 {
        let catalog = place.other_process().await;
        relays.push(tokio::spawn(async move {
            let mut taken = Vec::new();
            loop {
                let batch = catalog.take_outbox(7, NOON).await.unwrap();
                if batch.records.is_empty() {
                    return taken;
                }
                taken.extend(ids(&batch));
                batch.commit().await.unwrap();
            }
        }));
    }
    let mut taken = Vec::new();
    for relay in relays {
        taken.extend(relay.await.unwrap());
    }
    assert_eq!(taken.len(), 400);
    assert_eq!(taken.into_iter().collect::<BTreeSet<_>>().len(), 400);
}

fn event(number: u128) -> Event {
    let run_id = Uuid::from_u128(number);
    let payload = SubscriptionScheduled {
        run_id,
        subscription_id: 7,
        scheduled_for: NOON,
        trigger: "Schedule".to_owned(),
    };
    Event::of_run(run_id, "/tipstaff/tests", NOON, &payload).unwrap()
}

async fn delay(place: &Place, event: &Event, until: Timestamp) {
    place.catalog.delay(event, until).await.unwrap();
}

async fn fill(place: &Place, count: u128) {
    for number in 1..=count {
        delay(place, &event(number), NOON).await;
    }
}

fn ids(batch: &OutboxBatch) -> Vec<EventId> {
    batch.records.iter().map(|record| Event::from_record(record).unwrap().id).collect()
}
