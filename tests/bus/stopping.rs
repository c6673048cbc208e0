//! What comes again when a loop ends, and what does not.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use events::{Bus, BusError, Consumer, Event, HandlerError, Record, Topic, Unacknowledged};
use tests::eventually;
use tokio::{sync::Semaphore, time::Instant};

use crate::{
    member::{DRAIN, GROUP, Log, Noted, Outcome, Setup},
    place::{Place, SOON, event, events, on_every_bus},
};

on_every_bus!(
    an_event_is_not_done_before_what_it_emits_is_published,
    publishing_is_tried_until_it_succeeds,
    a_graceful_end_finishes_what_is_in_flight,
    a_handler_that_never_ends_is_left_at_the_deadline,
    an_end_while_a_setback_cannot_be_recorded_comes_in_time,
    an_unfinished_event_comes_again_though_later_ones_are_done,
);

async fn an_event_is_not_done_before_what_it_emits_is_published(place: Place) {
    let blocked =
        Arc::new(Troubled { bus: place.bus.clone(), trouble: Trouble::Blocks, tried: Mutex::default() });
    let bus: Arc<dyn Bus> = blocked.clone();
    let looping = Setup::new(&bus).start(async |event| Ok(vec![emitted_by(&event)]));
    place.publish(&events(0..1)).await;
    blocked.reaches(1).await;
    looping.kill().await;

    // The process is gone before the broker acknowledged: the next one emits the very same.
    let looping = Setup::new(&place.bus).start(async |event| Ok(vec![emitted_by(&event)]));
    let published = place.records("crawl.request", 1).await;
    assert_eq!(published, blocked.reaches(1).await);
    looping.stop().await;
    place.publish(&events(1..2)).await;
    assert_next(&place, event(1, 7)).await;
}

async fn publishing_is_tried_until_it_succeeds(place: Place) {
    let failing =
        Arc::new(Troubled { bus: place.bus.clone(), trouble: Trouble::Fails(2), tried: Mutex::default() });
    let bus: Arc<dyn Bus> = failing.clone();
    let handled = Log::default();
    let log = handled.clone();
    let looping = Setup::new(&bus).start(move |event| {
        log.note(&event);
        async move { Ok(vec![emitted_by(&event)]) }
    });
    place.publish(&events(0..1)).await;
    assert_eq!(place.records("crawl.request", 1).await, [emitted_by(&event(0, 7)).to_record()]);
    looping.stop().await;
    assert_eq!(failing.reaches(3).await.len(), 3);
    assert_eq!(handled.ids(), [event(0, 7).id]);
    place.publish(&events(1..2)).await;
    assert_next(&place, event(1, 7)).await;
}

async fn a_graceful_end_finishes_what_is_in_flight(place: Place) {
    let (begun, ended, gate) = (Log::default(), Log::default(), Arc::new(Semaphore::new(0)));
    let (begins, ends, passes) = (begun.clone(), ended.clone(), gate.clone());
    let looping = Setup::new(&place.bus).start(move |event| {
        let (begins, ends, passes) = (begins.clone(), ends.clone(), passes.clone());
        async move {
            begins.note(&event);
            passes.acquire().await.unwrap().forget();
            ends.note(&event);
            Ok(vec![emitted_by(&event)])
        }
    });
    // The second waits behind the first.
    place.publish(&events(0..2)).await;
    begun.reaches(1).await;
    looping.ask_to_stop();
    gate.add_permits(100);
    looping.stop().await;
    assert_eq!(ended.ids(), [event(0, 7).id]);
    assert_eq!(place.records("crawl.request", 1).await, [emitted_by(&event(0, 7)).to_record()]);
    assert_next(&place, event(1, 7)).await;
}

async fn a_handler_that_never_ends_is_left_at_the_deadline(place: Place) {
    let begun = Log::default();
    let log = begun.clone();
    let setup = Setup { drain: Duration::from_millis(300), ..Setup::new(&place.bus) };
    let looping = setup.start(move |event| {
        log.note(&event);
        std::future::pending::<Outcome>()
    });
    place.publish(&events(0..1)).await;
    begun.reaches(1).await;
    looping.stop().await;
    assert_next(&place, event(0, 7)).await;
}

