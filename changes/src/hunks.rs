//! Hunks within a size: what does not fit is counted.

use crate::{
    compare::{ChangeKind, Extent, Hunk, Line, LineTag, Omitted, Part},
    lines::Group,
    words::Span,
};

/// The most bytes of JSON that all hunks take, where what is kept is bounded.
const MOST_BYTES: usize = 64 * 1024;
/// The same, for a document that is compared with nothing: its text is stored elsewhere, this is to recognise it.
const MOST_BYTES_ALONE: usize = 4 * 1024;
/// From so many bytes of JSON on, a line is shortened where it is as it was.
const LONG_LINE: usize = 4 * 1024;
/// What is left of either end of what is shortened, in bytes.
const KEPT_END: usize = 96;

/// The JSON around what it holds, at most: numbers, names and punctuation.
const HUNK_OVERHEAD: usize = 200;
const LINE_OVERHEAD: usize = 64;
const PART_OVERHEAD: usize = 36;

/// Gathers hunks as long as there is room.
pub(crate) struct HunkWriter {
    is_bounded: bool,
    room: usize,
    hunks: Vec<Hunk>,
    omitted: Omitted,
}

/// A hunk that is being written.
pub(crate) struct OpenHunk {
    is_bounded: bool,
    room: usize,
    hunk: Hunk,
    omitted_bytes: u64,
}

impl HunkWriter {
    pub(crate) fn new(kind: ChangeKind, extent: Extent) -> Self {
        let room = match (extent, kind) {
            (Extent::Whole, _) => usize::MAX,
            (Extent::Bounded, ChangeKind::Changed | ChangeKind::Returned) => MOST_BYTES,
            (Extent::Bounded, ChangeKind::Baseline | ChangeKind::New | ChangeKind::Removed) => {
                MOST_BYTES_ALONE
            }
        };
        Self { is_bounded: extent == Extent::Bounded, room, hunks: Vec::new(), omitted: Omitted::default() }
    }

    pub(crate) fn hunk(&self, group: &Group<'_>) -> OpenHunk {
        // As in a unified diff: nothing stands after the line before it.
        let start = |lines: &std::ops::Range<usize>| (lines.start + usize::from(!lines.is_empty())) as u64;
        let hunk = Hunk {
            old_start: start(&group.old),
            old_lines: group.old.len() as u64,
            new_start: start(&group.new),
            new_lines: group.new.len() as u64,
            lines: Vec::new(),
            omitted_lines: 0,
        };
        let room = self.room.saturating_sub(HUNK_OVERHEAD);
        OpenHunk { is_bounded: self.is_bounded, room, hunk, omitted_bytes: 0 }
    }

    pub(crate) fn finish(&mut self, open: OpenHunk) {
        let OpenHunk { room, hunk, omitted_bytes, .. } = open;
        self.omitted.lines += hunk.omitted_lines;
        if hunk.lines.iter().all(|line| line.tag == LineTag::Kept) {
            self.omitted.hunks += 1;
            self.omitted.lines += hunk.lines.len() as u64;
            self.room = 0;
            return;
        }
        self.omitted.bytes += omitted_bytes;
        self.room = room;
        self.hunks.push(hunk);
    }

    pub(crate) fn into_hunks(self) -> (Vec<Hunk>, Omitted) {
        (self.hunks, self.omitted)
    }
}

impl OpenHunk {
    pub(crate) fn kept(&mut self, lines: &[&str]) {
        for line in lines {
            self.push(LineTag::Kept, &[Span { text: line, differs: false }], self.room);
        }
    }

    /// Removed lines take at most half of the room, so that some of those that stand in their place are seen.
    pub(crate) fn replaced(&mut self, removed: &[Vec<Span<'_>>], added: &[Vec<Span<'_>>]) {
        let reserved = if added.is_empty() { 0 } else { self.room / 2 };
        for line in removed {
            self.push(LineTag::Removed, line, self.room.saturating_sub(reserved));
        }
        for line in added {
            self.push(LineTag::Added, line, self.room);
        }
    }

