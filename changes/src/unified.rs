//! Unified diffs: written, and applied.

use std::fmt::Write;

use crate::compare::{Change, ChangeKind, LineTag, Part};

/// Where a side has no text at all.
const NOTHING: &str = "/dev/null";
const NO_LINE_FEED: &str = "\\ No newline at end of file";

/// Why a diff cannot be applied.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The diff has a line that a unified diff does not have. So has one of which something was left out.
    #[error("line {line} of the diff is not part of a unified diff, or something was left out there")]
    Malformed {
        /// Its number, from 1.
        line: usize,
    },
    /// The text is not the one that the diff was made from.
    #[error("the text is not the one that the diff was made from: line {line} differs")]
    Mismatch {
        /// Number of the line in the text, from 1.
        line: usize,
    },
}

/// The change of the text as a unified diff that `patch` and [`apply`] understand; empty when the texts are equal. When
/// something was left out, its first line says so, and `apply` refuses it.
pub fn unified(change: &Change, old_label: &str, new_label: &str) -> String {
    let mut diff = String::new();
    if change.hunks.is_empty() && change.omitted.hunks == 0 {
        return diff;
    }
    let old_label =
        if matches!(change.kind, ChangeKind::Baseline | ChangeKind::New) { NOTHING } else { old_label };
    let new_label = if change.kind == ChangeKind::Removed { NOTHING } else { new_label };
    // Writing to a string does not fail.
    let _ = write(&mut diff, change, &label(old_label), &label(new_label));
    diff
}

fn write(diff: &mut String, change: &Change, old_label: &str, new_label: &str) -> std::fmt::Result {
    if let Some(left_out) = left_out(change) {
        writeln!(diff, "# Incomplete: {left_out}.")?;
    }
    writeln!(diff, "--- {old_label}\n+++ {new_label}")?;
    for hunk in &change.hunks {
        let old = range(hunk.old_start, hunk.old_lines);
        let new = range(hunk.new_start, hunk.new_lines);
        writeln!(diff, "@@ -{old} +{new} @@")?;
        for line in &hunk.lines {
            diff.push(match line.tag {
                LineTag::Kept => ' ',
                LineTag::Removed => '-',
                LineTag::Added => '+',
            });
            diff.extend(line.parts.iter().map(Part::text));
            diff.push('\n');
            if line.no_line_feed {
                writeln!(diff, "{NO_LINE_FEED}")?;
            }
        }
        if hunk.omitted_lines > 0 {
            writeln!(diff, "# {} lines of this hunk are left out.", hunk.omitted_lines)?;
        }
    }
    Ok(())
}

/// What was left out of a change's hunks, for a person.
pub(crate) fn left_out(change: &Change) -> Option<String> {
    let omitted = change.omitted;
    let counts = [(omitted.hunks, "hunks"), (omitted.lines, "lines"), (omitted.bytes, "bytes of long lines")];
    let counts: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    (!counts.is_empty()).then(|| format!("{} left out", counts.join(", ")))
}

fn range(start: u64, lines: u64) -> String {
    if lines == 1 { start.to_string() } else { format!("{start},{lines}") }
}

/// A label on one line.
fn label(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

/// The new text, from the old one and a unified diff of it.
///
/// # Errors
/// When the diff is not a unified diff, or was not made from this text.
pub fn apply(old: &str, diff: &str) -> Result<String, ApplyError> {
    let mut patched = Patched { old: old.split_inclusive('\n').collect(), taken: 0, new: String::new() };
    let mut lines = diff.split_terminator('\n').enumerate().peekable();
    // Lines of the hunk that are still to come, on either side.
    let (mut old_left, mut new_left) = (0, 0);
    while let Some((index, line)) = lines.next() {
        let malformed = ApplyError::Malformed { line: index + 1 };
        if old_left == 0 && new_left == 0 {
            if index < 2 && (line.starts_with("--- ") || line.starts_with("+++ ")) {
                continue;
            }
            let header = hunk_header(line).ok_or(malformed)?;
            patched.take_until(header.first_old_line)?;
            (old_left, new_left) = (header.old_lines, header.new_lines);
            continue;
        }
        let no_line_feed = lines.next_if(|(_, next)| *next == NO_LINE_FEED).is_some();
        let Some((tag, text)) = line.split_at_checked(1) else { return Err(malformed) };
        let text = if no_line_feed { text.to_owned() } else { format!("{text}\n") };
        let (in_old, in_new) = match tag {
            " " => (1, 1),
            "-" => (1, 0),
            "+" => (0, 1),
            _ => return Err(malformed),
        };
        if in_old > old_left || in_new > new_left {
            return Err(malformed);
        }
        (old_left, new_left) = (old_left - in_old, new_left - in_new);
        if in_old == 1 {
            patched.skip(&text)?;
        }
        if in_new == 1 {
            patched.new.push_str(&text);
        }
    }
    if old_left > 0 || new_left > 0 {
        return Err(ApplyError::Malformed { line: diff.split_terminator('\n').count() + 1 });
    }
    patched.take_until(patched.old.len())?;
    Ok(patched.new)
}

struct Patched<'a> {
    old: Vec<&'a str>,
    /// How many lines of the old text are dealt with.
    taken: usize,
    new: String,
}

impl Patched<'_> {
    fn take_until(&mut self, line: usize) -> Result<(), ApplyError> {
        let lines =
            self.old.get(self.taken..line).ok_or(ApplyError::Mismatch { line: self.old.len() + 1 })?;
        self.new.extend(lines.iter().copied());
        self.taken = line;
        Ok(())
    }

    fn skip(&mut self, expected: &str) -> Result<(), ApplyError> {
        if self.old.get(self.taken) != Some(&expected) {
            return Err(ApplyError::Mismatch { line: self.taken + 1 });
        }
        self.taken += 1;
        Ok(())
    }
}

struct HunkHeader {
    /// Index of the first line that the hunk covers.
    first_old_line: usize,
    old_lines: usize,
    new_lines: usize,
}

fn hunk_header(line: &str) -> Option<HunkHeader> {
    let (old, rest) = line.strip_prefix("@@ -")?.split_once(" +")?;
    let (new, _) = rest.split_once(" @@")?;
    let numbers = |range: &str| {
        let (start, lines) = range.split_once(',').unwrap_or((range, "1"));
        Some((start.parse::<usize>().ok()?, lines.parse::<usize>().ok()?))
    };
    let ((old_start, old_lines), (_, new_lines)) = (numbers(old)?, numbers(new)?);
    let first_old_line = if old_lines == 0 { old_start } else { old_start.checked_sub(1)? };
    Some(HunkHeader { first_old_line, old_lines, new_lines })
}
