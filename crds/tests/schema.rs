//! What holds for every field of the two kinds: it is explained, and what a user may write into it is bounded.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crds::{Source, Subscription};
use kube::CustomResourceExt;
use serde_json::Value;

fn schemas() -> [(&'static str, Value); 2] {
    [("Source", Source::crd()), ("Subscription", Subscription::crd())].map(|(kind, crd)| {
        let version = serde_json::to_value(&crd.spec.versions[0]).unwrap();
        (kind, version["schema"]["openAPIV3Schema"]["properties"].clone())
    })
}

/// Calls `visit` with the path and schema of every value below `schema`.
fn walk(path: &str, schema: &Value, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(&format!("{path}.{name}"), property, visit);
    }
    for (suffix, inner) in [("[]", &schema["items"]), (".*", &schema["additionalProperties"])] {
        if inner.is_object() {
            walk(&format!("{path}{suffix}"), inner, visit);
        }
    }
}

#[test]
fn every_field_is_explained_in_sentences() {
    for (kind, properties) in schemas() {
        for part in ["spec", "status"] {
            walk(&format!("{kind}.{part}"), &properties[part], &mut |path, schema| {
                // The texts of conditions are those of Kubernetes; an item is explained by its list.
                if path.contains(".conditions[]") || path.ends_with("[]") {
                    return;
                }
                let text = schema["description"].as_str().unwrap_or_default();
                assert!(text.starts_with(char::is_uppercase) && text.ends_with('.'), "{path}: {text:?}");
            });
        }
    }
}

#[test]
fn defaults_are_mentioned() {
    for (kind, properties) in schemas() {
        walk(kind, &properties["spec"], &mut |path, schema| {
            let default = match &schema["default"] {
                Value::Null | Value::Object(_) => return,
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            let text = schema["description"].as_str().unwrap_or_default().replace(['`', '\n'], " ");
            let mentioned = text.split_once("Defaults to").is_some_and(|(_, rest)| {
                let said = rest.trim().trim_end_matches('.').trim();
                said == default
                    || said.starts_with(&format!("{default} ("))
                    || said.starts_with(&format!("{default} ."))
            });
            assert!(mentioned, "{path}: {text}");
        });
    }
}

#[test]
fn everything_a_user_writes_is_bounded() {
    for (kind, properties) in schemas() {
        walk(kind, &properties["spec"], &mut |path, schema| {
            let has = |keyword: &str| !schema[keyword].is_null();
            let bounded = match schema["type"].as_str() {
                Some("string") => has("maxLength") || has("enum"),
                Some("integer") => has("minimum") && has("maximum"),
                Some("array") => has("maxItems") && has("x-kubernetes-list-type"),
                Some("object") => !has("additionalProperties") || has("maxProperties"),
                Some("boolean") => true,
                Some(_) => false,
                None => has("maxLength") && has("x-kubernetes-preserve-unknown-fields"),
            };
            assert!(bounded, "{path}: {schema}");
        });
    }
}
