//! The simulated day. Two things happen: the beat commits runs, and requests come for slots of their hosts.

use std::{cmp::Reverse, collections::BinaryHeap};

use ::tests::politeness;
use events::BoxError;
use jiff::{SignedDuration, Timestamp};
use store::catalog::Slot;

use super::fleet::Fleet;
use crate::benchmarks::beat::{START, SUBSCRIPTIONS_AT_ONCE};

/// As the crawl role has them: how far off a slot is waited for, and how early an event comes for the one it was promised.
const PATIENCE: SignedDuration = SignedDuration::from_millis(250);
const ON_ITS_WAY: SignedDuration = SignedDuration::from_millis(100);

/// How fast things are.
pub(super) struct Pace {
    pub(super) length: SignedDuration,
    pub(super) runs_per_second: f64,
    /// Between two requests to a host.
    pub(super) interval: SignedDuration,
}

/// What happened.
pub(super) struct Day {
    pub(super) due_times: u64,
    pub(super) fullest_minute: u64,
    /// Seconds from each due time, and the subscription's own delay, to the commit.
    pub(super) beat_lateness: Vec<f32>,
    /// Due times that made no request: the run before still waited (`concurrencyPolicy: Forbid`), or a later one was due.
    pub(super) skipped: u64,
    pub(super) shortest_gap: Option<SignedDuration>,
    pub(super) hosts: Vec<HostOfDay>,
}

#[derive(Clone, Default)]
pub(super) struct HostOfDay {
    pub(super) due: u64,
    /// Seconds from each request's commit to its slot.
    pub(super) lateness: Vec<f32>,
    last: Option<Timestamp>,
    slots: politeness::Host,
}

/// A request that comes for a slot. The earliest is first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Request {
    comes_at: Timestamp,
    committed_at: Timestamp,
    subscription: usize,
    is_promised: bool,
}

struct Simulation<'a> {
    pace: &'a Pace,
    host_of: Vec<u32>,
    /// Whose run waits for its host.
    is_active: Vec<bool>,
    waiting: BinaryHeap<Reverse<Request>>,
    day: Day,
}

impl Day {
    pub(super) fn of(fleet: Fleet, pace: &Pace) -> Result<Self, BoxError> {
        let Fleet { mut plan, host_of, hosts } = fleet;
        let day = Self {
            due_times: 0,
            fullest_minute: 0,
            beat_lateness: Vec::new(),
            skipped: 0,
            shortest_gap: None,
            hosts: vec![HostOfDay::default(); hosts],
        };
        let is_active = vec![false; host_of.len()];
        let mut simulation = Simulation { pace, host_of, is_active, waiting: BinaryHeap::new(), day };
        let end = START + pace.length;
        let (mut now, mut minute) = (START, (START, 0));
        while let Some(next) = plan.next_fire().filter(|next| *next < end) {
            now = now.max(next);
            let due = plan.due(now, SUBSCRIPTIONS_AT_ONCE, usize::MAX);
            let runs: usize = due.iter().map(|due| due.runs.len()).sum();
            let committed = now + SignedDuration::try_from_secs_f64(runs as f64 / pace.runs_per_second)?;
            simulation.requests_until(committed);
            for due in due {
                for run in &due.runs {
                    let fires_at = run.scheduled_for + due.offset;
                    if fires_at.duration_since(minute.0) >= SignedDuration::from_mins(1) {
                        minute = (fires_at, 0);
                    }
                    minute.1 += 1;
                    simulation.day.fullest_minute = simulation.day.fullest_minute.max(minute.1);
                    let is_skipped = run.skip.is_some();
                    simulation.fire(usize::try_from(run.subscription_id)?, fires_at, committed, is_skipped);
                }
                if let Some(last) = due.runs.last() {
                    plan.account(last.subscription_uid, last.scheduled_for);
                }
            }
            now = committed;
        }
        // What was due on this day is asked for, even on the next.
        simulation.requests_until(Timestamp::MAX);
        Ok(simulation.day)
    }
}

