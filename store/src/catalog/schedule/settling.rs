//! What is to become of due times, by how their subscriptions stand: no statement is run here.

use std::collections::{HashMap, HashSet};

use events::run_reasons;
use jiff::Timestamp;

use super::{
    super::{Trigger, to_micros},
    DueRun, FiredRun, Skip, WhenActive,
};

/// How a subscription stands while its due times are settled.
pub(super) struct SubscriptionState {
    pub(super) generation: i64,
    pub(super) through: Timestamp,
    pub(super) is_active: bool,
}

/// What is to become of due times, one after the other.
pub(super) struct Settling<'a> {
    states: &'a HashMap<i64, SubscriptionState>,
    /// Subscriptions for which a run is being made; where in `runs` it stands.
    made: HashMap<i64, usize>,
    /// Subscriptions whose active runs are ended.
    pub(super) replaced: Vec<i64>,
    pub(super) runs: Vec<FiredRun>,
    pub(super) through: HashMap<i64, Timestamp>,
    pub(super) waiting: HashSet<i64>,
    pub(super) outdated: HashSet<i64>,
}

impl<'a> Settling<'a> {
    pub(super) fn new(states: &'a HashMap<i64, SubscriptionState>) -> Self {
        Self {
            states,
            made: HashMap::new(),
            replaced: Vec::new(),
            runs: Vec::new(),
            through: HashMap::new(),
            waiting: HashSet::new(),
            outdated: HashSet::new(),
        }
    }

    pub(super) fn settle(&mut self, due: &DueRun) {
        let id = due.subscription_id;
        if self.waiting.contains(&id) {
            return;
        }
        let scheduled_for = to_micros(due.scheduled_for);
        let state = self
            .states
            .get(&id)
            .filter(|state| state.generation == due.generation && scheduled_for > state.through);
        let Some(state) = state else {
            self.outdated.insert(id);
            return;
        };
        let mut run = FiredRun::new(id, due.subscription_uid, scheduled_for, Trigger::Schedule);
        run.skip.clone_from(&due.skip);
        run.skipped_together = due.skipped_together;
        let made = self.made.get(&id).copied();
        if run.skip.is_none() && (state.is_active || made.is_some()) {
            match (due.when_active, made) {
                (WhenActive::Skip, _) => run.skip = Some(overlap()),
                (WhenActive::Wait, _) => {
                    self.waiting.insert(id);
                    return;
                }
                (WhenActive::RunBoth, _) => {}
                (WhenActive::Replace, Some(earlier)) => self.runs[earlier].skip = Some(superseded()),
                (WhenActive::Replace, None) => self.replaced.push(id),
            }
        }
        if run.skip.is_none() {
            self.made.insert(id, self.runs.len());
        }
        self.runs.push(run);
        self.through.insert(id, scheduled_for);
    }
}

fn overlap() -> Skip {
    Skip {
        reason: run_reasons::OVERLAP,
        message: "the run before it was still active, and concurrencyPolicy is Forbid".to_owned(),
    }
}

fn superseded() -> Skip {
    Skip {
        reason: run_reasons::SUPERSEDED,
        message: "a later one was run at the same moment, and concurrencyPolicy is Replace".to_owned(),
    }
}
