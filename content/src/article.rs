//! The main text of pages that are articles.

use dom_query::{Document, NodeId};
use dom_smoothie::{Config, Readability};
use ego_tree::iter::Edge;
use html5ever::interface::{Attribute, ElementFlags, NodeOrText, TreeSink};
use scraper::node::Element;
use scraper::{Html, Node};

use crate::{ExtractError, MAX_TEXT, render, tree};

/// Above so many elements, a page is a list, not an article, and the search for its main text would take long.
const MAX_ELEMENTS: usize = 20_000;

/// The least main text, in characters, that is taken for the whole of a page.
const LEAST_CHARACTERS: usize = 250;

/// The text of the article that a page is; none where it is no article.
pub(crate) fn text(page: &Html) -> Result<Option<String>, ExtractError> {
    if page.root_element().descendent_elements().nth(MAX_ELEMENTS).is_some() {
        return Ok(None);
    }
    let config = Config { disable_json_ld: true, ..Config::default() };
    let Ok(mut readability) = Readability::with_document(document(page), None, Some(config)) else {
        return Ok(None);
    };
    if !readability.is_probably_readable() {
        return Ok(None);
    }
    let Ok(article) = readability.parse() else { return Ok(None) };
    let content = tree::parse(&article.content)?;
    let text = render::text(*content.root_element(), MAX_TEXT);
    Ok((text.chars().count() >= LEAST_CHARACTERS).then_some(text))
}

/// The same tree in the form that Readability works on, without what it does not read. To parse the page a second time would
/// cost several times as much.
fn document(page: &Html) -> Document {
    let document = Document::default();
    document.set_quirks_mode(page.quirks_mode);
    let mut parents = vec![document.get_document()];
    let mut unread = None;
    for edge in page.tree.root().traverse() {
        match edge {
            Edge::Open(_) if unread.is_some() => {}
            Edge::Open(node) => match (node.value(), parents.last()) {
                (Node::Element(element), Some(parent)) => {
                    if matches!(element.name(), "script" | "style" | "template" | "noscript") {
                        unread = Some(node.id());
                        continue;
                    }
                    let copy = copy(&document, element);
                    document.append(parent, NodeOrText::AppendNode(copy));
                    parents.push(copy);
                }
                (Node::Text(text), Some(parent)) => {
                    document.append(parent, NodeOrText::AppendText(text.text.clone()));
                }
                _ => {}
            },
            Edge::Close(node) if unread.is_some() => unread = unread.filter(|unread| *unread != node.id()),
            Edge::Close(node) if node.value().is_element() => drop(parents.pop()),
            Edge::Close(_) => {}
        }
    }
    document
}

fn copy(document: &Document, element: &Element) -> NodeId {
    let attributes =
        element.attrs.iter().map(|(name, value)| Attribute { name: name.clone(), value: value.clone() });
    document.create_element(element.name.clone(), attributes.collect(), ElementFlags::default())
}
