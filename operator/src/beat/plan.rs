//! Which subscription fires when: the beat's memory.

use std::collections::{BTreeSet, HashMap};

use crds::{InvalidSchedule, Schedule};
use jiff::{SignedDuration, Timestamp};
use store::catalog::{DueRun, ScheduledSubscription};
use uuid::Uuid;

use super::decide;

/// How many due times of one subscription are accounted for in one transaction.
const DUE_TIMES_AT_ONCE: usize = 500;

/// Which subscriptions are due, and when: no I/O and no clock.
#[derive(Default)]
pub struct Plan {
    entries: HashMap<Uuid, Entry>,
    /// When each entry fires next, earliest first.
    queue: BTreeSet<(Timestamp, Uuid)>,
}

struct Entry {
    subscription: ScheduledSubscription,
    schedule: Schedule,
    /// The subscription's delay after each due time.
    offset: SignedDuration,
    /// Due times up to and including this one are accounted for.
    accounted: Timestamp,
    next_due: Option<Timestamp>,
}

/// Due times of one subscription.
pub struct Due {
    /// The subscription's uid.
    pub uid: Uuid,
    /// The due times, ascending, and what the schedule's rules say of each.
    pub runs: Vec<DueRun>,
    generation: i64,
    last: Option<Timestamp>,
}

impl Entry {
    /// When the next due time fires.
    fn fires_at(&self) -> Option<Timestamp> {
        self.next_due?.checked_add(self.offset).ok()
    }
}

impl Plan {
    /// Fires the subscription from now on as given.
    ///
    /// # Errors
    /// When its schedule cannot be read; then it is not in the plan.
    pub fn put(&mut self, subscription: ScheduledSubscription) -> Result<(), InvalidSchedule> {
        let uid = subscription.key.uid;
        self.remove(uid);
        let settings = &subscription.settings;
        let schedule = Schedule::parse(&settings.schedule, &settings.time_zone)?;
        let accounted = subscription.scheduled_through;
        let offset = stable_offset(uid, settings.jitter_seconds);
        let next_due = schedule.next_after(accounted);
        let entry = Entry { subscription, schedule, offset, accounted, next_due };
        if let Some(fires_at) = entry.fires_at() {
            self.queue.insert((fires_at, uid));
        }
        self.entries.insert(uid, entry);
        Ok(())
    }

    /// Fires the subscription no more.
    pub fn remove(&mut self, uid: Uuid) {
        if let Some(entry) = self.entries.remove(&uid)
            && let Some(fires_at) = entry.fires_at()
        {
            self.queue.remove(&(fires_at, uid));
        }
    }

    /// When something fires next.
    pub fn next_fire(&self) -> Option<Timestamp> {
        self.queue.first().map(|(fires_at, _)| *fires_at)
    }

    /// When a subscription is due next, without its jitter.
    pub fn next_due(&self, uid: Uuid) -> Option<Timestamp> {
        self.entries.get(&uid)?.next_due
    }

    /// The due times of the subscriptions that fire at `now`, the longest waiting first.
    pub fn due(&self, now: Timestamp, limit: usize) -> Vec<Due> {
        self.queue
            .iter()
            .take_while(|(fires_at, _)| *fires_at <= now)
            .take(limit)
            .filter_map(|(_, uid)| self.entries.get(uid))
            .map(|entry| due_of(entry, now))
            .collect()
    }

    /// The due times were made runs, or recorded as skipped.
    pub fn account(&mut self, due: &Due) {
        let Some(entry) = self.entries.get_mut(&due.uid) else { return };
        let (Some(last), true) = (due.last, entry.subscription.generation == due.generation) else { return };
        if let Some(fires_at) = entry.fires_at() {
            self.queue.remove(&(fires_at, due.uid));
        }
        entry.accounted = entry.accounted.max(last);
        entry.next_due = entry.schedule.next_after(entry.accounted);
        if let Some(fires_at) = entry.fires_at() {
            self.queue.insert((fires_at, due.uid));
        }
    }
}

fn due_of(entry: &Entry, now: Timestamp) -> Due {
    let subscription = &entry.subscription;
    // The limit leaves the latest due times for the next turn, where they are again the latest.
    let until = now.checked_sub(entry.offset).unwrap_or(now);
    let mut times = entry.schedule.due_between(entry.accounted, until, DUE_TIMES_AT_ONCE + 1);
    let more_follow = times.len() > DUE_TIMES_AT_ONCE;
    let mut decisions = decide(&subscription.settings, subscription.source_suspended, &times, until);
    if more_follow {
        times.pop();
        decisions.pop();
    }
    let runs = times
        .iter()
        .zip(decisions)
        .map(|(time, skipped)| DueRun {
            subscription_id: subscription.id,
            subscription_uid: subscription.key.uid,
            generation: subscription.generation,
            scheduled_for: *time,
            concurrency: subscription.settings.concurrency,
            skip: skipped.map(decide::Skipped::to_skip),
        })
        .collect();
    Due { uid: subscription.key.uid, runs, generation: subscription.generation, last: times.last().copied() }
}

