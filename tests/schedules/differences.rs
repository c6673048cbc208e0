//! Why robfig/cron finds other times due than Tipstaff: the kinds that `docs/schedules.md` lists, and no others.

use jiff::{Timestamp, ToSpan as _, civil::DateTime};

use crate::{
    expression::Expression,
    zones::{Change, Zone},
};

/// Why a time is due for the one and not for the other. All but the first two are errors of the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Difference {
    /// Clocks set forward leave out a fixed time: Tipstaff runs once at the change, a CronJob does not run.
    LeftOut,
    /// Clocks set back repeat a fixed time: a CronJob runs again.
    Repeated,
    /// Clocks set forward leave out midnight: a CronJob that comes to that day by days, or to that month by months,
    /// passes over it, or over a part of it or of what follows.
    MidnightLeftOut,
    /// Clocks set back repeat a midnight, or the full hour from which it looks: a CronJob may take the one for the other,
    /// misses times of that day, or goes back to before where it began.
    StartRepeated,
    /// The time between two full hours gets longer or shorter: a CronJob that steps by hours misses a part of an hour.
    OutOfStep,
    /// Clocks leave out midnight or a full hour: a CronJob does not notice that another day or hour has begun, and runs
    /// at a time that the expression does not name.
    Unnoticed,
}

/// What robfig/cron finds due next, where Tipstaff finds other times.
pub(crate) struct Step<'a> {
    pub(crate) expression: &'a Expression,
    pub(crate) zone: &'a Zone,
    pub(crate) after: Timestamp,
    pub(crate) theirs: Timestamp,
}

