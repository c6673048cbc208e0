//! When statuses may be written.
//!
//! A status is written at once when its last write is ten seconds ago. Sooner than that only while little is written
//! altogether: a result is seen promptly where few come, and many results of an object are one write where many come.
//!
//! Pure: whoever calls gives the time.

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    time::Duration,
};

use tokio::time::Instant;
use uuid::Uuid;

use crate::backoff::Backoff;

/// How long after a write the next one of the same status is due.
const INTERVAL: Duration = Duration::from_secs(10);
/// What one write costs of the [`Budget`]: so it allows ten writes a second, and a hundred at once.
const COST: Duration = Duration::from_millis(100);
/// How long an object that the API server refuses to write is left alone, at most.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

/// Which statuses wait to be written, and from when on each may be.
pub(super) struct Pacer {
    waiting: HashMap<Uuid, Instant>,
    /// The same, the longest waiting first.
    queue: BTreeSet<(Instant, Uuid)>,
    /// The last writes, as long as they keep others waiting.
    written: HashMap<Uuid, Instant>,
    /// What the API server refused in a row.
    refused: HashMap<Uuid, Backoff>,
    budget: Budget,
}

impl Pacer {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            waiting: HashMap::new(),
            queue: BTreeSet::new(),
            written: HashMap::new(),
            refused: HashMap::new(),
            budget: Budget { spent_until: now },
        }
    }

    /// The status may differ from what was written. It waits until it is taken; one that waits already keeps its turn.
    pub(super) fn add(&mut self, uid: Uuid, now: Instant) {
        let due = self.written.get(&uid).map_or(now, |last| now.max(*last + INTERVAL));
        self.wait(uid, due);
    }

    /// Takes up to `limit` statuses that may be written now: those that are due, then as many others as the budget
    /// allows. What becomes of one is told before it is added again.
    pub(super) fn take(&mut self, limit: usize, now: Instant) -> Vec<Uuid> {
        let mut taken: Vec<Uuid> =
            self.queue.iter().take_while(|(due, _)| *due <= now).take(limit).map(|(_, uid)| *uid).collect();
        let left = self.budget.left(now).saturating_sub(taken.len()).min(limit - taken.len());
        let early = self.queue.iter().skip(taken.len()).filter(|(_, uid)| !self.refused.contains_key(uid));
        let early: Vec<Uuid> = early.take(left).map(|(_, uid)| *uid).collect();
        taken.extend(early);
        for uid in &taken {
            self.forget_turn(*uid);
        }
        taken
    }

    /// The status was written.
    pub(super) fn written(&mut self, uid: Uuid, now: Instant) {
        self.budget.spend(now);
        self.written.insert(uid, now);
        self.refused.remove(&uid);
    }

    /// The API server refused this one: it waits, longer with each refusal in a row.
    pub(super) fn refused(&mut self, uid: Uuid, now: Instant) {
        let backoff = self.refused.entry(uid).or_insert_with(|| Backoff::up_to(LONGEST_BACKOFF));
        let due = now + backoff.after_failure();
        self.wait(uid, due);
    }

    /// There is nothing to write it to any more.
    pub(super) fn forget(&mut self, uid: Uuid) {
        self.forget_turn(uid);
        self.written.remove(&uid);
        self.refused.remove(&uid);
    }

    /// Forgets writes that keep nobody waiting any more.
    pub(super) fn tidy(&mut self, now: Instant) {
        self.written.retain(|_, last| *last + INTERVAL > now);
        self.refused.retain(|uid, _| self.waiting.contains_key(uid));
    }

    /// When there will be something to take, or to forget; never while nothing is remembered.
    pub(super) fn wake_at(&self, now: Instant) -> Option<Instant> {
        let due = self.queue.first().map(|(due, _)| *due);
        let early = self
            .queue
            .iter()
            .any(|(_, uid)| !self.refused.contains_key(uid))
            .then(|| self.budget.available_at().max(now));
        let forgotten = self.written.values().max().map(|last| *last + INTERVAL);
        [due, early, forgotten].into_iter().flatten().min()
    }

    /// How many statuses wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn wait(&mut self, uid: Uuid, due: Instant) {
        if let Entry::Vacant(entry) = self.waiting.entry(uid) {
            entry.insert(due);
            self.queue.insert((due, uid));
        }
    }

    fn forget_turn(&mut self, uid: Uuid) {
        if let Some(due) = self.waiting.remove(&uid) {
            self.queue.remove(&(due, uid));
        }
    }
}