    fn push(&mut self, tag: LineTag, spans: &[Span<'_>], room: usize) {
        if room < LINE_OVERHEAD + 4 * PART_OVERHEAD {
            self.hunk.omitted_lines += 1;
            return;
        }
        let no_line_feed = spans.last().is_some_and(|span| !span.text.ends_with('\n'));
        let mut parts: Vec<Part> = spans.iter().filter_map(part).collect();
        if size(&parts) > room.min(LONG_LINE) && self.is_bounded {
            parts = shortened(parts, room - LINE_OVERHEAD);
        }
        self.omitted_bytes +=
            parts.iter().map(|part| if let Part::Omitted(bytes) = part { *bytes } else { 0 }).sum::<u64>();
        self.room = self.room.saturating_sub(LINE_OVERHEAD + size(&parts));
        self.hunk.lines.push(Line { tag, parts, no_line_feed });
    }
}

fn part(span: &Span<'_>) -> Option<Part> {
    let text = span.text.strip_suffix('\n').unwrap_or(span.text);
    if text.is_empty() {
        return None;
    }
    Some(if span.differs { Part::Differs(text.to_owned()) } else { Part::Same(text.to_owned()) })
}

/// A line within a size: long parts that are as they were lose their middle, then what does not fit loses its end.
fn shortened(parts: Vec<Part>, room: usize) -> Vec<Part> {
    let mut shorter = Vec::new();
    let mut left = room.saturating_sub(PART_OVERHEAD);
    let mut rest = 0;
    for part in parts.into_iter().flat_map(without_middle) {
        let text = match &part {
            Part::Omitted(bytes) if rest == 0 && left >= PART_OVERHEAD => {
                left -= PART_OVERHEAD;
                shorter.push(Part::Omitted(*bytes));
                continue;
            }
            Part::Omitted(bytes) => {
                rest += bytes;
                continue;
            }
            Part::Same(text) | Part::Differs(text) => text,
        };
        let fitting = if rest == 0 { fitting(text, left.saturating_sub(PART_OVERHEAD)) } else { "" };
        rest += (text.len() - fitting.len()) as u64;
        if fitting.is_empty() {
            continue;
        }
        left = left.saturating_sub(PART_OVERHEAD + json_length(fitting));
        shorter.push(match part {
            Part::Differs(_) => Part::Differs(fitting.to_owned()),
            _ => Part::Same(fitting.to_owned()),
        });
    }
    if rest > 0 {
        shorter.push(Part::Omitted(rest));
    }
    shorter
}

fn without_middle(part: Part) -> Vec<Part> {
    let Part::Same(text) = &part else { return vec![part] };
    let (start, end) =
        (text.floor_char_boundary(KEPT_END), text.ceil_char_boundary(text.len().saturating_sub(KEPT_END)));
    if end < start + KEPT_END {
        return vec![part];
    }
    let omitted = Part::Omitted((end - start) as u64);
    vec![Part::Same(text[..start].to_owned()), omitted, Part::Same(text[end..].to_owned())]
}

/// As much of the beginning of a text as its JSON fits in.
fn fitting(text: &str, room: usize) -> &str {
    let mut length = 0;
    let end = text.char_indices().find(|(_, character)| {
        length += json_length(character.encode_utf8(&mut [0; 4]));
        length > room
    });
    end.map_or(text, |(index, _)| &text[..index])
}

fn size(parts: &[Part]) -> usize {
    parts.iter().map(|part| PART_OVERHEAD + json_length(part.text())).sum()
}

/// The bytes of a text within a JSON string.
fn json_length(text: &str) -> usize {
    let length = |byte: u8| match byte {
        b'"' | b'\\' | b'\t' | b'\r' | b'\n' | 0x08 | 0x0c => 2,
        0..0x20 => 6,
        _ => 1,
    };
    text.bytes().map(length).sum()
}

/// A share, to the sixth decimal place.
#[allow(clippy::cast_precision_loss, reason = "a share of more bytes than 2^53 may be inexact")]
pub(crate) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 / whole as f64 * 1e6).round() / 1e6 }
}
