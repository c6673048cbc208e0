//! How things are shown, whatever the command.

use std::io::{self, Write};

use clap::ValueEnum;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

/// How one thing is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// For people
    #[default]
    Text,
    /// A JSON object
    Json,
}

/// Writes to standard output. Whoever reads it may have seen enough.
pub(super) fn print(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// What there is to say besides what was asked for.
pub(super) fn remark(text: &str) {
    // Where standard error is closed, nobody wants it.
    let _ = writeln!(io::stderr(), "{text}");
}

/// A value as JSON for people too.
pub(super) fn json<T: Serialize>(value: &T) -> Result<String, serde_json::Error> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

/// A time, to the second, in UTC.
pub(super) fn time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A time, or a dash where there is none.
pub(super) fn time_or_dash(value: Option<Timestamp>) -> String {
    value.map_or_else(dash, time)
}

/// How often something happened.
pub(super) fn counted_times(count: u32) -> String {
    match count {
        0 => "never".to_owned(),
        1 => "once".to_owned(),
        count => format!("{count} times"),
    }
}

/// Where there is nothing.
pub(super) fn dash() -> String {
    "-".to_owned()
}

/// A duration, to two or three digits.
pub(super) fn duration(duration: SignedDuration) -> String {
    let millis = duration.as_millis();
    let seconds = duration.as_secs();
    match millis {
        ..0 => format!("-{}", self::duration(duration.checked_neg().unwrap_or(SignedDuration::MAX))),
        0..1_000 => format!("{millis} ms"),
        1_000..60_000 => format!("{}.{} s", seconds, millis % 1_000 / 100),
        60_000..3_600_000 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600_000..86_400_000 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// A text on one line, at most so many characters, without what a terminal would take for a command.
pub(super) fn one_line(text: &str, most: usize) -> String {
    let visible = text.chars().map(|character| if character.is_control() { ' ' } else { character });
    let line: String = visible.collect();
    let line = line.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(most) {
        None => line,
        Some(_) => line.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// A number with its noun.
pub(super) fn counted(count: usize, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {many}") }
}

/// How much of the text of a document differs, in short: lines changed, added, removed, and the share of it.
pub(super) fn extent(changed: i64, added: i64, removed: i64) -> String {
    let counts = [('~', changed), ('+', added), ('-', removed)];
    let parts: Vec<String> = counts
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(sign, count)| format!("{sign}{count}"))
        .collect();
    if parts.is_empty() { dash() } else { parts.join(" ") }
}

/// A share of one, in percent.
pub(super) fn percent(ratio: f64) -> String {
    format!("{:.1} %", ratio * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_the_unit_that_fits_them() {
        for (millis, expected) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_000, "1.0 s"),
            (59_999, "59.9 s"),
            (61_000, "1 min 1 s"),
            (7_260_000, "2 h 1 min"),
            (90_000_000, "1 d 1 h"),
            (-1_500, "-1.5 s"),
        ] {
            assert_eq!(duration(SignedDuration::from_millis(millis)), expected);
        }
    }

    #[test]
    fn what_is_shown_on_one_line_commands_no_terminal() {
        assert_eq!(one_line("a\n\tb \u{1b}[31mred", 20), "a b [31mred");
        assert_eq!(one_line("Übermaß", 4), "Übe…");
        assert_eq!(one_line("Über", 4), "Über");
        assert_eq!(one_line("", 4), "");
    }

    #[test]
    fn what_did_not_change_is_not_counted() {
        assert_eq!(extent(2, 0, 1), "~2 -1");
        assert_eq!(extent(0, 0, 0), "-");
        assert_eq!(percent(0.095_238), "9.5 %");
    }
}
