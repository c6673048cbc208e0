//! Values that are refused, and that the schema knows all of them.

use std::collections::BTreeSet;

use serde_json::Value;
use stack::Stack;

use crate::{REQUIRED, manifests, merged};

const VALUES: &str = include_str!("../../charts/tipstaff/values.yaml");
const SCHEMA: &str = include_str!("../../charts/tipstaff/values.schema.json");

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_cannot_be_is_refused_and_the_message_names_it() {
    let stack = Stack::shared().await.unwrap();
    let rows = [
        // Typing errors, at every depth.
        ("kafak: {}", "kafak"),
        ("kafka: {broker: 'a:1'}", "broker"),
        ("kafka: {tls: {enable: true}}", "enable"),
        ("workers: {roles: {crawler: {min: 1, max: 1, targetLag: 1}}}", "crawler"),
        ("workers: {roles: {crawl: {minimum: 1}}}", "minimum"),
        ("operator: {resources: {limit: {}}}", "limit"),
        // What the programs would refuse later.
        ("kafka: {brokers: kafka}", "/kafka/brokers"),
        ("kafka: {replication: 0}", "/kafka/replication"),
        ("watchNamespaces: [a, b]", "/watchNamespaces"),
        ("workers: {roles: {crawl: {max: 0}}}", "/workers/roles/crawl/max"),
        ("workers: {allowCIDRs: [10.1.2.3]}", "/workers/allowCIDRs/0"),
        ("workers: {secrets: {names: [Portal_Key]}}", "/workers/secrets/names/0"),
        ("workers: {secrets: {write: true}}", "write"),
        ("workers: {podLabels: {app.kubernetes.io/name: mine}}", "app.kubernetes.io/name"),
        ("image: {digest: latest}", "/image/digest"),
        ("database: {tls: {mode: always}}", "/database/tls/mode"),
        ("test: {url: example.com}", "/test/url"),
        ("email: {existingSecret: mail, from: nobody}", "/email/from"),
        ("tracing: {endpoint: collector}", "/tracing/endpoint"),
        // What is needed, and what contradicts itself.
        ("database: {existingSecret: ''}", "database.existingSecret: "),
        ("kafka: {brokers: ''}", "kafka.brokers: "),
        ("s3: {bucket: ''}", "s3.bucket: "),
        ("s3: {existingSecret: ''}", "s3.existingSecret: "),
        ("email: {existingSecret: mail}", "email.from: "),
        ("email: {from: a@example.org}", "email.existingSecret: "),
        ("tracing: {existingSecret: collector}", "tracing.endpoint: "),
        ("kafka: {sasl: {mechanism: PLAIN}}", "kafka.sasl.existingSecret: "),
        ("kafka: {sasl: {existingSecret: user}}", "kafka.sasl.mechanism"),
        ("kafka: {tls: {caSecret: ca}}", "kafka.tls.enabled"),
        ("kafka: {properties: {sasl.password: hidden}}", "kafka.properties.sasl.password"),
        ("kafka: {properties: {client.id: 'a;b'}}", "semicolon"),
        ("networkPolicy: {enabled: true}", "networkPolicy.services: "),
        ("networkPolicy: {enabled: true, services: [{}]}", "networkPolicy.apiServer: "),
    ];
    for (values, part) in rows {
        let made = manifests(&stack, "tipstaff", "court", &merged(REQUIRED, values)).await;
        let error = made.err().unwrap_or_else(|| panic!("{values} is taken"));
        assert!(error.contains(part) && !error.contains("hidden"), "{values}: {part:?} in {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_is_missing_is_told_at_once() {
    let stack = Stack::shared().await.unwrap();
    let error = manifests(&stack, "tipstaff", "court", "{}").await.unwrap_err();
    for value in ["database.existingSecret", "kafka.brokers", "s3.bucket", "s3.existingSecret"] {
        assert!(error.contains(&format!("\n  - {value}: ")), "{value} in {error}");
    }
    // Without workers nobody needs the object store.
    let values = "database: {existingSecret: a}\nkafka: {brokers: 'a:1'}\nworkers: {enabled: false}";
    manifests(&stack, "tipstaff", "court", values).await.unwrap();
    // Without Secrets nobody but the operator, whose egress is open, needs the API server.
    let values = "networkPolicy: {enabled: true, services: [{}]}\nworkers: {secrets: {read: false}}";
    manifests(&stack, "tipstaff", "court", &merged(REQUIRED, values)).await.unwrap();
}

/// A PDF that takes all it can must not end the worker.
#[test]
fn the_readers_of_pdfs_have_room_in_the_pods_of_their_role() {
    let values: Value = serde_saphyr::from_str(VALUES).unwrap();
    let limit = |resources: &Value| {
        let mebibytes = resources["limits"]["memory"].as_str().unwrap().strip_suffix("Mi").unwrap();
        mebibytes.parse::<u64>().unwrap() << 20
    };
    let of_parse = limit(&values["workers"]["roles"]["parse"]["resources"]);
    let of_others = limit(&values["workers"]["resources"]);
    assert!(of_parse >= of_others + worker::pdf_reader::most_memory(), "{of_parse} bytes are not enough");
}

/// Helm checks that the defaults are as the schema says. Here: that no map of them takes a key that means nothing.
#[test]
fn the_schema_knows_every_value() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let values: Value = serde_saphyr::from_str(VALUES).unwrap();
    let mut seen = 0;
    assert_known(&schema, &schema, &values, "values", &mut seen);
    assert!(seen > 80, "{seen}");
}

#[test]
fn the_schema_has_all_roles() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let roles = schema.pointer("/properties/workers/properties/roles/properties").unwrap();
    let known: BTreeSet<_> = roles.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(known, events::Role::ALL.iter().map(|role| role.name()).collect());
}

fn assert_known(schema: &Value, at: &Value, value: &Value, path: &str, seen: &mut usize) {
    *seen += 1;
    let at = match at["$ref"].as_str() {
        Some(reference) => schema.pointer(reference.trim_start_matches('#')).unwrap(),
        None => at,
    };
    let Some(fields) = value.as_object() else { return };
    if at.get("properties").is_none() {
        // Labels and the like, or one of Kubernetes' own types.
        let is_open = at["additionalProperties"].is_object() || path.ends_with(".affinity");
        assert!(is_open, "{path} takes any key");
        return;
    }
    assert_eq!(at["additionalProperties"], false, "{path}");
    for (name, value) in fields {
        let path = format!("{path}.{name}");
        let property =
            at["properties"].get(name).unwrap_or_else(|| panic!("the schema does not know {path}"));
        assert_known(schema, property, value, &path, seen);
    }
}
