use std::collections::BTreeSet;

use events::{Event, SubscriptionScheduled};
use store::catalog::{CatalogError, DueRun, FiredRun, RunPhase, Skip, SkippedTogether, Trigger, WhenActive};

use crate::place::{NOON, Place, SOON, due, minute, request, subscription_record};

const RUNS: &str = "select count(*) from runs";
const EVENTS: &str = "select count(*) from outbox";

#[tokio::test]
async fn a_due_time_makes_one_run_and_the_event_that_begins_it() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    let fired = place.fire(&[due(&subscription, minute(1), WhenActive::Skip)], minute(2)).await.unwrap();
    let run_id = fired[0].run_id;
    let expected = FiredRun {
        run_id,
        subscription_id: subscription.id,
        scheduled_for: minute(1),
        trigger: Trigger::Schedule,
        skip: None,
        skipped_together: None,
    };
    assert_eq!(fired, [expected]);
    assert!(place.is_active(run_id).await);
    let scheduled = place.catalog.scheduled_subscriptions().await.unwrap();
    assert_eq!(scheduled[0].scheduled_through, minute(1));

    let batch = place.catalog.take_outbox(10, minute(2)).await.unwrap();
    let [record] = batch.records.as_slice() else { panic!("{:?}", batch.records) };
    let event = Event::from_record(record).unwrap();
    let payload = SubscriptionScheduled {
        run_id,
        subscription_id: subscription.id,
        scheduled_for: minute(1),
        trigger: "Schedule".to_owned(),
    };
    assert_eq!(event, Event::of_run(run_id, &event.source, minute(2), &payload).unwrap());
    let trace = "select trace_id from runs where subscription_id = $1";
    assert_eq!(place.text_of(trace, subscription.id).await, event.trace_parent.trace_id.to_string());
}

#[tokio::test]
async fn nothing_due_is_nothing_done() {
    let place = Place::new().await;
    assert_eq!(place.fire(&[], NOON).await.unwrap(), []);
}

