//! What may be written: the fields, and what they mean. `docs/schedules.md` tells it to users.

use croner::parser::{CronParser, Seconds, Year};

use super::{InvalidSchedule, Kind, times::Times};

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

const MINUTE: Field = Field { name: "minute", min: 0, max: 59, last: 59, names: &[], question_mark: false };
const HOUR: Field = Field { name: "hour", min: 0, max: 23, last: 23, names: &[], question_mark: false };
const DAY: Field = Field { name: "day of month", min: 1, max: 31, last: 31, names: &[], question_mark: true };
const MONTH: Field = Field { name: "month", min: 1, max: 12, last: 12, names: &MONTHS, question_mark: false };
const WEEKDAY: Field =
    Field { name: "day of week", min: 0, max: 7, last: 6, names: &WEEKDAYS, question_mark: true };

/// Reads a cron expression.
pub(super) fn parse(expression: &str) -> Result<(Times, Kind), InvalidSchedule> {
    let fields = normalised_fields(expression)?;
    let cron = CronParser::builder()
        .seconds(Seconds::Disallowed)
        .year(Year::Disallowed)
        .build()
        .parse(&fields.join(" "))
        .map_err(|error| InvalidSchedule::Parser(error.to_string()))?;
    let bits = |values: Vec<u16>| values.into_iter().fold(0u64, |bits, value| bits | 1 << value);
    let pattern = &cron.pattern;
    let [minute, hour, day, _, weekday] = &fields;
    let times = Times {
        minutes: bits(pattern.minutes.values()),
        hours: bits(pattern.hours.values()) as u32,
        days: bits(pattern.days.values()) as u32,
        months: bits(pattern.months.values()) as u16,
        // Sunday is 0 and 7.
        weekdays: pattern.days_of_week.values().into_iter().fold(0, |bits, day| bits | 1 << (day % 7)),
        // `*/2` is a restriction as any other, as in a CronJob. In some other crons it is not.
        either_day: day != "*" && weekday != "*",
    };
    if !times.ever_occur() {
        return Err(InvalidSchedule::Never);
    }
    let kind = if minute.contains('*') || hour.contains('*') { Kind::Interval } else { Kind::FixedTime };
    Ok((times, kind))
}

/// The five fields in digits, `*`, ranges and steps alone.
///
/// The cron library is given nothing else: it also takes seconds, years and extensions (`L`, `W`, `#`, `+`) that a
/// CronJob refuses, and replaces names inside any word.
fn normalised_fields(expression: &str) -> Result<[String; 5], InvalidSchedule> {
    let expression = expression.trim();
    let nickname = NICKNAMES.iter().find(|(nickname, _)| *nickname == expression);
    let texts: Vec<&str> =
        nickname.map_or(expression, |(_, fields)| fields).split_ascii_whitespace().collect();
    let [minute, hour, day, month, weekday] = texts.as_slice() else {
        return Err(InvalidSchedule::Shape);
    };
    Ok([
        MINUTE.normalise(minute)?,
        HOUR.normalise(hour)?,
        DAY.normalise(day)?,
        MONTH.normalise(month)?,
        WEEKDAY.normalise(weekday)?,
    ])
}

impl Field {
    fn normalise(&self, text: &str) -> Result<String, InvalidSchedule> {
        let parts: Vec<String> =
            text.split(',').map(|part| self.normalise_part(part)).collect::<Result<_, _>>().map_err(
                |problem| InvalidSchedule::Field { field: self.name, text: text.to_owned(), problem },
            )?;
        Ok(if parts.iter().any(|part| part == "*") { "*".to_owned() } else { parts.join(",") })
    }

    /// `*`, a value, or a range, each with or without a step. All values are `*`, whatever else is listed.
    fn normalise_part(&self, part: &str) -> Result<String, String> {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(self.step(step)?)),
            None => (part, None),
        };
        let range = match range.split_once('-') {
            Some((first, last)) => {
                let first = self.value(first)?;
                let last = self.range_end(first, last)?;
                if first > last {
                    return Err(format!("the range {range} runs backwards"));
                }
                format!("{first}-{last}")
            }
            None if range == "*" || (self.question_mark && range == "?") => "*".to_owned(),
            None if step.is_some() => {
                let first = self.value(range)?;
                format!("{first}-{}", self.last.max(first))
            }
            None => self.value(range)?.to_string(),
        };
        Ok(match step {
            None | Some(1) => range,
            Some(step) => format!("{range}/{step}"),
        })
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

    /// As [`Field::value`], but Sunday at the end of a range is 7: `FRI-SUN` are three days, and `SUN-SUN` is one.
    fn range_end(&self, first: u8, text: &str) -> Result<u8, String> {
        let value = self.value(text)?;
        Ok(if first > 0 && text.eq_ignore_ascii_case("SUN") { self.max } else { value })
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
