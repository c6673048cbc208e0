//! Pages: what selectors find in them, and what is read where no selector says more.

use scraper::{ElementRef, Html, Selector};

use crate::selection::{Compiled, Expression, Selection};
use crate::{ExtractError, Found, MAX_TEXT, MAX_VALUES, Sign, article, blocked, render, tree, xpath};

pub(crate) fn extract(text: &str, selection: &Selection) -> Result<(Found, Option<Sign>), ExtractError> {
    let mut page = tree::parse(text)?;
    let sign = blocked::sign(text, &page);
    remove(&mut page, &selection.remove);

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
        found.text = match article::text(&page)? {
            Some(article) => article,
            None => render::text(*page.root_element(), MAX_TEXT),
        };
    }
    Ok((found, sign))
}

/// Cuts out the elements that match.
fn remove(page: &mut Html, selectors: &[Selector]) {
    let matched: Vec<_> = selectors
        .iter()
        .flat_map(|selector| {
            page.root_element().select(selector).map(|element| element.id()).collect::<Vec<_>>()
        })
        .collect();
    for id in matched {
        if let Some(mut node) = page.tree.get_mut(id) {
            node.detach();
        }
    }
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
