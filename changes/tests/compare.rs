//! What is said to have changed is what has changed, within its size.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use changes::{
    ApplyError, ByteCounts, Change, ChangeKind, Extent, Extract, Fields, Hunk, LineCounts, LineTag, Part,
    apply, unified,
};
use proptest::prelude::*;
use serde_json::json;

fn between(old: &str, new: &str, extent: Extent) -> Option<Change> {
    let fields = Fields::new();
    Change::changed(Extract { text: old, fields: &fields }, Extract { text: new, fields: &fields }, extent)
}

fn diff(old: &str, new: &str) -> String {
    between(old, new, Extent::Whole).map_or_else(String::new, |change| unified(&change, "old", "new"))
}

/// The text that the hunks show of one side.
fn shown(hunks: &[Hunk], other: LineTag) -> String {
    let lines = hunks.iter().flat_map(|hunk| &hunk.lines).filter(|line| line.tag != other);
    lines
        .map(|line| {
            let parts = line.parts.iter().map(|part| match part {
                Part::Same(text) | Part::Differs(text) => text.as_str(),
                Part::Omitted(_) => panic!("something was left out"),
            });
            parts.collect::<String>() + if line.no_line_feed { "" } else { "\n" }
        })
        .collect()
}

#[test]
fn lines_and_bytes_that_differ_are_counted() {
    let lines = |added, removed, changed| LineCounts { added, removed, changed };
    for (old, new, counts, added, removed, ratio) in [
        // The line feed is on both sides.
        ("a\nb\nc\n", "a\nx\nc\n", lines(0, 0, 1), 1, 1, 0.166_667),
        ("a\nb\nc\n", "a\nc\n", lines(0, 1, 0), 0, 2, 0.2),
        ("a\nc\n", "a\nb\nc\n", lines(1, 0, 0), 2, 0, 0.2),
        // Two lines in place of one: one changed, one added.
        ("a\nb\nc\n", "a\nx\ny\nc\n", lines(1, 0, 1), 3, 1, 0.285_714),
        ("", "a\n", lines(1, 0, 0), 2, 0, 1.0),
        ("a\n", "b\n", lines(0, 0, 1), 1, 1, 0.5),
        // One word of a line: the word counts, not the line.
        (
            "the court affirmed the judgment\n",
            "the court reversed the judgment\n",
            lines(0, 0, 1),
            8,
            8,
            0.25,
        ),
        // Only the line feed at the end.
        ("a", "a\n", lines(0, 0, 1), 1, 0, 0.333_333),
    ] {
        let change = between(old, new, Extent::Bounded).unwrap();
        assert_eq!(change.kind, ChangeKind::Changed);
        assert_eq!((change.lines, change.bytes), (counts, ByteCounts { added, removed }), "{old:?} {new:?}");
        assert!((change.ratio - ratio).abs() < 1e-9, "{old:?} {new:?}: {}", change.ratio);
        assert!(change.is_complete() && !change.is_approximate);
    }
    assert_eq!(between("a\nb", "a\nb", Extent::Bounded), None);
}

#[test]
fn a_change_as_json_reads_well_and_back() {
    let (old_fields, new_fields) =
        (Fields::from([("judge".to_owned(), json!("A"))]), Fields::from([("judge".to_owned(), json!("B"))]));
    let change = Change::changed(
        Extract { text: "heading\nThe court affirmed it.\nend", fields: &old_fields },
        Extract { text: "heading\nThe court reversed it.\nend", fields: &new_fields },
        Extent::Bounded,
    )
    .unwrap();
    let value = serde_json::to_value(&change).unwrap();
    assert_eq!(
        value,
        json!({
            "kind": "changed",
            "lines": {"added": 0, "removed": 0, "changed": 1},
            "bytes": {"added": 8, "removed": 8},
            "ratio": 0.235_294,
            "field_changes": [{"name": "judge", "old": "A", "new": "B"}],
            "hunks": [{
                "old_start": 1, "old_lines": 3, "new_start": 1, "new_lines": 3,
                "lines": [
                    {"tag": "kept", "parts": [{"same": "heading"}]},
                    {"tag": "removed", "parts": [{"same": "The court "}, {"differs": "affirmed"}, {"same": " it."}]},
                    {"tag": "added", "parts": [{"same": "The court "}, {"differs": "reversed"}, {"same": " it."}]},
                    {"tag": "kept", "parts": [{"same": "end"}], "no_line_feed": true},
                ],
            }],
        })
    );
    assert_eq!(serde_json::from_value::<Change>(value).unwrap(), change);
}

