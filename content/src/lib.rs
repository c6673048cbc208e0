//! From a stored document's bytes to normalised text and named fields.
//!
//! Nothing here does I/O, but for [`pdf`], which reads PDFs in a child process. Whatever the bytes are, no function
//! panics, and what a hostile document may cost is bounded. What text is stands in `docs/parsing.md`.

mod article;
mod blocked;
pub mod charset;
mod cut;
mod error;
mod feed;
mod html;
mod json;
mod kind;
mod normalise;
mod operator_names;
pub mod pdf;
mod render;
mod selection;
pub mod sniff;
pub mod tree;
mod xml;
mod xpath;

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

pub use blocked::{Sign, sign as looks_blocked};
pub use cut::{ignored, removed};
pub use error::ExtractError;
pub use kind::Kind;
pub use normalise::normalise;
pub use selection::{BODY, Query, Selection, SelectionError, SelectorSpec};

/// The version of all parsers here. Whoever changes what text comes out of a document raises it: what was extracted by
/// another version is no baseline to compare with.
pub const PARSER_VERSION: u32 = 1;

/// The longest text of a document, in bytes.
pub const MAX_TEXT: usize = 8 << 20;

/// How many values a selector may find.
pub const MAX_VALUES: usize = 10_000;

/// A stored document.
#[derive(Debug, Clone, Copy)]
pub struct Document<'a> {
    /// Its bytes.
    pub bytes: &'a [u8],
    /// Its Content-Type header.
    pub content_type: Option<&'a str>,
    /// What it is: [`Kind::of`] its bytes.
    pub kind: Kind,
}

/// What was taken out of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extraction {
    /// What took it out: html, feed, json, xml, text or pdf.
    pub parser: &'static str,
    /// [`PARSER_VERSION`].
    pub parser_version: u32,
    /// What is versioned, normalised and without what is ignored.
    pub text: String,
    /// The SHA-256 of `text`.
    pub text_hash: [u8; 32],
    /// The normalised values of each selector that matched, in the document's order.
    pub fields: BTreeMap<String, Vec<String>>,
    /// The names of the selectors that matched nothing, in their order. With `body` among them, `text` is empty.
    pub matched_nothing: Vec<String>,
    /// What the page was taken for, if it stands in for the document; such a page is no version.
    pub looks_blocked: Option<Sign>,
}

/// What a parser found, before it is normalised.
#[derive(Debug, Default)]
pub(crate) struct Found {
    text: String,
    fields: BTreeMap<String, Vec<String>>,
    matched_nothing: Vec<String>,
}

impl Found {
    fn add(&mut self, name: &str, values: Vec<String>) {
        if values.is_empty() {
            self.matched_nothing.push(name.to_owned());
            return;
        }
        if name == BODY {
            self.text = values.iter().map(|value| value.trim()).collect::<Vec<_>>().join("\n");
        }
        self.fields.insert(name.to_owned(), values);
    }

    /// Whether a selector says what is versioned, whatever it matched.
    fn is_about_body(&self) -> bool {
        self.fields.contains_key(BODY) || self.matched_nothing.iter().any(|name| name == BODY)
    }
}

/// Takes text and fields out of a document. A selector whose language the document's kind does not have is passed over.
///
/// This takes as long as the document is large: not to be called where the runtime waits.
///
/// # Errors
///
/// [`ExtractError`]. A PDF is [`ExtractError::Unsupported`] here: see [`pdf::text`] and [`extract_pdf`].
pub fn extract(document: &Document<'_>, selection: &Selection) -> Result<Extraction, ExtractError> {
    let content_type = match document.kind {
        Kind::Pdf => return Err(ExtractError::Unsupported { content_type: "application/pdf" }),
        Kind::Other(content_type) => return Err(ExtractError::Unsupported { content_type }),
        _ => document.content_type,
    };
    let text = charset::decode(document.bytes, content_type).text;
    match document.kind {
        Kind::Html => {
            let (found, sign) = html::extract(&text, selection)?;
            let extraction = extraction("html", found, selection, normalise)?;
            let looks_blocked = sign.filter(|sign| counts(*sign, &extraction));
            Ok(Extraction { looks_blocked, ..extraction })
        }
        Kind::Feed => extraction("feed", feed::extract(&text, selection)?, selection, normalise),
        Kind::Xml => extraction("xml", xml::extract(&text, selection)?, selection, normalise),
        // Its indentation is no noise.
        Kind::Json => extraction("json", json::extract(&text, selection)?, selection, normalise::composed),
        _ => extraction("text", Found { text, ..Found::default() }, selection, normalise),
    }
}

/// The extraction of a PDF's text, as [`pdf::text`] returns it.
///
/// # Errors
///
/// [`ExtractError::TooMuch`].
pub fn extract_pdf(text: String, selection: &Selection) -> Result<Extraction, ExtractError> {
    extraction("pdf", Found { text, ..Found::default() }, selection, normalise)
}

/// A log-in form on a page on which the selectors find what they look for is part of that page.
fn counts(sign: Sign, extraction: &Extraction) -> bool {
    match sign {
        Sign::LoginForm { is_titled } if extraction.fields.is_empty() => {
            is_titled || !extraction.matched_nothing.is_empty()
        }
        Sign::LoginForm { .. } => false,
        _ => true,
    }
}

fn extraction(
    parser: &'static str,
    found: Found,
    selection: &Selection,
    normalise: impl Fn(&str) -> String,
) -> Result<Extraction, ExtractError> {
    // What was rendered ends behind the limit.
    if found.text.len() > MAX_TEXT {
        return Err(ExtractError::TooMuch { what: "bytes of text", limit: MAX_TEXT });
    }
    let mut text = normalise(&found.text);
    for ignored in &selection.ignore {
        text = ignored.replace_all(&text, "").into_owned();
    }
    if !selection.ignore.is_empty() {
        text = normalise(&text);
    }
    let normalised = |values: Vec<String>| values.iter().map(|value| normalise(value)).collect();
    let fields = found.fields.into_iter().map(|(name, values)| (name, normalised(values))).collect();
    Ok(Extraction {
        parser,
        parser_version: PARSER_VERSION,
        text_hash: Sha256::digest(&text).into(),
        text,
        fields,
        matched_nothing: found.matched_nothing,
        looks_blocked: None,
    })
}