async fn an_end_while_a_setback_cannot_be_recorded_comes_in_time(place: Place) {
    let noted = Noted::failing(usize::MAX);
    let setup = Setup { setbacks: noted.clone(), ..Setup::new(&place.bus) };
    let looping = setup.start(async |_| {
        Err(HandlerError::Transient { reason: "Unreachable", retry_at: None, source: "refused".into() })
    });
    place.publish(&events(0..1)).await;
    noted.reaches_attempt(2).await;
    let asked = Instant::now();
    looping.stop().await;
    assert!(asked.elapsed() < DRAIN, "{:?}", asked.elapsed());
    assert_next(&place, event(0, 7)).await;
}

async fn an_unfinished_event_comes_again_though_later_ones_are_done(place: Place) {
    let ended = Log::default();
    let ends = ended.clone();
    let first = event(0, 0).id;
    let setup = Setup { drain: Duration::from_millis(300), ..Setup::new(&place.bus) };
    let looping = setup.start(move |event| {
        let ends = ends.clone();
        async move {
            if event.id == first {
                return std::future::pending().await;
            }
            ends.note(&event);
            Ok(Vec::new())
        }
    });
    // Of many keys, so that some of the others share the first one's partition.
    let events: Vec<_> = (0..40).map(|number| event(number, i64::from(number))).collect();
    place.publish(&events).await;
    ended.reaches(39).await;
    // A graceful end stores all that is done.
    looping.stop().await;

    let handled = Log::default();
    let log = handled.clone();
    let looping = Setup::new(&place.bus).start(move |event| {
        log.note(&event);
        async { Ok(Vec::new()) }
    });
    eventually("the event that was unfinished", SOON, async || match handled.ids().contains(&first) {
        true => Ok(()),
        false => Err(handled.ids().len()),
    })
    .await;
    looping.stop().await;
}

fn emitted_by(parent: &Event) -> Event {
    let crawl = events::CrawlUrl {
        run_id: parent.id,
        subscription_id: 7,
        source_id: 1,
        url: "https://example.org/".to_owned(),
        host: "example.org".to_owned(),
        slot_promised: false,
    };
    parent.child(&crawl.url, "/tipstaff/tests", parent.time, &crawl).unwrap()
}

/// The next member begins with this event: none before it comes again.
async fn assert_next(place: &Place, expected: Event) {
    assert_eq!(place.join(GROUP).await.receive_event().await, expected);
}

/// The bus, where publishing what handlers emit does not go well.
struct Troubled {
    bus: Arc<dyn Bus>,
    trouble: Trouble,
    tried: Mutex<Vec<Record>>,
}

enum Trouble {
    /// No acknowledgement ever comes.
    Blocks,
    /// So many times.
    Fails(usize),
}

impl Troubled {
    async fn reaches(&self, count: usize) -> Vec<Record> {
        eventually("an attempt to publish", SOON, async || {
            let tried = self.tried.lock().unwrap().clone();
            if tried.len() < count { Err(tried.len()) } else { Ok(tried) }
        })
        .await
    }
}

#[async_trait]
impl Bus for Troubled {
    async fn publish_each(&self, records: &[Record]) -> Vec<Unacknowledged> {
        let attempt = {
            let mut tried = self.tried.lock().unwrap();
            tried.extend_from_slice(records);
            tried.len()
        };
        match self.trouble {
            Trouble::Blocks => std::future::pending().await,
            Trouble::Fails(times) if attempt <= times => {
                let error =
                    || BusError::Publish { topic: records[0].topic.clone(), source: "no broker".into() };
                (0..records.len()).map(|number| Unacknowledged { number, error: error() }).collect()
            }
            Trouble::Fails(_) => self.bus.publish_each(records).await,
        }
    }

    async fn publish_unprefixed(&self, record: &Record) -> Result<(), BusError> {
        self.bus.publish_unprefixed(record).await
    }

    async fn subscribe(&self, group: &str, topics: &[Topic]) -> Result<Box<dyn Consumer>, BusError> {
        self.bus.subscribe(group, topics).await
    }

    async fn ping(&self) -> Result<(), BusError> {
        Ok(())
    }

    async fn ensure_topics(&self) -> Result<(), BusError> {
        self.bus.ensure_topics().await
    }
}
