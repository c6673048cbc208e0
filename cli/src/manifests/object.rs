//! A document as an object of one of the kinds, or all that is wrong with it.

use std::collections::BTreeSet;

use crds::{Source, Subscription, Violation};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use worker::secrets::SecretValues;

use super::document::{Document, LocatedMessage, Node};
use super::secret::{self, SECRET};

pub(super) enum Object {
    Source(Box<Source>),
    Subscription(Box<Subscription>),
    Secret(SecretValues),
}

/// The fields of `metadata` that a manifest may have; the last lines are those that an object saved from a cluster has.
const METADATA_FIELDS: [&str; 14] = [
    "name",
    "namespace",
    "labels",
    "annotations",
    "finalizers",
    "ownerReferences",
    "generateName",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "resourceVersion",
    "uid",
];

/// The object, or what is wrong, at least one thing, by line.
pub(super) fn read(document: &Document, root: &Node) -> Result<Object, BTreeSet<LocatedMessage>> {
    let mut wrong = BTreeSet::new();
    if !root.is_mapping() {
        let message = "a manifest has the fields apiVersion, kind, metadata and spec".to_owned();
        return Err(BTreeSet::from([LocatedMessage { line: root.line(), message }]));
    }
    // A tree of YAML values is always a JSON value.
    let manifest = serde_json::to_value(root).unwrap_or_default();
    let mut violations = check_metadata(&manifest);
    let kind = root.find("kind").and_then(Node::as_str);
    if kind != Some(SECRET) {
        violations.extend(crds::check_schema(&manifest));
    }
    let object = match kind {
        Some(SECRET) => {
            let (values, problems) = secret::read(&manifest);
            violations.extend(problems);
            Ok(Object::Secret(values))
        }
        Some("Source") => document.read().map(|source: Source| {
            violations.extend(crds::validate_source(&source).err().unwrap_or_default());
            // What a cluster said of it says nothing here.
            Object::Source(Box::new(Source { status: None, ..source }))
        }),
        Some("Subscription") => document.read().map(|subscription: Subscription| {
            violations.extend(crds::validate_subscription(&subscription).err().unwrap_or_default());
            Object::Subscription(Box::new(Subscription { status: None, ..subscription }))
        }),
        // Said by the schema.
        _ => Err(LocatedMessage {
            line: root.line(),
            message: "kind must be Source or Subscription".to_owned(),
        }),
    };
    wrong.extend(violations.iter().map(|violation| LocatedMessage {
        line: root.line_of(&violation.field),
        message: violation.to_string().trim_start().to_owned(),
    }));
    match object {
        Ok(object) if wrong.is_empty() => Ok(object),
        // The schema says the same in better words, unless it found nothing.
        Err(located) if wrong.is_empty() => Err(BTreeSet::from([located])),
        _ => Err(wrong),
    }
}

/// What the API server says of names, and strict field validation of the other fields.
fn check_metadata(manifest: &Value) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut add =
        |field: String, message: &str| violations.push(Violation { field, message: message.to_owned() });
    let Some(metadata) = manifest.get("metadata").and_then(Value::as_object) else {
        add("metadata.name".to_owned(), "is required");
        return violations;
    };
    match metadata.get("name").map(Value::as_str) {
        None => add("metadata.name".to_owned(), "is required"),
        Some(name) if name.is_some_and(is_name) => {}
        Some(_) => add(
            "metadata.name".to_owned(),
            "must be lower-case letters, digits, - and ., start and end with a letter or digit, and have at most 253 characters",
        ),
    }
    let is_namespace = |name: &str| is_name(name) && name.len() <= 63 && !name.contains('.');
    if metadata.get("namespace").is_some_and(|name| !name.as_str().is_some_and(is_namespace)) {
        add(
            "metadata.namespace".to_owned(),
            "must be lower-case letters, digits and -, start and end with a letter or digit, and have at most 63 characters",
        );
    }
    for field in ["labels", "annotations"] {
        for (key, value) in metadata.get(field).and_then(Value::as_object).into_iter().flatten() {
            if !value.is_string() {
                add(format!("metadata.{field}.{key}"), "must be of type string: put it in quotes");
            }
        }
    }
    for field in metadata.keys().filter(|field| !METADATA_FIELDS.contains(&field.as_str())) {
        add(format!("metadata.{field}"), "is not a field of metadata");
    }
    violations
}

/// A DNS-1123 subdomain, as Kubernetes wants names.
fn is_name(name: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    name.len() <= 253
        && name.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(is_inner)
        })
}

/// A hash of what is meant: of the parsed spec with its defaults, not of its spelling.
pub(super) fn spec_hash(spec: &impl Serialize) -> Uuid {
    // Specs are plain data; writing them as JSON cannot fail.
    let text = serde_json::to_vec(spec).unwrap_or_default();
    Uuid::new_v5(&Uuid::NAMESPACE_OID, &text)
}
