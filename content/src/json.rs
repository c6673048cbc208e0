//! JSON: what JSONPath finds, else the whole in one form.

use jsonpath_rust::query::js_path_process;
use serde_json::Value;

use crate::selection::{Expression, Selection};
use crate::{ExtractError, Found, html};

pub(crate) fn extract(text: &str, selection: &Selection) -> Result<Found, ExtractError> {
    let mut value: Value = serde_json::from_str(text).map_err(ExtractError::Json)?;
    value.sort_all_objects();
    let mut found = Found::default();
    for (name, selector) in &selection.selectors {
        let Expression::JsonPath(path) = &selector.expression else { continue };
        let matches = js_path_process(path, &value)
            .map_err(|error| ExtractError::Selector { name: name.clone(), message: error.to_string() })?;
        found.add(name, html::limited(matches.into_iter().map(|found| as_text(found.val())), selector.all)?);
    }
    if !found.is_about_body() {
        found.text = as_text(&value);
    }
    Ok(found)
}

/// A string as itself; anything else as JSON, indented by two spaces, its keys in order.
fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        value => format!("{value:#}"),
    }
}