#[test]
fn documents_that_come_go_and_return_are_compared_with_nothing_or_with_what_they_were() {
    let fields = Fields::from([("title".to_owned(), json!("A"))]);
    let other = Fields::new();
    let old = Extract { text: "a\nb\n", fields: &fields };
    let new = Extract { text: "a\nc\n", fields: &other };
    let lines = |added, removed, changed| LineCounts { added, removed, changed };
    for (change, kind, counts, ratio, field_changes, diff) in [
        (
            Change::baseline(old, Extent::Bounded),
            ChangeKind::Baseline,
            lines(2, 0, 0),
            1.0,
            0,
            "--- /dev/null\n+++ new\n@@ -0,0 +1,2 @@\n+a\n+b\n",
        ),
        (
            Change::new_document(old, Extent::Bounded),
            ChangeKind::New,
            lines(2, 0, 0),
            1.0,
            0,
            "--- /dev/null\n+++ new\n@@ -0,0 +1,2 @@\n+a\n+b\n",
        ),
        (
            Change::removed(old, Extent::Bounded),
            ChangeKind::Removed,
            lines(0, 2, 0),
            1.0,
            0,
            "--- old\n+++ /dev/null\n@@ -1,2 +0,0 @@\n-a\n-b\n",
        ),
        (Change::returned(old, old, Extent::Bounded), ChangeKind::Returned, lines(0, 0, 0), 0.0, 0, ""),
        (
            Change::returned(old, new, Extent::Bounded),
            ChangeKind::Returned,
            lines(0, 0, 1),
            0.25,
            1,
            "--- old\n+++ new\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n",
        ),
    ] {
        assert_eq!((change.kind, change.lines, change.field_changes.len()), (kind, counts, field_changes));
        assert!((change.ratio - ratio).abs() < 1e-9, "{kind:?}: {}", change.ratio);
        assert_eq!(unified(&change, "old", "new"), diff);
    }
}

#[test]
fn a_diff_is_the_one_that_git_writes() {
    for (old, new, expected) in [
        ("a\n", "a\n", ""),
        ("a", "a\n", "--- old\n+++ new\n@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+a\n"),
        (
            "a\nb",
            "a\nc",
            "--- old\n+++ new\n@@ -1,2 +1,2 @@\n a\n-b\n\\ No newline at end of file\n+c\n\\ No newline at end of file\n",
        ),
        (
            "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n",
            "1\n2\n3\n4\nfive\n6\n7\n8\n9\n10\n11\n",
            "--- old\n+++ new\n@@ -2,9 +2,10 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n 9\n 10\n+11\n",
        ),
        (
            "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n",
            "2\n3\n4\n5\n6\n7\n8\n9\nten\n",
            "--- old\n+++ new\n@@ -1,4 +1,3 @@\n-1\n 2\n 3\n 4\n@@ -7,4 +6,4 @@\n 7\n 8\n 9\n-10\n+ten\n",
        ),
    ] {
        assert_eq!(diff(old, new), expected);
    }
}

#[test]
fn a_diff_is_refused_by_another_text_and_when_it_is_not_whole() {
    let (old, new) = ("1\n2\n3\n4\n", "1\n2\nthree\n4\n");
    let whole = diff(old, new);
    for (text, diff, error) in [
        ("1\n2\n3\nfour\n", whole.as_str(), ApplyError::Mismatch { line: 4 }),
        ("1\n", &whole, ApplyError::Mismatch { line: 2 }),
        (old, "not a diff\n", ApplyError::Malformed { line: 1 }),
        (old, "@@ -1 +1 @@\n-1\n", ApplyError::Malformed { line: 3 }),
        (old, "@@ -1 +1 @@\n*1\n", ApplyError::Malformed { line: 2 }),
        (old, "@@ -1 +1 @@\n\n", ApplyError::Malformed { line: 2 }),
        (old, "@@ -0 +1 @@\n", ApplyError::Malformed { line: 1 }),
        (old, "@@ -9 +9 @@\n-1\n+2\n", ApplyError::Mismatch { line: 5 }),
        (old, "@@ -3 +3 @@\n-3\n+x\n@@ -1 +1 @@\n-1\n+x\n", ApplyError::Mismatch { line: 5 }),
    ] {
        assert_eq!(apply(text, diff), Err(error), "{diff}");
    }
    let (old, new) = ("old\n".repeat(50_000), "new\n".repeat(50_000));
    let cut = unified(&between(&old, &new, Extent::Bounded).unwrap(), "old", "new");
    assert!(cut.starts_with("# Incomplete: "), "{}", &cut[..200]);
    assert_eq!(apply(&old, &cut), Err(ApplyError::Malformed { line: 1 }));
}

