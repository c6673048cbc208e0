//! What is particular to the bus in one process: it is bounded, and a group has one member.

use std::{sync::Arc, time::Duration};

use events::{Bus, BusError, Record, Topic, memory::MemoryBus};
use tokio::time::timeout;

use crate::place::{Member, SOON, event};

/// How many records a topic holds.
const CAPACITY: usize = 10_000;

#[tokio::test]
async fn publishing_waits_while_a_reader_is_behind() {
    let bus = Arc::new(MemoryBus::default());
    let mut member = Member(bus.subscribe("group", &[Topic::SubsSchedule]).await.unwrap());
    bus.publish(&vec![event(0, 7).to_record(); CAPACITY]).await.unwrap();
    let publisher = bus.clone();
    let mut publishing = tokio::spawn(async move { publisher.publish(&[event(1, 7).to_record()]).await });
    timeout(Duration::from_millis(200), &mut publishing).await.expect_err("there was room");

    let received = member.receive().await;
    member.0.store(&received.partition, received.offset + 1).unwrap();
    timeout(SOON, publishing).await.expect("there is no room").unwrap().unwrap();
    assert_eq!(bus.records("subs.schedule").last(), Some(&event(1, 7).to_record()));
}

#[tokio::test]
async fn a_topic_that_nobody_reads_forgets_its_oldest() {
    let bus = MemoryBus::default();
    let letter = |number: usize| Record {
        topic: Topic::SubsSchedule.dead_letter_name(),
        key: None,
        headers: Vec::new(),
        payload: number.to_string().into_bytes(),
    };
    bus.publish(&(0..CAPACITY + 5).map(letter).collect::<Vec<_>>()).await.unwrap();
    let held = bus.records("subs.schedule.dlq");
    assert_eq!(held.len(), CAPACITY);
    assert_eq!(held[0], letter(5));
    assert_eq!(bus.records("crawl.request"), []);
}

#[tokio::test]
async fn every_group_must_have_done_a_record_before_it_is_dropped() {
    let bus = MemoryBus::default();
    let join = async |group| Member(bus.subscribe(group, &[Topic::SubsSchedule]).await.unwrap());
    let (mut one, mut other) = (join("one").await, join("other").await);
    bus.publish(&[event(0, 7).to_record()]).await.unwrap();
    let received = one.receive().await;
    one.0.store(&received.partition, received.offset + 1).unwrap();
    assert_eq!(bus.records("subs.schedule").len(), 1);
    let received = other.receive().await;
    other.0.store(&received.partition, received.offset + 1).unwrap();
    assert_eq!(bus.records("subs.schedule"), []);
}

#[tokio::test]
async fn a_group_has_one_member_at_a_time() {
    let bus = MemoryBus::default();
    let first = bus.subscribe("group", &[Topic::SubsSchedule]).await.unwrap();
    let Err(error) = bus.subscribe("group", &[Topic::SubsSchedule]).await else {
        panic!("there are two members");
    };
    assert!(matches!(&error, BusError::Consume { group, .. } if group == "group"), "{error:?}");
    bus.subscribe("other", &[Topic::SubsSchedule]).await.unwrap();
    drop(first);
    bus.subscribe("group", &[Topic::SubsSchedule]).await.unwrap();
}
