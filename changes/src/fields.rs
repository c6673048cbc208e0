//! Named values of a document, and which of them differ.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::compare::Extent;

/// The values that a subscription's selectors found in a document, by name.
pub type Fields = BTreeMap<String, Value>;

/// The most bytes of JSON of one value, and of all values together, where what is kept is bounded.
const LONGEST_VALUE: usize = 2 * 1024;
const LONGEST_TOGETHER: usize = 16 * 1024;
/// What is always kept of a value.
const SHORTEST_VALUE: usize = 64;

/// A value that differs between two versions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FieldChange {
    /// Name of the selector.
    pub name: String,
    /// Value in the old version. Absent: it had none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<Value>,
    /// Value in the new version. Absent: it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<Value>,
    /// Whether a value was too long: then it is text that ends in an ellipsis.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_cut: bool,
}

/// The values that selectors found in a document, as deliveries have them: a text, or a list of several.
pub fn fields_of(found: &BTreeMap<String, Vec<String>>) -> Fields {
    let value = |values: &[String]| match values {
        [only] => Value::from(only.as_str()),
        several => Value::from(several),
    };
    found.iter().map(|(name, values)| (name.clone(), value(values))).collect()
}

/// The values that differ, by name.
pub(crate) fn compare_fields(old: &Fields, new: &Fields, extent: Extent) -> Vec<FieldChange> {
    let mut budget = Budget::new(extent);
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    names
        .into_iter()
        .filter(|name| old.get(*name) != new.get(*name))
        .map(|name| {
            let mut is_cut = false;
            let mut keep = |value: &Value| budget.keep(value, &mut is_cut);
            let (old, new) = (old.get(name).map(&mut keep), new.get(name).map(&mut keep));
            FieldChange { name: name.clone(), old, new, is_cut }
        })
        .collect()
}

/// Values as they are delivered: those that are too long are text that ends in an ellipsis.
pub(crate) fn bounded(fields: Fields) -> Fields {
    let mut budget = Budget::new(Extent::Bounded);
    fields.into_iter().map(|(name, value)| (name, budget.keep(&value, &mut false))).collect()
}

/// A value for a person: text as it is, a list with commas, anything else as JSON.
pub fn readable(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(readable).collect::<Vec<_>>().join(", "),
        value => value.to_string(),
    }
}

struct Budget {
    each: usize,
    together: usize,
}

impl Budget {
    fn new(extent: Extent) -> Self {
        match extent {
            Extent::Bounded => Self { each: LONGEST_VALUE, together: LONGEST_TOGETHER },
            Extent::Whole => Self { each: usize::MAX, together: usize::MAX },
        }
    }

    fn keep(&mut self, value: &Value, is_cut: &mut bool) -> Value {
        let most = self.each.min(self.together).max(SHORTEST_VALUE);
        let length = value.to_string().len();
        self.together = self.together.saturating_sub(length.min(most));
        if length <= most {
            return value.clone();
        }
        *is_cut = true;
        let mut kept = readable(value);
        let mut length = '…'.len_utf8() + 2;
        let end = kept.char_indices().find(|(_, character)| {
            length += Value::from(character.to_string()).to_string().len() - 2;
            length > most
        });
        kept.truncate(end.map_or(kept.len(), |(index, _)| index));
        kept.push('…');
        Value::String(kept)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(values: &[(&str, Value)]) -> Fields {
        values.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }

    #[test]
    fn values_that_came_went_and_changed_are_told_by_name() {
        let old =
            fields(&[("docket", json!("24-1")), ("judge", json!("Kagan")), ("parties", json!(["A", "B"]))]);
        let new =
            fields(&[("date", json!("2026-03-09")), ("docket", json!("24-1")), ("parties", json!(["A"]))]);
        let change = |name: &str, old: Option<Value>, new: Option<Value>| FieldChange {
            name: name.to_owned(),
            old,
            new,
            is_cut: false,
        };
        assert_eq!(
            compare_fields(&old, &new, Extent::Bounded),
            [
                change("date", None, Some(json!("2026-03-09"))),
                change("judge", Some(json!("Kagan")), None),
                change("parties", Some(json!(["A", "B"])), Some(json!(["A"]))),
            ]
        );
        assert_eq!(compare_fields(&old, &old, Extent::Bounded), []);
    }

    #[test]
    fn values_are_cut_to_a_size_that_holds_for_all_of_them_and_it_is_said() {
        for value in
            [json!("\"".repeat(10_000)), json!(["ä".repeat(3000), "b"]), json!({"a": "\u{1}".repeat(3000)})]
        {
            let new: Fields = (0..64).map(|number| (format!("field{number}"), value.clone())).collect();
            let changes = compare_fields(&Fields::new(), &new, Extent::Bounded);
            assert_eq!(changes.len(), 64);
            assert!(changes.iter().all(|change| change.is_cut));
            let values: Vec<String> =
                changes.iter().filter_map(|change| change.new.as_ref()).map(Value::to_string).collect();
            assert!(values.iter().all(|value| value.len() <= LONGEST_VALUE && value.ends_with("…\"")));
            let together: usize = values.iter().map(String::len).sum();
            assert!(together <= LONGEST_TOGETHER + 64 * SHORTEST_VALUE, "{together}");
            assert!(!compare_fields(&Fields::new(), &new, Extent::Whole).iter().any(|change| change.is_cut));
        }
    }

    #[test]
    fn one_value_is_a_text_and_several_are_a_list() {
        let found = BTreeMap::from([
            ("title".to_owned(), vec!["Smith v. Jones".to_owned()]),
            ("judges".to_owned(), vec!["Kagan".to_owned(), "Barrett".to_owned()]),
        ]);
        let fields = fields_of(&found);
        assert_eq!(fields["title"], "Smith v. Jones");
        assert_eq!(readable(&fields["judges"]), "Kagan, Barrett");
    }
}
