//! A change on a terminal: a unified diff in which words that differ are marked.

use std::fmt::Write;

use changes::{Change, FieldChange, Line, LineTag, Part, readable};

use crate::commands::show::one_line;

const BOLD: &str = "\u{1b}[1m";
const RED: &str = "\u{1b}[31m";
const GREEN: &str = "\u{1b}[32m";
const CYAN: &str = "\u{1b}[36m";
const PLAIN: &str = "\u{1b}[0m";
const MARKED: &str = "\u{1b}[7m";
const NOT_MARKED: &str = "\u{1b}[27m";

/// Fields that differ, a line each, then the text.
pub(super) fn coloured(change: &Change, old_label: &str, new_label: &str) -> String {
    let mut shown = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut shown, change, old_label, new_label);
    shown
}

fn write(shown: &mut String, change: &Change, old_label: &str, new_label: &str) -> std::fmt::Result {
    for field in &change.field_changes {
        write_field(shown, field)?;
    }
    if change.hunks.is_empty() {
        return Ok(());
    }
    for (sign, label) in [("---", old_label), ("+++", new_label)] {
        writeln!(shown, "{BOLD}{sign} {}{PLAIN}", one_line(label, usize::MAX))?;
    }
    for hunk in &change.hunks {
        let (old, old_lines, new, new_lines) =
            (hunk.old_start, hunk.old_lines, hunk.new_start, hunk.new_lines);
        writeln!(shown, "{CYAN}@@ -{old},{old_lines} +{new},{new_lines} @@{PLAIN}")?;
        for line in &hunk.lines {
            write_line(shown, line)?;
        }
    }
    Ok(())
}

fn write_field(shown: &mut String, field: &FieldChange) -> std::fmt::Result {
    let value = |value: &Option<_>| value.as_ref().map_or_else(|| "nothing".to_owned(), readable);
    let (old, new) = (value(&field.old), value(&field.new));
    writeln!(shown, "{}: {RED}{old}{PLAIN} → {GREEN}{new}{PLAIN}", field.name)
}

fn write_line(shown: &mut String, line: &Line) -> std::fmt::Result {
    let (colour, sign) = match line.tag {
        LineTag::Kept => ("", ' '),
        LineTag::Removed => (RED, '-'),
        LineTag::Added => (GREEN, '+'),
    };
    write!(shown, "{colour}{sign}")?;
    for part in &line.parts {
        match part {
            Part::Same(text) => shown.push_str(text),
            Part::Differs(text) if line.tag == LineTag::Kept => shown.push_str(text),
            Part::Differs(text) => write!(shown, "{MARKED}{text}{NOT_MARKED}")?,
            Part::Omitted(bytes) => write!(shown, "… {bytes} bytes …")?,
        }
    }
    writeln!(shown, "{}", if colour.is_empty() { "" } else { PLAIN })
}
