//! What becomes of an event: handled, put off, given up, or a dead letter; and in which order.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use events::{CrawlUrl, Event, EventId, HandlerError, Record, SubscriptionScheduled};
use jiff::Timestamp;
use tests::eventually;
use tokio::{
    sync::{Barrier, Semaphore},
    time::timeout,
};

use crate::{
    member::{GROUP, LAST_ATTEMPT, Log, Noted, Outcome, Setback, Setup, WAITING},
    place::{Place, SOON, event, events, on_every_bus},
};

on_every_bus!(
    what_a_handler_emits_is_published,
    a_record_that_is_no_event_becomes_a_dead_letter,
    a_job_that_nobody_does_becomes_a_dead_letter,
    a_handler_that_panics_fails_its_event_alone,
    an_event_that_makes_no_sense_becomes_a_dead_letter,
    an_event_that_was_put_off_often_enough_becomes_a_dead_letter,
    failures_are_told_apart,
    what_a_group_put_off_comes_back_to_it_alone,
    what_is_given_up_unseen_becomes_a_dead_letter,
    a_setback_that_cannot_be_recorded_is_tried_again,
    events_of_one_key_are_handled_one_after_the_other,
    events_of_different_keys_are_handled_at_the_same_time,
    no_more_is_handled_at_the_same_time_than_is_allowed,
    a_key_that_has_too_many_events_holds_up_no_other,
);

async fn what_a_handler_emits_is_published(place: Place) {
    let looping = Setup::new(&place.bus).start(async |event| Ok(crawls(&event)));
    place.publish(&events(0..2)).await;
    let emitted = place.records("crawl.request", 4).await;
    looping.stop().await;
    for parent in events(0..2) {
        for expected in crawls(&parent) {
            assert!(emitted.contains(&expected.to_record()), "{expected:?}");
        }
    }
    assert_done(&place).await;
}

async fn a_record_that_is_no_event_becomes_a_dead_letter(place: Place) {
    let handled = Log::default();
    let looping = noting(Setup::new(&place.bus), &handled);
    let key = event(0, 7).to_record().key;
    let garbage = Record {
        topic: "subs.schedule".to_owned(),
        key: key.clone(),
        headers: Vec::new(),
        payload: vec![0, 159, 146, 150],
    };
    let mut half = event(1, 7).to_record();
    half.headers.retain(|(name, _)| name != "ce_id");
    place.bus.publish(&[garbage.clone(), half.clone(), event(2, 7).to_record()]).await.unwrap();
    assert_eq!(handled.reaches(1).await, [event(2, 7).id]);
    let letters = place.records("subs.schedule.dlq", 2).await;
    assert_letter(&letters[0], garbage, "`ce_specversion` is missing");
    assert_letter(&letters[1], half, "`ce_id` is missing");
    looping.stop().await;
    assert_done(&place).await;
}

async fn a_job_that_nobody_does_becomes_a_dead_letter(place: Place) {
    let handled = Log::default();
    let looping = noting(Setup::new(&place.bus), &handled);
    let mut unknown = event(0, 7);
    unknown.job_type = "subscription.vanished".to_owned();
    place.publish(&[unknown.clone(), event(1, 7)]).await;
    assert_eq!(handled.reaches(1).await, [event(1, 7).id]);
    let letters = place.records("subs.schedule.dlq", 1).await;
    assert_letter(
        &letters[0],
        unknown.to_record(),
        "no handler is registered for the job `subscription.vanished`",
    );
    looping.stop().await;
    assert_done(&place).await;
}

async fn a_handler_that_panics_fails_its_event_alone(place: Place) {
    let handled = Log::default();
    let log = handled.clone();
    let setup = Setup::new(&place.bus);
    let noted = setup.setbacks.clone();
    let looping = setup.start(move |event| {
        let log = log.clone();
        async move {
            assert_ne!(event.id, crate::place::event(0, 7).id, "this handler always fails so");
            log.note(&event);
            Ok(Vec::new())
        }
    });
    place.publish(&events(0..2)).await;
    assert_eq!(handled.reaches(1).await, [event(1, 7).id]);
    let letters = place.records("subs.schedule.dlq", 1).await;
    assert_letter(&letters[0], event(0, 7).to_record(), "this handler always fails so");
    assert_failed(&noted, event(0, 7).id).await;
    looping.stop().await;
    assert_done(&place).await;
}

