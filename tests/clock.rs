//! The clock that makes runs, on a real PostgreSQL and a time that the tests set: missed due times, a clock that jumps,
//! another operator that leads, runs that get no further.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

#[path = "catalog/place.rs"]
#[allow(dead_code, reason = "the catalog's tests use the rest")]
mod place;

use std::sync::Arc;

use events::{Clock, ManualClock, memory::MemoryBus};
use jiff::{SignedDuration, Timestamp};
use operator::{Engine, EngineHandle, EngineOptions, OperatorMetrics};
use prometheus_client::{encoding::text::encode, registry::Registry};
use service::Check;
use sqlx::Row;
use store::catalog::{
    CatalogError, CatchUp, Concurrency, Lead, RunPhase, ScheduledSubscription, StuckPolicy,
    SubscriptionRecord,
};
use tests::eventually;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use place::{NOON, Place, SOON, minute, subscription_record};

/// Nothing here takes so long.
const NEVER_STUCK: StuckPolicy = StuckPolicy {
    restart_after: SignedDuration::from_hours(1),
    give_up_after: SignedDuration::from_hours(9),
};

/// An engine whose time the test sets.
struct Operator {
    engine: Engine,
    clock: ManualClock,
    stop: CancellationToken,
    registry: Registry,
}

impl Operator {
    /// Leads under the epoch that `lead` has.
    async fn start(lead: Lead, now: Timestamp, stuck: StuckPolicy) -> Self {
        let clock = ManualClock::new(now);
        let stop = CancellationToken::new();
        let mut registry = Registry::default();
        let options = EngineOptions {
            lead,
            stuck,
            bus: Arc::new(MemoryBus::default()),
            clock: Arc::new(clock.clone()),
            metrics: OperatorMetrics::register(&mut registry),
            check: Check::default(),
        };
        let engine = Engine::start(options, &stop).await.unwrap();
        Self { engine, clock, stop, registry }
    }

    fn handle(&self) -> EngineHandle {
        self.engine.handle()
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).unwrap();
        text
    }

    async fn stop(self) {
        self.stop.cancel();
        self.engine.stopped().await;
    }
}

async fn minutely(place: &Place, change: impl FnOnce(&mut SubscriptionRecord)) -> ScheduledSubscription {
    let mut record = subscription_record("opinions", place.source("scotus").await);
    change(&mut record);
    place.catalog.put_subscription(&record, NOON).await.unwrap().scheduled
}

/// What the catalog has of due times, oldest first: the minute after noon, the reason or `run`, and how many.
async fn accounted(place: &Place) -> Vec<(i64, String, i32)> {
    sqlx::query(
        "select scheduled_for, case phase when 'Skipped' then reason else 'run' end as what, due_times
         from runs where trigger = 'Schedule' order by scheduled_for",
    )
    .fetch_all(&place.sql)
    .await
    .unwrap()
    .iter()
    .map(|row| {
        let time = row.get::<jiff_sqlx::Timestamp, _>("scheduled_for").to_jiff();
        (time.duration_since(NOON).as_mins(), row.get("what"), row.get("due_times"))
    })
    .collect()
}

/// Waits until the catalog accounts for due times up to a minute, and returns what it has of them.
async fn accounted_through(place: &Place, number: i64) -> Vec<(i64, String, i32)> {
    eventually(&format!("minute {number} accounted for"), SOON, async || {
        let all = accounted(place).await;
        if all.last().is_some_and(|(last, ..)| *last >= number) { Ok(all) } else { Err(all) }
    })
    .await
}

fn what(number: i64, what: &str) -> (i64, String, i32) {
    (number, what.to_owned(), 1)
}