impl Step<'_> {
    /// Why they pass over what is due between `after` and `theirs`.
    pub(crate) fn why_missed(&self, due: Timestamp) -> Option<Difference> {
        if self.is_left_out(due) {
            Some(Difference::LeftOut)
        } else if self.comes_by_a_repeated_start(due) {
            Some(Difference::StartRepeated)
        } else if self.comes_by_a_midnight_left_out(due) {
            Some(Difference::MidnightLeftOut)
        } else if self.is_out_of_step(due) {
            Some(Difference::OutOfStep)
        } else {
            None
        }
    }

    /// Why what they find is not due.
    pub(crate) fn why_added(&self) -> Option<Difference> {
        if self.goes_back() {
            Some(Difference::StartRepeated)
        } else if self.is_repeated() {
            Some(Difference::Repeated)
        } else if self.is_unnoticed() {
            Some(Difference::Unnoticed)
        } else {
            None
        }
    }

    /// Whether clocks are set forward at this moment, over a time that the expression names.
    fn is_left_out(&self, due: Timestamp) -> bool {
        let Some(change) = self.zone.change_before(due).filter(|change| change.at == due) else {
            return false;
        };
        let (without, with) = change.readings();
        self.expression.is_fixed_time()
            && !self.expression.names(with)
            && without
                .series(1.minute())
                .take_while(|time| *time < with)
                .any(|time| self.expression.names(time))
    }

    /// Whether clocks show what they have shown already.
    fn is_repeated(&self) -> bool {
        let Some(change) = self.zone.change_before(self.theirs) else { return false };
        let (without, _) = change.readings();
        let shown = self.zone.shows(self.theirs);
        self.expression.is_fixed_time() && shown < without && self.expression.names(shown)
    }

    /// Whether clocks are set back over this time and over the midnight or the hour from which they look for it, and they
    /// go on behind that; or whether it comes after the same midnight, and they have left that day.
    fn comes_by_a_repeated_start(&self, due: Timestamp) -> bool {
        let shown = self.zone.shows(due);
        let starts = [midnight(shown), hour(self.zone.shows(self.after))];
        let comes_again = |change: &Change| {
            let (without, with) = change.readings();
            let repeated = with..without;
            self.after < change.at
                && change.at <= self.theirs
                && repeated.contains(&shown)
                && starts.iter().any(|start| repeated.contains(start))
        };
        let left_early = |change: &Change| {
            let (without, with) = change.readings();
            self.after < change.at
                && change.at <= due
                && (with..=without).contains(&midnight(shown))
                && midnight(self.zone.shows(self.theirs)) > midnight(shown)
        };
        self.zone.changes.iter().any(|change| comes_again(change) || left_early(change))
    }

    /// Whether they find a time that has passed, since the midnight or the hour from which they look for it began before
    /// clocks were set back over it or into it.
    fn goes_back(&self) -> bool {
        let starts = [midnight(self.zone.shows(self.theirs)), hour(self.zone.shows(self.after))];
        let repeats_start = |change: &Change| {
            let (without, with) = change.readings();
            starts.iter().any(|start| (hour(with)..without).contains(start))
        };
        self.theirs <= self.after && self.zone.change_before(self.after).is_some_and(repeats_start)
    }

    /// Whether the day of this time began without midnight, or a month on the way to it.
    fn comes_by_a_midnight_left_out(&self, due: Timestamp) -> bool {
        let day = midnight(self.zone.shows(due));
        self.midnights_left_out(due).any(|left_out| left_out == day || left_out.day() == 1)
    }

    /// The midnights left out on the way to a moment, which begins with the month of `after`.
    fn midnights_left_out(&self, end: Timestamp) -> impl Iterator<Item = DateTime> {
        let first = midnight(self.zone.shows(self.after).first_of_month());
        let last = self.zone.shows(end);
        let left_out = self.zone.changes.iter().filter_map(midnight_left_out);
        left_out.filter(move |left_out| (first..=last).contains(left_out))
    }

    /// Whether steps of whole hours, seen from before a change or from within the hour that clocks were set into, miss
    /// this time: they arrive at another minute, or not in that hour; or not in those after it, as many as were left out.
    fn is_out_of_step(&self, due: Timestamp) -> bool {
        let Some(change) = self.zone.change_before(due) else { return false };
        let (_, with) = change.readings();
        let (shown, shown_after) = (self.zone.shows(due), self.zone.shows(self.after));
        let into_hour = with.minute() != 0;
        let from_before = self.after < change.at;
        let from_within = !from_before && into_hour && hour(shown_after) == hour(with);
        let arrive_at = [with.minute(), i8::try_from(change.minutes().rem_euclid(60)).unwrap()];
        let passed_over = if from_before {
            hour(with)..=hour(with)
        } else {
            hour(with) + 1.hour()..=hour(with) + change.minutes().max(60).minutes()
        };
        (from_before || from_within)
            && (arrive_at.iter().any(|minute| shown.minute() < *minute)
                || into_hour && passed_over.contains(&hour(shown)))
    }

    /// Whether the expression does not name the time, and clocks came to it without the midnight or the full hour at
    /// which another month, day or hour would have been noticed.
    fn is_unnoticed(&self) -> bool {
        let Some(change) = self.zone.change_before(self.theirs) else { return false };
        let (_, with) = change.readings();
        let shown = self.zone.shows(self.theirs);
        let same_hour = with.minute() != 0 && hour(shown) == hour(with);
        let same_day = midnight_left_out(change) == Some(midnight(shown));
        let next_month = self.expression.names_month(shown.first_of_month() - 1.day())
            && self.midnights_left_out(self.theirs).any(|left_out| left_out.day() == 1);
        !self.expression.names(shown) && (same_hour || same_day || next_month)
    }
}

/// The midnight over which clocks are set forward.
fn midnight_left_out(change: &Change) -> Option<DateTime> {
    let (without, with) = change.readings();
    (without..with).contains(&midnight(with)).then(|| midnight(with))
}

fn midnight(time: DateTime) -> DateTime {
    time.date().at(0, 0, 0, 0)
}

fn hour(time: DateTime) -> DateTime {
    time.date().at(time.hour(), 0, 0, 0)
}