async fn an_event_that_makes_no_sense_becomes_a_dead_letter(place: Place) {
    let handled = Log::default();
    let log = handled.clone();
    let setup = Setup::new(&place.bus);
    let noted = setup.setbacks.clone();
    let looping = setup.start(move |event| {
        let log = log.clone();
        async move {
            event.payload::<SubscriptionScheduled>()?;
            log.note(&event);
            Ok(Vec::new())
        }
    });
    let mut senseless = event(0, 7);
    senseless.payload = b"{\"run_id\":".to_vec();
    place.publish(&[senseless.clone(), event(1, 7)]).await;
    assert_eq!(handled.reaches(1).await, [event(1, 7).id]);
    let letters = place.records("subs.schedule.dlq", 1).await;
    assert_letter(&letters[0], senseless.to_record(), "not that of a `subscription.scheduled`: EOF");
    assert_failed(&noted, senseless.id).await;
    looping.stop().await;
    assert_done(&place).await;
}

async fn an_event_that_was_put_off_often_enough_becomes_a_dead_letter(place: Place) {
    let looping = Setup::new(&place.bus).start(|_| async { Err(transient(None)) });
    let mut last = event(0, 7);
    last.attempt = LAST_ATTEMPT;
    place.publish(&[event(1, 7), last.clone()]).await;
    let letters = place.records("subs.schedule.dlq", 1).await;
    assert_letter(&letters[0], last.to_record(), "connection refused");
    looping.stop().await;
    assert_done(&place).await;
}

async fn failures_are_told_apart(place: Place) {
    let later: Timestamp = "2026-03-09T13:00:00Z".parse().unwrap();
    let setup = Setup::new(&place.bus);
    let noted = setup.setbacks.clone();
    let [again, again_later, never] = [event(0, 7), event(1, 7), event(2, 7)];
    let (id, later_id) = (again.id, again_later.id);
    let looping = setup.start(move |event| async move {
        Err(if event.id == id {
            transient(None)
        } else if event.id == later_id {
            transient(Some(later))
        } else {
            HandlerError::Permanent { reason: "InvalidUrl", source: "no host".into() }
        })
    });
    place.publish(&events(0..3)).await;
    let put_off = |event: &Event, retry_at| Setback::PutOff {
        id: event.id,
        reason: "Unreachable",
        message: "connection refused".to_owned(),
        retry_at,
    };
    let given_up = Setback::GivenUp { id: never.id, reason: "InvalidUrl", message: "no host".to_owned() };
    assert_eq!(noted.reaches(3).await, [put_off(&again, None), put_off(&again_later, Some(later)), given_up]);
    looping.stop().await;
    assert_done(&place).await;
}

async fn what_a_group_put_off_comes_back_to_it_alone(place: Place) {
    let other = Setup { group: "others", ..Setup::new(&place.bus) };
    let noted = other.setbacks.clone();
    let (own, others) = (Log::default(), Log::default());
    let looping = noting(Setup::new(&place.bus), &own);
    let log = others.clone();
    let also_looping = other.start(move |event| {
        log.note(&event);
        async move { if event.attempt == 0 { Err(transient(None)) } else { Ok(Vec::new()) } }
    });
    let (event, next) = (event(0, 7), event(1, 7));
    place.publish(std::slice::from_ref(&event)).await;
    noted.reaches(1).await;
    // As it comes out of the outbox.
    let [addressee] = &noted.addressees()[..] else { panic!("{:?}", noted.addressees()) };
    assert_eq!(addressee.as_deref(), Some("others"));
    let again = Event { attempt: 1, addressee: addressee.clone(), ..event.clone() };
    place.publish(&[again, next.clone()]).await;
    assert_eq!(others.reaches(3).await, [event.id, event.id, next.id]);
    assert_eq!(own.reaches(2).await, [event.id, next.id]);
    looping.stop().await;
    also_looping.stop().await;
}