/// A delay below `jitter_seconds` that is always the same for a subscription, in milliseconds.
pub fn stable_offset(uid: Uuid, jitter_seconds: u32) -> SignedDuration {
    if jitter_seconds == 0 {
        return SignedDuration::ZERO;
    }
    let (high, low) = uid.as_u64_pair();
    let millis = (high ^ low) % (u64::from(jitter_seconds) * 1000);
    SignedDuration::from_millis(i64::try_from(millis).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use store::catalog::{CatchUp, Concurrency, ObjectKey, SubscriptionSettings};

    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn subscription(id: i64, schedule: &str, through: &str) -> ScheduledSubscription {
        ScheduledSubscription {
            id,
            key: ObjectKey {
                uid: Uuid::from_u128(id.try_into().unwrap()),
                namespace: "n".into(),
                name: "s".into(),
            },
            generation: 1,
            settings: SubscriptionSettings {
                schedule: schedule.into(),
                time_zone: "Etc/UTC".into(),
                starting_deadline_seconds: None,
                concurrency: Concurrency::Forbid,
                catch_up: CatchUp::All,
                jitter_seconds: 0,
                suspend: false,
                jurisdiction: None,
            },
            source_suspended: false,
            scheduled_through: time(through),
        }
    }

    fn times(due: &[Due]) -> Vec<Timestamp> {
        due.iter().flat_map(|due| due.runs.iter().map(|run| run.scheduled_for)).collect()
    }

    #[test]
    fn fires_each_due_time_once_when_accounted() {
        let mut plan = Plan::default();
        plan.put(subscription(1, "* * * * *", "2026-01-01T00:00:30Z")).unwrap();
        assert_eq!(plan.next_fire(), Some(time("2026-01-01T00:01:00Z")));
        assert!(plan.due(time("2026-01-01T00:00:59.999Z"), 10).is_empty());
        let due = plan.due(time("2026-01-01T00:02:00Z"), 10);
        assert_eq!(times(&due), [time("2026-01-01T00:01:00Z"), time("2026-01-01T00:02:00Z")]);
        // Not accounted for, it is due again.
        assert_eq!(times(&plan.due(time("2026-01-01T00:02:00Z"), 10)).len(), 2);
        plan.account(&due[0]);
        assert!(plan.due(time("2026-01-01T00:02:00Z"), 10).is_empty());
        assert_eq!(plan.next_fire(), Some(time("2026-01-01T00:03:00Z")));
    }

    #[test]
    fn a_subscription_that_was_removed_or_replaced_does_not_fire_as_before() {
        let mut plan = Plan::default();
        plan.put(subscription(1, "* * * * *", "2026-01-01T00:00:00Z")).unwrap();
        let stale = plan.due(time("2026-01-01T00:01:00Z"), 10);
        let mut changed = subscription(1, "0 12 * * *", "2026-01-01T00:00:30Z");
        changed.generation = 2;
        plan.put(changed).unwrap();
        plan.account(&stale[0]);
        assert_eq!(plan.next_fire(), Some(time("2026-01-01T12:00:00Z")));
        plan.remove(Uuid::from_u128(1));
        assert_eq!(plan.next_fire(), None);
    }

    #[test]
    fn many_missed_due_times_come_in_turns_and_only_the_last_is_the_latest() {
        let mut plan = Plan::default();
        let mut missed = subscription(1, "* * * * *", "2026-01-01T00:00:00Z");
        missed.settings.catch_up = CatchUp::Latest;
        plan.put(missed).unwrap();
        let now = time("2026-01-01T20:00:10Z");
        let (mut all, mut fired) = (Vec::new(), Vec::new());
        loop {
            let due = plan.due(now, 10);
            let Some(first) = due.first() else { break };
            all.extend(times(&due));
            fired.extend(first.runs.iter().filter(|run| run.skip.is_none()).map(|run| run.scheduled_for));
            plan.account(first);
        }
        assert_eq!(all.len(), 1200);
        assert_eq!(fired, [time("2026-01-01T20:00:00Z")]);
    }

    proptest! {
        #[test]
        fn the_jitter_is_stable_and_below_its_bound(uid in any::<u128>(), seconds in 1..3600u32) {
            let uid = Uuid::from_u128(uid);
            let offset = stable_offset(uid, seconds);
            prop_assert_eq!(offset, stable_offset(uid, seconds));
            prop_assert!(offset >= SignedDuration::ZERO && offset < SignedDuration::from_secs(seconds.into()));
        }
    }
}
