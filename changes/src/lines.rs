//! Which lines of a text differ from those of another.

use std::ops::Range;

use crate::sequence::{Work, differences};

/// Unchanged lines that are shown before and after a change.
const CONTEXT: usize = 3;

/// The most steps that lines are compared in: tenths of a second at the very worst.
const MOST_STEPS: usize = 1 << 23;
/// The most steps for one stretch: two thousand lines in place of as many.
const MOST_STEPS_AT_ONCE: usize = 1 << 22;

/// Two texts by line, and where they differ.
pub(crate) struct LineDiff<'a> {
    pub(crate) old: Vec<&'a str>,
    pub(crate) new: Vec<&'a str>,
    /// In order, none empty on both sides, with at least one equal line between one and the next.
    pub(crate) replacements: Vec<Replacement>,
    /// Whether stretches were too long, and too much alike, to be compared line by line.
    pub(crate) is_approximate: bool,
}

/// Lines of the old text in whose place the new text has others. Either side may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Replacement {
    pub(crate) old: Range<usize>,
    pub(crate) new: Range<usize>,
}

/// Replacements that are near enough to be shown together, with the lines around and between them.
pub(crate) struct Group<'d> {
    pub(crate) replacements: &'d [Replacement],
    pub(crate) old: Range<usize>,
    pub(crate) new: Range<usize>,
}

impl<'a> LineDiff<'a> {
    /// Compares by line. A line has its line feed; the last may have none.
    pub(crate) fn new(old: &'a str, new: &'a str) -> Self {
        let old: Vec<&str> = old.split_inclusive('\n').collect();
        let new: Vec<&str> = new.split_inclusive('\n').collect();
        // What is alike need not be hashed.
        let start = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
        let end =
            old[start..].iter().rev().zip(new[start..].iter().rev()).take_while(|(old, new)| old == new);
        let end = end.count();
        let mut work = Work::new(MOST_STEPS, MOST_STEPS_AT_ONCE);
        let moved = |range: Range<usize>| start + range.start..start + range.end;
        let replacements = differences(&old[start..old.len() - end], &new[start..new.len() - end], &mut work)
            .into_iter()
            .map(|(old, new)| Replacement { old: moved(old), new: moved(new) })
            .collect();
        Self { old, new, replacements, is_approximate: work.was_too_much }
    }

    /// The replacements in groups, each with its context.
    pub(crate) fn groups(&self) -> impl Iterator<Item = Group<'_>> {
        let near = |first: &Replacement, next: &Replacement| next.old.start - first.old.end <= 2 * CONTEXT;
        self.replacements.chunk_by(near).filter_map(|replacements| {
            let (first, last) = (replacements.first()?, replacements.last()?);
            let before = first.old.start.min(CONTEXT);
            let after = (self.old.len() - last.old.end).min(CONTEXT);
            Some(Group {
                replacements,
                old: first.old.start - before..last.old.end + after,
                new: first.new.start - before..last.new.end + after,
            })
        })
    }
}