async fn what_is_given_up_unseen_becomes_a_dead_letter(place: Place) {
    let setup = Setup { setbacks: Noted::unseen(), ..Setup::new(&place.bus) };
    let looping = setup
        .start(|_| async { Err(HandlerError::Permanent { reason: "InvalidUrl", source: "no host".into() }) });
    place.publish(&[event(0, 7)]).await;
    let letters = place.records("subs.schedule.dlq", 1).await;
    assert_letter(&letters[0], event(0, 7).to_record(), "no host");
    looping.stop().await;
    assert_done(&place).await;
}

async fn a_setback_that_cannot_be_recorded_is_tried_again(place: Place) {
    let noted = Noted::failing(2);
    let setup = Setup { setbacks: noted.clone(), ..Setup::new(&place.bus) };
    let handled = Log::default();
    let log = handled.clone();
    let looping = setup.start(move |event| {
        log.note(&event);
        async { Err(transient(None)) }
    });
    place.publish(&events(0..1)).await;
    assert_eq!(noted.reaches(1).await.len(), 1);
    assert_eq!(noted.attempts(), 3);
    looping.stop().await;
    // The event was handled once: only its setback was repeated.
    assert_eq!(handled.ids(), [event(0, 7).id]);
    assert_done(&place).await;
}

async fn events_of_one_key_are_handled_one_after_the_other(place: Place) {
    let (begun, ended) = (Log::default(), Log::default());
    let (begins, ends) = (begun.clone(), ended.clone());
    let looping = Setup::new(&place.bus).start(move |event| {
        let (begins, ends) = (begins.clone(), ends.clone());
        async move {
            begins.note(&event);
            // Gives the others every opportunity to overtake.
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            assert_eq!(begins.ids().len(), ends.ids().len() + 1, "two of a key at once");
            ends.note(&event);
            Ok(Vec::new())
        }
    });
    place.publish(&events(0..600)).await;
    let expected: Vec<_> = events(0..600).iter().map(|event| event.id).collect();
    assert_eq!(ended.reaches(600).await, expected);
    looping.stop().await;
}

async fn events_of_different_keys_are_handled_at_the_same_time(place: Place) {
    let all = Arc::new(Barrier::new(8));
    let handled = Log::default();
    let log = handled.clone();
    let looping = Setup::new(&place.bus).start(move |event| {
        let (all, log) = (all.clone(), log.clone());
        async move {
            timeout(SOON, all.wait()).await.expect("the others do not come");
            log.note(&event);
            Ok(Vec::new())
        }
    });
    let events: Vec<_> = (0..16).map(|number| event(number, i64::from(number))).collect();
    place.publish(&events).await;
    handled.reaches(16).await;
    looping.stop().await;
}