impl Simulation<'_> {
    fn fire(&mut self, subscription: usize, fires_at: Timestamp, committed_at: Timestamp, is_skipped: bool) {
        self.day.due_times += 1;
        self.day.beat_lateness.push(committed_at.duration_since(fires_at).as_secs_f32());
        let host = self.host_of.get(subscription).and_then(|host| self.day.hosts.get_mut(*host as usize));
        let (Some(host), Some(is_active)) = (host, self.is_active.get_mut(subscription)) else { return };
        host.due += 1;
        if is_skipped || std::mem::replace(is_active, true) {
            self.day.skipped += 1;
            return;
        }
        self.waiting.push(Reverse(Request {
            comes_at: committed_at,
            committed_at,
            subscription,
            is_promised: false,
        }));
    }

    /// Lets all come that come before then.
    fn requests_until(&mut self, time: Timestamp) {
        while let Some(Reverse(request)) = self.waiting.pop() {
            if request.comes_at > time {
                self.waiting.push(Reverse(request));
                return;
            }
            self.ask(request);
        }
    }

    fn ask(&mut self, request: Request) {
        let Request { comes_at, committed_at, subscription, is_promised } = request;
        let host = self.host_of.get(subscription).and_then(|host| self.day.hosts.get_mut(*host as usize));
        let (Some(host), Some(is_active)) = (host, self.is_active.get_mut(subscription)) else { return };
        match host.slots.claim(comes_at, self.pace.interval, PATIENCE, is_promised) {
            Slot::Promised(at) => self.waiting.push(Reverse(Request {
                // One that is near is come for at once.
                comes_at: comes_at.max(at - ON_ITS_WAY),
                committed_at,
                subscription,
                is_promised: true,
            })),
            Slot::Granted(at) => {
                *is_active = false;
                host.lateness.push(at.duration_since(committed_at).as_secs_f32());
                if let Some(last) = host.last.replace(at) {
                    let gap = at.duration_since(last);
                    self.day.shortest_gap =
                        Some(self.day.shortest_gap.map_or(gap, |shortest| shortest.min(gap)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn day(subscriptions: usize, hosts: usize, runs_per_second: f64) -> Day {
        let (length, interval) = (SignedDuration::from_hours(24), SignedDuration::from_secs(1));
        Day::of(Fleet::new(subscriptions, hosts).unwrap(), &Pace { length, runs_per_second, interval })
            .unwrap()
    }

    #[test]
    fn each_due_time_is_asked_for_or_skipped_and_no_host_more_often_than_it_may_be() {
        let day = day(1_000, 10, 1e6);
        let requests: u64 = day.hosts.iter().map(|host| host.lateness.len() as u64).sum();
        assert_eq!(requests + day.skipped, day.due_times);
        assert_eq!(day.hosts.iter().map(|host| host.due).sum::<u64>(), day.due_times);
        // About 22 for each subscription: the mix of schedules on a working day.
        assert!((15_000..30_000).contains(&day.due_times), "{}", day.due_times);
        assert!(day.shortest_gap.unwrap() >= SignedDuration::from_secs(1));
        let most = |lateness: &[f32]| lateness.iter().copied().fold(0.0, f32::max);
        assert!(most(&day.beat_lateness) < 0.1, "a fast beat is in time");
        assert!(day.hosts.iter().any(|host| most(&host.lateness) > 10.0), "who is due together waits");
    }

    #[test]
    fn a_beat_that_is_slow_is_late_and_one_host_is_asked_a_second_apart_at_most() {
        let day = day(2_000, 1, 40.0);
        let late = day.beat_lateness.iter().copied().fold(0.0, f32::max);
        assert!(late > 5.0, "{late}");
        let [host] = &day.hosts[..] else { unreachable!() };
        assert!(host.lateness.len() <= 24 * 3_600 + 2_000);
        assert!(day.skipped > 0, "more is due than may be asked");
        // No run waits longer than all others take.
        let most = host.lateness.iter().copied().fold(0.0, f32::max);
        assert!(most <= 2_000.0, "{most}");
    }
}
