//! When a subscription is due: a cron expression read in a time zone.

use std::{fmt, sync::LazyLock};

use jiff::{
    SignedDuration, Timestamp,
    tz::{Offset, TimeZone, TimeZoneDatabase},
};

mod expression;
mod times;

use times::{Reading, Times};

/// The time zones that are bundled with the program, so that every machine reads a schedule alike.
static TIME_ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// A cron expression and the time zone it is read in.
///
/// Five fields (minute, hour, day of month, month, day of week), POSIX rules as in a Kubernetes CronJob: lists, ranges
/// and steps; `n/s` is `n` to the field's end in steps of `s`; names of months and weekdays; Sunday is 0 or 7; when
/// both day fields are restricted, a day that matches either is taken. Nicknames such as `@hourly`.
///
/// Where clocks change, it depends on whether a `*` stands in the field of minutes or of hours. Without, the schedule
/// names times of day: those that a clock set forward leaves out come once, at the moment of the change, and of a
/// repeated time only the first counts. With a `*`, it names what the clock shows: what it leaves out does not occur,
/// and what it shows twice occurs twice.
///
/// Small, since one of each subscription is held in memory: the zones' data is shared.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    expression: Box<str>,
    times: Times,
    kind: Kind,
    time_zone: TimeZone,
}

/// What a schedule does where clocks change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Runs at times of day, as if the clock were never set back and passed over nothing.
    FixedTime,
    /// Runs by what the clock shows.
    Interval,
}

/// Why a text is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSchedule {
    /// It is neither five fields nor a nickname.
    #[error("{}", crate::subscription::SCHEDULE_SHAPE)]
    Shape,
    /// One field is wrong.
    #[error("has an invalid {field} {text:?}: {problem}")]
    Field {
        /// What the field stands for.
        field: &'static str,
        /// What was written.
        text: String,
        /// What is wrong with it.
        problem: String,
    },
    /// No date matches, such as 30 February.
    #[error("never occurs: no month it names has such a day")]
    Never,
    /// The time zone is not known.
    #[error("must be an IANA time zone such as Europe/Berlin; {0:?} is not known")]
    TimeZone(String),
    /// The cron library refuses what passed the checks here.
    #[error("is refused by the cron parser: {0}")]
    Parser(String),
}

impl InvalidSchedule {
    /// Whether the time zone is at fault, not the expression.
    pub fn is_time_zone(&self) -> bool {
        matches!(self, Self::TimeZone(_))
    }
}

impl Schedule {
    /// Reads a cron expression and the name of an IANA time zone.
    ///
    /// # Errors
    /// [`InvalidSchedule`] says which of the two is wrong, and how.
    pub fn parse(expression: &str, zone: &str) -> Result<Self, InvalidSchedule> {
        let time_zone = TIME_ZONES
            .get(zone)
            .ok()
            .filter(|found| !found.is_unknown())
            .ok_or_else(|| InvalidSchedule::TimeZone(zone.to_owned()))?;
        let (times, kind) = expression::parse(expression)?;
        Ok(Self { expression: expression.into(), times, kind, time_zone })
    }

    /// The first due time strictly after `after`, or `None` when there is none before the year 10000.
    ///
    /// Goes from one change of the zone's offset to the next: between them the clock runs evenly, and the first
    /// reading that the fields name is due if it comes before the next change.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let zone = &self.time_zone;
        let mut offset = zone.to_offset(after);
        let mut from = minute_at(after, offset) + 1;
        if let (Kind::FixedTime, Some(unshown)) = (self.kind, first_unshown(zone, after)) {
            from = from.max(unshown);
        }
        let mut start = after;
        loop {
            // What the fixed times of a clock set forward are moved to is the change, at which `start` stands.
            let due = instant(self.times.first_from(from)?, offset)?.max(start);
            let Some(change) = zone.following(start).next().filter(|change| change.timestamp() <= due) else {
                return Some(due);
            };
            start = change.timestamp();
            from = match self.kind {
                Kind::FixedTime => from.max(minute_from(start, offset)),
                Kind::Interval => minute_from(start, change.offset()),
            };
            offset = change.offset();
        }
    }

    /// The due times after `after` up to and including `until`, the earliest `limit` of them.
    pub fn due_between(&self, after: Timestamp, until: Timestamp, limit: usize) -> Vec<Timestamp> {
        std::iter::successors(self.next_after(after), |due| self.next_after(*due))
            .take_while(|due| *due <= until)
            .take(limit)
            .collect()
    }

    /// The expression as it was written.
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// The time zone in which the expression is read.
    pub fn time_zone(&self) -> &TimeZone {
        &self.time_zone
    }
}

impl fmt::Display for Schedule {
    /// Writes the expression as it was given.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.expression)
    }
}

/// The first reading that the zone's clock had not shown when its offset last changed.
///
/// A clock set back shows earlier ones again. No two changes are so close that the second repeats more than the time
/// since the first.
fn first_unshown(zone: &TimeZone, now: Timestamp) -> Option<Reading> {
    let nanosecond = SignedDuration::from_nanos(1);
    let change = zone.preceding(now.checked_add(nanosecond).ok()?).next()?.timestamp();
    Some(minute_from(change, zone.to_offset(change.checked_sub(nanosecond).ok()?)))
}

/// The last whole minute that a clock with this offset has shown by `now`.
fn minute_at(now: Timestamp, offset: Offset) -> Reading {
    let fraction = i64::from(now.subsec_nanosecond() < 0);
    (now.as_second() - fraction + i64::from(offset.seconds())).div_euclid(60)
}

/// When a clock with this offset shows the reading.
fn instant(reading: Reading, offset: Offset) -> Option<Timestamp> {
    let clock = reading.checked_mul(60)?;
    Timestamp::from_second(clock.checked_sub(offset.seconds().into())?).ok()
}

/// The first reading that is not before what the clock shows at `now`, which may lie within a minute.
fn minute_from(now: Timestamp, offset: Offset) -> Reading {
    let minute = minute_at(now, offset);
    if instant(minute, offset) == Some(now) { minute } else { minute + 1 }
}

#[cfg(test)]
mod tests;
