//! What is particular to Kafka: topics, clients, and groups of several members.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use events::{
    Bus, BusError, Event, EventId, Record, Topic,
    kafka::{KafkaBus, KafkaOptions},
};
use tests::eventually;
use tokio::{sync::Semaphore, time::Instant};

use crate::{
    member::{GROUP, Log, Looping, Outcome, Setup},
    place::{Cluster, Member, PARTITIONS, Place, SOON, event},
};

#[tokio::test]
async fn every_topic_and_its_dead_letters_are_created_with_their_partitions() {
    let cluster = Cluster::new().await;
    let bus = KafkaBus::new(cluster.options()).unwrap();
    let other = KafkaBus::new(cluster.options()).unwrap();
    let (one, another) = tokio::join!(bus.ensure_topics(), other.ensure_topics());
    one.unwrap();
    another.unwrap();
    let expected: BTreeMap<_, _> = Topic::ALL
        .into_iter()
        .flat_map(|topic| [topic.name().to_owned(), topic.dead_letter_name()])
        .map(|name| (name, usize::try_from(PARTITIONS).unwrap()))
        .collect();
    assert_eq!(expected.len(), 16);
    // The broker learns of what its controller has made.
    eventually("every topic", SOON, async || {
        let topics = cluster.topics().await;
        if topics == expected { Ok(()) } else { Err(topics) }
    })
    .await;

    // Again, by an installation that would lay them out otherwise: what is there stays.
    let wider = KafkaBus::new(KafkaOptions { partitions: 5, ..cluster.options() }).unwrap();
    wider.ensure_topics().await.unwrap();
    assert_eq!(cluster.topics().await, expected);
}

#[tokio::test]
async fn the_brokers_may_choose_how_often_topics_are_replicated() {
    let cluster = Cluster::new().await;
    let bus = KafkaBus::new(KafkaOptions { replication: -1, ..cluster.options() }).unwrap();
    bus.ensure_topics().await.unwrap();
    eventually("every topic", SOON, async || {
        let topics = cluster.topics().await;
        if topics.len() == 16 { Ok(()) } else { Err(topics) }
    })
    .await;
}

#[tokio::test]
async fn a_topic_of_others_is_not_created_and_is_written_to_once_it_is_there() {
    let cluster = Cluster::new().await;
    let bus = KafkaBus::new(cluster.options()).unwrap();
    let topic = format!("{}court.changes", cluster.options().prefix);
    let record = Record { topic, key: None, headers: Vec::new(), payload: b"amended".to_vec() };
    for _ in 0..2 {
        let refused = bus.publish_unprefixed(&record).await.unwrap_err();
        assert!(matches!(&refused, BusError::NoTopic { topic } if *topic == record.topic), "{refused:?}");
    }
    assert_eq!(cluster.topics().await, BTreeMap::new());
    cluster.create_topics(&["court.changes"]).await;
    eventually("an acknowledgement", SOON, async || bus.publish_unprefixed(&record).await).await;
    let records = cluster.records("court.changes").await.unwrap();
    assert_eq!(records.iter().map(|record| &*record.payload).collect::<Vec<_>>(), [b"amended"]);
}

#[tokio::test]
async fn a_member_that_comes_before_the_topics_waits_for_them() {
    let cluster = Cluster::new().await;
    let bus = KafkaBus::new(cluster.options()).unwrap();
    let mut member = Member(bus.subscribe("group", &[Topic::SubsSchedule]).await.unwrap());
    bus.ensure_topics().await.unwrap();
    bus.publish(&[event(0, 7).to_record()]).await.unwrap();
    assert_eq!(member.receive_event().await, event(0, 7));
}

#[tokio::test]
async fn a_topic_that_the_cluster_refuses_is_named() {
    let cluster = Cluster::new().await;
    let bus = KafkaBus::new(KafkaOptions { replication: 3, ..cluster.options() }).unwrap();
    let error = bus.ensure_topics().await.unwrap_err();
    assert!(matches!(error, BusError::Topics(_)), "{error:?}");
    let shown = events::error_chain(&error);
    assert!(shown.contains("subs.schedule") && shown.contains("replication factor"), "{shown}");
}

