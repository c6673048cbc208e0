//! Runs that are due: when they were committed, and when their events were in Kafka.

use std::time::Duration;

use events::BoxError;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use operator::stable_offset;
use rdkafka::{Message, message::OwnedMessage};
use serde_json::json;
use sqlx::Row;
use tokio::time::sleep;
use uuid::Uuid;

use super::{Bench, first_sync::FirstSync, floors::Floors, progress, until};
use crate::{
    catalog,
    report::{Measure, Report, Unit},
    statements::Statements,
    statistics::{growth_exponent, percentile},
};

/// Parts of all that is due, to see how the cost grows.
const PARTS: [f64; 3] = [1.0 / 16.0, 1.0 / 4.0, 1.0];

const COMMITTED_SECONDS: f64 = 2.0;
const IN_KAFKA_SECONDS: f64 = 4.0;
const SPREAD_MILLISECONDS: f64 = 100.0;
/// The range of the delays that the spread ones have.
const JITTER_SECONDS: u32 = 60;
/// How long after the due time nobody looks, so that looking costs the operator nothing.
const LEAVE_ALONE: Duration = Duration::from_secs(5);
const COMMITTED_WITHIN: Duration = Duration::from_secs(300);

/// All due in the same second, once.
pub(super) struct SameSecond {
    pub(super) count: usize,
    pub(super) due: Timestamp,
    /// Seconds from the due time to each commit.
    lateness: Vec<f64>,
    /// Seconds from the due time until each event was in Kafka.
    in_kafka: Vec<f64>,
    pub(super) messages: Vec<OwnedMessage>,
}

/// Due over a minute.
pub(super) struct Spread {
    count: usize,
    /// Seconds from the due time and the subscription's own delay to each commit.
    lateness: Vec<f64>,
}

pub(super) async fn same_second(
    bench: &Bench,
    statements: &Statements,
    first_sync: &FirstSync,
    repeats: usize,
) -> Result<Vec<SameSecond>, BoxError> {
    let count = bench.fleet.names.len();
    // A change of all specs takes about what the first sync took; so do the statuses after a firing, and after its end.
    let settling = first_sync.seconds;
    let first = next_minute(1.5 * settling + 20.0);
    let apart = (2.0 * settling / 60.0).ceil() as i64 + 1;
    let due: Vec<Timestamp> = (0..i64::try_from(repeats)?)
        .map(|number| first + SignedDuration::from_mins(apart * number))
        .collect();
    progress(&format!("changing all schedules, to be due from {first} on"));
    let minutes: Vec<String> = due.iter().map(|due| minute_of(*due).to_string()).collect();
    let spec = json!({ "schedule": format!("{} * * * *", minutes.join(",")), "concurrencyPolicy": "Allow" });
    bench.fleet.change(count, &spec).await?;
    let mut fired = Vec::new();
    for due in due {
        bench.observer.wait_for("Ready after the change", |seen| seen.ready == count).await?;
        bench.observer.settled().await?;
        if Timestamp::now() >= due {
            return Err(
                "the operator was not at rest before the due time; give it fewer subscriptions".into()
            );
        }
        statements.reset().await?;
        fired.push(all_at_once(bench, count, due).await?);
    }
    Ok(fired)
}

async fn all_at_once(bench: &Bench, count: usize, due: Timestamp) -> Result<SameSecond, BoxError> {
    let from = bench.topics.ends_of_runs().await?;
    progress(&format!("{count} due at {due}"));
    sleep_until(due, LEAVE_ALONE).await;
    let messages = bench.topics.read_runs(from, count).await?;
    let in_kafka = messages
        .iter()
        .map(|message| {
            let millis = message.timestamp().to_millis().ok_or("an event without the broker's time")?;
            Ok((millis - due.as_millisecond()) as f64 / 1000.0)
        })
        .collect::<Result<Vec<_>, BoxError>>()?;
    let commits = commits(bench, due, count).await?;
    bench.observer.settled().await?;
    end_runs(bench).await?;
    let lateness = commits.into_iter().map(|(_, seconds)| seconds).collect();
    Ok(SameSecond { count, due, lateness, in_kafka, messages })
}

pub(super) async fn spread(bench: &Bench, first_sync: &FirstSync, count: usize) -> Result<Spread, BoxError> {
    let share = count as f64 / bench.fleet.names.len() as f64;
    let due = next_minute(1.5 * first_sync.seconds * share + 30.0);
    progress(&format!("{count} due over the minute from {due} on"));
    let spec = json!({ "schedule": format!("{} * * * *", minute_of(due)), "jitterSeconds": JITTER_SECONDS });
    bench.fleet.change(count, &spec).await?;
    let all = bench.fleet.names.len();
    bench.observer.wait_for("Ready after the change", |seen| seen.ready == all).await?;
    bench.observer.settled().await?;
    if Timestamp::now() >= due {
        return Err("the operator was not at rest before the minute began".into());
    }
    sleep_until(due, LEAVE_ALONE + Duration::from_secs(JITTER_SECONDS.into())).await;
    let commits = commits(bench, due, count).await?;
    let lateness = commits
        .into_iter()
        .map(|(uid, seconds)| seconds - stable_offset(uid, JITTER_SECONDS).as_secs_f64())
        .collect();
    Ok(Spread { count, lateness })
}

