//! What changed between two versions of a document.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    fields::{FieldChange, Fields, compare_fields},
    hunks::{HunkWriter, ratio},
    lines::LineDiff,
    words::{Span, WordComparison},
};

/// What was taken out of a document.
#[derive(Clone, Copy, Debug)]
pub struct Extract<'a> {
    /// Its text. Lines end with a line feed; the last may have none. The change of a text with NUL has it too, and
    /// PostgreSQL does not store it.
    pub text: &'a str,
    /// Its named values.
    pub fields: &'a Fields,
}

impl<'a> Extract<'a> {
    /// The text of an extract, which ends with its last character, as lines that all end: without that, a line that stays would
    /// differ once it becomes the last or is it no more.
    pub fn lines_of(text: &'a str) -> Cow<'a, str> {
        if text.is_empty() || text.ends_with('\n') {
            Cow::Borrowed(text)
        } else {
            Cow::Owned(format!("{text}\n"))
        }
    }
}

/// How much of a change is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// What is stored and delivered. The JSON of all hunks is at most 64 KiB; of a document that is compared with
    /// nothing, 4 KiB. A value of a field is at most 2 KiB of JSON, and less when there are many. What is left out is
    /// counted in [`Change::omitted`].
    Bounded,
    /// All of it, for whoever asks to see two versions.
    Whole,
}

/// What happened to a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It was seen for the first time, or for the first time under other selectors: what comes later is compared with
    /// this. Nothing has changed.
    Baseline,
    /// A list that the subscription has read before names it for the first time.
    New,
    /// Its text or its fields differ from those of the version before.
    Changed,
    /// The list does not name it any more.
    Removed,
    /// The list names it again. Its text may be as it was.
    Returned,
}

/// What happened to a document, with what differs. Equal inputs give equal changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// What happened.
    pub kind: ChangeKind,
    /// How many lines differ.
    pub lines: LineCounts,
    /// How many bytes of UTF-8 differ, by words where lines are compared by word.
    pub bytes: ByteCounts,
    /// Share of both texts together that differs, in bytes: from 0 (equal) to 1 (nothing in common).
    pub ratio: f64,
    /// Whether stretches of lines were too long and too repetitive to be compared line by line: these count as replaced.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_approximate: bool,
    /// Fields that differ, by name. Empty for a document that is compared with nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub field_changes: Vec<FieldChange>,
    /// Where the texts differ, with three lines of context.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hunks: Vec<Hunk>,
    /// What was left out of the hunks because of its size. Absent: nothing.
    #[serde(default, skip_serializing_if = "Omitted::is_nothing")]
    pub omitted: Omitted,
}

/// Numbers of lines. Where n lines stand in place of m, the smaller number counts as changed and the rest as added or
/// removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LineCounts {
    /// Lines that only the new text has.
    pub added: u64,
    /// Lines that only the old text has.
    pub removed: u64,
    /// Lines in whose place the new text has others.
    pub changed: u64,
}

/// Numbers of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ByteCounts {
    /// Bytes of the new text that the old one lacks.
    pub added: u64,
    /// Bytes of the old text that the new one lacks.
    pub removed: u64,
}

/// What was left out because of its size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Omitted {
    /// Hunks that are left out wholly.
    pub hunks: u64,
    /// Lines that are left out, of these hunks and of those that are there.
    pub lines: u64,
    /// Bytes that are left out of lines that are there.
    pub bytes: u64,
}

/// Lines that differ, with those around them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Hunk {
    /// Number of its first line in the old text, from 1; when it has none there, of the line before it.
    pub old_start: u64,
    /// How many lines of the old text it covers.
    pub old_lines: u64,
    /// Number of its first line in the new text, from 1; when it has none there, of the line before it.
    pub new_start: u64,
    /// How many lines of the new text it covers.
    pub new_lines: u64,
    /// The lines, in order; removed ones before those that were added in their place.
    pub lines: Vec<Line>,
    /// How many of its lines are left out because of their size.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub omitted_lines: u64,
}

/// A line of a hunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Line {
    /// Which of the texts has it.
    pub tag: LineTag,
    /// Its text without the line feed. An empty line has no parts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
    /// Whether it is the last of its text and has no line feed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_line_feed: bool,
}

/// Which of the texts has a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LineTag {
    /// Both.
    Kept,
    /// The old one.
    Removed,
    /// The new one.
    Added,
}

