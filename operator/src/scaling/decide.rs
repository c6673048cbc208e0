//! How many replicas a role shall have: up at once, down when nothing has spoken against it for a while.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};

/// How many replicas a role may have, and when it needs them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The fewest replicas.
    pub min: u32,
    /// The most replicas.
    pub max: u32,
    /// Events that one replica may be behind. Not 0.
    pub target_lag: u64,
}

/// What was read of a role's group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// So many events are not done, in so many partitions.
    Lag {
        /// Events that are not committed; those in flight are among them.
        events: u64,
        /// Partitions of all the role's topics: with more replicas than these, some would idle.
        partitions: u32,
    },
    /// Nothing could be read. That is not "no lag".
    Unknown,
}

/// What a role's lag asked for within the window.
#[derive(Clone, Debug)]
pub struct History {
    window: SignedDuration,
    /// With a longer gap between readings than this, nobody knows what was between them.
    gap: SignedDuration,
    /// When, and how many replicas that reading asked for, oldest first.
    asked: VecDeque<(Timestamp, u32)>,
}

impl Bounds {
    /// The replicas that a lag asks for, whatever was before.
    pub fn ask(self, events: u64, partitions: u32) -> u32 {
        let wanted = events.div_ceil(self.target_lag.max(1));
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
        wanted.clamp(self.min, self.ceiling(partitions))
    }

    /// More than partitions are there only when `min` asks for them.
    fn ceiling(self, partitions: u32) -> u32 {
        self.max.min(partitions).max(self.min)
    }

    fn hold(self, replicas: u32) -> u32 {
        replicas.clamp(self.min, self.max.max(self.min))
    }
}

impl History {
    /// `window` is how long fewer replicas must have been enough, `gap` how long there may be no reading.
    pub fn new(window: SignedDuration, gap: SignedDuration) -> Self {
        Self { window, gap, asked: VecDeque::new() }
    }

    /// Decides, `current` being the replicas that the role shall have so far.
    ///
    /// More come at once. Fewer come when every reading within the window asked for fewer, and then as many as the highest
    /// of them. A reading that failed, and the time before the first one, count as asking for what there is.
    pub fn decide(&mut self, bounds: Bounds, current: u32, reading: Reading, now: Timestamp) -> u32 {
        let current = bounds.hold(current);
        let is_continuous = self.asked.back().is_some_and(|(last, _)| now.duration_since(*last) <= self.gap);
        if !is_continuous {
            self.asked.push_back((now, current));
        }
        let (asked, ceiling) = match reading {
            Reading::Lag { events, partitions } => {
                (bounds.ask(events, partitions), bounds.ceiling(partitions))
            }
            Reading::Unknown => (current, current),
        };
        self.asked.push_back((now, asked));
        while self.asked.front().is_some_and(|(time, _)| now.duration_since(*time) > self.window) {
            self.asked.pop_front();
        }
        let highest = self.asked.iter().map(|(_, asked)| *asked).max().unwrap_or(asked);
        highest.min(current).max(asked).min(ceiling)
    }
}

#[cfg(test)]
mod tests;
