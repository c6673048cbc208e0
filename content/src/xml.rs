//! XML: what XPath finds, else its texts.

use uppsala::dom::{NodeId, NodeKind};
use uppsala::{Document, Parser};

use crate::selection::{Expression, Selection};
use crate::{ExtractError, Found, MAX_TEXT, xpath};

/// How deep elements may be nested.
const MAX_DEPTH: u32 = 128;

pub(crate) fn extract(text: &str, selection: &Selection) -> Result<Found, ExtractError> {
    let mut document = parse(text)?;
    document.prepare_xpath();
    let found = fields(&document, selection)?;
    if found.is_about_body() {
        return Ok(found);
    }
    Ok(Found { text: lines(&document, document.root()), ..found })
}

/// What the XPath selectors find in a feed or other XML.
pub(crate) fn only_fields(text: &str, selection: &Selection) -> Result<Found, ExtractError> {
    if !selection.selectors.values().any(|selector| matches!(selector.expression, Expression::Xpath(_))) {
        return Ok(Found::default());
    }
    let mut document = parse(text)?;
    document.prepare_xpath();
    fields(&document, selection)
}

fn parse(text: &str) -> Result<Document<'_>, ExtractError> {
    if text.len() > MAX_TEXT {
        return Err(ExtractError::TooMuch { what: "bytes of XML", limit: MAX_TEXT });
    }
    Parser::new().with_max_depth(MAX_DEPTH).parse(text).map_err(ExtractError::Xml)
}

fn fields(document: &Document<'_>, selection: &Selection) -> Result<Found, ExtractError> {
    let mut found = Found::default();
    for (name, selector) in &selection.selectors {
        let Expression::Xpath(expression) = &selector.expression else { continue };
        let element = |node: NodeId| match &selector.attr {
            Some(attr) => document.get_attribute(node, attr).map(str::to_owned),
            None => Some(lines(document, node)),
        };
        found.add(name, xpath::values(document, name, expression, selector, &selection.xpath, element)?);
    }
    Ok(found)
}

/// Each run of text between tags is a line.
fn lines(document: &Document<'_>, root: NodeId) -> String {
    let mut lines = String::new();
    for node in document.descendants(root) {
        if let Some(NodeKind::Text(text) | NodeKind::CData(text)) = document.node_kind(node) {
            let words: Vec<_> = text.split_whitespace().collect();
            if !words.is_empty() {
                lines.push_str(&words.join(" "));
                lines.push('\n');
            }
        }
    }
    lines
}
