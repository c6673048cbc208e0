//! A change for programs and browsers.

use changes::Change;
use serde_json::Value;

/// A unified diff, which begins with the fields that differ, as lines that `patch` passes over.
pub(super) fn unified(change: &Change, old_label: &str, new_label: &str) -> String {
    let value = |value: &Option<Value>| value.as_ref().map_or_else(|| "nothing".to_owned(), Value::to_string);
    let fields = change.field_changes.iter();
    let mut shown: String = fields
        .map(|field| format!("# {}: {} -> {}\n", field.name, value(&field.old), value(&field.new)))
        .collect();
    shown.push_str(&changes::unified(change, old_label, new_label));
    shown
}

/// A page of its own.
pub(super) fn page(change: &Change, old_label: &str, new_label: &str) -> String {
    let (old, new) = (escaped(old_label), escaped(new_label));
    format!(
        "<!doctype html>\n<meta charset=\"utf-8\">\n<title>{new}</title>\n<p>{old}<br>{new}</p>\n{}",
        changes::html(change)
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
