//! Which subscription fires when: the beat's memory.

use std::collections::{BTreeSet, HashMap};

use crds::{InvalidSchedule, Schedule};
use jiff::{SignedDuration, Timestamp};
use store::catalog::{DueRun, ScheduledSubscription, SkippedTogether};
use uuid::Uuid;

use super::decide::{self, CATCH_UP_LIMIT, decide, when_active};

/// How many due times of one subscription are looked at in one turn.
const DUE_TIMES_AT_ONCE: usize = 10_000;
/// How far the catalog may be ahead of the clock: more, and the clock was set back.
const AHEAD: SignedDuration = SignedDuration::from_mins(1);

/// When each subscription fires next.
#[derive(Default)]
pub struct Plan {
    entries: HashMap<Uuid, Entry>,
    by_catalog_id: HashMap<i64, Uuid>,
    /// When each entry fires next, earliest first.
    queue: BTreeSet<(Timestamp, Uuid)>,
}

struct Entry {
    subscription: ScheduledSubscription,
    schedule: Schedule,
    /// The subscription's delay after each due time.
    offset: SignedDuration,
    next_due: Option<Timestamp>,
    /// It fires no earlier: what it waits for is looked at again then.
    not_before: Option<Timestamp>,
}

/// Due times of one subscription.
pub struct Due {
    /// What becomes of them, in ascending order.
    pub runs: Vec<DueRun>,
    /// The delay with which they fire: the subscription's share of its jitter.
    pub offset: SignedDuration,
    looked_at: usize,
}

impl Entry {
    /// When the next due time fires.
    fn fires_at(&self) -> Option<Timestamp> {
        let fires_at = self.next_due?.checked_add(self.offset).ok()?;
        Some(self.not_before.map_or(fires_at, |floor| fires_at.max(floor)))
    }
}

impl Plan {
    /// Fires a subscription from now on as given.
    ///
    /// # Errors
    /// When its schedule cannot be read; then it does not fire.
    pub fn put(&mut self, subscription: ScheduledSubscription) -> Result<(), InvalidSchedule> {
        let uid = subscription.key.uid;
        self.remove(uid);
        let settings = &subscription.settings;
        let schedule = Schedule::parse(&settings.schedule, &settings.time_zone)?;
        let offset = stable_offset(uid, settings.jitter_seconds);
        let next_due = schedule.next_after(subscription.scheduled_through);
        self.by_catalog_id.insert(subscription.id, uid);
        self.entries.insert(uid, Entry { subscription, schedule, offset, next_due, not_before: None });
        self.enqueue(uid);
        Ok(())
    }

    /// Fires a subscription no more.
    pub fn remove(&mut self, uid: Uuid) {
        self.dequeue(uid);
        if let Some(entry) = self.entries.remove(&uid) {
            self.by_catalog_id.remove(&entry.subscription.id);
        }
    }

    /// When something fires next.
    pub fn next_fire(&self) -> Option<Timestamp> {
        self.queue.first().map(|(fires_at, _)| *fires_at)
    }

    /// When a subscription is due next, without its delay.
    pub fn next_due(&self, uid: Uuid) -> Option<Timestamp> {
        self.entries.get(&uid)?.next_due
    }

    /// The uid of a subscription that is known here.
    pub fn uid(&self, catalog_id: i64) -> Option<Uuid> {
        self.by_catalog_id.get(&catalog_id).copied()
    }

    /// The due times of the subscriptions that fire at `now`, the longest waiting first: of at most `subscriptions`, and
    /// no more when there are `due_times`.
    pub fn due(&self, now: Timestamp, subscriptions: usize, due_times: usize) -> Vec<Due> {
        let mut all = Vec::new();
        let mut count = 0;
        for (_, uid) in self.queue.iter().take_while(|(fires_at, _)| *fires_at <= now).take(subscriptions) {
            let Some(entry) = self.entries.get(uid) else { continue };
            let due = due_of(entry, now);
            count += due.looked_at;
            all.push(due);
            if count >= due_times {
                break;
            }
        }
        all
    }

    /// Due times up to `through` were made runs, or recorded as skipped.
    pub fn account(&mut self, uid: Uuid, through: Timestamp) {
        self.dequeue(uid);
        if let Some(entry) = self.entries.get_mut(&uid) {
            let accounted = entry.subscription.scheduled_through.max(through);
            entry.subscription.scheduled_through = accounted;
            entry.next_due = entry.schedule.next_after(accounted);
            entry.not_before = None;
        }
        self.enqueue(uid);
    }

