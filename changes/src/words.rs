//! Which words differ where lines were replaced.

use unicode_segmentation::UnicodeSegmentation;

use crate::sequence::{Work, differences};

/// The most bytes a side of several lines together that are compared word by word.
const MOST_BYTES_TOGETHER: usize = 16 * 1024;
/// The most bytes of all lines that are compared word by word, not counting what both sides begin and end with.
const MOST_BYTES: usize = 8 * 1024 * 1024;
/// The most steps that words are compared in.
const MOST_STEPS: usize = 1 << 23;
/// The most steps for one stretch: five hundred words in place of as many.
const MOST_STEPS_AT_ONCE: usize = 1 << 18;

/// Compares the words of a change. When there are too many, the lines that come last differ as a whole.
pub(crate) struct WordComparison {
    bytes: usize,
    work: Work,
}

/// A stretch of text, and whether the other side lacks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span<'a> {
    pub(crate) text: &'a str,
    pub(crate) differs: bool,
}

/// A number of bytes, and whether the other side lacks them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    bytes: usize,
    differs: bool,
}

/// The lines of both sides in spans.
type Sides<'a> = (Vec<Vec<Span<'a>>>, Vec<Vec<Span<'a>>>);

impl WordComparison {
    pub(crate) fn new() -> Self {
        Self { bytes: MOST_BYTES, work: Work::new(MOST_STEPS, MOST_STEPS_AT_ONCE) }
    }

    /// Compares lines with those that stand in their place. Lines have their line feed.
    pub(crate) fn compare<'a>(&mut self, old: &[&'a str], new: &[&'a str]) -> Sides<'a> {
        if old.is_empty() || new.is_empty() {
            return (whole(old), whole(new));
        }
        let bytes = |lines: &[&str]| lines.iter().map(|line| line.len()).sum::<usize>();
        let (mut old_runs, mut new_runs) = (Vec::new(), Vec::new());
        if bytes(old).max(bytes(new)) <= MOST_BYTES_TOGETHER {
            (old_runs, new_runs) = self.compare_texts(&old.concat(), &new.concat());
        } else if old.len() == new.len() {
            // As many lines as before: most likely each was changed a little, such as the rows of a long table.
            for (old, new) in old.iter().zip(new) {
                let (old, new) = self.compare_texts(old, new);
                old_runs.extend(old);
                new_runs.extend(new);
            }
        } else {
            return (whole(old), whole(new));
        }
        (by_line(old, old_runs), by_line(new, new_runs))
    }

    /// The runs of both texts, which cover them.
    fn compare_texts(&mut self, old: &str, new: &str) -> (Vec<Run>, Vec<Run>) {
        let (before, after) = ends(old, new);
        let (old_middle, new_middle) = (&old[before..old.len() - after], &new[before..new.len() - after]);
        let bytes = old_middle.len() + new_middle.len();
        let (mut old_runs, mut new_runs) = if bytes <= self.bytes {
            self.bytes -= bytes;
            self.compare_middles(old_middle, new_middle)
        } else {
            (differing(old_middle), differing(new_middle))
        };
        let in_middle = old_runs.iter().filter(|run| !run.differs).map(|run| run.bytes).sum::<usize>();
        // Texts that share little but articles and full stops read better as one replaced by the other.
        if (before + in_middle + after) * 4 < old.len().max(new.len()) {
            return (differing(old), differing(new));
        }
        for runs in [&mut old_runs, &mut new_runs] {
            runs.insert(0, Run { bytes: before, differs: false });
            runs.push(Run { bytes: after, differs: false });
        }
        (old_runs, new_runs)
    }

    fn compare_middles(&mut self, old: &str, new: &str) -> (Vec<Run>, Vec<Run>) {
        // Words, and what stands between them, as Unicode divides text (UAX #29).
        let (old, new): (Vec<&str>, Vec<&str>) =
            (old.split_word_bounds().collect(), new.split_word_bounds().collect());
        let (mut old_runs, mut new_runs) = (Vec::new(), Vec::new());
        let (mut old_end, mut new_end) = (0, 0);
        for (old_range, new_range) in differences(&old, &new, &mut self.work) {
            let kept = &old[old_end..old_range.start];
            // Spaces and full stops between two changed words are part of the change.
            let differs = old_end + new_end > 0 && !kept.iter().any(|token| is_word(token));
            old_runs.push(Run { bytes: bytes(kept), differs });
            new_runs.push(Run { bytes: bytes(&new[new_end..new_range.start]), differs });
            old_runs.push(Run { bytes: bytes(&old[old_range.clone()]), differs: true });
            new_runs.push(Run { bytes: bytes(&new[new_range.clone()]), differs: true });
            (old_end, new_end) = (old_range.end, new_range.end);
        }
        old_runs.push(Run { bytes: bytes(&old[old_end..]), differs: false });
        new_runs.push(Run { bytes: bytes(&new[new_end..]), differs: false });
        (old_runs, new_runs)
    }
}

fn whole<'a>(lines: &[&'a str]) -> Vec<Vec<Span<'a>>> {
    lines.iter().map(|line| vec![Span { text: line, differs: true }]).collect()
}

fn differing(text: &str) -> Vec<Run> {
    vec![Run { bytes: text.len(), differs: true }]
}

