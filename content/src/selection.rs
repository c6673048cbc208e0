//! What is taken out of documents, compiled once.

use std::collections::BTreeMap;

use jsonpath_rust::parser::model::JpQuery;
use jsonpath_rust::parser::parse_json_path;
use regex::{Regex, RegexBuilder};
use scraper::Selector;
use thiserror::Error;
use uppsala::{Document, XPathEvaluator};

use crate::operator_names;

/// The selector whose value is what is versioned.
pub const BODY: &str = "body";

/// The memory a compiled regular expression may take, in bytes.
const REGEX_SIZE: usize = 1 << 20;
/// How deep a regular expression may nest.
const REGEX_NESTING: u32 = 64;
/// How many nodes the evaluation of an XPath expression may look at.
const XPATH_VISITS: usize = 2_000_000;

/// A selector, as users write it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SelectorSpec {
    /// The expression.
    pub query: Query,
    /// The attribute that is taken in place of an element's text.
    pub attr: Option<String>,
    /// Whether all matches are taken; otherwise the first.
    pub all: bool,
}

/// An expression, by its language.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Query {
    /// A CSS selector, for HTML.
    Css(String),
    /// An XPath 1.0 expression, for HTML, XML and feeds in XML.
    Xpath(String),
    /// A JSONPath expression (RFC 9535), for JSON.
    JsonPath(String),
}

/// Compiled selectors, elements to remove and noise to ignore. It can be shared between threads and kept.
pub struct Selection {
    pub(crate) selectors: BTreeMap<String, Compiled>,
    pub(crate) remove: Vec<Selector>,
    pub(crate) ignore: Vec<Regex>,
    pub(crate) xpath: XPathEvaluator,
}

pub(crate) struct Compiled {
    pub(crate) expression: Expression,
    pub(crate) attr: Option<String>,
    pub(crate) all: bool,
}

pub(crate) enum Expression {
    Css(Selector),
    Xpath(String),
    JsonPath(JpQuery),
}

/// What cannot be compiled, and why.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{field} {message}")]
pub struct SelectionError {
    /// Where it stands: `selectors.title`, `remove[0]`, `ignore[2]`.
    pub field: String,
    /// What is wrong, as a phrase that goes on from the field's name.
    pub message: String,
}

impl Selection {
    /// Compiles selectors by name, CSS selectors of what is removed, and regular expressions of what is ignored.
    ///
    /// # Errors
    ///
    /// The first that cannot be compiled.
    pub fn new(
        selectors: &BTreeMap<String, SelectorSpec>,
        remove: &[String],
        ignore: &[String],
    ) -> Result<Self, SelectionError> {
        let xpath = XPathEvaluator::new().with_max_node_visits(XPATH_VISITS);
        let selectors = selectors.iter().map(|(name, spec)| {
            let expression = compiled(&spec.query, &xpath)
                .map_err(|message| SelectionError { field: format!("selectors.{name}"), message })?;
            Ok((name.clone(), Compiled { expression, attr: spec.attr.clone(), all: spec.all }))
        });
        let selectors = selectors.collect::<Result<_, _>>()?;
        let remove = remove.iter().enumerate().map(|(index, selector)| {
            css(selector).map_err(|message| SelectionError { field: format!("remove[{index}]"), message })
        });
        let remove = remove.collect::<Result<_, _>>()?;
        let ignore = ignore.iter().enumerate().map(|(index, expression)| {
            regex(expression).map_err(|message| SelectionError { field: format!("ignore[{index}]"), message })
        });
        Ok(Self { selectors, remove, ignore: ignore.collect::<Result<_, _>>()?, xpath })
    }
}

fn compiled(query: &Query, xpath: &XPathEvaluator) -> Result<Expression, String> {
    match query {
        Query::Css(text) => css(text).map(Expression::Css),
        Query::Xpath(text) => {
            let text = operator_names::spelled_out(text);
            // On an empty document only the expression itself can be wrong.
            let mut empty = Document::new();
            empty.prepare_xpath();
            xpath
                .evaluate(&empty, empty.root(), &text)
                .map_err(|error| format!("is not an XPath 1.0 expression that is supported: {error}"))?;
            Ok(Expression::Xpath(text))
        }
        Query::JsonPath(text) => parse_json_path(text)
            .map(Expression::JsonPath)
            .map_err(|_| "is not a JSONPath expression (RFC 9535), such as $.items[*].title".to_owned()),
    }
}

fn css(text: &str) -> Result<Selector, String> {
    Selector::parse(text).map_err(|error| format!("is not a CSS selector: {error}"))
}

/// `^` and `$` stand for the beginning and end of lines.
fn regex(text: &str) -> Result<Regex, String> {
    RegexBuilder::new(text)
        .multi_line(true)
        .size_limit(REGEX_SIZE)
        .nest_limit(REGEX_NESTING)
        .build()
        .map_err(|error| format!("is not a regular expression: {error}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn field_at_fault(query: Query) -> Option<String> {
        let spec = SelectorSpec { query, attr: None, all: false };
        Selection::new(&[("title".to_owned(), spec)].into(), &[], &[]).err().map(|error| error.field)
    }

    #[test]
    fn what_cannot_be_compiled_is_told_with_its_place() {
        let at_fault = Some("selectors.title".to_owned());
        for (query, expected) in [
            (Query::Css("main > h1".into()), None),
            (Query::Css("a[".into()), at_fault.clone()),
            (Query::Xpath("//h1[@class='x']/text()".into()), None),
            (Query::Xpath("//div[@class='x']/p[1]".into()), None),
            (Query::Xpath("//h1[".into()), at_fault.clone()),
            (Query::Xpath("".into()), at_fault.clone()),
            (Query::JsonPath("$.items[*].title".into()), None),
            (Query::JsonPath("items[".into()), at_fault),
        ] {
            assert_eq!(field_at_fault(query.clone()), expected, "{query:?}");
        }
        let none = BTreeMap::new();
        let error = |remove: &str, ignore: &str| {
            Selection::new(&none, &[remove.to_owned()], &[ignore.to_owned()]).err().map(|error| error.field)
        };
        assert_eq!(error("nav", "x+"), None);
        assert_eq!(error("nav[", "x+"), Some("remove[0]".to_owned()));
        assert_eq!(error("nav", "x("), Some("ignore[0]".to_owned()));
        assert_eq!(error("nav", "(\\w{1000}){1000}"), Some("ignore[0]".to_owned()));
    }

    proptest! {
        #[test]
        fn no_expression_makes_it_panic(text in "(//|/|\\.|\\*|@|\\[|\\]|\\(|\\)|a|1|'|\"|\\||::|ancestor|count|=| |\\$|\\?|-){0,20}") {
            let _ = field_at_fault(Query::Css(text.clone()));
            let _ = field_at_fault(Query::Xpath(text.clone()));
            let _ = field_at_fault(Query::JsonPath(text));
        }
    }
}