    /// What a subscription waits for is looked at again at `time`.
    pub fn hold_until(&mut self, uid: Uuid, time: Timestamp) {
        self.dequeue(uid);
        if let Some(entry) = self.entries.get_mut(&uid) {
            entry.not_before = Some(time);
        }
        self.enqueue(uid);
    }

    /// The catalog's ids of the subscriptions that are accounted for further than `now`, since the clock was set back.
    pub fn ahead_of(&self, now: Timestamp) -> Vec<i64> {
        let latest = now.checked_add(AHEAD).unwrap_or(now);
        self.entries
            .values()
            .map(|entry| &entry.subscription)
            .filter(|subscription| subscription.scheduled_through > latest)
            .map(|subscription| subscription.id)
            .collect()
    }

    fn enqueue(&mut self, uid: Uuid) {
        if let Some(fires_at) = self.entries.get(&uid).and_then(Entry::fires_at) {
            self.queue.insert((fires_at, uid));
        }
    }

    fn dequeue(&mut self, uid: Uuid) {
        if let Some(fires_at) = self.entries.get(&uid).and_then(Entry::fires_at) {
            self.queue.remove(&(fires_at, uid));
        }
    }
}

/// What becomes of an entry's due times up to now.
///
/// After a long absence they can be very many. The newest [`CATCH_UP_LIMIT`] are decided on one by one; those before them,
/// all of which are skipped, are recorded together.
fn due_of(entry: &Entry, now: Timestamp) -> Due {
    let subscription = &entry.subscription;
    let settings = &subscription.settings;
    let until = now.checked_sub(entry.offset).unwrap_or(now);
    let limit = DUE_TIMES_AT_ONCE + CATCH_UP_LIMIT;
    let times = entry.schedule.due_between(subscription.scheduled_through, until, limit);
    let decisions = decide(settings, subscription.source_suspended, &times, until);
    let due_run = |time: Timestamp, skipped: Option<decide::Skipped>| DueRun {
        subscription_id: subscription.id,
        subscription_uid: subscription.key.uid,
        generation: subscription.generation,
        scheduled_for: time,
        when_active: when_active(settings, time, until),
        skip: skipped.map(decide::Skipped::to_skip),
        skipped_together: None,
    };
    let one_by_one = || times.iter().zip(&decisions).map(|(time, skipped)| due_run(*time, *skipped));
    let runs = match times.len().checked_sub(CATCH_UP_LIMIT) {
        None | Some(0) => one_by_one().collect(),
        // The newest follow in the next turn.
        Some(old) => one_by_one().take(old).fold(Vec::new(), together_with),
    };
    Due { runs, offset: entry.offset, looked_at: times.len() }
}

