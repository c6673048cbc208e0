//! How large a run is, and how long.

use std::time::Duration;

/// How large a run is, and how long.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What all choices follow from.
    pub seed: u64,
    /// How many subscriptions there are.
    pub subscriptions: usize,
    /// How many host names the site has.
    pub hosts: usize,
    /// How many sources are worked on at a time.
    pub at_once: usize,
    /// How long there are faults.
    pub faults_for: Duration,
    /// How long one of them lasts at most.
    pub longest_fault: Duration,
    /// How many of them there are at a time at most.
    pub faults_at_once: usize,
    /// After the last fault, how long it may take until nothing is left to do.
    pub quiet_within: Duration,
    /// How long it is then watched that nothing is written.
    pub rest_for: Duration,
    /// Whether there are targets of all kinds. What an outage keeps from topics and buckets twice comes a minute later, the
    /// third time five.
    pub all_targets: bool,
}

impl Plan {
    /// As `make chaos` does it.
    #[must_use]
    pub fn full(seed: u64, minutes: u64) -> Self {
        Self {
            seed,
            subscriptions: 300,
            hosts: 100,
            at_once: 40,
            faults_for: Duration::from_secs(60 * minutes),
            longest_fault: Duration::from_secs(40),
            faults_at_once: 5,
            // A third attempt at a delivery comes a minute after the second, the fourth five after that.
            quiet_within: Duration::from_secs(15 * 60),
            rest_for: Duration::from_secs(30),
            all_targets: true,
        }
    }

    /// As `make test` does it.
    #[must_use]
    pub fn short(seed: u64) -> Self {
        Self {
            subscriptions: 90,
            hosts: 40,
            at_once: 20,
            // With what is still to be healed then, two minutes.
            faults_for: Duration::from_secs(105),
            longest_fault: Duration::from_secs(8),
            faults_at_once: 3,
            quiet_within: Duration::from_secs(180),
            rest_for: Duration::from_secs(4),
            all_targets: false,
            ..Self::full(seed, 1)
        }
    }
}
