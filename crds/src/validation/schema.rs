//! The structural part of validation: the CRDs' own schemas, compiled once and applied to a manifest as the API
//! server would, unknown fields included. CEL rules are not evaluated here.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::core::CustomResourceExt;
use regex::Regex;
use serde_json::Value;

use super::{Violation, Violations};
use crate::{GROUP, Source, Subscription, VERSION};

static SOURCE: LazyLock<Node> = LazyLock::new(|| Node::of(&Source::crd()));
static SUBSCRIPTION: LazyLock<Node> = LazyLock::new(|| Node::of(&Subscription::crd()));

/// Checks a manifest against the schema of its kind: required and unknown fields, types, enums, patterns and limits.
///
/// A manifest that passes can be read as its Rust type (up to what that type's own parsing refuses) and given to
/// [`crate::validate_source`] or [`crate::validate_subscription`].
pub fn check_schema(manifest: &Value) -> Vec<Violation> {
    let mut violations = Violations::default();
    let text = |field: &str| manifest.get(field).and_then(Value::as_str).unwrap_or_default();
    if text("apiVersion") != format!("{GROUP}/{VERSION}") {
        violations.add("apiVersion", format!("must be {GROUP}/{VERSION}"));
    }
    match text("kind") {
        "Source" => SOURCE.check(manifest, "", &mut violations),
        "Subscription" => SUBSCRIPTION.check(manifest, "", &mut violations),
        _ => violations.add("kind", "must be Source or Subscription"),
    }
    violations.0
}

/// Checks an object that has been read already.
pub(super) fn check_source(source: &Source, violations: &mut Violations) {
    if let Some(manifest) = violations.take("spec", serde_json::to_value(source)) {
        SOURCE.check(&manifest, "", violations);
    }
}

/// Checks an object that has been read already.
pub(super) fn check_subscription(subscription: &Subscription, violations: &mut Violations) {
    if let Some(manifest) = violations.take("spec", serde_json::to_value(subscription)) {
        SUBSCRIPTION.check(&manifest, "", violations);
    }
}

/// One value in a schema.
#[derive(Debug, Default)]
struct Node {
    /// `object`, `array`, `string`, `integer` or `boolean`; without one, any, and keywords look at their own types.
    kind: Option<String>,
    /// Whether null counts as absent.
    nullable: bool,
    allowed: Vec<Value>,
    pattern: Option<Regex>,
    /// Characters, items or properties, at least and at most.
    length: (Option<i64>, Option<i64>),
    range: (Option<f64>, Option<f64>),
    properties: BTreeMap<String, Node>,
    required: Vec<String>,
    /// The values of a map.
    values: Option<Box<Node>>,
    items: Option<Box<Node>>,
    /// The field by which items are told apart, or an empty text where they are compared whole.
    unique_by: Option<String>,
    preserve_unknown_fields: bool,
}

impl Node {
    fn of(crd: &CustomResourceDefinition) -> Self {
        let mut root = crd
            .spec
            .versions
            .first()
            .and_then(|version| version.schema.as_ref())
            .and_then(|schema| schema.open_api_v3_schema.as_ref())
            .map(Self::compile)
            .unwrap_or_default();
        // Every object has these; a CRD's schema does not repeat them, nor is what they hold checked here.
        for name in ["apiVersion", "kind", "metadata"] {
            root.properties.insert(name.to_owned(), Self::default());
        }
        root
    }

    fn compile(schema: &JSONSchemaProps) -> Self {
        let boxed = |schema: &JSONSchemaProps| Some(Box::new(Self::compile(schema)));
        Self {
            kind: schema.type_.clone(),
            nullable: schema.nullable.unwrap_or_default() || schema.default.is_some(),
            allowed: schema.enum_.iter().flatten().map(|allowed| allowed.0.clone()).collect(),
            pattern: schema.pattern.as_deref().and_then(|pattern| Regex::new(pattern).ok()),
            length: (
                schema.min_length.or(schema.min_items).or(schema.min_properties),
                schema.max_length.or(schema.max_items).or(schema.max_properties),
            ),
            range: (schema.minimum, schema.maximum),
            properties: (schema.properties.iter().flatten())
                .map(|(name, schema)| (name.clone(), Self::compile(schema)))
                .collect(),
            required: schema.required.clone().unwrap_or_default(),
            values: match &schema.additional_properties {
                Some(JSONSchemaPropsOrBool::Schema(values)) => boxed(values),
                _ => None,
            },
            items: match &schema.items {
                Some(JSONSchemaPropsOrArray::Schema(items)) => boxed(items),
                _ => None,
            },
            unique_by: match schema.x_kubernetes_list_type.as_deref() {
                Some("map") => {
                    schema.x_kubernetes_list_map_keys.as_ref().and_then(|keys| keys.first().cloned())
                }
                Some("set") => Some(String::new()),
                _ => None,
            },
            preserve_unknown_fields: schema.x_kubernetes_preserve_unknown_fields.unwrap_or_default(),
        }
    }

