//! A Secret of the core API, as far as headers need it. What is wrong is told without any value.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use crds::Violation;
use serde_json::{Map, Value};
use worker::secrets::SecretValues;

/// Its kind.
pub(super) const SECRET: &str = "Secret";

const FIELDS: [&str; 7] = ["apiVersion", "kind", "metadata", "type", "immutable", "data", "stringData"];

/// Its values and what is wrong with it.
pub(super) fn read(manifest: &Value) -> (SecretValues, Vec<Violation>) {
    let mut violations = Vec::new();
    let mut add = |field: String, message: &str| {
        violations.push(Violation { field, message: message.to_owned() });
    };
    if manifest.get("apiVersion").and_then(Value::as_str) != Some("v1") {
        add("apiVersion".to_owned(), "must be v1");
    }
    for field in manifest.as_object().into_iter().flat_map(Map::keys) {
        if !FIELDS.contains(&field.as_str()) {
            add(field.clone(), "is not a field of a Secret");
        }
    }
    let mut values: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    // As the API server has it, what is in plain text wins.
    for (field, is_encoded) in [("data", true), ("stringData", false)] {
        let texts = match manifest.get(field) {
            None | Some(Value::Null) => continue,
            Some(Value::Object(texts)) => texts,
            Some(_) => {
                add(field.to_owned(), "must be a map of texts");
                continue;
            }
        };
        for (key, text) in texts {
            if !is_key(key) {
                add(format!("{field}.{key}"), "must be letters, digits, -, _ and ., at most 253");
            }
            let Some(text) = text.as_str() else {
                add(format!("{field}.{key}"), "must be of type string: put it in quotes");
                continue;
            };
            let value = if is_encoded { decoded(text) } else { Some(text.as_bytes().to_vec()) };
            match value {
                Some(value) => drop(values.insert(key.clone(), value)),
                None => add(format!("{field}.{key}"), "must be base64; plain text belongs into stringData"),
            }
        }
    }
    (SecretValues::new(values), violations)
}

/// Line breaks are passed over, as the API server does.
fn decoded(text: &str) -> Option<Vec<u8>> {
    BASE64_STANDARD.decode(text.replace(['\r', '\n'], "")).ok()
}

fn is_key(key: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !key.is_empty() && key.len() <= 253 && key.bytes().all(is_inner)
}