#[test]
fn what_is_left_out_is_counted_and_the_rest_is_within_its_size() {
    // Numbers that follow one another as if by chance, otherwise for each seed.
    let words = |seed: u64, count: u64, end: &str| -> String {
        let number =
            |number: u64| (number ^ (seed << 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        (0..count).map(|place| format!("{}{end}", number(number(place)) % 977)).collect()
    };
    let quotes = |text: &str| text.replace('7', "\"").replace('3', "\u{1}").replace('5', "ä");
    let scattered =
        |mark: &str| (0..5000).map(|n| format!("{n}{}\n", if n % 10 == 0 { mark } else { "" })).collect();
    let alternating = |mark: &str| -> String {
        (0..20_000).map(|n| format!("{n} {mark}{}", if n % 40 == 39 { "\n" } else { " " })).collect()
    };
    let cases: Vec<(&str, String, String)> = vec![
        ("all lines", words(1, 30_000, "\n"), words(2, 30_000, "\n")),
        ("many short lines", "a\n".repeat(30_000), "b\n".repeat(20_000)),
        ("empty lines", "\n".repeat(10_000), "\n".repeat(40_000)),
        ("one long line", words(1, 30_000, " "), words(2, 30_000, " ")),
        ("one word of a long line", words(1, 30_000, " "), words(1, 30_000, " ").replacen("976 ", "x ", 1)),
        ("many words of a long line", words(1, 30_000, " "), words(1, 30_000, " ").replace("976 ", "x ")),
        (
            "characters that JSON writes longer",
            quotes(&words(1, 30_000, "\n")),
            quotes(&words(2, 30_000, " ")),
        ),
        ("many hunks", scattered(" old"), scattered(" new")),
        ("control characters", "\u{1}".repeat(30_000), "\u{2}".repeat(30_000)),
        ("many parts", alternating("old"), alternating("new")),
        ("nothing", String::new(), words(1, 30_000, " ")),
    ];
    for (name, old, new) in cases {
        let change = between(&old, &new, Extent::Bounded).unwrap();
        let size = serde_json::to_string(&change.hunks).unwrap().len();
        assert!(size <= 64 * 1024, "{name}: {size}");
        assert!(!change.hunks.is_empty(), "{name}");
        let lines: usize = change.hunks.iter().map(|hunk| hunk.lines.len()).sum();
        let tags = |tag| change.hunks.iter().flat_map(|hunk| &hunk.lines).any(|line| line.tag == tag);
        assert!(new.is_empty() || tags(LineTag::Added), "{name}");
        // Lines that are there and lines that are not are all of them.
        let whole = between(&old, &new, Extent::Whole).unwrap();
        let of_whole = whole.hunks.iter().map(|hunk| hunk.lines.len()).sum::<usize>();
        assert_eq!(lines + usize::try_from(change.omitted.lines).unwrap(), of_whole, "{name}");
        let omitted_hunks = usize::try_from(change.omitted.hunks).unwrap();
        assert_eq!(change.hunks.len() + omitted_hunks, whole.hunks.len(), "{name}");
        assert!(!change.is_complete() && whole.is_complete(), "{name}");
        assert_eq!((change.lines, change.bytes), (whole.lines, whole.bytes), "{name}");
        assert_eq!(apply(&old, &unified(&whole, "old", "new")).unwrap(), new, "{name}");
    }
    // Whichever line is the last that there is room for.
    for width in 0..30 {
        let text = |mark: &str| -> String {
            (0..2000).map(|n| format!("{n:>width$}{}\n", if n % 10 == 0 { mark } else { "" })).collect()
        };
        let (old, new) = (text("old"), text("new"));
        let (change, whole) =
            (between(&old, &new, Extent::Bounded).unwrap(), between(&old, &new, Extent::Whole).unwrap());
        let lines = |change: &Change| change.hunks.iter().map(|hunk| hunk.lines.len()).sum::<usize>();
        assert_eq!(lines(&change) + usize::try_from(change.omitted.lines).unwrap(), lines(&whole), "{width}");
    }
    let fields = Fields::new();
    let text = words(1, 30_000, "\n");
    let alone = Change::new_document(Extract { text: &text, fields: &fields }, Extent::Bounded);
    assert!(serde_json::to_string(&alone.hunks).unwrap().len() <= 4 * 1024);
    assert_eq!(alone.lines.added, 30_000);
    assert_eq!(alone.omitted.lines + alone.hunks[0].lines.len() as u64, 30_000);
}

#[test]
fn a_long_line_is_shown_around_what_differs_in_it() {
    let text = "word ".repeat(100_000);
    let change =
        between(&format!("{text}old {text}"), &format!("{text}new {text}"), Extent::Bounded).unwrap();
    let line = &change.hunks[0].lines[1];
    let [
        Part::Same(_),
        Part::Omitted(before),
        Part::Same(near),
        Part::Differs(word),
        Part::Same(_),
        Part::Omitted(_),
        Part::Same(_),
    ] = line.parts.as_slice()
    else {
        panic!("{line:?}")
    };
    assert_eq!((word.as_str(), near.ends_with("word ")), ("new", true));
    assert!(*before > 499_000, "{before}");
}

#[test]
fn stretches_that_are_long_and_repetitive_count_as_replaced_and_it_is_said() {
    let repetitive = |shift: u64| -> String {
        (0..4000_u64).map(|line| if (line * line + shift) % 7 < 3 { "yes\n" } else { "no\n" }).collect()
    };
    let (old, new) = (format!("first\n{}last\n", repetitive(0)), format!("first\n{}last\n", repetitive(1)));
    let change = between(&old, &new, Extent::Bounded).unwrap();
    assert!(change.is_approximate);
    assert!(change.lines.changed > 3900 && change.lines.added == 0, "{:?}", change.lines);
    let whole = between(&old, &new, Extent::Whole).unwrap();
    assert_eq!(apply(&old, &unified(&whole, "old", "new")).unwrap(), new);
}

/// Lines from a few words, so that two texts have some in common.
fn text() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        4 => prop::collection::vec(prop::sample::select(vec!["the", "court", "affirmed", "1,200", "§ 7", "é", "判決", ""]), 0..6)
            .prop_map(|words| words.join(" ")),
        1 => "[ -~]{0,12}",
        1 => prop::sample::select(vec!["--- a", "+++ b", "@@ -1 +1 @@", "\\ No newline at end of file", "\r", "# x"]).prop_map(str::to_owned),
    ];
    (prop::collection::vec(line, 0..30), any::<bool>()).prop_map(|(lines, line_feed)| {
        let text = lines.join("\n");
        if line_feed { text + "\n" } else { text }
    })
}

