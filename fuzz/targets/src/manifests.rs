//! Manifests: files of YAML, and objects as an API server gives them.

use std::path::Path;

use cli::manifests::Manifests;
use crds::{Source, Subscription, check_schema, validate_source, validate_subscription};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// A file of manifests.
pub(crate) fn manifests(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let file = Path::new("fuzz.yaml");
    let read = Manifests::of_text(file, &text);
    let lines = text.lines().count() + 1;
    assert!(read.problems.is_sorted());
    for problem in &read.problems {
        assert!((1..=lines).contains(&problem.line), "{problem}");
        assert!(!problem.message.is_empty() && !problem.message.contains('\n'), "{problem:?}");
    }
    let mut written = Vec::new();
    for source in &read.sources {
        assert!((1..=lines).contains(&source.line));
        assert!(validate_source(&source.object).is_ok());
        written.push(json!({ "apiVersion": "tipstaff.dev/v1alpha1", "kind": "Source", "metadata": metadata(&source.object.metadata), "spec": source.object.spec }));
    }
    for subscription in &read.subscriptions {
        assert!((1..=lines).contains(&subscription.line));
        assert!(validate_subscription(&subscription.object).is_ok());
        written.push(json!({ "apiVersion": "tipstaff.dev/v1alpha1", "kind": "Subscription", "metadata": metadata(&subscription.object.metadata), "spec": subscription.object.spec }));
    }
    // What was understood, written again, is understood as the same.
    let written = written.iter().map(Value::to_string).collect::<Vec<_>>().join("\n---\n");
    let again = Manifests::of_text(file, &written);
    assert_eq!(again.problems, []);
    let sources = |read: &Manifests| {
        read.sources.iter().map(|source| (source.object.clone(), source.spec_hash)).collect::<Vec<_>>()
    };
    assert_eq!(sources(&again), sources(&read));
    let subscriptions = |read: &Manifests| {
        read.subscriptions.iter().map(|found| (found.object.clone(), found.spec_hash)).collect::<Vec<_>>()
    };
    assert_eq!(subscriptions(&again), subscriptions(&read));
}

fn metadata(metadata: &impl Serialize) -> Value {
    let mut metadata = serde_json::to_value(metadata).unwrap();
    metadata
        .as_object_mut()
        .unwrap()
        .retain(|field, _| ["name", "namespace", "labels", "annotations"].contains(&field.as_str()));
    metadata
}

/// An object in JSON.
pub(crate) fn objects(input: &[u8]) {
    let Ok(manifest) = serde_json::from_slice::<Value>(input) else { return };
    let violations = check_schema(&manifest);
    assert!(violations.iter().all(|violation| !violation.message.is_empty()));
    object::<Source>(&manifest, |source| validate_source(source).map(drop).map_err(|found| found.len()));
    object::<Subscription>(&manifest, |found| {
        validate_subscription(found).map(drop).map_err(|found| found.len())
    });
}

fn object<K: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(
    manifest: &Value,
    validate: impl Fn(&K) -> Result<(), usize>,
) {
    let Ok(object) = serde_json::from_value::<K>(manifest.clone()) else { return };
    let verdict = validate(&object);
    assert_ne!(verdict, Err(0), "what is refused is refused for something");
    let written = serde_json::to_value(&object).unwrap();
    let again: K = serde_json::from_value(written.clone()).unwrap();
    assert_eq!(again, object, "an object survives the API server");
    assert_eq!(serde_json::to_value(&again).unwrap(), written);
    assert_eq!(validate(&again), verdict);
}
