//! What a benchmark found, as one table.

use std::fmt;

use crate::{statistics::median, system};

/// What a value counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Seconds,
    Milliseconds,
    Nanoseconds,
    /// 10^6 bytes.
    Megabytes,
    /// A number of things.
    Count,
    /// A quotient or an exponent.
    Factor,
    /// Things in a second.
    EachSecond,
}

impl Unit {
    fn show(self, value: f64) -> String {
        // Of a negative zero, which the sum of nothing is.
        let value = value + 0.0;
        match self {
            Self::Seconds => format!("{value:.2} s"),
            Self::Milliseconds => format!("{value:.1} ms"),
            Self::Nanoseconds => format!("{value:.0} ns"),
            Self::Megabytes => format!("{value:.1} MB"),
            Self::Count => format!("{value:.0}"),
            Self::Factor => format!("{value:.2}"),
            Self::EachSecond => format!("{value:.0}/s"),
        }
    }
}

/// What a value must be.
#[derive(Clone, Copy, Debug)]
enum Target {
    AtMost(f64),
    AtLeast(f64),
}

/// One line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Measure {
    name: String,
    unit: Unit,
    /// One for each repetition.
    values: Vec<f64>,
    target: Option<Target>,
    floor: Option<f64>,
}

impl Measure {
    pub(crate) fn new(name: impl Into<String>, unit: Unit, value: f64) -> Self {
        Self::repeated(name, unit, vec![value])
    }

    /// What was measured several times: the median is shown, and the range; a target holds for the worst.
    pub(crate) fn repeated(name: impl Into<String>, unit: Unit, values: Vec<f64>) -> Self {
        Self { name: name.into(), unit, values, target: None, floor: None }
    }

    /// The value must not exceed this.
    pub(crate) fn at_most(mut self, target: f64) -> Self {
        self.target = Some(Target::AtMost(target));
        self
    }

    /// The value must not fall below this.
    pub(crate) fn at_least(mut self, target: f64) -> Self {
        self.target = Some(Target::AtLeast(target));
        self
    }

    /// What the same work took without Tipstaff, in the same unit.
    pub(crate) fn over_floor(mut self, floor: f64) -> Self {
        self.floor = Some(floor);
        self
    }

    fn most(&self) -> f64 {
        self.values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }

    fn least(&self) -> f64 {
        self.values.iter().copied().fold(f64::INFINITY, f64::min)
    }

    fn is_met(&self) -> Option<bool> {
        self.target.map(|target| match target {
            Target::AtMost(most) => self.most() <= most,
            Target::AtLeast(least) => self.least() >= least,
        })
    }

    fn cells(&self) -> [String; 6] {
        let middle = median(&self.values);
        let mut value = self.unit.show(middle);
        if self.values.len() > 1 {
            value = format!("{value} ({} to {})", self.unit.show(self.least()), self.unit.show(self.most()));
        }
        let optional = |text: Option<String>| text.unwrap_or_default();
        [
            self.name.clone(),
            value,
            optional(self.target.map(|target| match target {
                Target::AtMost(most) => format!("≤ {}", self.unit.show(most)),
                Target::AtLeast(least) => format!("≥ {}", self.unit.show(least)),
            })),
            optional(self.is_met().map(|met| if met { "yes" } else { "no" }.to_owned())),
            optional(self.floor.map(|floor| self.unit.show(floor))),
            optional(self.floor.filter(|floor| *floor > 0.0).map(|floor| format!("{:.1}", middle / floor))),
        ]
    }
}

/// What a benchmark found. It is shown as Markdown.
#[derive(Debug)]
pub(crate) struct Report {
    title: String,
    machine: String,
    measures: Vec<Measure>,
    notes: Vec<String>,
}

impl Report {
    pub(crate) fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), machine: system::describe(), measures: Vec::new(), notes: Vec::new() }
    }

    pub(crate) fn add(&mut self, measure: Measure) {
        self.measures.push(measure);
    }

    /// A paragraph, or a list, below the table.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    pub(crate) fn are_targets_met(&self) -> bool {
        self.measures.iter().all(|measure| measure.is_met() != Some(false))
    }
}

const HEADINGS: [&str; 6] = ["measure", "value", "target", "met", "floor", "ratio"];

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n", self.title, self.machine)?;
        let mut rows = vec![HEADINGS.map(str::to_owned)];
        rows.extend(self.measures.iter().map(Measure::cells));
        let mut widths = [0; 6];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for (number, row) in rows.iter().enumerate() {
            write_row(f, row, &widths, ' ')?;
            if number == 0 {
                write_row(f, &Default::default(), &widths, '-')?;
            }
        }
        for note in &self.notes {
            writeln!(f, "\n{note}")?;
        }
        writeln!(f)
    }
}

fn write_row(f: &mut fmt::Formatter<'_>, row: &[String; 6], widths: &[usize; 6], fill: char) -> fmt::Result {
    for (cell, width) in row.iter().zip(widths) {
        let padding = width - cell.chars().count();
        write!(f, "| {cell}{} ", fill.to_string().repeat(padding))?;
    }
    writeln!(f, "|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_holds_for_the_worst_and_the_ratio_is_the_median_over_the_floor() {
        let measure =
            Measure::repeated("sync", Unit::Seconds, vec![3.0, 1.0, 2.0]).at_most(2.5).over_floor(0.5);
        let cells = measure.cells();
        assert_eq!(cells, ["sync", "2.00 s (1.00 s to 3.00 s)", "≤ 2.50 s", "no", "0.50 s", "4.0"]);
        let mut report = Report::new("title");
        report.add(Measure::new("free of any target", Unit::Count, 1e9));
        assert!(report.are_targets_met());
        report.add(measure);
        assert!(!report.are_targets_met());
    }

    #[test]
    fn what_must_not_fall_below_is_missed_by_the_least() {
        let measure = Measure::repeated("pages", Unit::EachSecond, vec![900.0, 1200.0, 1100.0]);
        for (least, is_met) in [(900.0, "yes"), (901.0, "no")] {
            let cells = measure.clone().at_least(least).cells();
            assert_eq!(cells[1..4], ["1100/s (900/s to 1200/s)", &format!("≥ {least}/s"), is_met]);
        }
    }

    #[test]
    fn the_table_is_markdown_with_columns_of_one_width() {
        let mut report = Report::new("title");
        report.add(Measure::new("a", Unit::Count, 1.0));
        report.add(Measure::new("long name", Unit::Milliseconds, 1.25).at_most(2.0));
        let text = report.to_string();
        let table: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
        assert_eq!(table.len(), 4);
        assert!(table[1].starts_with("| ---"), "{text}");
        assert!(table.iter().all(|line| line.chars().count() == table[0].chars().count()), "{text}");
    }
}
