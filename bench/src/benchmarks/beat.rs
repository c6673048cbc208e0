//! The beat's plan alone: no catalog, no clock. Time goes from one due time to the next as fast as it can.

use std::time::Instant;

use events::BoxError;
use jiff::{SignedDuration, Timestamp};
use operator::Plan;
use store::catalog::{CatchUp, Concurrency, ObjectKey, ScheduledSubscription, SubscriptionSettings};
use uuid::Uuid;

use crate::{
    report::{Measure, Report, Unit},
    statistics::{growth_exponent, median},
    system::memory,
};

/// What publishers' pages are watched by: every few minutes on working days, hourly, daily, weekly, monthly.
const SCHEDULES: [&str; 10] = [
    "*/15 * * * *",
    "@hourly",
    "7,37 8-18 * * 1-5",
    "*/5 9-17 * * MON-FRI",
    "0 9 * * *",
    "30 16 * * 1-5",
    "0 6,12,18 * * *",
    "0 7 * * MON",
    "15 3 1 * *",
    "0 0 1,15 * 5",
];
const ZONES: [&str; 7] = [
    "Etc/UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Los_Angeles",
    "Asia/Tokyo",
    "Australia/Sydney",
    "Europe/London",
];
/// As the beat takes them.
pub(super) const SUBSCRIPTIONS_AT_ONCE: usize = 500;
/// A Wednesday before noon in Europe.
pub(super) const START: Timestamp = Timestamp::constant(1_780_477_200, 0);

const MOST_MEGABYTES: f64 = 200.0;
/// From 1,000 to 100,000 subscriptions, the logarithm grows by 1.7.
const MOST_GROWTH: f64 = 2.0;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The most subscriptions; a tenth and a hundredth of them are measured too
    #[arg(long, default_value_t = 100_000)]
    subscriptions: usize,
    /// Due times to fire, for each number of subscriptions and in each repetition
    #[arg(long, default_value_t = 100_000)]
    due_times: usize,
    /// How often to measure
    #[arg(long, default_value_t = 5)]
    repeats: usize,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Report, BoxError> {
    let mut report = Report::new("bench beat: the plan of due times in memory, simulated");
    let mut costs = Vec::new();
    // Plans stay until the end: memory that one gave back would be taken for the next one's.
    let mut plans = Vec::new();
    for count in [arguments.subscriptions / 100, arguments.subscriptions / 10, arguments.subscriptions] {
        let before = memory("self")?.resident;
        let started = Instant::now();
        let mut plan = plan_of(count)?;
        let put = started.elapsed().as_secs_f64() * 1e9 / count as f64;
        let megabytes = memory("self")?.resident - before;
        let each: Vec<f64> = (0..arguments.repeats).map(|_| fire(&mut plan, arguments.due_times)).collect();
        let mut held = Measure::new(format!("memory of {count} subscriptions"), Unit::Megabytes, megabytes);
        if count == arguments.subscriptions {
            held = held.at_most(MOST_MEGABYTES);
        }
        report.add(held);
        report.add(Measure::new(format!("to put one of {count} into the plan"), Unit::Nanoseconds, put));
        costs.push((count as f64, median(&each)));
        report.add(Measure::repeated(format!("a due time among {count}"), Unit::Nanoseconds, each));
        plans.push(plan);
    }
    if let [(_, least), .., (_, most)] = costs[..] {
        let growth = Measure::new("growth of a due time's cost over this range", Unit::Factor, most / least);
        report.add(growth.at_most(MOST_GROWTH));
    }
    report.add(Measure::new("exponent of that growth", Unit::Factor, growth_exponent(&costs)));
    Ok(report)
}

fn plan_of(count: usize) -> Result<Plan, BoxError> {
    let mut plan = Plan::default();
    for number in 0..count {
        plan.put(subscription(number)?)?;
    }
    Ok(plan)
}

pub(super) fn subscription(number: usize) -> Result<ScheduledSubscription, BoxError> {
    let id = i64::try_from(number)?;
    Ok(ScheduledSubscription {
        id,
        key: ObjectKey {
            uid: Uuid::new_v5(&Uuid::NAMESPACE_OID, &id.to_be_bytes()),
            namespace: "publications".to_owned(),
            name: format!("court-of-appeals-{number:06}"),
        },
        generation: 1,
        settings: SubscriptionSettings {
            schedule: SCHEDULES[number % SCHEDULES.len()].to_owned(),
            time_zone: ZONES[number % ZONES.len()].to_owned(),
            starting_deadline_seconds: None,
            concurrency: Concurrency::Forbid,
            catch_up: CatchUp::Latest,
            jitter_seconds: if number.is_multiple_of(2) { 300 } else { 0 },
            suspend: false,
            jurisdiction: Some("US-CA".to_owned()),
            retention: None,
            selection: store::catalog::SelectionSettings::default(),
            targets: Vec::new(),
        },
        source_suspended: false,
        scheduled_through: START,
    })
}

/// Fires at least `count` due times, as the beat does, and returns what one costs, in nanoseconds.
fn fire(plan: &mut Plan, count: usize) -> f64 {
    let started = Instant::now();
    let mut fired = 0;
    while fired < count
        && let Some(now) = plan.next_fire()
    {
        for due in plan.due(now + SignedDuration::from_millis(1), SUBSCRIPTIONS_AT_ONCE, usize::MAX) {
            fired += due.runs.len();
            if let Some(last) = due.runs.last() {
                plan.account(last.subscription_uid, last.scheduled_for);
            }
        }
    }
    started.elapsed().as_secs_f64() * 1e9 / fired as f64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_schedule_fires_in_each_zone() {
        let count = SCHEDULES.len() * ZONES.len();
        let plan = plan_of(count).unwrap();
        let year = START + SignedDuration::from_hours(24 * 365);
        assert_eq!(plan.due(year, count, usize::MAX).len(), count);
    }
}