/// For each run of a due time: its subscription, and how many seconds after the due time it was committed. The server
/// takes the time when it begins to write the commit to disk.
async fn commits(bench: &Bench, due: Timestamp, count: usize) -> Result<Vec<(Uuid, f64)>, BoxError> {
    let sql =
        "select s.uid, extract(epoch from pg_xact_commit_timestamp(r.xmin) - r.scheduled_for)::float8 as late
               from runs r join subscriptions s on s.id = r.subscription_id
               where r.scheduled_for = to_timestamp($1) and r.phase <> 'Skipped'";
    let due = due.as_second() as f64;
    let rows = until("all runs", COMMITTED_WITHIN, Duration::from_secs(1), async || {
        let rows = sqlx::query(sql).bind(due).fetch_all(&bench.tipstaff.pool).await?;
        Ok((rows.len() == count).then_some(rows))
    })
    .await?;
    Ok(rows.iter().map(|row| (row.get("uid"), row.get("late"))).collect())
}

/// What the workers would do in their time, at once: nobody fetches here.
async fn end_runs(bench: &Bench) -> Result<(), BoxError> {
    catalog::execute(
        &bench.tipstaff.pool,
        "update runs set phase = 'Succeeded', reason = 'Unchanged', changed = false, finished_at = now()
         where finished_at is null",
    )
    .await?;
    // The operator looks at active runs several times a second.
    sleep(Duration::from_secs(5)).await;
    bench.observer.settled().await
}

/// The first full minute that is at least that many seconds ahead.
fn next_minute(seconds: f64) -> Timestamp {
    let earliest = Timestamp::now().as_second() + seconds.ceil() as i64;
    Timestamp::from_second((earliest / 60 + 1) * 60).unwrap_or(Timestamp::MAX)
}

fn minute_of(time: Timestamp) -> i8 {
    time.to_zoned(TimeZone::UTC).minute()
}

async fn sleep_until(time: Timestamp, and: Duration) {
    let left = time.duration_since(Timestamp::now());
    sleep(Duration::try_from(left).unwrap_or_default() + and).await;
}

impl SameSecond {
    pub(super) fn report(repeats: &[Self], report: &mut Report, floors: &Floors) {
        let Some(first) = repeats.first() else { return };
        let count = first.count;
        let lateness = |share| repeats.iter().map(|once| percentile(&once.lateness, share)).collect();
        let in_kafka = repeats.iter().map(|once| percentile(&once.in_kafka, 1.0)).collect();
        let committed = format!("{count} due in the same second: all committed");
        report.add(
            Measure::repeated(committed, Unit::Seconds, lateness(1.0))
                .at_most(COMMITTED_SECONDS)
                .over_floor(floors.runs_and_events),
        );
        // In all repeats they are the same objects: how long it takes until a part of them is committed.
        let growth = |once: &Self| {
            let part = |share: f64| (share * count as f64, percentile(&once.lateness, share));
            growth_exponent(&PARTS.map(part))
        };
        let name = format!("  exponent by which that grows from {:.0} on", PARTS[0] * count as f64);
        report.add(Measure::repeated(name, Unit::Factor, repeats.iter().map(growth).collect()).at_most(1.05));
        report.add(Measure::repeated("  lateness p50", Unit::Seconds, lateness(0.5)));
        report.add(Measure::repeated("  lateness p99", Unit::Seconds, lateness(0.99)));
        report.add(
            Measure::repeated("  all in Kafka", Unit::Seconds, in_kafka)
                .at_most(IN_KAFKA_SECONDS)
                .over_floor(floors.runs_and_events + floors.produced),
        );
    }
}

impl Spread {
    pub(super) fn report(&self, report: &mut Report, floors: &Floors) {
        let lateness = |share| percentile(&self.lateness, share) * 1000.0;
        let name = format!("{} spread over a minute: lateness p99", self.count);
        report.add(
            Measure::new(name, Unit::Milliseconds, lateness(0.99))
                .at_most(SPREAD_MILLISECONDS)
                .over_floor(floors.one_run_p99 * 1000.0),
        );
        report.add(
            Measure::new("  lateness p50", Unit::Milliseconds, lateness(0.5))
                .over_floor(floors.one_run_p50 * 1000.0),
        );
        report.add(Measure::new("  lateness, the most", Unit::Milliseconds, lateness(1.0)));
    }
}