async fn a_key_that_has_too_many_events_holds_up_no_other(place: Place) {
    let handled = Log::default();
    let gate = Arc::new(Semaphore::new(0));
    let (log, closed) = (handled.clone(), gate.clone());
    let setup = Setup { crowded_after: Duration::from_millis(100), ..Setup::new(&place.bus) };
    let noted = setup.setbacks.clone();
    let looping = setup.start(move |event| {
        let (log, closed) = (log.clone(), closed.clone());
        async move {
            if event.payload::<SubscriptionScheduled>()?.subscription_id == 7 {
                // Open once it is opened.
                drop(closed.acquire().await);
            }
            log.note(&event);
            Ok(Vec::new())
        }
    });
    let slow = events(0..3 * WAITING as u32);
    let quick = event(1_000, 8);
    place.publish(&slow).await;
    place.publish(std::slice::from_ref(&quick)).await;
    assert_eq!(handled.reaches(1).await, [quick.id]);

    noted.reaches(WAITING).await;
    gate.close();
    let mut seen = Vec::new();
    eventually("all of them", SOON, async || {
        seen = handled.ids();
        let aside = noted.attempts();
        if seen.len() + aside == slow.len() + 1 { Ok(()) } else { Err((seen.len(), aside)) }
    })
    .await;
    looping.stop().await;
    let aside: Vec<EventId> = noted
        .reaches(WAITING)
        .await
        .into_iter()
        .map(|setback| match setback {
            Setback::PutAside { id } => id,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(noted.addressees(), vec![Some(GROUP.to_owned()); aside.len()]);
    // Each is handled or put aside, and those that are not keep their order.
    let in_order: Vec<EventId> = slow.iter().map(|event| event.id).filter(|id| !aside.contains(id)).collect();
    assert_eq!(seen[1..], in_order);
    assert!(aside.iter().all(|id| slow.iter().any(|event| event.id == *id)), "{aside:?}");
    assert_done(&place).await;
}

async fn no_more_is_handled_at_the_same_time_than_is_allowed(place: Place) {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let handled = Log::default();
    let (log, highest) = (handled.clone(), most.clone());
    let setup = Setup { concurrency: 3, ..Setup::new(&place.bus) };
    let looping = setup.start(move |event| {
        let (log, now, highest) = (log.clone(), now.clone(), highest.clone());
        async move {
            highest.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            // Long enough for the others to begin, if they may.
            tokio::time::sleep(Duration::from_millis(10)).await;
            now.fetch_sub(1, Ordering::SeqCst);
            log.note(&event);
            Ok(Vec::new())
        }
    });
    // More than the consumer and the loop hold, and slower than room is waited for, so that fetching pauses.
    let events: Vec<_> = (0..2_000).map(|number| event(number, i64::from(number))).collect();
    place.publish(&events).await;
    let mut ids = handled.reaches(2_000).await;
    looping.stop().await;
    assert_eq!(most.load(Ordering::SeqCst), 3);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 2_000);
}

/// Two events that follow from one.
fn crawls(parent: &Event) -> Vec<Event> {
    let scheduled: SubscriptionScheduled = parent.payload().unwrap();
    ["https://example.org/a", "https://example.org/b"]
        .map(|url| {
            let crawl = CrawlUrl {
                run_id: scheduled.run_id,
                subscription_id: scheduled.subscription_id,
                source_id: 1,
                url: url.to_owned(),
                host: "example.org".to_owned(),
                slot_promised: false,
            };
            parent.child(url, "/tipstaff/tests", parent.time, &crawl).unwrap()
        })
        .into()
}

fn transient(retry_at: Option<Timestamp>) -> HandlerError {
    HandlerError::Transient { reason: "Unreachable", retry_at, source: "connection refused".into() }
}

fn noting(setup: Setup, handled: &Log) -> crate::member::Looping {
    let log = handled.clone();
    setup.start(move |event| {
        log.note(&event);
        async { Outcome::Ok(Vec::new()) }
    })
}

/// The dead letter is the record as it came, and says why.
fn assert_letter(letter: &Record, mut of: Record, reason: &str) {
    let shown = String::from_utf8(letter.header("dead_letter_reason").unwrap().to_vec()).unwrap();
    assert!(shown.contains(reason), "{shown}");
    of.topic.push_str(".dlq");
    if of.header("addressee").is_none() {
        of.headers.push(("addressee".to_owned(), GROUP.as_bytes().to_vec()));
    }
    of.headers.push(("dead_letter_reason".to_owned(), shown.into_bytes()));
    assert_eq!(letter, &of);
}

/// A dead letter ends what its run waits for.
async fn assert_failed(noted: &Noted, event: EventId) {
    let setbacks = noted.reaches(1).await;
    let [Setback::GivenUp { id, reason: "HandlerFailed", .. }] = setbacks.as_slice() else {
        panic!("{setbacks:?}")
    };
    assert_eq!(*id, event);
}

/// Nothing that was published before comes again: a later event is the first that the next member gets.
async fn assert_done(place: &Place) {
    let later = event(9_999, 7);
    place.publish(std::slice::from_ref(&later)).await;
    assert_eq!(place.join(crate::member::GROUP).await.receive_event().await, later);
}