/// Adds a due time to the last one when both are skipped for the same reason.
fn together_with(mut runs: Vec<DueRun>, next: DueRun) -> Vec<DueRun> {
    match runs.last_mut() {
        Some(last) if last.skip.is_some() && last.skip == next.skip => {
            let before =
                last.skipped_together.unwrap_or(SkippedTogether { from: last.scheduled_for, count: 1 });
            last.skipped_together = Some(SkippedTogether { count: before.count + 1, ..before });
            last.scheduled_for = next.scheduled_for;
        }
        _ => runs.push(next),
    }
    runs
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
    use store::catalog::{CatchUp, Concurrency, ObjectKey, SubscriptionSettings, WhenActive};

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
                retention: None,
                selection: store::catalog::SelectionSettings::default(),
                targets: Vec::new(),
            },
            source_suspended: false,
            scheduled_through: time(through),
        }
    }

    fn due(plan: &Plan, now: &str) -> Vec<DueRun> {
        plan.due(time(now), 10, 10_000).into_iter().flat_map(|due| due.runs).collect()
    }

    fn times(due: &[DueRun]) -> Vec<Timestamp> {
        due.iter().map(|run| run.scheduled_for).collect()
    }

    const ONE: Uuid = Uuid::from_u128(1);

    #[test]
    fn fires_each_due_time_once_when_accounted() {
        let mut plan = Plan::default();
        plan.put(subscription(1, "* * * * *", "2026-01-01T00:00:30Z")).unwrap();
        assert_eq!(plan.next_fire(), Some(time("2026-01-01T00:01:00Z")));
        assert!(due(&plan, "2026-01-01T00:00:59.999Z").is_empty());
        let both = [time("2026-01-01T00:01:00Z"), time("2026-01-01T00:02:00Z")];
        assert_eq!(times(&due(&plan, "2026-01-01T00:02:00Z")), both);
        // Not accounted for, they are due again.
        assert_eq!(times(&due(&plan, "2026-01-01T00:02:00Z")), both);
        plan.account(ONE, both[0]);
        assert_eq!(times(&due(&plan, "2026-01-01T00:02:00Z")), [both[1]]);
        plan.account(ONE, both[1]);
        assert!(due(&plan, "2026-01-01T00:02:00Z").is_empty());
        assert_eq!(plan.next_fire(), Some(time("2026-01-01T00:03:00Z")));
        assert_eq!(plan.uid(1), Some(ONE));
    }

    #[test]
    fn a_subscription_that_was_removed_or_replaced_does_not_fire_as_before() {
        let mut plan = Plan::default();
        plan.put(subscription(1, "* * * * *", "2026-01-01T00:00:00Z")).unwrap();
        plan.put(subscription(1, "0 12 * * *", "2026-01-01T00:00:30Z")).unwrap();
        plan.account(ONE, time("2026-01-01T00:00:00Z"));
        assert_eq!(plan.next_fire(), Some(time("2026-01-01T12:00:00Z")));
        plan.remove(ONE);
        assert_eq!((plan.next_fire(), plan.uid(1)), (None, None));
    }

    #[test]
    fn what_waits_is_looked_at_again_later_and_loses_nothing() {
        let mut plan = Plan::default();
        plan.put(subscription(1, "* * * * *", "2026-01-01T00:00:00Z")).unwrap();
        plan.hold_until(ONE, time("2026-01-01T00:09:02Z"));
        assert!(due(&plan, "2026-01-01T00:09:01Z").is_empty());
        let waited = due(&plan, "2026-01-01T00:09:02Z");
        assert_eq!(waited.len(), 9);
        let missed = waited.iter().filter(|run| run.when_active == WhenActive::Wait).count();
        assert_eq!(missed, 8, "the last one is met on time");
        plan.account(ONE, time("2026-01-01T00:01:00Z"));
        assert_eq!(plan.next_fire(), Some(time("2026-01-01T00:02:00Z")));
    }

    #[test]
    fn of_many_missed_due_times_the_old_ones_are_recorded_together() {
        for (catch_up, expected) in [(CatchUp::Latest, 1), (CatchUp::All, 100), (CatchUp::None, 1)] {
            let mut plan = Plan::default();
            let mut missed = subscription(1, "* * * * *", "2025-01-01T00:00:00Z");
            missed.settings.catch_up = catch_up;
            plan.put(missed).unwrap();
            let (mut rows, mut due_times, mut fired) = (0, 0, Vec::new());
            loop {
                let due = due(&plan, "2026-01-01T00:00:10Z");
                let Some(last) = due.last() else { break };
                rows += due.len();
                due_times += due
                    .iter()
                    .map(|run| run.skipped_together.map_or(1, |together| u64::from(together.count)))
                    .sum::<u64>();
                fired.extend(due.iter().filter(|run| run.skip.is_none()).map(|run| run.scheduled_for));
                plan.account(ONE, last.scheduled_for);
            }
            assert_eq!(due_times, 365 * 24 * 60, "{catch_up:?}: each due time of the year");
            assert!(rows < 200, "{catch_up:?}: in {rows} rows");
            assert_eq!((fired.len(), fired.last()), (expected, Some(&time("2026-01-01T00:00:00Z"))));
        }
    }

    #[test]
    fn a_turn_ends_when_it_has_enough() {
        let mut plan = Plan::default();
        for id in 1..=9 {
            plan.put(subscription(id, "* * * * *", "2026-01-01T00:00:00Z")).unwrap();
        }
        let now = time("2026-01-01T00:30:00Z");
        assert_eq!(plan.due(now, 4, 10_000).len(), 4);
        assert_eq!(plan.due(now, 9, 60).len(), 2);
        assert_eq!(plan.due(now, 9, 1).len(), 1);
    }

    #[test]
    fn what_is_far_ahead_of_the_clock_is_found() {
        let mut plan = Plan::default();
        plan.put(subscription(1, "* * * * *", "2026-01-01T00:01:00Z")).unwrap();
        plan.put(subscription(2, "* * * * *", "2026-01-02T00:00:00Z")).unwrap();
        assert_eq!(plan.ahead_of(time("2026-01-01T00:00:00Z")), [2]);
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