#[tokio::test]
async fn a_due_time_is_fired_once_however_often_it_is_tried() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    let other_process = place.lead().clone();
    let first = [due(&subscription, minute(1), WhenActive::RunBoth)];
    assert_eq!(place.fire(&first, minute(1)).await.unwrap().len(), 1);
    assert_eq!(place.fire(&first, minute(2)).await.unwrap(), []);
    assert_eq!(other_process.fire(&first, minute(2)).await.unwrap().runs, []);
    assert_eq!((place.number(RUNS).await, place.number(EVENTS).await), (1, 1));

    // What lies before the last one is accounted for too, though it never was fired.
    let earlier = due(&subscription, NOON, WhenActive::RunBoth);
    assert_eq!(place.fire(&[earlier], minute(2)).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_at_the_same_time_fire_a_due_time_once() {
    const ROUNDS: i64 = 60;
    let place = Place::new().await;
    let subscriptions = [place.subscription("opinions").await, place.subscription("orders").await];
    let processes = [place.lead().clone(), place.lead().clone()];
    for round in 1..=ROUNDS {
        // In opposite order: locks must not cross.
        let due: Vec<DueRun> =
            subscriptions.iter().map(|one| due(one, minute(round), WhenActive::RunBoth)).collect();
        let [one, other] = [due.clone(), due.into_iter().rev().collect()];
        let [first, second] = processes.clone();
        let one = tokio::spawn(async move { first.fire(&one, minute(round)).await });
        let other = tokio::spawn(async move { second.fire(&other, minute(round)).await });
        let fired = [one.await.unwrap().unwrap().runs, other.await.unwrap().unwrap().runs].concat();
        let of: BTreeSet<i64> = fired.iter().map(|run| run.subscription_id).collect();
        assert_eq!((fired.len(), of.len()), (2, 2), "round {round}: {fired:?}");
    }
    assert_eq!((place.number(RUNS).await, place.number(EVENTS).await), (2 * ROUNDS, 2 * ROUNDS));
}

#[tokio::test]
async fn due_times_of_another_spec_are_left_out() {
    let place = Place::new().await;
    let mut record = subscription_record("opinions", place.source("scotus").await);
    let before = place.catalog.put_subscription(&record, NOON).await.unwrap().scheduled;
    record.generation = 2;
    record.settings.jitter_seconds = 9;
    let after = place.catalog.put_subscription(&record, NOON).await.unwrap().scheduled;

    let stale = due(&before, minute(1), WhenActive::RunBoth);
    assert_eq!(place.fire(&[stale], minute(1)).await.unwrap(), []);
    // And it is not accounted for.
    let current = due(&after, minute(1), WhenActive::RunBoth);
    assert_eq!(place.fire(&[current], minute(1)).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_deleted_subscription_is_not_fired() {
    let place = Place::new().await;
    let deleted = place.subscription("opinions").await;
    let live = place.subscription("orders").await;
    place.catalog.delete_subscriptions(&[deleted.key.uid], NOON).await.unwrap();
    let both = [&deleted, &live].map(|one| due(one, minute(1), WhenActive::RunBoth));
    let fired = place.fire(&both, minute(1)).await.unwrap();
    assert_eq!(fired.iter().map(|run| run.subscription_id).collect::<Vec<_>>(), [live.id]);
    assert_eq!(place.lead().request_run(&request(&deleted, "now"), minute(1)).await.unwrap(), None);
    assert_eq!((place.number(RUNS).await, place.number(EVENTS).await), (1, 1));
}

#[tokio::test]
async fn a_skip_is_recorded_and_begins_nothing() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    let skip = Skip { reason: "Suspended", message: "the subscription is suspended".to_owned() };
    let skipped = DueRun { skip: Some(skip.clone()), ..due(&subscription, minute(1), WhenActive::Skip) };
    let fired = place.fire(std::slice::from_ref(&skipped), minute(2)).await.unwrap();
    assert_eq!(fired[0].skip, Some(skip));
    let report = place.ended(fired[0].run_id).await;
    assert_eq!(report.phase, RunPhase::Skipped);
    assert_eq!(report.reason.as_deref(), Some("Suspended"));
    assert_eq!(report.message.as_deref(), Some("the subscription is suspended"));
    assert_eq!(report.finished_at, Some(minute(2)));
    assert_eq!(place.number(EVENTS).await, 0);
    assert_eq!(place.fire(&[skipped], minute(3)).await.unwrap(), []);
}

#[tokio::test]
async fn forbid_skips_while_a_run_is_active() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    let fire = async |at| {
        let due = [due(&subscription, at, WhenActive::Skip)];
        place.fire(&due, at).await.unwrap().remove(0)
    };
    let first = fire(minute(1)).await;
    let second = fire(minute(2)).await;
    assert_eq!(second.skip.unwrap().reason, "Overlap");
    assert_eq!(place.ended(second.run_id).await.phase, RunPhase::Skipped);
    assert!(place.is_active(first.run_id).await);

    place.catalog.fail_run(first.run_id, "Test", "", minute(3)).await.unwrap();
    assert_eq!(fire(minute(3)).await.skip, None);
    assert_eq!(place.number(EVENTS).await, 2);
}

#[tokio::test]
async fn replace_ends_the_run_that_is_active() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    let other = place.subscription("orders").await;
    let others_run = place.run(&other, minute(1)).await;
    let (old, older) = (place.run(&subscription, minute(1)).await, place.run(&subscription, minute(2)).await);
    let fired = place.fire(&[due(&subscription, minute(3), WhenActive::Replace)], minute(4)).await.unwrap();
    for replaced in [old, older] {
        let report = place.ended(replaced).await;
        assert_eq!((report.phase, report.reason.as_deref()), (RunPhase::Failed, Some("Replaced")));
        assert_eq!(report.finished_at, Some(minute(4)));
    }
    assert!(place.is_active(fired[0].run_id).await);
    assert!(place.is_active(others_run).await);
}

#[tokio::test]
async fn several_due_times_of_one_subscription_follow_its_policy_in_one_batch() {
    let place = Place::new().await;
    let fire = async |name: &str, concurrency| {
        let subscription = place.subscription(name).await;
        let due = [1, 2, 3].map(|number| due(&subscription, minute(number), concurrency));
        let fired = place.fire(&due, minute(3)).await.unwrap();
        assert_eq!(fired.iter().map(|run| run.scheduled_for).collect::<Vec<_>>(), [1, 2, 3].map(minute));
        let mut reasons = Vec::new();
        for run in fired {
            let reason = run.skip.map_or("", |skip| skip.reason);
            assert_eq!(place.is_active(run.run_id).await, reason.is_empty());
            reasons.push(reason);
        }
        reasons
    };
    assert_eq!(fire("allow", WhenActive::RunBoth).await, ["", "", ""]);
    assert_eq!(fire("forbid", WhenActive::Skip).await, ["", "Overlap", "Overlap"]);
    assert_eq!(fire("replace", WhenActive::Replace).await, ["Superseded", "Superseded", ""]);
    assert_eq!(place.number(EVENTS).await, 3 + 1 + 1);
    assert_eq!(place.number(RUNS).await, 9);
}

