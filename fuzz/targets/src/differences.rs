//! Differences of texts: told, bounded, written as a diff, and applied.

use changes::{ApplyError, Change, Extent, Extract, Fields, apply, html, unified};

use crate::input::texts;

/// The most bytes of JSON that a bounded change may take: its hunks' 64 KiB, and what stands around them.
const MOST_BYTES: usize = 72 * 1024;

fn between(old: &str, new: &str, extent: Extent) -> Option<Change> {
    let fields = Fields::new();
    Change::changed(Extract { text: old, fields: &fields }, Extract { text: new, fields: &fields }, extent)
}

/// Two texts.
pub(crate) fn diff(input: &[u8]) {
    let [old, new] = texts(input);
    for (old, new) in [(&old, &new), (&new, &old)] {
        let Some(change) = between(old, new, Extent::Whole) else {
            assert_eq!(old, new);
            continue;
        };
        assert_ne!(old, new);
        assert!(change.is_complete());
        assert!((0.0..=1.0).contains(&change.ratio) && change.ratio > 0.0, "{}", change.ratio);
        assert!(change.bytes.added <= new.len() as u64 && change.bytes.removed <= old.len() as u64);
        let lines = change.lines;
        assert!(lines.added + lines.changed <= new.split_inclusive('\n').count() as u64);
        assert!(lines.removed + lines.changed <= old.split_inclusive('\n').count() as u64);
        assert_eq!(apply(old, &unified(&change, "old", "new")).as_deref(), Ok(new.as_ref()));

        let bounded = between(old, new, Extent::Bounded).expect("they differ");
        assert_eq!((bounded.lines, bounded.bytes), (change.lines, change.bytes));
        let json = serde_json::to_string(&bounded).unwrap();
        assert!(json.len() <= MOST_BYTES, "{} bytes", json.len());
        assert_eq!(serde_json::from_str::<Change>(&json).unwrap(), bounded);
        let diff = unified(&bounded, "old", "new");
        if bounded.is_complete() {
            assert_eq!(apply(old, &diff).as_deref(), Ok(new.as_ref()));
        } else {
            assert_eq!(apply(old, &diff), Err(ApplyError::Malformed { line: 1 }));
        }
        assert!(!html(&bounded).contains("<script"), "texts are escaped");
    }
}

/// A text, and what may be a diff of it.
pub(crate) fn patch(input: &[u8]) {
    let [old, diff] = texts(input);
    let Ok(new) = apply(&old, &diff) else { return };
    // What it leads to is told by a diff as well.
    let own = between(&old, &new, Extent::Whole).map(|change| unified(&change, "old", "new"));
    assert_eq!(apply(&old, &own.unwrap_or_default()).as_deref(), Ok(new.as_str()));
}
