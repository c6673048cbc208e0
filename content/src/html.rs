//! Pages: what selectors find in them, and what is read where no selector says more.

use dom_smoothie::{Config, Readability};
use scraper::{ElementRef, Html, Selector};

use crate::selection::{Compiled, Expression, Selection};
use crate::{ExtractError, Found, MAX_TEXT, MAX_VALUES, Sign, blocked, render, tree, xpath};

/// Above so many elements, a page is a list, not an article, and the search for its main text would take long.
const MAX_READABLE_ELEMENTS: usize = 20_000;

/// The least main text, in characters, that is taken for the whole of a page.
const LEAST_READABLE: usize = 250;

pub(crate) fn extract(text: &str, selection: &Selection) -> Result<(Found, Option<Sign>), ExtractError> {
    let mut page = tree::parse(text)?;
    let sign = blocked::sign(text, &page);
    let is_changed = remove(&mut page, &selection.remove);

    let mut found = Found::default();
    // The same tree for all XPath expressions.
    let mut mirror = None;
    for (name, selector) in &selection.selectors {
        let values = match &selector.expression {
            Expression::Css(css) => select(&page, css, selector)?,
            Expression::Xpath(expression) => {
                let mirror = mirror.get_or_insert_with(|| xpath::Mirror::of(&page));
                mirror.values(name, expression, selector, &selection.xpath)?
            }
            Expression::JsonPath(_) => continue,
        };
        found.add(name, values);
    }
    if !found.is_about_body() {
        let source = is_changed.then(|| page.html());
        found.text = readable(source.as_deref().unwrap_or(text), &page)?;
    }
    Ok((found, sign))
}

/// Cuts out the elements that match.
fn remove(page: &mut Html, selectors: &[Selector]) -> bool {
    let matched: Vec<_> = selectors
        .iter()
        .flat_map(|selector| {
            page.root_element().select(selector).map(|element| element.id()).collect::<Vec<_>>()
        })
        .collect();
    for id in &matched {
        if let Some(mut node) = page.tree.get_mut(*id) {
            node.detach();
        }
    }
    !matched.is_empty()
}

fn select(page: &Html, css: &Selector, selector: &Compiled) -> Result<Vec<String>, ExtractError> {
    let root = page.root_element();
    let matches = css.matches(&root).then_some(root).into_iter().chain(root.select(css));
    let values = matches.filter_map(|element| value(element, selector.attr.as_deref()));
    limited(values, selector.all)
}

/// An element's text, or its attribute as it stands there.
pub(crate) fn value(element: ElementRef<'_>, attr: Option<&str>) -> Option<String> {
    match attr {
        Some(name) => element.attr(name).map(str::to_owned),
        None => Some(render::text(*element, MAX_TEXT)),
    }
}

/// All values, or the first.
pub(crate) fn limited(values: impl Iterator<Item = String>, all: bool) -> Result<Vec<String>, ExtractError> {
    let (mut kept, mut bytes) = (Vec::new(), 0);
    for value in values.take(if all { MAX_VALUES + 1 } else { 1 }) {
        bytes += value.len();
        if bytes > MAX_TEXT {
            return Err(ExtractError::TooMuch { what: "bytes of text", limit: MAX_TEXT });
        }
        kept.push(value);
    }
    if kept.len() > MAX_VALUES {
        return Err(ExtractError::TooMuch { what: "values of one selector", limit: MAX_VALUES });
    }
    Ok(kept)
}

/// The main text of an article, else all that the page's body says.
fn readable(source: &str, page: &Html) -> Result<String, ExtractError> {
    if let Some(article) = article(source, page)? {
        return Ok(article);
    }
    Ok(render::text(*page.root_element(), MAX_TEXT))
}

fn article(source: &str, page: &Html) -> Result<Option<String>, ExtractError> {
    if page.root_element().descendent_elements().nth(MAX_READABLE_ELEMENTS).is_some() {
        return Ok(None);
    }
    let config = Config { disable_json_ld: true, ..Config::default() };
    let Ok(mut readability) = Readability::new(source, None, Some(config)) else { return Ok(None) };
    if !readability.is_probably_readable() {
        return Ok(None);
    }
    let Ok(article) = readability.parse() else { return Ok(None) };
    let content = tree::parse(&article.content)?;
    let text = render::text(*content.root_element(), MAX_TEXT);
    Ok((text.chars().count() >= LEAST_READABLE).then_some(text))
}
