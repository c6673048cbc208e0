//! The report.

use std::{fmt, time::Duration};

use crate::{check::Violation, faults::Counts, fleet::Ended};

/// What a run of this program has shown.
#[derive(Clone, Debug)]
pub struct Report {
    /// What all choices followed from.
    pub seed: u64,
    /// How often what went wrong.
    pub faults: Counts,
    /// How many processes ended by themselves and were started again.
    pub ended_by_themselves: Ended,
    /// How many runs ended how: phase, reason, how many.
    pub runs: Vec<(String, usize)>,
    /// How many changes of documents were to be found by subscriptions.
    pub changes: usize,
    /// How many deliveries came to targets, and how many of them again.
    pub deliveries: (usize, usize),
    /// How many records are in dead letters.
    pub dead_letters: usize,
    /// How many blobs were read.
    pub blobs: usize,
    /// How often the event of a run was sent again because it made no progress.
    pub restarts: i64,
    /// The longest time from a change to the end of a run that succeeded after it, and whose.
    pub longest_outage: (Duration, String),
    /// How long it took after the last fault until nothing was left to do.
    pub quiet_after: Duration,
    /// What was not kept; the first of them with all that is known of what they concern.
    pub violations: Vec<(Violation, Vec<String>)>,
}

/// A history longer than this is cut: the first and the last lines tell most.
const MOST_LINES: usize = 120;
/// So many violations are told with their history, which takes a while to gather.
pub const MOST_HISTORIES: usize = 10;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (violation, history) in &self.violations {
            writeln!(f, "VIOLATION of {violation}")?;
            let cut = history.len().saturating_sub(MOST_LINES);
            for line in history.iter().take(MOST_LINES / 2) {
                writeln!(f, "    {line}")?;
            }
            if cut > 0 {
                writeln!(f, "    … {cut} lines …")?;
            }
            for line in history.iter().skip(MOST_LINES / 2 + cut) {
                writeln!(f, "    {line}")?;
            }
        }
        let faults: usize = self.faults.values().sum();
        writeln!(f, "seed {}", self.seed)?;
        writeln!(f, "faults {faults}")?;
        for (fault, count) in &self.faults {
            writeln!(f, "    {count:>5}  {fault}")?;
        }
        for ((role, why), count) in &self.ended_by_themselves {
            writeln!(f, "    {count:>5}  {role}: ended by itself: {why}")?;
        }
        let runs: usize = self.runs.iter().map(|(_, count)| count).sum();
        writeln!(f, "runs {runs}, {} times an event was sent again", self.restarts)?;
        for (end, count) in &self.runs {
            writeln!(f, "    {count:>5}  {end}")?;
        }
        writeln!(f, "changes {}", self.changes)?;
        let (came, again) = self.deliveries;
        writeln!(f, "deliveries {came}, {again} of them once more")?;
        writeln!(f, "blobs {}", self.blobs)?;
        writeln!(f, "dead letters {}", self.dead_letters)?;
        let (time, whose) = &self.longest_outage;
        writeln!(f, "longest outage seen by a subscription {:.1} s ({whose})", time.as_secs_f64())?;
        writeln!(f, "quiet {:.1} s after the last fault", self.quiet_after.as_secs_f64())?;
        writeln!(f, "violations {}", self.violations.len())
    }
}
