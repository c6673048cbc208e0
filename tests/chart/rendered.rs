//! What `helm template` makes of a chart, as objects.

use serde_json::Value;
use stack::Stack;

/// The release, and so the beginning of all names.
pub(crate) const RELEASE: &str = "tipstaff";

/// What the chart cannot do without.
pub(crate) const REQUIRED: &str = "
database: {existingSecret: catalog}
kafka: {brokers: 'kafka:9092'}
s3: {bucket: evidence, existingSecret: store}
";

/// The folder of a chart.
pub(crate) fn folder(chart: &str) -> String {
    format!("{}/../charts/{chart}", env!("CARGO_MANIFEST_DIR"))
}

/// Renders a chart, hooks and tests included, as manifests. `values` are YAML.
pub(crate) async fn manifests(
    stack: &Stack,
    chart: &str,
    namespace: &str,
    values: &str,
) -> Result<String, String> {
    let release = if chart == "dev-deps" { "deps" } else { RELEASE };
    let folder = folder(chart);
    // Helm asks no API server here; built without its own scripts, it takes Kubernetes to be 1.20.
    let version = ["--kube-version", "1.36.3"];
    let arguments = ["template", release, &folder, "--namespace", namespace, "--values", "-"];
    stack.helm(&[&arguments[..], &version].concat(), values).await.map_err(|error| error.to_string())
}

/// Renders the chart tipstaff with what it cannot do without and these values, which win.
pub(crate) async fn objects(stack: &Stack, namespace: &str, values: &str) -> Vec<Value> {
    parsed(&manifests(stack, "tipstaff", namespace, &merged(REQUIRED, values)).await.unwrap())
}

/// The objects of manifests.
pub(crate) fn parsed(manifests: &str) -> Vec<Value> {
    let documents = format!("\n{manifests}");
    let is_comment = |line: &str| line.trim().is_empty() || line.starts_with('#');
    let texts = documents.split("\n---\n").filter(|text| !text.lines().all(is_comment));
    texts.map(|text| serde_saphyr::from_str(text).unwrap()).collect()
}

/// The one object of a kind and a name.
pub(crate) fn one<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let mut found =
        objects.iter().filter(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    let one = found.next().unwrap_or_else(|| panic!("there is no {kind} {name} in {}", names(objects)));
    assert!(found.next().is_none(), "{kind} {name} is there twice");
    one
}

/// The one container of a workload or pod.
pub(crate) fn container(object: &Value) -> &Value {
    let template = &object["spec"]["template"]["spec"];
    let pod = if template.is_null() { &object["spec"] } else { template };
    let [container] = pod["containers"].as_array().unwrap().as_slice() else { panic!("{pod}") };
    container
}

/// A variable of a container.
pub(crate) fn variable<'a>(container: &'a Value, name: &str) -> &'a Value {
    let variables = container["env"].as_array().unwrap();
    variables.iter().find(|variable| variable["name"] == name).unwrap_or(&Value::Null)
}

/// Kinds and names, for messages.
pub(crate) fn names(objects: &[Value]) -> String {
    let names = objects.iter().map(|object| format!("{} {}", object["kind"], object["metadata"]["name"]));
    names.collect::<Vec<_>>().join(", ")
}

/// Two texts of values as one; where both name a value, the second wins.
pub(crate) fn merged(first: &str, second: &str) -> String {
    let mut values: Value = serde_saphyr::from_str(first).unwrap();
    if !second.trim().is_empty() {
        merge(&mut values, serde_saphyr::from_str(second).unwrap());
    }
    // JSON is YAML.
    values.to_string()
}

fn merge(values: &mut Value, others: Value) {
    match (values, others) {
        (Value::Object(values), Value::Object(others)) => {
            for (name, other) in others {
                merge(values.entry(name).or_insert(Value::Null), other);
            }
        }
        (value, other) => *value = other,
    }
}