async fn end_all_runs(place: &Place, now: Timestamp) {
    for run in place.catalog.active_runs().await.unwrap() {
        place.catalog.fail_run(run, "Test", "the test ended it", now).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_forward_makes_one_run_and_accounts_for_the_rest() {
    let place = Place::new().await;
    minutely(&place, |_| ()).await;
    let operator = Operator::start(place.lead().clone(), NOON, NEVER_STUCK).await;
    operator.clock.set(minute(1));
    assert_eq!(accounted_through(&place, 1).await, [what(1, "run")]);
    end_all_runs(&place, minute(1)).await;

    operator.clock.set(minute(3 * 24 * 60));
    let all = accounted_through(&place, 3 * 24 * 60).await;
    let due_times: i64 = all.iter().map(|(.., count)| i64::from(*count)).sum();
    assert_eq!(due_times, 3 * 24 * 60);
    assert!(all.len() < 110, "{} rows", all.len());
    let runs: Vec<_> = all.iter().filter(|(_, what, _)| what == "run").map(|(number, ..)| *number).collect();
    assert_eq!(runs, [1, 3 * 24 * 60]);
    let expected = format!("tipstaff_runs_skipped_total{{reason=\"Superseded\"}} {}", 3 * 24 * 60 - 2);
    assert!(operator.metrics().contains(&expected), "{}", operator.metrics());
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_was_ahead_and_is_set_back_leaves_no_silence_and_runs_nothing_twice() {
    let place = Place::new().await;
    minutely(&place, |_| ()).await;
    let operator = Operator::start(place.lead().clone(), NOON, NEVER_STUCK).await;
    operator.clock.set(minute(2));
    accounted_through(&place, 2).await;
    end_all_runs(&place, minute(2)).await;
    // A day ahead, for a moment.
    operator.clock.set(minute(24 * 60));
    accounted_through(&place, 24 * 60).await;
    end_all_runs(&place, minute(24 * 60)).await;

    operator.clock.set(minute(3));
    let expected = [what(1, "Superseded"), what(2, "run"), what(3, "run"), what(24 * 60, "run")];
    eventually("the due time after the step back", SOON, async || {
        let all = accounted(&place).await;
        if all == expected { Ok(()) } else { Err(all) }
    })
    .await;
    end_all_runs(&place, minute(3)).await;
    // The day goes by: what was run ahead of its time is not run again.
    operator.clock.set(minute(24 * 60));
    eventually("the day", SOON, async || {
        let all = accounted(&place).await;
        let due_times: i64 = all.iter().map(|(.., count)| i64::from(*count)).sum();
        if due_times == 24 * 60 { Ok(()) } else { Err(all) }
    })
    .await;
    let runs = place.number("select count(*) from runs where phase <> 'Skipped'").await;
    assert_eq!(runs, 3);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_process_left_ahead_of_the_clock_is_set_back_by_the_next_one() {
    let place = Place::new().await;
    minutely(&place, |_| ()).await;
    let operator = Operator::start(place.lead().clone(), minute(24 * 60), NEVER_STUCK).await;
    accounted_through(&place, 24 * 60).await;
    end_all_runs(&place, minute(24 * 60)).await;
    operator.stop().await;

    let operator = Operator::start(place.lead().clone(), minute(1), NEVER_STUCK).await;
    let expected = [what(1, "run"), what(24 * 60, "run")];
    eventually("the due time of the right time", SOON, async || {
        let all = accounted(&place).await;
        if all == expected { Ok(()) } else { Err(all) }
    })
    .await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missed_due_times_run_one_after_the_other_under_forbid() {
    let place = Place::new().await;
    let subscription = minutely(&place, |record| {
        record.settings.catch_up = CatchUp::All;
        record.settings.concurrency = Concurrency::Forbid;
    })
    .await;
    let operator = Operator::start(place.lead().clone(), minute(4), NEVER_STUCK).await;
    for number in 1..=3 {
        accounted_through(&place, number).await;
        assert_eq!(place.catalog.active_runs().await.unwrap().len(), 1);
        end_all_runs(&place, operator.clock.now()).await;
        // What waits is looked at again after a moment.
        operator.clock.set(operator.clock.now() + SignedDuration::from_secs(2));
    }
    // The fourth was met on time, while the third was active: there was nothing to catch up with.
    let all = accounted_through(&place, 4).await;
    assert_eq!(all, [what(1, "run"), what(2, "run"), what(3, "run"), what(4, "Overlap")]);
    operator.clock.set(minute(5));
    accounted_through(&place, 5).await;
    operator.clock.set(minute(6));
    let all = accounted_through(&place, 6).await;
    assert_eq!(all[4..], [what(5, "run"), what(6, "Overlap")]);
    assert_eq!(operator.handle().beat.next_due(subscription.key.uid), Some(minute(7)));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_of_an_older_epoch_makes_nothing_and_ends() {
    let place = Place::new().await;
    minutely(&place, |_| ()).await;
    let mut old = Operator::start(place.lead().clone(), NOON, NEVER_STUCK).await;
    let new = place.catalog.lead(2, "another", NOON).await.unwrap();
    old.clock.set(minute(1));
    let ended = timeout(SOON, old.engine.ended()).await.unwrap();
    assert!(matches!(ended, Some(CatalogError::NoLongerLeading { own: 1, newer: 2 })), "{ended:?}");
    assert_eq!(accounted(&place).await, []);
    let operator = Operator::start(new, minute(1), NEVER_STUCK).await;
    assert_eq!(accounted_through(&place, 1).await, [what(1, "run")]);
    operator.stop().await;
    old.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_whose_event_was_lost_gets_it_again_and_is_given_up_in_the_end() {
    let place = Place::new().await;
    minutely(&place, |record| record.settings.schedule = "1 12 * * *".to_owned()).await;
    // The tracker looks for stuck runs four times within the time after which one is.
    let policy = StuckPolicy {
        restart_after: SignedDuration::from_secs(1),
        give_up_after: SignedDuration::from_mins(9),
    };
    let operator = Operator::start(place.lead().clone(), NOON, policy).await;
    operator.clock.set(minute(1));
    accounted_through(&place, 1).await;
    // The event went to a bus that nobody reads.
    operator.clock.set(minute(2));
    let restarts = async || place.number("select restarts::bigint from runs").await;
    eventually("a first restart", SOON, async || {
        let restarts = restarts().await;
        if restarts == 1 { Ok(()) } else { Err(restarts) }
    })
    .await;
    let row = sqlx::query("select reason, message, phase from runs").fetch_one(&place.sql).await.unwrap();
    assert_eq!((row.get("reason"), row.get("phase")), ("Restarted", "Pending"));
    assert!(row.get::<&str, _>("message").contains("sent again"), "{}", row.get::<&str, _>("message"));
    eventually("the metric", SOON, async || {
        let metrics = operator.metrics();
        if metrics.contains("tipstaff_runs_restarted_total 1") { Ok(()) } else { Err(metrics) }
    })
    .await;

    operator.clock.set(minute(11));
    let run: Uuid = place.catalog.active_runs().await.unwrap().remove(0);
    let reason = eventually("the run given up", SOON, async || {
        let ended = place.catalog.ended_runs(&[run]).await.unwrap();
        match ended.first() {
            Some(run) if run.phase == RunPhase::Failed => Ok(run.reason.clone()),
            _ => Err(ended),
        }
    })
    .await;
    assert_eq!(reason.as_deref(), Some("Stuck"));
    operator.stop().await;
}