#[tokio::test]
async fn what_waits_for_an_active_run_is_not_accounted_for_and_holds_what_follows() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    let missed = [1, 2].map(|number| due(&subscription, minute(number), WhenActive::Wait));
    let on_time = due(&subscription, minute(3), WhenActive::Skip);
    let all = [missed[0].clone(), missed[1].clone(), on_time];
    let fired = place.lead().fire(&all, minute(3)).await.unwrap();
    assert_eq!(fired.runs.iter().map(|run| run.scheduled_for).collect::<Vec<_>>(), [minute(1)]);
    assert_eq!(fired.through, [(subscription.id, minute(1))].into());
    assert_eq!(fired.waiting, [subscription.id].into());
    let again = place.lead().fire(&all[1..], minute(4)).await.unwrap();
    assert_eq!((again.runs.len(), again.waiting.len()), (0, 1));
    place.catalog.fail_run(fired.runs[0].run_id, "Test", "", minute(5)).await.unwrap();
    let next = place.lead().fire(&all[1..], minute(5)).await.unwrap();
    // The third was on time when it was decided on, and a run is active again.
    assert_eq!(next.runs.iter().map(|run| run.skip.is_some()).collect::<Vec<_>>(), [false, true]);
}

#[tokio::test]
async fn due_times_skipped_together_are_one_row_and_can_be_taken_back() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    let skip = |number, from, count| DueRun {
        skip: Some(Skip { reason: "Superseded", message: String::new() }),
        skipped_together: Some(SkippedTogether { from: minute(from), count }),
        ..due(&subscription, minute(number), WhenActive::Skip)
    };
    let run = due(&subscription, minute(90), WhenActive::Skip);
    let fired =
        place.fire(&[skip(10, 1, 10), skip(60, 11, 50), skip(89, 61, 29), run], minute(90)).await.unwrap();
    assert_eq!(fired.iter().map(FiredRun::due_times).collect::<Vec<_>>(), [10, 50, 29, 1]);
    assert_eq!(place.number("select sum(due_times)::bigint from runs").await, 90);

    // The clock was ahead: it is in the middle of the second row.
    place.lead().rewind(&[subscription.id], minute(30)).await.unwrap();
    let through = place.catalog.scheduled_subscriptions().await.unwrap()[0].scheduled_through;
    assert!(through < minute(11) && through > minute(10), "{through}");
    assert_eq!(place.number("select sum(due_times)::bigint from runs").await, 10 + 1);
    // The run that was made stays, and is not made again.
    let again = place.lead().fire(&[due(&subscription, minute(90), WhenActive::RunBoth)], minute(90)).await;
    assert_eq!(again.unwrap().runs, []);
    // A clock that is disciplined by some seconds is no reason.
    place.lead().rewind(&[subscription.id], minute(89)).await.unwrap();
    let through = place.catalog.scheduled_subscriptions().await.unwrap()[0].scheduled_through;
    assert_eq!(through, minute(90));
}

#[tokio::test]
async fn a_subscription_with_a_recorded_skip_among_its_due_times_still_runs() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    let superseded = Skip { reason: "Superseded", message: String::new() };
    let missed = DueRun { skip: Some(superseded), ..due(&subscription, minute(1), WhenActive::Skip) };
    let latest = due(&subscription, minute(2), WhenActive::Skip);
    let fired = place.fire(&[missed, latest], minute(3)).await.unwrap();
    assert!(fired[0].skip.is_some());
    assert_eq!(fired[1].skip, None);
}

#[tokio::test]
async fn run_and_event_are_made_together_or_not_at_all() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    let first = [due(&subscription, minute(1), WhenActive::Skip)];

    // The connection breaks after the run was inserted, while its event is.
    place
        .execute(
            "create function break_off() returns trigger language plpgsql as
                 $$ begin perform pg_terminate_backend(pg_backend_pid()); return new; end $$;
             create trigger break_off before insert on outbox for each row execute function break_off()",
        )
        .await;
    let error = place.fire(&first, minute(1)).await.unwrap_err();
    assert!(matches!(error, CatalogError::Statement { .. }), "{error:?}");
    place.lead().request_run(&request(&subscription, "now"), minute(1)).await.unwrap_err();
    assert_eq!((place.number(RUNS).await, place.number(EVENTS).await), (0, 0));

    place.execute("drop trigger break_off on outbox; alter table outbox rename to away").await;
    let error = place.fire(&first, minute(1)).await.unwrap_err();
    assert!(matches!(error, CatalogError::Statement { action: "add events to the outbox", .. }), "{error:?}");
    assert_eq!(place.number(RUNS).await, 0);

    // Nothing was accounted for either: what failed is done when it is tried again.
    place.execute("alter table away rename to outbox").await;
    assert_eq!(place.fire(&first, minute(1)).await.unwrap().len(), 1);
    assert!(place.lead().request_run(&request(&subscription, "now"), minute(1)).await.unwrap().is_some());
    assert_eq!((place.number(RUNS).await, place.number(EVENTS).await), (2, 2));
}