#[tokio::test]
async fn what_is_not_acknowledged_is_an_error() {
    let cluster = Cluster::new().await;
    let properties = BTreeMap::from([("message.timeout.ms".to_owned(), "1000".to_owned())]);
    let bus = KafkaBus::new(KafkaOptions { properties, ..cluster.options() }).unwrap();
    // No such topic.
    let error = bus.publish(&[event(0, 7).to_record()]).await.unwrap_err();
    assert!(matches!(&error, BusError::Publish { topic, .. } if topic == "subs.schedule"), "{error:?}");
}

#[tokio::test]
async fn a_property_that_does_not_exist_is_refused() {
    let cluster = Cluster::new().await;
    for (name, value) in [("no.such.property", "1"), ("session.timeout.ms", "soon")] {
        let properties = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        let error = match KafkaBus::new(KafkaOptions { properties, ..cluster.options() }) {
            Ok(_) => panic!("{name}={value} was accepted"),
            Err(error) => error,
        };
        assert!(matches!(error, BusError::Configuration(_)), "{error:?}");
        assert!(events::error_chain(&error).contains(name), "{error:?}");
    }
}

#[tokio::test]
async fn tls_and_sasl_are_part_of_the_client() {
    let cluster = Cluster::new().await;
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let properties = BTreeMap::from(
            [
                ("security.protocol", "SASL_SSL"),
                ("sasl.mechanism", mechanism),
                ("sasl.username", "tipstaff"),
                ("sasl.password", "secret"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        let options = KafkaOptions { properties, ..cluster.options() };
        let bus = KafkaBus::new(options).unwrap_or_else(|error| panic!("{mechanism}: {error:?}"));
        bus.subscribe("group", &[Topic::SubsSchedule]).await.unwrap();
    }
}

/// With one key in each partition all is handled in the partition's order, so what was done ends where what is left
/// begins.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_move_between_members_without_repeating_an_event() {
    let place = Place::kafka().await;
    let keys = one_key_of_each_partition(&place).await;
    let (mut handled, mut published) = hand_over(&place, &keys).await;
    assert_eq!(handled.len(), published.len());
    handled.sort();
    published.sort();
    assert_eq!(handled, published);
}

/// Keys overtake each other: what was done beyond the first event that was not comes again, and nothing is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_move_between_members_without_losing_an_event() {
    let place = Place::kafka().await;
    let (mut handled, mut published) = hand_over(&place, &(0..60).collect::<Vec<_>>()).await;
    handled.sort();
    handled.dedup();
    published.sort();
    assert_eq!(handled, published);
}

