//! Selectors: what is taken out of a document. A CSS selector as plain text, or an object that says more.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, value::MapAccessDeserializer},
};

/// The longest selector expression, in characters.
pub(crate) const MAX_EXPRESSION: usize = 1024;

/// How one named value is found in a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Selector {
    /// A CSS selector: the text of the first element that matches.
    Css(String),
    /// The form that says what language the expression is in and what is taken from a match.
    Object(SelectorObject),
}

/// The object form of a selector: exactly one of `css`, `xpath` and `jsonPath`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SelectorObject {
    /// CSS selector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub css: Option<String>,
    /// XPath 1.0 expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xpath: Option<String>,
    /// JSONPath expression (RFC 9535).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json_path: Option<String>,
    /// Name of the attribute that is taken in place of the element's text. Not with `jsonPath`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attr: Option<String>,
    /// Whether all matches are taken; otherwise the first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// Whether a document may have none of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

// Written by hand, not `#[serde(untagged)]`, whose only error is that nothing matched.
impl<'de> Deserialize<'de> for Selector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Selector;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a CSS selector, or an object with one of css, xpath and jsonPath")
            }

            fn visit_str<E: de::Error>(self, css: &str) -> Result<Selector, E> {
                Ok(Selector::Css(css.to_owned()))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Selector, A::Error> {
                SelectorObject::deserialize(MapAccessDeserializer::new(map)).map(Selector::Object)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

// A structural schema has one type or none, so text-or-object has none, and must preserve unknown fields for that.
// Each keyword below only looks at values of its own type: lengths at the text, properties and `required` at the
// object. CEL sees no field without a type; what these keywords cannot say, `validate_subscription` checks.
impl JsonSchema for Selector {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Selector".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let expression = |description: &str| json_schema!({ "type": "string", "minLength": 1, "maxLength": MAX_EXPRESSION, "description": description });
        json_schema!({
            "description": "How one named value is found: a CSS selector as plain text (the text of the first match), \
                or an object with exactly one of css, xpath and jsonPath.",
            "x-kubernetes-preserve-unknown-fields": true,
            "minLength": 1,
            "maxLength": MAX_EXPRESSION,
            "anyOf": [{ "required": ["css"] }, { "required": ["xpath"] }, { "required": ["jsonPath"] }],
            "properties": {
                "css": expression("CSS selector, for HTML."),
                "xpath": expression("XPath 1.0 expression, for HTML and XML."),
                "jsonPath": expression("JSONPath expression (RFC 9535), for JSON, such as `$.items[*].title`."),
                "attr": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 128,
                    "description": "Name of the attribute that is taken in place of the element's text, such as `href`. Not with jsonPath.",
                },
                "all": {
                    "type": "boolean",
                    "description": "Whether all matches are taken, in document order; otherwise only the first. Defaults to false.",
                },
                "optional": {
                    "type": "boolean",
                    "description": "Whether a document may have none of it; otherwise a document in which nothing matches fails. Defaults to false.",
                },
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_forms_and_names_what_is_wrong() {
        let read = |json: &str| serde_json::from_str::<Selector>(json);
        assert_eq!(read(r#""h1""#).unwrap(), Selector::Css("h1".into()));
        let object = SelectorObject {
            css: Some("a".into()),
            attr: Some("href".into()),
            all: true,
            optional: true,
            ..Default::default()
        };
        assert_eq!(
            read(r#"{"css":"a","attr":"href","all":true,"optional":true}"#).unwrap(),
            Selector::Object(object)
        );
        assert!(read(r#"{"css":"a","atr":"href"}"#).unwrap_err().to_string().contains("unknown field `atr`"));
        assert!(read("5").unwrap_err().to_string().contains("expected a CSS selector, or an object"));
    }
}
