//! The table of accepted and refused objects, against the crate's own validation.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crds::{Source, Subscription, Violation, check_schema, validate_source, validate_subscription};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    kind: String,
    spec: Value,
    refused: Option<Refusal>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Refusal {
    #[serde(default)]
    by: RefusedBy,
    field: String,
    message: String,
    locally: Option<String>,
}

#[derive(Deserialize, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum RefusedBy {
    #[default]
    Schema,
    Reconciler,
}

fn rows() -> Vec<Row> {
    serde_saphyr::from_str(include_str!("objects.yaml")).unwrap()
}

fn manifest(row: &Row) -> Value {
    json!({
        "apiVersion": "tipstaff.dev/v1alpha1",
        "kind": row.kind,
        "metadata": { "name": "example", "namespace": "default" },
        "spec": row.spec,
    })
}

/// What a user of local manifests is told.
fn refusals(manifest: &Value) -> Vec<Violation> {
    let violations = check_schema(manifest);
    if violations.is_empty() { refusals_beyond_the_schema(manifest) } else { violations }
}

/// What the reconciler says of an object that the API server has taken.
fn refusals_beyond_the_schema(manifest: &Value) -> Vec<Violation> {
    let unreadable =
        |error: serde_json::Error| vec![Violation { field: String::new(), message: error.to_string() }];
    let result = match manifest["kind"].as_str() {
        Some("Source") => match Source::deserialize(manifest) {
            Ok(source) => validate_source(&source).map(drop),
            Err(error) => Err(unreadable(error)),
        },
        _ => match Subscription::deserialize(manifest) {
            Ok(subscription) => validate_subscription(&subscription).map(drop),
            Err(error) => Err(unreadable(error)),
        },
    };
    result.err().unwrap_or_default()
}

#[test]
fn each_object_is_accepted_or_refused_with_its_message() {
    let mut wrong = Vec::new();
    for row in rows() {
        let violations = refusals(&manifest(&row));
        let as_expected = match &row.refused {
            None => violations.is_empty(),
            Some(refusal) => {
                let message = refusal.locally.as_ref().unwrap_or(&refusal.message);
                violations.iter().any(|violation| {
                    violation.field.starts_with(&refusal.field) && violation.message.contains(message)
                })
            }
        };
        if !as_expected {
            wrong.push(format!("{}: {violations:#?}", row.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// An object can be older than the rule it breaks, or come from an API server with other CRDs: what the schema and its
/// CEL rules refuse, the reconciler refuses too, as far as it can see it (unknown fields are pruned or ignored).
#[test]
fn the_reconciler_does_not_rely_on_the_schema() {
    let refused = rows()
        .into_iter()
        .filter(|row| row.refused.as_ref().is_some_and(|refusal| refusal.by == RefusedBy::Schema));
    for row in
        refused.filter(|row| row.refused.as_ref().is_some_and(|refusal| refusal.message != "unknown field"))
    {
        assert!(!refusals_beyond_the_schema(&manifest(&row)).is_empty(), "{} is accepted", row.name);
    }
}

#[test]
fn all_violations_are_collected() {
    let manifest = json!({
        "apiVersion": "tipstaff.dev/v1alpha1",
        "kind": "Subscription",
        "metadata": { "name": "example" },
        "spec": {
            "sourceRef": { "name": "notices" },
            "schedule": "61 * * * *",
            "timeZone": "Europe/Atlantis",
            "selectors": { "title": "h1[" },
            "ignore": ["("],
            "delivery": [{ "name": "a" }],
            "retention": {},
        },
    });
    let fields: Vec<_> = refusals(&manifest).into_iter().map(|violation| violation.field).collect();
    assert_eq!(
        fields,
        [
            "spec.timeZone",
            "spec.schedule",
            "spec.selectors.title",
            "spec.ignore[0]",
            "spec.delivery[0]",
            "spec.retention"
        ]
    );
}

#[test]
fn other_kinds_and_versions_are_refused() {
    let violations =
        check_schema(&json!({ "apiVersion": "tipstaff.dev/v1", "kind": "Sauce", "metadata": {} }));
    let violations: Vec<_> = violations.iter().map(Violation::to_string).collect();
    assert_eq!(
        violations,
        ["apiVersion must be tipstaff.dev/v1alpha1", "kind must be Source or Subscription"]
    );
}

#[test]
fn the_examples_are_valid() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
    let mut objects = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        // The operator's own files are in a folder of theirs.
        if path.is_dir() {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for manifest in serde_saphyr::from_multiple::<Value>(&text).unwrap() {
            assert_eq!(refusals(&manifest), [], "{}", path.display());
            objects += 1;
        }
    }
    assert!(objects >= 4, "there are examples");
}
