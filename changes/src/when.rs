//! Which changes a target wants.

use std::collections::BTreeSet;

use regex::Regex;

use crate::{
    compare::{Change, ChangeKind, LineTag},
    fields::readable,
};

/// Which changes a target wants: those of certain kinds, and of these, where there is a pattern, those that it matches.
#[derive(Clone, Debug)]
pub struct When {
    /// What must have happened.
    pub kinds: BTreeSet<ChangeKind>,
    /// What a line that was added, removed or changed, or the old or new value of a changed field, must match.
    pub matches: Option<Regex>,
}

/// Whether a target wants a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// It does.
    Yes,
    /// It does not.
    No,
    /// The pattern does not match what is there, and something was left out: ask again with the
    /// [whole](crate::Extent::Whole) change.
    NeedsWhole,
}

impl Default for When {
    /// Every change but first versions, which are none.
    fn default() -> Self {
        let kinds = [ChangeKind::New, ChangeKind::Changed, ChangeKind::Removed, ChangeKind::Returned];
        Self { kinds: kinds.into(), matches: None }
    }
}

impl When {
    /// Whether the target wants the change.
    pub fn wants(&self, change: &Change) -> Wanted {
        if !self.kinds.contains(&change.kind) {
            return Wanted::No;
        }
        match &self.matches {
            None => Wanted::Yes,
            Some(pattern) if matches(pattern, change) => Wanted::Yes,
            Some(_) if change.is_complete() => Wanted::No,
            Some(_) => Wanted::NeedsWhole,
        }
    }
}

fn matches(pattern: &Regex, change: &Change) -> bool {
    let mut lines = change.hunks.iter().flat_map(|hunk| &hunk.lines).filter(|line| line.tag != LineTag::Kept);
    let mut values = change.field_changes.iter().flat_map(|field| [&field.old, &field.new]).flatten();
    lines.any(|line| pattern.is_match(&line.text())) || values.any(|value| pattern.is_match(&readable(value)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;
    use crate::{Extent, Extract, Fields};

    #[test]
    fn a_target_gets_the_kinds_it_wants_and_of_these_what_its_pattern_matches() {
        let no_fields = Fields::new();
        let docket = Fields::from([("docket".to_owned(), json!(["24-1", "24-2"]))]);
        let of = |text: &'static str| Extract { text, fields: &no_fields };
        let (before, after) = (of("Heading\nSanctions apply\n"), of("Heading\nSanctions ended\n"));
        let changed = Change::changed(before, after, Extent::Bounded).unwrap();
        let docketed =
            Change::changed(before, Extract { fields: &docket, ..before }, Extent::Bounded).unwrap();
        let baseline = Change::baseline(before, Extent::Bounded);
        let removed = Change::removed(before, Extent::Bounded);
        let returned = Change::returned(before, before, Extent::Bounded);
        let new = Change::new_document(before, Extent::Bounded);
        let only = [ChangeKind::Removed];
        for (kinds, pattern, change, wanted) in [
            (None, None, &changed, Wanted::Yes),
            (None, None, &new, Wanted::Yes),
            (None, None, &returned, Wanted::Yes),
            (None, None, &baseline, Wanted::No),
            (Some(&ChangeKind::ALL[..]), None, &baseline, Wanted::Yes),
            (Some(&ChangeKind::ALL[..]), None, &returned, Wanted::Yes),
            (Some(&only[..]), None, &changed, Wanted::No),
            (Some(&only[..]), None, &removed, Wanted::Yes),
            (None, Some("(?i)sanctions"), &changed, Wanted::Yes),
            // The removed line counts as well as the added one, and each with all of its text.
            (None, Some("^Sanctions apply$"), &changed, Wanted::Yes),
            (None, Some("^Sanctions ended$"), &changed, Wanted::Yes),
            // Lines around the change do not.
            (None, Some("Heading"), &changed, Wanted::No),
            (None, Some("Heading"), &new, Wanted::Yes),
            (None, Some("24-2"), &docketed, Wanted::Yes),
            (None, Some("Sanctions"), &docketed, Wanted::No),
            (Some(&only[..]), Some("Sanctions"), &changed, Wanted::No),
        ] {
            let mut when =
                When { matches: pattern.map(|pattern| Regex::new(pattern).unwrap()), ..When::default() };
            if let Some(kinds) = kinds {
                when.kinds = kinds.iter().copied().collect();
            }
            assert_eq!(when.wants(change), wanted, "{when:?} {change:?}");
        }
    }

    #[test]
    fn what_was_left_out_is_asked_for_before_a_change_is_not_wanted() {
        let fields = Fields::new();
        let text = |word: &str| format!("{}{word}\n", "a line of text\n".repeat(10_000));
        let text = text("sanctions");
        let extract = Extract { text: &text, fields: &fields };
        let when = |pattern| When { matches: Some(Regex::new(pattern).unwrap()), ..When::default() };
        let (bounded, whole) =
            (Change::new_document(extract, Extent::Bounded), Change::new_document(extract, Extent::Whole));
        assert_eq!(when("sanctions").wants(&bounded), Wanted::NeedsWhole);
        assert_eq!(when("sanctions").wants(&whole), Wanted::Yes);
        assert_eq!(when("a line").wants(&bounded), Wanted::Yes);
        assert_eq!(when("nothing").wants(&whole), Wanted::No);
    }
}
