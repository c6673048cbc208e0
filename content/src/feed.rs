//! Feeds: what XPath finds, else their entries.

use feed_rs::model::Entry;
use feed_rs::parser;

use crate::selection::Selection;
use crate::{ExtractError, Found, MAX_TEXT, render, tree, xml};

pub(crate) fn extract(text: &str, selection: &Selection) -> Result<Found, ExtractError> {
    let found = xml::only_fields(text, selection)?;
    if found.is_about_body() {
        return Ok(found);
    }
    // An id is never made up: a feed without one would differ at each parse.
    let feed = parser::Builder::new()
        .id_generator(|_, _, _| String::new())
        .sanitize_content(false)
        .build()
        .parse(without_declaration(text).as_bytes())
        .map_err(ExtractError::Feed)?;
    let mut blocks = String::new();
    for entry in &feed.entries {
        blocks.push_str(&block(entry)?);
        blocks.push('\n');
        if blocks.len() > MAX_TEXT {
            return Err(ExtractError::TooMuch { what: "bytes of text", limit: MAX_TEXT });
        }
    }
    Ok(Found { text: blocks, ..found })
}

/// An XML declaration names the encoding of the bytes, which are UTF-8 by now.
fn without_declaration(text: &str) -> &str {
    let text = text.trim_start();
    text.strip_prefix("<?xml").and_then(|rest| rest.split_once("?>")).map_or(text, |(_, document)| document)
}

/// A line each: title, id, link, date, summary, content.
fn block(entry: &Entry) -> Result<String, ExtractError> {
    let date = entry.published.or(entry.updated).map(|date| date.to_rfc3339());
    let body = entry.content.as_ref().and_then(|content| content.body.as_deref());
    let mut lines = String::new();
    for (label, value) in [
        ("", entry.title.as_ref().map(|title| plain(&title.content)).transpose()?),
        ("id: ", Some(entry.id.clone())),
        ("link: ", entry.links.first().map(|link| link.href.clone())),
        ("date: ", date),
        ("", entry.summary.as_ref().map(|summary| plain(&summary.content)).transpose()?),
        ("", body.map(plain).transpose()?),
    ] {
        if let Some(value) = value.filter(|value| !value.trim().is_empty()) {
            lines.push_str(label);
            lines.push_str(value.trim());
            lines.push('\n');
        }
    }
    Ok(lines)
}

/// The text of what may be HTML.
fn plain(text: &str) -> Result<String, ExtractError> {
    if !text.contains(['<', '&']) {
        return Ok(text.to_owned());
    }
    Ok(render::text(*tree::parse(text)?.root_element(), MAX_TEXT))
}
