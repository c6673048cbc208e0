//! `tipstaff schedule`: when a cron expression is due, so that one can look before one trusts it.

use std::io::{self, Write};

use crds::{InvalidSchedule, Schedule};
use jiff::Timestamp;

/// Prints the first `count` due times after `after` (or as many as there are), one RFC 3339 time a line with the offset
/// of the schedule's zone.
///
/// # Errors
/// When the output takes no more.
pub fn print(schedule: &Schedule, after: Timestamp, count: usize, output: &mut dyn Write) -> io::Result<()> {
    for due in schedule.due_between(after, Timestamp::MAX, count) {
        let offset = schedule.time_zone().to_offset(due);
        writeln!(output, "{}", due.display_with_offset(offset))?;
    }
    output.flush()
}

/// Takes a command line argument as a cron expression.
///
/// # Errors
/// Which field is wrong, and how.
pub fn expression(text: &str) -> Result<String, InvalidSchedule> {
    Schedule::parse(text, "UTC").map(|_| text.to_owned())
}

/// Takes a command line argument as the name of a time zone.
///
/// # Errors
/// When there is no zone of that name.
pub fn time_zone(name: &str) -> Result<String, InvalidSchedule> {
    Schedule::parse("@daily", name).map(|_| name.to_owned())
}
