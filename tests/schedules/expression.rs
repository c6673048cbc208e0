//! Cron expressions that are made together with what they mean, so that no parser is needed to know it.

use std::{collections::BTreeSet, fmt};

use jiff::civil::DateTime;
use proptest::prelude::*;

/// A cron expression, and the values that each of its fields names.
#[derive(Clone)]
pub(crate) struct Expression {
    minute: Field,
    hour: Field,
    day: Field,
    month: Field,
    weekday: Field,
}

#[derive(Clone, Debug)]
struct Field {
    text: String,
    values: BTreeSet<u8>,
    /// Whether `*` stands in it, with or without a step.
    has_star: bool,
    /// Whether it is about all values: `*` or `?` without a step.
    is_open: bool,
}

impl fmt::Debug for Expression {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text(), formatter)
    }
}

impl Expression {
    pub(crate) fn text(&self) -> String {
        let fields = [&self.minute, &self.hour, &self.day, &self.month, &self.weekday];
        fields.map(|field| field.text.as_str()).join(" ")
    }

    /// Whether it names times of day; else it goes by what the clock shows.
    pub(crate) fn is_fixed_time(&self) -> bool {
        !self.minute.has_star && !self.hour.has_star
    }

    /// Whether it names what a clock and a calendar show.
    pub(crate) fn names(&self, shown: DateTime) -> bool {
        self.names_date(shown) && self.hour.has(shown.hour()) && self.minute.has(shown.minute())
    }

    pub(crate) fn names_month(&self, shown: DateTime) -> bool {
        self.month.has(shown.month())
    }

    fn names_date(&self, shown: DateTime) -> bool {
        let day = self.day.has(shown.day());
        let weekday = self.weekday.has(shown.weekday().to_sunday_zero_offset());
        let either = !self.day.is_open && !self.weekday.is_open;
        self.names_month(shown) && if either { day || weekday } else { day && weekday }
    }
}

impl Field {
    fn has(&self, value: i8) -> bool {
        self.values.contains(&value.unsigned_abs())
    }
}

const MONTHS: [&str; 12] =
    ["jan", "Feb", "MAR", "apr", "May", "JUN", "jul", "Aug", "SEP", "oct", "Nov", "DEC"];
const WEEKDAYS: [&str; 7] = ["sun", "Mon", "TUE", "wed", "Thu", "FRI", "sat"];

/// Expressions that both libraries read alike, with a liking for the hours in which clocks change.
pub(crate) fn expressions() -> impl Strategy<Value = Expression> {
    let minute = prop_oneof![
        2 => Just(value(0)),
        1 => Just(value(30)),
        1 => Just(every(0, 59, 1)),
        3 => field(0, 59, &[], false),
    ];
    let hour = prop_oneof![
        3 => prop::sample::select(&[0, 1, 2, 3, 4, 23][..]).prop_map(value),
        2 => Just(every(0, 23, 1)),
        1 => (0u8..4, 0u8..4).prop_map(|(a, b)| range(a.min(b), a.max(b))),
        3 => field(0, 23, &[], false),
    ];
    let day = prop_oneof![2 => Just(every(1, 31, 1)), 1 => field(1, 31, &[], true)];
    let month = prop_oneof![2 => Just(every(1, 12, 1)), 1 => field(1, 12, &MONTHS, false)];
    let weekday = prop_oneof![2 => Just(every(0, 6, 1)), 1 => field(0, 6, &WEEKDAYS, true)];
    (minute, hour, day, month, weekday).prop_map(|(minute, hour, day, month, weekday)| Expression {
        minute,
        hour,
        day,
        month,
        weekday,
    })
}

/// A list of up to three parts, in each of the forms there are.
fn field(
    min: u8,
    max: u8,
    names: &'static [&'static str],
    question_mark: bool,
) -> impl Strategy<Value = Field> {
    let written = move |value: u8| {
        let name = names.get(usize::from(value - min)).map(|name| (*name).to_owned());
        let forms = [Some(value.to_string()), Some(format!("{value:02}")), name];
        prop::sample::select(forms.into_iter().flatten().collect::<Vec<_>>())
    };
    let one = (min..=max).prop_flat_map(move |value| {
        written(value).prop_map(move |text| Field { text, ..range(value, value) })
    });
    let ends = move || (min..=max, min..=max).prop_map(|(a, b)| (a.min(b), a.max(b)));
    let part = prop_oneof![
        6 => one,
        1 => Just(every(min, max, 1)),
        1 => Just(Field { text: (if question_mark { "?" } else { "*" }).into(), has_star: !question_mark, ..every(min, max, 1) }),
        2 => (1..=max).prop_map(move |step| every(min, max, step)),
        2 => ends().prop_flat_map(move |(first, last)| (written(first), written(last)).prop_map(
            move |(a, b)| Field { text: format!("{a}-{b}"), ..range(first, last) })),
        1 => (ends(), 1..=max).prop_map(|((first, last), step)| stepped(format!("{first}-{last}/{step}"), first, last, step)),
        1 => (min..=max, 1..=max).prop_map(move |(first, step)| stepped(format!("{first}/{step}"), first, max, step)),
    ];
    prop::collection::vec(part, 1..=3).prop_map(|parts| Field {
        text: parts.iter().map(|part| part.text.as_str()).collect::<Vec<_>>().join(","),
        values: parts.iter().flat_map(|part| part.values.iter().copied()).collect(),
        has_star: parts.iter().any(|part| part.has_star),
        is_open: parts.iter().any(|part| part.is_open),
    })
}

fn value(value: u8) -> Field {
    Field { text: value.to_string(), ..range(value, value) }
}

fn range(first: u8, last: u8) -> Field {
    stepped(format!("{first}-{last}"), first, last, 1)
}

fn every(min: u8, max: u8, step: u8) -> Field {
    let text = if step == 1 { "*".to_owned() } else { format!("*/{step}") };
    Field { has_star: true, is_open: step == 1, ..stepped(text, min, max, step) }
}

fn stepped(text: String, first: u8, last: u8, step: u8) -> Field {
    let values = (first..=last).step_by(step.into()).collect();
    Field { text, values, has_star: false, is_open: false }
}
