//! The times that a cron expression names on a clock and a calendar, wherever the clock hangs.

use jiff::{
    Timestamp,
    civil::{Date, DateTime},
    tz::Offset,
};

/// The number of days each month has at most.
const MONTH_DAYS: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// What a clock and a calendar show, without a time zone: the number of minutes since 1970-01-01 00:00 on them.
pub(super) type Reading = i64;

/// The values that the five fields name: a bit each, counted from zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) minutes: u64,
    pub(super) hours: u32,
    pub(super) days: u32,
    pub(super) months: u16,
    /// From Sunday, which is bit 0.
    pub(super) weekdays: u8,
    /// Whether a date needs to match only one of `days` and `weekdays`: when both fields are restricted.
    pub(super) either_day: bool,
}

impl Times {
    /// The first named time that is not before `from`; `None` when the calendar ends before it, with the year 9999.
    pub(super) fn first_from(&self, from: Reading) -> Option<Reading> {
        let from = date_and_time(from)?;
        if let Some(next) = self.first_on(from.date(), from.hour(), from.minute()) {
            return reading(next);
        }
        let date = self.first_date_from(from.date().tomorrow().ok()?)?;
        reading(self.first_on(date, 0, 0)?)
    }

    /// Whether any date matches.
    pub(super) fn ever_occur(&self) -> bool {
        let in_some_month = |(month, length): (usize, u32)| {
            self.months & (1 << (month + 1)) != 0 && self.days & days_up_to(length) != 0
        };
        self.either_day || MONTH_DAYS.into_iter().enumerate().any(in_some_month)
    }

    fn first_on(&self, date: Date, hour: i8, minute: i8) -> Option<DateTime> {
        if !self.name(date) {
            return None;
        }
        if self.hours & (1 << hour) != 0
            && let Some(minute) = first_bit(self.minutes >> minute << minute)
        {
            return Some(date.at(hour, minute, 0, 0));
        }
        let later_hours = u64::from(self.hours) >> (hour + 1) << (hour + 1);
        Some(date.at(first_bit(later_hours)?, first_bit(self.minutes)?, 0, 0))
    }

    fn name(&self, date: Date) -> bool {
        self.months & (1 << date.month()) != 0
            && self.days_of_month(date.first_of_month()) & (1 << date.day()) != 0
    }

    fn first_date_from(&self, from: Date) -> Option<Date> {
        let (mut year, mut month, mut day) = (from.year(), from.month(), from.day());
        loop {
            if self.months & (1 << month) != 0 {
                let days = self.days_of_month(Date::new(year, month, 1).ok()?);
                if let Some(day) = first_bit(u64::from(days >> day << day)) {
                    return Date::new(year, month, day).ok();
                }
            }
            (year, month) = if month == 12 { (year.checked_add(1)?, 1) } else { (year, month + 1) };
            if year > Date::MAX.year() {
                return None;
            }
            day = 1;
        }
    }

    /// The dates that match in the month with this first day.
    fn days_of_month(&self, first: Date) -> u32 {
        let weekdays = u64::from(self.weekdays) << 7 | u64::from(self.weekdays);
        // Bit 0 is the weekday of the first day; five weeks cover a month.
        let week = weekdays >> first.weekday().to_sunday_zero_offset() & 0x7f;
        let on_weekdays = (week | week << 7 | week << 14 | week << 21 | week << 28) << 1;
        let matching = match self.either_day {
            true => u64::from(self.days) | on_weekdays,
            false => u64::from(self.days) & on_weekdays,
        };
        u32::try_from(matching & u64::from(days_up_to(first.days_in_month().unsigned_abs().into())))
            .unwrap_or(0)
    }
}

fn days_up_to(last: u32) -> u32 {
    (u32::MAX >> (31 - last)) & !1
}

fn first_bit(bits: u64) -> Option<i8> {
    (bits != 0).then(|| i8::try_from(bits.trailing_zeros()).ok()).flatten()
}

fn date_and_time(reading: Reading) -> Option<DateTime> {
    Some(Offset::UTC.to_datetime(Timestamp::from_second(reading.checked_mul(60)?).ok()?))
}

fn reading(time: DateTime) -> Option<Reading> {
    Some(Offset::UTC.to_timestamp(time).ok()?.as_second().div_euclid(60))
}
