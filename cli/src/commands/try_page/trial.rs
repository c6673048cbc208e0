//! What selectors take from a page, and what is cut out before.

use std::collections::{BTreeMap, BTreeSet};

use content::{Document, ExtractError, Extraction, Kind, Selection};
use serde::Serialize;

use super::page::Page;

/// What is taken out of a page, and what does not count.
pub(super) struct Rules {
    /// The selectors' names.
    pub(super) names: Vec<String>,
    /// Those that may match nothing.
    pub(super) optional: BTreeSet<String>,
    pub(super) remove: Vec<String>,
    pub(super) ignore: Vec<String>,
    pub(super) selection: Selection,
    /// To see what is ignored.
    pub(super) without_ignore: Selection,
}

/// What came of a page.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Trial {
    pub(super) subscription: String,
    pub(super) source: String,
    /// The URL that was asked for, or the path.
    pub(super) page: String,
    /// Where redirects led; none of a file.
    pub(super) final_url: Option<String>,
    pub(super) status: Option<u16>,
    pub(super) content_type: Option<String>,
    pub(super) byte_size: usize,
    pub(super) kind: &'static str,
    pub(super) parser: &'static str,
    pub(super) parser_version: u32,
    /// What would be versioned.
    pub(super) text: String,
    pub(super) text_hash: String,
    pub(super) fields: BTreeMap<String, Vec<String>>,
    /// Selectors that must match and match nothing.
    pub(super) missing: Vec<String>,
    /// Optional selectors that match nothing.
    pub(super) absent: Vec<String>,
    /// Selectors whose language this kind of document does not have.
    pub(super) passed_over: Vec<String>,
    pub(super) removed: Vec<Cut>,
    pub(super) ignored: Vec<Cut>,
    /// What the page was taken for, if it stands in for the document.
    pub(super) looks_blocked: Option<String>,
}

/// What an entry of `remove` or `ignore` cuts out.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Cut {
    pub(super) expression: String,
    pub(super) texts: Vec<String>,
}

impl Trial {
    /// Takes out of the document what the rules say; `pdf_text` is the text of a PDF.
    pub(super) fn new(
        document: &Document<'_>,
        pdf_text: Option<&str>,
        rules: &Rules,
    ) -> Result<Self, ExtractError> {
        let extract = |selection| match pdf_text {
            Some(text) => content::extract_pdf(text.to_owned(), selection),
            None => content::extract(document, selection),
        };
        let Extraction { parser, parser_version, text, text_hash, fields, matched_nothing, looks_blocked } =
            extract(&rules.selection)?;
        let whole = if rules.ignore.is_empty() { None } else { Some(extract(&rules.without_ignore)?) };
        let ignored = whole.map(|whole| content::ignored(&whole.text, &rules.selection)).unwrap_or_default();
        let removed = content::removed(document, &rules.selection)?;
        let passed_over = rules.names.iter();
        let passed_over =
            passed_over.filter(|name| !fields.contains_key(*name) && !matched_nothing.contains(*name));
        let passed_over = passed_over.cloned().collect();
        let (absent, missing) = matched_nothing.into_iter().partition(|name| rules.optional.contains(name));
        Ok(Self {
            subscription: String::new(),
            source: String::new(),
            page: String::new(),
            final_url: None,
            status: None,
            content_type: None,
            byte_size: document.bytes.len(),
            kind: kind(document.kind),
            parser,
            parser_version,
            text,
            text_hash: text_hash.iter().map(|byte| format!("{byte:02x}")).collect(),
            fields,
            missing,
            absent,
            passed_over,
            removed: cuts(&rules.remove, removed),
            ignored: cuts(&rules.ignore, ignored),
            looks_blocked: looks_blocked.map(|sign| sign.to_string()),
        })
    }

    /// The same, with where it comes from.
    pub(super) fn of(self, subscription: String, source: String, page: &Page) -> Self {
        Self {
            subscription,
            source,
            page: page.place.clone(),
            final_url: page.answer.as_ref().map(|answer| answer.final_url.clone()),
            status: page.answer.as_ref().map(|answer| answer.status),
            content_type: page.content_type.clone(),
            ..self
        }
    }

    /// Whether a run would keep what came.
    pub(super) fn is_good(&self) -> bool {
        self.missing.is_empty() && self.looks_blocked.is_none()
    }
}

fn cuts(expressions: &[String], texts: Vec<Vec<String>>) -> Vec<Cut> {
    let pairs = expressions.iter().zip(texts);
    pairs.map(|(expression, texts)| Cut { expression: expression.clone(), texts }).collect()
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Html => "html",
        Kind::Feed => "feed",
        Kind::Json => "json",
        Kind::Xml => "xml",
        Kind::Text => "text",
        Kind::Pdf => "pdf",
        Kind::Other(content_type) => content_type,
    }
}