/// A second member joins a busy one, and later the first one leaves. Returns what was handled and what was published.
async fn hand_over(place: &Place, keys: &[i64]) -> (Vec<EventId>, Vec<EventId>) {
    const EVENTS: usize = 300;
    const BACKLOG: usize = 2_000;
    let (all, by_first, by_second) = (Log::default(), Log::default(), Log::default());
    let mut published: Vec<EventId> = Vec::new();
    let publish = async |published: &mut Vec<EventId>, count: u32| {
        let first = u32::try_from(published.len()).unwrap();
        let keys = keys.iter().cycle().skip(published.len());
        let events: Vec<_> =
            (first..first + count).zip(keys).map(|(number, key)| event(number, *key)).collect();
        published.extend(events.iter().map(|event| event.id));
        place.publish(&events).await;
    };
    let first = noting(&place.bus, [&all, &by_first]);
    publish(&mut published, 60).await;
    by_first.reaches(1).await;
    let other_process: Arc<dyn Bus> = Arc::new(KafkaBus::new(place.cluster().options()).unwrap());
    let second = noting(&other_process, [&all, &by_second]);
    // The first has more than it can hold whenever the second comes and takes its share.
    while by_second.ids().is_empty() || published.len() < EVENTS {
        if published.len() < all.ids().len() + BACKLOG {
            publish(&mut published, 20).await;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // And now the first one goes, in the midst of it.
    first.stop().await;
    let after = published.len();
    publish(&mut published, 60).await;
    eventually("the rest", SOON, async || {
        let handled = all.ids();
        match published.iter().filter(|id| !handled.contains(id)).count() {
            0 => Ok(()),
            missing => Err(missing),
        }
    })
    .await;
    second.stop().await;
    assert!(published[after..].iter().all(|id| by_second.ids().contains(id)), "the first went on");
    (all.ids(), published)
}

async fn one_key_of_each_partition(place: &Place) -> Vec<i64> {
    let probes: Vec<_> = (0..60).map(|key| event(key, i64::from(key))).collect();
    let records: Vec<_> = probes
        .iter()
        .map(|probe| events::Record { topic: "crawl.request".to_owned(), ..probe.to_record() })
        .collect();
    place.bus.publish(&records).await.unwrap();
    let mut member = Member(place.bus.subscribe("probe", &[Topic::CrawlRequest]).await.unwrap());
    let mut keys: BTreeMap<i32, i64> = BTreeMap::new();
    for _ in probes {
        let received = member.receive().await;
        let key = String::from_utf8(received.record.key.unwrap()).unwrap();
        keys.insert(received.partition.number, key.parse().unwrap());
    }
    assert_eq!(keys.len(), usize::try_from(PARTITIONS).unwrap());
    keys.into_values().collect()
}

#[tokio::test]
async fn a_hand_over_waits_for_what_is_in_flight() {
    let place = Place::kafka().await;
    let (begun, ended, gate) = (Log::default(), Log::default(), Arc::new(Semaphore::new(0)));
    let start = |bus: &Arc<dyn Bus>| {
        let (begins, ends, passes) = (begun.clone(), ended.clone(), gate.clone());
        Setup { concurrency: 24, ..Setup::new(bus) }.start(move |event| {
            let (begins, ends, passes) = (begins.clone(), ends.clone(), passes.clone());
            async move {
                begins.note(&event);
                let _pass = passes.acquire().await.unwrap();
                ends.note(&event);
                Outcome::Ok(Vec::new())
            }
        })
    };
    let first = start(&place.bus);
    let mut published = 0;
    // Some in each partition, so also in those that will be handed over.
    publish(&place, &mut published, 24).await;
    begun.reaches(24).await;
    let other_process: Arc<dyn Bus> = Arc::new(KafkaBus::new(place.cluster().options()).unwrap());
    let second = start(&other_process);
    place.cluster().reaches(GROUP, 2, "Stable").await;
    // The first knows by now that it has to give something away. Its handlers take a while longer.
    tokio::time::sleep(Duration::from_secs(3)).await;
    gate.add_permits(1_000);
    ended.reaches(24).await;
    // The second has its share when it handles something.
    let before = begun.ids().len();
    assert_eq!(before, 24, "an event was handled by both");
    publish(&place, &mut published, 24).await;
    ended.reaches(48).await;
    first.stop().await;
    second.stop().await;
    assert_eq!(begun.ids().len(), 48, "an event was handled by both");
}

#[tokio::test]
async fn an_end_in_the_midst_of_a_hand_over_does_not_wait_for_its_deadline() {
    let place = Place::kafka().await;
    let options = KafkaOptions { revoke: Duration::from_secs(40), ..place.cluster().options() };
    let bus: Arc<dyn Bus> = Arc::new(KafkaBus::new(options).unwrap());
    let begun = Log::default();
    let log = begun.clone();
    let setup = Setup { concurrency: 24, drain: Duration::from_secs(5), ..Setup::new(&bus) };
    let looping = setup.start(move |event| {
        log.note(&event);
        std::future::pending::<Outcome>()
    });
    let mut published = 0;
    publish(&place, &mut published, 24).await;
    begun.reaches(24).await;
    let mut next = place.join(GROUP).await;
    place.cluster().reaches(GROUP, 2, "Stable").await;
    let asked = Instant::now();
    looping.stop().await;
    assert!(asked.elapsed() < Duration::from_secs(25), "{:?}", asked.elapsed());
    let mut again: Vec<_> = next.receive_events(24).await.iter().map(|event| event.id).collect();
    again.sort();
    again.dedup();
    assert_eq!(again.len(), 24);
}

/// More waits than a member holds: it fetches no more, and takes part in its group all the same.
#[tokio::test]
async fn a_member_without_room_hands_partitions_over_and_goes_on_where_it_was() {
    let place = Place::kafka().await;
    let events: Vec<Event> = (0..4_000).map(of_many_keys).collect();
    place.publish(&events).await;
    let mut missing: HashSet<EventId> = events.iter().map(|event| event.id).collect();
    let mut first = place.join(GROUP).await;
    missing.remove(&first.receive_event().await.id);
    let other_process: Arc<dyn Bus> = Arc::new(KafkaBus::new(place.cluster().options()).unwrap());
    let mut second = Member(other_process.subscribe(GROUP, &[Topic::SubsSchedule]).await.unwrap());
    let hand_over = async {
        loop {
            // Whoever drops what is revoked has handed it over.
            drop(first.0.receive(false).await.unwrap());
        }
    };
    tokio::select! {
        () = hand_over => {}
        () = place.cluster().reaches(GROUP, 2, "Stable") => {}
    }
    let (mut by_first, mut by_second) = (0, 0);
    while !missing.is_empty() {
        let (event, count) = tokio::select! {
            event = first.receive_event() => (event, &mut by_first),
            event = second.receive_event() => (event, &mut by_second),
        };
        *count += usize::from(missing.remove(&event.id));
    }
    assert!(by_first > 0 && by_second > 0, "{by_first} by the first, {by_second} by the second");

    // The first gets back what it gave away when it fetched nothing.
    drop(second);
    let events: Vec<Event> = (4_000..4_060).map(of_many_keys).collect();
    place.publish(&events).await;
    let mut missing: HashSet<EventId> = events.iter().map(|event| event.id).collect();
    while !missing.is_empty() {
        missing.remove(&first.receive_event().await.id);
    }
}

#[tokio::test]
async fn what_a_killed_member_had_not_finished_goes_to_the_other() {
    let place = Place::kafka().await;
    let properties = BTreeMap::from([("session.timeout.ms".to_owned(), "6000".to_owned())]);
    let options = KafkaOptions { properties, ..place.cluster().options() };
    let doomed_bus: Arc<dyn Bus> = Arc::new(KafkaBus::new(options.clone()).unwrap());
    let begun = Log::default();
    let log = begun.clone();
    let doomed = Setup { concurrency: 24, ..Setup::new(&doomed_bus) }.start(move |event| {
        log.note(&event);
        std::future::pending::<Outcome>()
    });
    let mut published = 0;
    publish(&place, &mut published, 24).await;
    begun.reaches(24).await;
    let (all, by_second) = (Log::default(), Log::default());
    let bus: Arc<dyn Bus> = Arc::new(KafkaBus::new(options).unwrap());
    let second = noting(&bus, [&all, &by_second]);
    doomed.kill().await;
    let mut handled = all.reaches(24).await;
    second.stop().await;
    handled.sort();
    handled.dedup();
    assert_eq!(handled.len(), 24);
}

fn noting(bus: &Arc<dyn Bus>, logs: [&Log; 2]) -> Looping {
    let logs = logs.map(Clone::clone);
    Setup::new(bus).start(move |event| {
        let logs = logs.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            logs.iter().for_each(|log| log.note(&event));
            Outcome::Ok(Vec::new())
        }
    })
}

async fn publish(place: &Place, published: &mut u32, count: u32) {
    let events: Vec<_> = (*published..*published + count).map(of_many_keys).collect();
    place.publish(&events).await;
    *published += count;
}

fn of_many_keys(number: u32) -> Event {
    event(number, i64::from(number % 60))
}