    fn check(&self, value: &Value, path: &str, violations: &mut Violations) {
        if value.is_null() && self.nullable {
            return;
        }
        if let Some(kind) = &self.kind
            && !is_kind(value, kind)
        {
            return violations.add(path, format!("must be of type {kind}"));
        }
        if !self.allowed.is_empty() && !self.allowed.contains(value) {
            let allowed: Vec<_> = self.allowed.iter().map(Value::to_string).collect();
            violations.add(path, format!("must be one of {}", allowed.join(", ")));
        }
        match value {
            Value::String(text) => self.check_text(text, path, violations),
            Value::Number(number) => self.check_number(number.as_f64().unwrap_or_default(), path, violations),
            Value::Array(items) => self.check_items(items, path, violations),
            Value::Object(fields) => self.check_fields(fields, path, violations),
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn check_text(&self, text: &str, path: &str, violations: &mut Violations) {
        self.check_length(text.chars().count(), "characters", path, violations);
        if let Some(pattern) = &self.pattern
            && !pattern.is_match(text)
        {
            violations.add(path, format!("must match {pattern}"));
        }
    }

    fn check_number(&self, number: f64, path: &str, violations: &mut Violations) {
        let (min, max) = self.range;
        if let Some(min) = min
            && number < min
        {
            violations.add(path, format!("must be at least {min}"));
        }
        if let Some(max) = max
            && number > max
        {
            violations.add(path, format!("must be at most {max}"));
        }
    }

    fn check_items(&self, items: &[Value], path: &str, violations: &mut Violations) {
        self.check_length(items.len(), "items", path, violations);
        let mut seen = BTreeSet::new();
        for (index, item) in items.iter().enumerate() {
            let path = format!("{path}[{index}]");
            if let Some(node) = &self.items {
                node.check(item, &path, violations);
            }
            if let Some(key) = &self.unique_by
                && let Some(identity) = if key.is_empty() { Some(item) } else { item.get(key) }
                && !seen.insert(identity.to_string())
            {
                let field = if key.is_empty() { path } else { format!("{path}.{key}") };
                violations.add(field, format!("must be unique; {identity} is there already"));
            }
        }
    }

    fn check_fields(&self, fields: &serde_json::Map<String, Value>, path: &str, violations: &mut Violations) {
        let child = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        self.check_length(fields.len(), "entries", path, violations);
        for name in &self.required {
            if !fields.contains_key(name) {
                violations.add(child(name), "is required");
            }
        }
        // An object without any declared field, such as metadata, is checked elsewhere.
        let opaque = self.preserve_unknown_fields || (self.properties.is_empty() && self.values.is_none());
        for (name, value) in fields {
            match self.properties.get(name).or(self.values.as_deref()) {
                Some(node) => node.check(value, &child(name), violations),
                None if opaque => {}
                None => {
                    violations.add(child(name), format!("is not a field; there are {}", self.field_names()))
                }
            }
        }
    }

    fn check_length(&self, length: usize, unit: &str, path: &str, violations: &mut Violations) {
        let length = i64::try_from(length).unwrap_or(i64::MAX);
        let (min, max) = self.length;
        if let Some(min) = min
            && length < min
        {
            violations.add(
                path,
                if min == 1 {
                    "must not be empty".to_owned()
                } else {
                    format!("must have at least {min} {unit}")
                },
            );
        }
        if let Some(max) = max
            && length > max
        {
            violations.add(path, format!("must have at most {max} {unit}"));
        }
    }

    fn field_names(&self) -> String {
        self.properties.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
    }
}

fn is_kind(value: &Value, kind: &str) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        _ => true,
    }
}
