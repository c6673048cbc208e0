//! Records come out as they went in, in order, and again until they are done.

use std::{collections::BTreeMap, time::Duration};

use events::Record;
use tokio::time::timeout;

use crate::place::{Place, event, events, on_every_bus};

on_every_bus!(
    a_record_is_received_as_it_was_published,
    records_of_one_key_keep_their_order,
    a_new_group_begins_with_the_oldest,
    what_is_not_stored_comes_again_after_a_close,
    what_is_not_stored_comes_again_after_a_drop,
    what_is_stored_does_not_come_again,
    a_wait_that_is_cancelled_loses_nothing,
    nothing_published_is_fine,
    topics_may_be_ensured_again,
);

async fn a_record_is_received_as_it_was_published(place: Place) {
    let record = |key: Option<&[u8]>, payload: &[u8]| Record {
        topic: "subs.schedule".to_owned(),
        key: key.map(<[u8]>::to_vec),
        headers: vec![
            ("first".to_owned(), b"1".to_vec()),
            ("binary".to_owned(), vec![0, 255, 10]),
            ("first".to_owned(), b"2".to_vec()),
            ("empty".to_owned(), Vec::new()),
        ],
        payload: payload.to_vec(),
    };
    let mut published = vec![
        record(Some(b"key"), b"{}"),
        record(Some(&[0, 159]), &[0, 255]),
        record(Some(b"no payload"), b""),
        record(None, b"no key"),
    ];
    published[3].headers.clear();
    place.bus.publish(&published).await.unwrap();
    let mut member = place.join("group").await;
    let mut received = Vec::new();
    for _ in 0..published.len() {
        let next = member.receive().await;
        assert_eq!(&*next.partition.topic, "subs.schedule");
        received.push(next.record);
    }
    for record in published {
        assert!(received.contains(&record), "{record:?} is not in {received:?}");
    }
}

async fn records_of_one_key_keep_their_order(place: Place) {
    let mut member = place.join("group").await;
    for batch in 0..20 {
        let batch: Vec<_> = (0..15).map(|n| event(batch * 15 + n, i64::from(n % 5))).collect();
        place.publish(&batch).await;
    }
    let mut by_key: BTreeMap<String, Vec<uuid::Uuid>> = BTreeMap::new();
    for event in member.receive_events(300).await {
        by_key.entry(event.key).or_default().push(event.id);
    }
    assert_eq!(by_key.len(), 5);
    for (key, ids) in by_key {
        let of_key = (0..300).filter(|n| (n % 15 % 5).to_string() == key);
        let expected: Vec<_> = of_key.map(|n| event(n, key.parse().unwrap()).id).collect();
        assert_eq!(ids, expected, "key {key}");
    }
}

async fn a_new_group_begins_with_the_oldest(place: Place) {
    place.publish(&events(0..3)).await;
    for group in ["one", "another"] {
        let mut member = place.join(group).await;
        assert_eq!(member.receive_events(3).await, events(0..3));
        member.0.close().await.unwrap();
    }
}

async fn what_is_not_stored_comes_again_after_a_close(place: Place) {
    let mut member = place.join("group").await;
    place.publish(&events(0..4)).await;
    store_second_of_four(&mut member).await;
    member.0.close().await.unwrap();
    let mut next = place.join("group").await;
    assert_eq!(next.receive_events(2).await, events(2..4));
}

async fn what_is_not_stored_comes_again_after_a_drop(place: Place) {
    let mut member = place.join("group").await;
    place.publish(&events(0..4)).await;
    store_second_of_four(&mut member).await;
    drop(member);
    let mut next = place.join("group").await;
    assert_eq!(next.receive_events(2).await, events(2..4));
}

async fn store_second_of_four(member: &mut crate::place::Member) {
    let mut received = Vec::new();
    for _ in 0..4 {
        received.push(member.receive().await);
    }
    let second = &received[1];
    member.0.store(&second.partition, second.offset + 1).unwrap();
}

async fn what_is_stored_does_not_come_again(place: Place) {
    let mut member = place.join("group").await;
    place.publish(&events(0..4)).await;
    for _ in 0..4 {
        let received = member.receive().await;
        member.0.store(&received.partition, received.offset + 1).unwrap();
    }
    member.0.close().await.unwrap();
    place.publish(&events(4..5)).await;
    let mut next = place.join("group").await;
    assert_eq!(next.receive_event().await, event(4, 7));
    // Also when nobody stored anything since.
    drop(next);
    let mut third = place.join("group").await;
    assert_eq!(third.receive_event().await, event(4, 7));
}

async fn a_wait_that_is_cancelled_loses_nothing(place: Place) {
    let mut member = place.join("group").await;
    place.publish(&events(0..20)).await;
    let mut received = vec![member.receive_event().await];
    // Without room there is no record, though some are there.
    timeout(Duration::from_millis(200), member.0.receive(false)).await.unwrap_err();
    while received.len() < 20 {
        tokio::select! {
            biased;
            event = member.receive_event() => received.push(event),
            // Cancels the wait whenever it would have to wait.
            () = tokio::task::yield_now() => {}
        }
    }
    assert_eq!(received, events(0..20));
}

async fn nothing_published_is_fine(place: Place) {
    place.bus.publish(&[]).await.unwrap();
}

async fn topics_may_be_ensured_again(place: Place) {
    place.publish(&events(0..1)).await;
    place.bus.ensure_topics().await.unwrap();
    place.bus.ensure_topics().await.unwrap();
    assert_eq!(place.join("group").await.receive_event().await, event(0, 7));
}