/// A part of a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Text that the other side has too.
    Same(String),
    /// Text that the other side lacks.
    Differs(String),
    /// So many bytes of text were left out here because of their size.
    Omitted(u64),
}

impl ChangeKind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Baseline, Self::New, Self::Changed, Self::Removed, Self::Returned];

    /// Its name in the catalog and in specs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Baseline => "Baseline",
            Self::New => "New",
            Self::Changed => "Changed",
            Self::Removed => "Removed",
            Self::Returned => "Returned",
        }
    }

    /// The kind of this [name](Self::name).
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl Change {
    /// The first version of a document, with which later ones are compared.
    pub fn baseline(new: Extract<'_>, extent: Extent) -> Self {
        Self::of(ChangeKind::Baseline, None, Some(new), extent)
    }

    /// A document that was not there before.
    pub fn new_document(new: Extract<'_>, extent: Extent) -> Self {
        Self::of(ChangeKind::New, None, Some(new), extent)
    }

    /// What differs. None when text and fields are the same.
    pub fn changed(old: Extract<'_>, new: Extract<'_>, extent: Extent) -> Option<Self> {
        let is_same = old.text == new.text && old.fields == new.fields;
        (!is_same).then(|| Self::of(ChangeKind::Changed, Some(old), Some(new), extent))
    }

    /// A document that is not there any more.
    pub fn removed(old: Extract<'_>, extent: Extent) -> Self {
        Self::of(ChangeKind::Removed, Some(old), None, extent)
    }

    /// A document that is there again, with what differs from when it was there last.
    pub fn returned(old: Extract<'_>, new: Extract<'_>, extent: Extent) -> Self {
        Self::of(ChangeKind::Returned, Some(old), Some(new), extent)
    }

    /// Whether nothing was left out because of its size.
    pub fn is_complete(&self) -> bool {
        self.omitted.is_nothing() && !self.field_changes.iter().any(|field| field.is_cut)
    }

    /// A change of this kind, of which either side may be absent. Equal sides make a change without differences.
    pub fn of(kind: ChangeKind, old: Option<Extract<'_>>, new: Option<Extract<'_>>, extent: Extent) -> Self {
        let text = |extract: Option<Extract<'_>>| extract.map_or("", |extract| extract.text).len();
        let texts = text(old) + text(new);
        let field_changes = match (old, new) {
            (Some(old), Some(new)) => compare_fields(old.fields, new.fields, extent),
            _ => Vec::new(),
        };
        let diff = LineDiff::new(old.map_or("", |old| old.text), new.map_or("", |new| new.text));
        let mut words = WordComparison::new();
        let mut lines = LineCounts::default();
        let mut bytes = ByteCounts::default();
        let mut writer = HunkWriter::new(kind, extent);
        for group in diff.groups() {
            let mut hunk = writer.hunk(&group);
            let mut kept = group.old.start;
            for replacement in group.replacements {
                let (old, new) = (&diff.old[replacement.old.clone()], &diff.new[replacement.new.clone()]);
                let (removed, added) = words.compare(old, new);
                lines.count(removed.len(), added.len());
                let differing = |lines: &[Vec<Span<'_>>]| {
                    lines
                        .iter()
                        .flatten()
                        .filter(|span| span.differs)
                        .map(|span| span.text.len() as u64)
                        .sum::<u64>()
                };
                bytes.removed += differing(&removed);
                bytes.added += differing(&added);
                hunk.kept(&diff.old[kept..replacement.old.start]);
                hunk.replaced(&removed, &added);
                kept = replacement.old.end;
            }
            hunk.kept(&diff.old[kept..group.old.end]);
            writer.finish(hunk);
        }
        let (hunks, omitted) = writer.into_hunks();
        let ratio = ratio(bytes.added + bytes.removed, texts as u64);
        Self { kind, lines, bytes, ratio, is_approximate: diff.is_approximate, field_changes, hunks, omitted }
    }
}

impl LineCounts {
    fn count(&mut self, removed: usize, added: usize) {
        let changed = removed.min(added);
        self.changed += changed as u64;
        self.removed += (removed - changed) as u64;
        self.added += (added - changed) as u64;
    }
}

impl Omitted {
    pub(crate) fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl Line {
    /// Its text, with an ellipsis where some was left out.
    pub(crate) fn text(&self) -> String {
        self.parts.iter().map(Part::text).collect()
    }
}

impl Part {
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Same(text) | Self::Differs(text) => text,
            Self::Omitted(_) => "…",
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