/// How much may be written before its time: a bucket that leaks. Every write fills it, also one that is due, so that
/// little is left while much is written.
struct Budget {
    /// When all that was written is paid for.
    spent_until: Instant,
}

impl Budget {
    /// How many writes are allowed.
    fn left(&self, now: Instant) -> usize {
        let credit = (now + INTERVAL).saturating_duration_since(self.spent_until.max(now));
        usize::try_from(credit.as_millis() / COST.as_millis()).unwrap_or(usize::MAX)
    }

    /// When one is.
    fn available_at(&self) -> Instant {
        self.spent_until.checked_sub(INTERVAL - COST).unwrap_or(self.spent_until)
    }

    /// The debt is bounded: after any burst, writes before their time are allowed again when [`INTERVAL`] is over, and
    /// not sooner if the burst was large.
    fn spend(&mut self, now: Instant) {
        self.spent_until = (self.spent_until.max(now) + COST).min(now + INTERVAL + INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const fn object(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn objects(numbers: std::ops::Range<u128>) -> Vec<Uuid> {
        numbers.map(object).collect()
    }

    /// A pacer with a time that goes only where the test takes it.
    struct Scene {
        pacer: Pacer,
        now: Instant,
        writes: Vec<(Instant, Uuid)>,
    }

    impl Scene {
        fn new() -> Self {
            let now = Instant::now();
            Self { pacer: Pacer::new(now), now, writes: Vec::new() }
        }

        fn later(&mut self, milliseconds: u64) -> &mut Self {
            self.now += Duration::from_millis(milliseconds);
            self
        }

        /// Lets time pass, and writes whenever the pacer asks to.
        fn pass(&mut self, milliseconds: u64) -> &mut Self {
            let end = self.now + Duration::from_millis(milliseconds);
            while let Some(wake) = self.pacer.wake_at(self.now).filter(|wake| *wake <= end) {
                assert!(wake > self.now, "it would spin");
                self.now = wake;
                self.write();
            }
            self.now = end;
            self
        }

        fn add(&mut self, uids: &[Uuid]) -> &mut Self {
            for uid in uids {
                self.pacer.add(*uid, self.now);
            }
            self
        }

        /// Writes all that may be written, and returns it in order of the objects.
        fn write(&mut self) -> Vec<Uuid> {
            let mut all = Vec::new();
            loop {
                let taken = self.pacer.take(7, self.now);
                if taken.is_empty() {
                    break;
                }
                for uid in &taken {
                    self.pacer.written(*uid, self.now);
                    self.writes.push((self.now, *uid));
                }
                all.extend(taken);
            }
            self.pacer.tidy(self.now);
            all.sort_unstable();
            all
        }

        /// In how many milliseconds there is something to do.
        fn wakes_in(&self) -> Option<u128> {
            self.pacer.wake_at(self.now).map(|time| time.saturating_duration_since(self.now).as_millis())
        }
    }

    #[test]
    fn few_results_are_written_at_once() {
        let mut scene = Scene::new();
        for _ in 0..30 {
            assert_eq!(scene.add(&[object(1)]).write(), [object(1)]);
            scene.later(500);
        }
    }

    #[test]
    fn a_status_that_waits_is_written_when_ten_seconds_are_over_and_then_nothing_is_remembered() {
        let mut scene = Scene::new();
        let many = objects(0..300);
        assert_eq!(scene.add(&many).write(), many);
        assert_eq!(scene.wakes_in(), Some(10_000));
        scene.later(4_000).add(&many);
        assert!(scene.write().is_empty());
        assert_eq!(scene.wakes_in(), Some(6_000));
        scene.later(5_999);
        assert!(scene.write().is_empty());
        scene.later(1);
        assert_eq!(scene.write(), many);
        assert_eq!(scene.wakes_in(), Some(10_000));
        scene.later(10_000);
        assert!(scene.write().is_empty());
        assert_eq!(scene.wakes_in(), None);
    }

    #[test]
    fn the_budget_allows_a_hundred_early_writes_and_then_ten_a_second() {
        let mut scene = Scene::new();
        let some = objects(0..50);
        scene.add(&some).write();
        assert_eq!(scene.later(1_000).add(&some).write().len(), 50);
        assert_eq!(scene.later(1_000).add(&some).write().len(), 20);
        assert_eq!(scene.wakes_in(), Some(100));
        assert_eq!(scene.later(1_000).write().len(), 10);
        // The rest is due before the budget would allow all of it.
        scene.later(8_000);
        assert_eq!(scene.write().len(), 20);
    }

    #[test]
    fn one_that_is_refused_waits_longer_each_time_and_keeps_no_other_waiting() {
        let mut scene = Scene::new();
        let (bad, good) = (object(1), object(2));
        let mut waits = Vec::new();
        for _ in 0..12 {
            scene.add(&[bad]);
            assert_eq!(scene.pacer.take(7, scene.now), [bad]);
            scene.pacer.refused(bad, scene.now);
            scene.pacer.tidy(scene.now);
            let wait = scene.pacer.waiting[&bad] - scene.now;
            assert_eq!(scene.add(&[bad, good]).write(), [good], "{wait:?}");
            assert_eq!(scene.pacer.waiting[&bad] - scene.now, wait, "its turn is not moved");
            waits.push(wait.as_millis());
            scene.now += wait;
        }
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000]);
        // It is accepted at last: the next refusal is a first one.
        assert_eq!(scene.write(), [bad]);
        scene.pacer.refused(bad, scene.now);
        assert_eq!(scene.pacer.waiting[&bad] - scene.now, Duration::from_millis(100));
        scene.pacer.forget(bad);
        assert_eq!(scene.pacer.waiting(), 0);
    }

    proptest! {
        #[test]
        fn under_load_no_status_is_written_twice_within_ten_seconds_and_none_is_forgotten(
            steps in prop::collection::vec((0..3_000u64, 0..400u128, 0..400u128), 1..40),
        ) {
            let mut scene = Scene::new();
            let mut wanted = HashMap::new();
            for (pause, from, count) in steps {
                let changed = objects(from..from + count);
                scene.pass(pause).add(&changed).write();
                wanted.extend(changed.into_iter().map(|uid| (uid, scene.now)));
            }
            scene.pass(60_000);
            prop_assert_eq!(scene.wakes_in(), None);
            // Each change is followed by a write, at most ten seconds later.
            let last: HashMap<Uuid, Instant> = scene.writes.iter().map(|(time, uid)| (*uid, *time)).collect();
            for (uid, changed) in wanted {
                prop_assert!(last[&uid] >= changed && last[&uid] <= changed + INTERVAL);
            }
            let mut before: HashMap<Uuid, Instant> = HashMap::new();
            let mut window = 0;
            for (index, (time, uid)) in scene.writes.iter().enumerate() {
                while scene.writes[window].0 + INTERVAL <= *time {
                    window += 1;
                }
                let is_early = before.insert(*uid, *time).is_some_and(|last| last + INTERVAL > *time);
                let recent = index - window;
                prop_assert!(!is_early || recent < 200, "written early, after {recent} writes in ten seconds");
            }
        }
    }
}