/// How many bytes both begin with and both end with, up to a space: a word is not cut.
fn ends(old: &str, new: &str) -> (usize, usize) {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\n');
    let (old, new) = (old.as_bytes(), new.as_bytes());
    let before = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let before = old[..before].iter().rposition(is_space).map_or(0, |space| space + 1);
    let (old, new) = (&old[before..], &new[before..]);
    let after = old.iter().rev().zip(new.iter().rev()).take_while(|(old, new)| old == new).count();
    let end = &old[old.len() - after..];
    let after = end.iter().position(is_space).map_or(0, |space| end.len() - space);
    (before, after)
}

fn is_word(token: &str) -> bool {
    token.chars().any(char::is_alphanumeric)
}

fn bytes(tokens: &[&str]) -> usize {
    tokens.iter().map(|token| token.len()).sum()
}

/// Lines in spans, from the runs of all of them together.
fn by_line<'a>(lines: &[&'a str], runs: Vec<Run>) -> Vec<Vec<Span<'a>>> {
    let mut runs = runs.into_iter().filter(|run| run.bytes > 0);
    let mut run = Run { bytes: 0, differs: false };
    let mut spans_of = |line: &'a str| {
        let mut spans: Vec<Span<'a>> = Vec::new();
        let (mut start, mut end) = (0, 0);
        while end < line.len() {
            let differs = run.differs;
            if run.bytes == 0 {
                // The runs cover all lines.
                run = runs.next().unwrap_or(Run { bytes: line.len() - end, differs: true });
                if end > start && run.differs != differs {
                    spans.push(Span { text: &line[start..end], differs });
                    start = end;
                }
            }
            let taken = run.bytes.min(line.len() - end);
            run.bytes -= taken;
            end += taken;
        }
        if end > start {
            spans.push(Span { text: &line[start..end], differs: run.differs });
        }
        spans
    };
    lines.iter().map(|line| spans_of(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Marks what differs with brackets.
    fn marked(old: &[&str], new: &[&str]) -> (String, String) {
        let (old, new) = WordComparison::new().compare(old, new);
        let show = |lines: Vec<Vec<Span<'_>>>| {
            let spans = lines.into_iter().flatten();
            spans
                .map(|span| if span.differs { format!("[{}]", span.text) } else { span.text.to_owned() })
                .collect()
        };
        (show(old), show(new))
    }

    #[test]
    fn words_that_differ_are_marked_and_no_others() {
        for (old, new, old_marked, new_marked) in [
            (
                "The court affirmed the judgment.\n",
                "The court reversed the judgment.\n",
                "The court [affirmed] the judgment.\n",
                "The court [reversed] the judgment.\n",
            ),
            // What stands between two changed words goes with them.
            (
                "Filed 2026-03-09 by the clerk\n",
                "Filed 2026-04-11 by the clerk\n",
                "Filed 2026-[03-09] by the clerk\n",
                "Filed 2026-[04-11] by the clerk\n",
            ),
            ("one two three\n", "one three\n", "one [two ]three\n", "one three\n"),
            // A word is marked as a whole, though its letters are partly the same.
            (
                "claim of 1,200 euros\n",
                "claim of 1,300 euros\n",
                "claim of [1,200] euros\n",
                "claim of [1,300] euros\n",
            ),
            // Without spaces between words: by character.
            ("最高裁判所\n", "最高検察庁\n", "最高[裁判所]\n", "最高[検察庁]\n"),
            // Nothing in common but an article.
            (
                "The dog barked loudly\n",
                "A cat sleeps under the tree\n",
                "[The dog barked loudly\n]",
                "[A cat sleeps under the tree\n]",
            ),
            // Nothing on one side.
            ("", "new\n", "", "[new\n]"),
        ] {
            let lines = |text: &'static str| text.split_inclusive('\n').collect::<Vec<_>>();
            assert_eq!(marked(&lines(old), &lines(new)), (old_marked.to_owned(), new_marked.to_owned()));
        }
    }

    #[test]
    fn a_line_that_was_divided_differs_by_its_line_feed() {
        let (old, new) = marked(
            &["The parties appeal and the court hears them\n"],
            &["The parties appeal\n", "and the court hears them\n"],
        );
        assert_eq!(old, "The parties appeal[ ]and the court hears them\n");
        assert_eq!(new, "The parties appeal[\n]and the court hears them\n");
    }

    #[test]
    fn the_rows_of_a_long_table_are_compared_one_by_one() {
        let row = |number: usize, date: &str| {
            format!("Case {number} of the docket of the court, last seen on {date}\n")
        };
        let old: Vec<String> = (0..1000).map(|number| row(number, "Monday")).collect();
        let new: Vec<String> = (0..1000).map(|number| row(number, "Tuesday")).collect();
        let (old, new): (Vec<&str>, Vec<&str>) =
            (old.iter().map(|row| &**row).collect(), new.iter().map(|row| &**row).collect());
        assert!(old.concat().len() > MOST_BYTES_TOGETHER);
        let (old, new) = marked(&old, &new);
        assert_eq!(old.matches("[Monday]").count(), 1000);
        assert_eq!(new.matches("[Tuesday]").count(), 1000);
        assert_eq!(old.matches('[').count(), 1000);
    }

    #[test]
    fn one_word_is_found_in_a_line_of_any_length() {
        let text = "word ".repeat(100_000);
        let (old, new) = marked(&[&format!("{text}old {text}")], &[&format!("{text}new {text}")]);
        assert_eq!(old, format!("{text}[old] {text}"));
        assert_eq!(new, format!("{text}[new] {text}"));
    }
}
