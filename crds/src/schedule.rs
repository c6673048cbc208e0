//! When a subscription is due: a cron expression read in a time zone.

use std::{fmt, sync::LazyLock};

use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use jiff::{
    Timestamp,
    tz::{TimeZone, TimeZoneDatabase},
};

/// The time zones that are bundled with the program, so that every machine reads a schedule alike.
static TIME_ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// Nicknames of schedules, with the fields they stand for.
const NICKNAMES: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// The number of days each month has at most.
const MONTH_DAYS: [u8; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// A cron expression and the time zone it is read in.
///
/// Five fields (minute, hour, day of month, month, day of week), POSIX rules as in a Kubernetes CronJob: lists, ranges
/// and steps; `n/s` is `n` to the field's end in steps of `s`; names of months and weekdays; Sunday is 0 or 7; when
/// both day fields are restricted, a day that matches either is taken. Nicknames such as `@hourly`.
///
/// Where clocks change, a schedule with one minute and one hour names a time of day, and runs once each day: in the
/// gap when clocks go forward it runs at the gap's end, and of a repeated time only the first counts. Any other
/// schedule names points on the clock face: those inside a gap do not occur, and repeated ones occur twice.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    expression: String,
    cron: Cron,
    time_zone: TimeZone,
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
        let fields = normalised_fields(expression)?;
        let cron = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build()
            .parse(&fields)
            .map_err(|error| InvalidSchedule::Parser(error.to_string()))?;
        Ok(Self { expression: expression.to_owned(), cron, time_zone })
    }

    /// The first due time strictly after `after`, or `None` when there is none before the year 5000.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let start = after.to_zoned(self.time_zone.clone());
        self.cron.find_next_occurrence(&start, false).ok().map(|next| next.timestamp())
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

/// One of the five fields: what it stands for, its values, and names for them.
struct Field {
    name: &'static str,
    min: u8,
    max: u8,
    /// The last value that is written when a range has no end: 6 for days of the week, whose 7 is Sunday again.
    last: u8,
    names: &'static [&'static str],
    /// Whether `?` may stand for `*`.
    question_mark: bool,
}

const FIELDS: [Field; 5] = [
    Field { name: "minute", min: 0, max: 59, last: 59, names: &[], question_mark: false },
    Field { name: "hour", min: 0, max: 23, last: 23, names: &[], question_mark: false },
    Field { name: "day of month", min: 1, max: 31, last: 31, names: &[], question_mark: true },
    Field { name: "month", min: 1, max: 12, last: 12, names: &MONTHS, question_mark: false },
    Field { name: "day of week", min: 0, max: 7, last: 6, names: &WEEKDAYS, question_mark: true },
];

/// The expression in digits, `*`, ranges and steps alone.
///
/// The cron library is given nothing else: it also takes seconds, years and extensions (`L`, `W`, `#`, `+`) that a
/// CronJob refuses, and replaces names inside any word.
fn normalised_fields(expression: &str) -> Result<String, InvalidSchedule> {
    let expression = expression.trim();
    if let Some((_, fields)) = NICKNAMES.iter().find(|(nickname, _)| *nickname == expression) {
        return Ok((*fields).to_owned());
    }
    let texts: Vec<&str> = expression.split_ascii_whitespace().collect();
    if texts.len() != FIELDS.len() {
        return Err(InvalidSchedule::Shape);
    }
    let fields = FIELDS
        .iter()
        .zip(texts)
        .map(|(field, text)| {
            field.normalise(text).map_err(|problem| InvalidSchedule::Field {
                field: field.name,
                text: text.to_owned(),
                problem,
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    if let [_, _, days, months, weekdays] = fields.as_slice()
        && weekdays == "*"
        && !some_date_exists(days, months)
    {
        return Err(InvalidSchedule::Never);
    }
    Ok(fields.join(" "))
}

/// Whether any of the months has any of the days, both in normalised form.
fn some_date_exists(days: &str, months: &str) -> bool {
    let first_day = first_values(days, 1).min().unwrap_or(1);
    let longest = values(months, 1, 12).filter_map(|month| MONTH_DAYS.get(usize::from(month) - 1)).max();
    longest.is_none_or(|longest| first_day <= *longest)
}

/// The first value of each part of a normalised field.
fn first_values(field: &str, min: u8) -> impl Iterator<Item = u8> {
    field
        .split(',')
        .map(move |part| part.split(['-', '/']).next().and_then(|first| first.parse().ok()).unwrap_or(min))
}

/// All values of a normalised field.
fn values(field: &str, min: u8, max: u8) -> impl Iterator<Item = u8> {
    field.split(',').flat_map(move |part| {
        let (range, step) = part.split_once('/').unwrap_or((part, "1"));
        let (first, last) = match range.split_once('-') {
            Some((first, last)) => (first.parse().unwrap_or(min), last.parse().unwrap_or(max)),
            None => range.parse().map_or((min, max), |value| (value, value)),
        };
        (first..=last).step_by(step.parse().unwrap_or(1))
    })
}

impl Field {
    fn normalise(&self, text: &str) -> Result<String, String> {
        text.split(',')
            .map(|part| self.normalise_part(part))
            .collect::<Result<Vec<_>, _>>()
            .map(|parts| parts.join(","))
    }

    /// `*`, a value, or a range, each with or without a step.
    fn normalise_part(&self, part: &str) -> Result<String, String> {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(self.step(step)?)),
            None => (part, None),
        };
        let range = match range.split_once('-') {
            Some((first, last)) => {
                let (first, last) = (self.value(first)?, self.range_end(last)?);
                if first > last {
                    return Err(format!("the range {range} runs backwards"));
                }
                format!("{first}-{last}")
            }
            None if range == "*" || (self.question_mark && range == "?") => "*".to_owned(),
            None if step.is_some() => format!("{}-{}", self.value(range)?, self.last),
            None => self.value(range)?.to_string(),
        };
        Ok(step.map_or(range.clone(), |step| format!("{range}/{step}")))
    }

    fn step(&self, text: &str) -> Result<u8, String> {
        digits(text)
            .filter(|step| (1..=self.max).contains(step))
            .ok_or_else(|| format!("a step must be between 1 and {}", self.max))
    }

    fn value(&self, text: &str) -> Result<u8, String> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(text));
        named
            .and_then(|position| u8::try_from(position).ok())
            .map(|position| position + self.min)
            .or_else(|| digits(text))
            .filter(|value| (self.min..=self.max).contains(value))
            .ok_or_else(|| {
                format!("a value must be between {} and {}{}", self.min, self.max, self.names_hint())
            })
    }

    /// As [`Field::value`], but Sunday at the end of a range is 7: `FRI-SUN` are three days.
    fn range_end(&self, text: &str) -> Result<u8, String> {
        let value = self.value(text)?;
        Ok(if text.eq_ignore_ascii_case("SUN") { self.max } else { value })
    }

    fn names_hint(&self) -> String {
        match (self.names.first(), self.names.last()) {
            (Some(first), Some(last)) => format!(", or a name from {first} to {last}"),
            _ => String::new(),
        }
    }
}

/// The number a text of one or two digits stands for.
fn digits(text: &str) -> Option<u8> {
    let plain = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests;
