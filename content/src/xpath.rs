//! XPath 1.0 over pages.
//!
//! The evaluator has a tree of its own; a page's is copied into it, so that what browsers' parsers mend is mended here as
//! well. Names are in lower case and without namespaces: `//table/tr` needs the `tbody` that parsers add.

use std::collections::HashMap;

use scraper::{ElementRef, Html, Node};
use uppsala::dom::{Attribute, NodeId, NodeKind, QName};
use uppsala::xpath::XPathValue;
use uppsala::{Document, XPathEvaluator};

use crate::selection::Compiled;
use crate::{ExtractError, html};

/// A page as the evaluator wants it, and which of the page's elements each of its nodes is.
pub(crate) struct Mirror<'a> {
    document: Document<'a>,
    elements: HashMap<NodeId, ElementRef<'a>>,
}

impl<'a> Mirror<'a> {
    pub(crate) fn of(page: &'a Html) -> Self {
        let mut document = Document::new();
        let mut elements = HashMap::new();
        let root = page.root_element();
        let mut parents = HashMap::new();
        for node in root.descendants() {
            let copy = match node.value() {
                Node::Element(element) => {
                    let copy = document.create_element(QName::local(element.name()));
                    if let Some(target) = document.element_mut(copy) {
                        let attributes = element
                            .attrs()
                            .map(|(name, value)| Attribute { name: QName::local(name), value: value.into() });
                        target.attributes = attributes.collect();
                    }
                    elements.extend(ElementRef::wrap(node).map(|element| (copy, element)));
                    copy
                }
                Node::Text(text) => document.create_text(&**text),
                Node::Comment(comment) => document.create_comment(&**comment),
                _ => continue,
            };
            let parent = node.parent().and_then(|parent| parents.get(&parent.id()).copied());
            document.append_child(parent.unwrap_or(document.root()), copy);
            parents.insert(node.id(), copy);
        }
        document.prepare_xpath();
        Self { document, elements }
    }

    pub(crate) fn values(
        &self,
        name: &str,
        expression: &str,
        selector: &Compiled,
        evaluator: &XPathEvaluator,
    ) -> Result<Vec<String>, ExtractError> {
        let element = |node: NodeId| {
            let element = self.elements.get(&node)?;
            html::value(*element, selector.attr.as_deref())
        };
        values(&self.document, name, expression, selector, evaluator, element)
    }
}

/// What an expression finds: of elements, what `element` takes; of attributes, texts and comments, their own text; a
/// string, number or truth value as itself, where an empty string is nothing.
pub(crate) fn values(
    document: &Document<'_>,
    name: &str,
    expression: &str,
    selector: &Compiled,
    evaluator: &XPathEvaluator,
    element: impl Fn(NodeId) -> Option<String>,
) -> Result<Vec<String>, ExtractError> {
    let found = evaluator
        .evaluate(document, document.root(), expression)
        .map_err(|error| ExtractError::Selector { name: name.to_owned(), message: error.to_string() })?;
    let XPathValue::NodeSet(nodes) = &found else {
        return Ok(Some(found.to_string_value(document))
            .filter(|value| !value.is_empty())
            .into_iter()
            .collect());
    };
    let values = nodes.iter().filter_map(|node| match document.node_kind(*node)? {
        NodeKind::Element(_) => element(*node),
        NodeKind::Document => None,
        _ => Some(XPathValue::NodeSet(vec![*node]).to_string_value(document)),
    });
    html::limited(values, selector.all)
}
