//! The documented rules, told once more in the most naive way: somebody watches a clock on the wall, minute by minute,
//! and knows nothing of time zones.

use jiff::{SignedDuration, Timestamp, civil::DateTime};

use crate::{expression::Expression, zones::Zone};

const MINUTE: SignedDuration = SignedDuration::from_mins(1);
/// Longer than any clock is set back.
const WATCHED_BEFORE: SignedDuration = SignedDuration::from_hours(25);

/// The due times after `after` up to and including `until`.
pub(crate) fn due(
    expression: &Expression,
    zone: &Zone,
    after: Timestamp,
    until: Timestamp,
) -> Vec<Timestamp> {
    let first = after - WATCHED_BEFORE;
    let mut now = Timestamp::from_second(first.as_second().div_euclid(60) * 60).unwrap();
    // The latest time that the clock has shown.
    let mut latest = zone.shows(now);
    let mut due = Vec::new();
    while now + MINUTE <= until {
        now += MINUTE;
        let shown = zone.shows(now);
        let is_due = if expression.is_fixed_time() {
            // All times that come into sight for the first time; most often one.
            minutes_after(latest).take_while(|time| *time <= shown).any(|time| expression.names(time))
        } else {
            expression.names(shown)
        };
        latest = latest.max(shown);
        if is_due && now > after {
            due.push(now);
        }
    }
    due
}

fn minutes_after(time: DateTime) -> impl Iterator<Item = DateTime> {
    std::iter::successors(Some(time + MINUTE), |time| Some(*time + MINUTE))
}
