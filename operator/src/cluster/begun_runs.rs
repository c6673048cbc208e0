//! Runs that began and whose subscriptions do not show it yet: most end before, and are one write of a status then.
//!
//! Pure: whoever calls gives the time.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

/// How long after a run began that is shown, unless it ends sooner.
const SHOWN_AFTER: Duration = Duration::from_secs(2);

/// Which subscriptions are to show that a run of theirs began, and when.
#[derive(Default)]
pub(super) struct BegunRuns {
    /// The longest waiting first; some of them are shown by now.
    queue: VecDeque<(Instant, i64)>,
    waiting: HashMap<i64, Instant>,
}

impl BegunRuns {
    /// A run of the subscription began.
    pub(super) fn begun(&mut self, subscription_id: i64, now: Instant) {
        let due = now + SHOWN_AFTER;
        self.waiting.entry(subscription_id).or_insert_with(|| {
            self.queue.push_back((due, subscription_id));
            due
        });
    }

    /// The subscription shows all that is known of it now.
    pub(super) fn shown(&mut self, subscription_id: i64) {
        self.waiting.remove(&subscription_id);
    }

    /// When it is to be looked again.
    pub(super) fn next(&self) -> Option<Instant> {
        self.queue.front().map(|(due, _)| *due)
    }

    /// Takes the subscriptions that are to show it now.
    pub(super) fn take(&mut self, now: Instant) -> Vec<i64> {
        let count = self.queue.partition_point(|(due, _)| *due <= now);
        let waiting = &mut self.waiting;
        self.queue
            .drain(..count)
            .filter(|(due, id)| waiting.get(id) == Some(due) && waiting.remove(id).is_some())
            .map(|(_, id)| id)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{BegunRuns, SHOWN_AFTER};
    use tokio::time::{Duration, Instant};

    const MOMENT: Duration = Duration::from_millis(10);

    #[test]
    fn a_run_is_shown_when_it_takes_long_and_once() {
        let (mut runs, start) = (BegunRuns::default(), Instant::now());
        assert_eq!(runs.next(), None);
        runs.begun(1, start);
        runs.begun(2, start + MOMENT);
        runs.begun(1, start + MOMENT);
        assert_eq!(runs.next(), Some(start + SHOWN_AFTER));
        assert!(runs.take(start + SHOWN_AFTER - MOMENT).is_empty());
        assert_eq!(runs.take(start + SHOWN_AFTER), [1]);
        assert_eq!(runs.next(), Some(start + SHOWN_AFTER + MOMENT));
        assert_eq!(runs.take(start + SHOWN_AFTER * 2), [2]);
        assert_eq!(runs.next(), None);
        runs.begun(1, start + SHOWN_AFTER * 2);
        assert_eq!(runs.take(start + SHOWN_AFTER * 3), [1]);
    }

    #[test]
    fn a_run_that_has_ended_is_not_shown_as_begun() {
        let (mut runs, start) = (BegunRuns::default(), Instant::now());
        runs.begun(1, start);
        runs.begun(2, start);
        runs.shown(1);
        runs.begun(1, start + MOMENT);
        assert_eq!(runs.take(start + SHOWN_AFTER), [2]);
        assert_eq!(runs.take(start + SHOWN_AFTER + MOMENT), [1]);
    }
}