proptest! {
    #[test]
    fn a_diff_applied_to_the_old_text_gives_the_new_one(old in text(), new in text()) {
        prop_assert_eq!(apply(&old, &diff(&old, &new)), Ok(new.clone()));
        prop_assert_eq!(apply(&new, &diff(&new, &old)), Ok(old));
    }

    #[test]
    fn so_it_does_for_any_texts(old in "(?s).{0,80}", new in "(?s).{0,80}") {
        prop_assert_eq!(apply(&old, &diff(&old, &new)), Ok(new));
    }

    #[test]
    fn an_edited_text_gives_hunks_that_show_both_sides(old in text(), at in any::<prop::sample::Index>(), word in "[a-z ]{0,8}") {
        let mut at = at.index(old.len() + 1);
        while !old.is_char_boundary(at) {
            at -= 1;
        }
        let new = format!("{}{word}{}", &old[..at], &old[at..]);
        let Some(change) = between(&old, &new, Extent::Whole) else {
            prop_assert_eq!(old, new);
            return Ok(());
        };
        prop_assert!(old.contains(&shown(&change.hunks, LineTag::Added)));
        prop_assert!(new.contains(&shown(&change.hunks, LineTag::Removed)));
        prop_assert!(change.ratio > 0.0 && change.ratio <= 1.0);
        // The same again is the same: events are handled more than once.
        prop_assert_eq!(between(&old, &new, Extent::Whole), Some(change));
    }

    #[test]
    fn a_diff_of_any_kind_is_applied_or_refused(old in text(), diff in "(?s).{0,80}", header in "@@ -[0-9]{1,20}(,[0-9]{1,20})? \\+1 @@\n[ +-]x\n") {
        let _ = apply(&old, &diff);
        let _ = apply(&old, &header);
    }
}