#[tokio::test]
async fn replacing_a_run_does_not_block_whoever_stores_its_artifact() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    let run = place.run(&subscription, minute(1)).await;
    // As `store_document` does: first the run, and then a row that refers to the subscription.
    let mut storing = place.sql.begin().await.unwrap();
    sqlx::query("select from runs where id = $1 for update").bind(run).execute(&mut *storing).await.unwrap();
    let lead = place.lead().clone();
    let replacing = due(&subscription, minute(2), WhenActive::Replace);
    let replacing = tokio::spawn(async move { lead.fire(&[replacing], minute(2)).await });
    let blocked = "select count(*) from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock'";
    tests::eventually("the wait for the run", SOON, async || match place.number(blocked).await {
        0 => Err("nobody waits"),
        _ => Ok(()),
    })
    .await;
    sqlx::query("select from subscriptions where id = $1 for key share nowait")
        .bind(subscription.id)
        .execute(&mut *storing)
        .await
        .expect("the subscription's key is locked: two would wait for each other");
    storing.commit().await.unwrap();
    assert_eq!(replacing.await.unwrap().unwrap().runs.len(), 1);
    assert_eq!(place.ended(run).await.reason.as_deref(), Some("Replaced"));
}

#[tokio::test]
async fn a_request_is_honoured_once_per_token() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    let other_process = place.lead().clone();
    let first = place.lead().request_run(&request(&subscription, "one"), minute(1)).await.unwrap().unwrap();
    assert_eq!((first.trigger, first.scheduled_for), (Trigger::Request, minute(1)));
    assert_eq!(place.lead().request_run(&request(&subscription, "one"), minute(2)).await.unwrap(), None);
    assert_eq!(other_process.request_run(&request(&subscription, "one"), minute(2)).await.unwrap(), None);
    let second = other_process.request_run(&request(&subscription, "two"), minute(3)).await.unwrap().unwrap();
    assert_ne!(first.run_id, second.run_id);
    assert!(place.is_active(first.run_id).await && place.is_active(second.run_id).await);
    assert_eq!(place.number(EVENTS).await, 2);
    // What was asked for is not what was due.
    let scheduled = place.catalog.scheduled_subscriptions().await.unwrap();
    assert_eq!(scheduled[0].scheduled_through, NOON);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_at_the_same_time_honour_a_request_once() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    let processes = [place.lead().clone(), place.lead().clone()];
    for round in 1..=40 {
        let attempts = processes.clone().map(|process| {
            let request = request(&subscription, &format!("token {round}"));
            tokio::spawn(async move { process.request_run(&request, minute(round)).await })
        });
        let mut honoured = 0;
        for attempt in attempts {
            honoured += usize::from(attempt.await.unwrap().unwrap().is_some());
        }
        assert_eq!(honoured, 1, "round {round}");
    }
    assert_eq!((place.number(RUNS).await, place.number(EVENTS).await), (40, 40));
}

#[tokio::test]
async fn a_run_that_is_due_and_one_that_is_asked_for_at_the_same_instant_are_two() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    let scheduled = place.run(&subscription, minute(1)).await;
    let requested = place.lead().request_run(&request(&subscription, "now"), minute(1)).await.unwrap();
    assert_ne!(requested.unwrap().run_id, scheduled);
}

#[tokio::test]
async fn restarting_emits_the_first_events_of_active_runs_again() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    let ended = place.run(&subscription, minute(1)).await;
    place.catalog.fail_run(ended, "Test", "", minute(1)).await.unwrap();
    place.execute("delete from outbox").await;
    place.run(&subscription, minute(2)).await;
    place.begun_run(&subscription, minute(3), &["https://example.org/"]).await;
    place.lead().request_run(&request(&subscription, "now"), minute(4)).await.unwrap();

    let batch = place.catalog.take_outbox(10, minute(4)).await.unwrap();
    let before = batch.records.clone();
    batch.commit().await.unwrap();
    assert_eq!(before.len(), 3);
    assert_eq!(place.catalog.restart_active_runs(minute(4)).await.unwrap(), 3);
    let again = place.catalog.take_outbox(10, minute(4)).await.unwrap();
    let strip = |records: &[events::Record]| {
        let events = records.iter().map(|record| Event::from_record(record).unwrap());
        events.map(|event| (event.id, event.topic, event.key, event.payload)).collect::<Vec<_>>()
    };
    assert_eq!(strip(&again.records), strip(&before));
}
