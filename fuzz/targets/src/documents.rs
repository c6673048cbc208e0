//! Documents: what they are, their characters, and what is taken out of them.

use std::collections::BTreeMap;

use content::{
    BODY, Document, ExtractError, Extraction, Kind, MAX_TEXT, MAX_VALUES, Query, Selection, SelectorSpec,
    charset::{decode, of},
    extract, ignored, normalise, removed, tree,
};
use encoding_rs::Encoding;
use sha2::{Digest, Sha256};

use crate::input::{parts, texts};

/// A declared content type, and a document.
pub(crate) fn charset(input: &[u8]) {
    let [declared, document] = parts(input);
    let declared = String::from_utf8_lossy(declared);
    for content_type in [None, Some(declared.as_ref())] {
        let decoded = decode(document, content_type);
        let encoding = Encoding::for_label(decoded.charset.as_bytes());
        assert_eq!(encoding.map(Encoding::name), Some(decoded.charset), "a name of the Encoding Standard");
        assert!(
            decoded.had_errors
                || !decoded.text.contains('\u{FFFD}')
                || has_replacement(document, decoded.charset)
        );
        if std::str::from_utf8(document).is_ok()
            && let Some(charset) = of(document, content_type)
        {
            assert_eq!(charset, decoded.charset);
        }
        // Whatever it is taken for can be asked for its text.
        let kind = Kind::of(document, content_type);
        if !matches!(kind, Kind::Pdf | Kind::Other(_)) {
            checked(&Document { bytes: document, content_type, kind }, &none());
        }
    }
    if let Ok(text) = std::str::from_utf8(document) {
        let decoded = decode(document, Some("text/plain; charset=utf-8"));
        let is_marked_otherwise =
            Encoding::for_bom(document).is_some_and(|(found, _)| found.name() != "UTF-8");
        if !is_marked_otherwise {
            assert_eq!(decoded.text, text.strip_prefix('\u{FEFF}').unwrap_or(text));
            assert!(!decoded.had_errors);
        }
    }
}

/// Whether a document may have U+FFFD itself: encodings of all of Unicode can write it.
fn has_replacement(document: &[u8], charset: &str) -> bool {
    charset.starts_with("UTF-") || charset == "gb18030" || document.is_empty()
}

/// A page.
pub(crate) fn html(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    if let Ok(page) = tree::parse(&text) {
        assert!(page.tree.values().len() <= tree::MAX_NODES + 4096);
        let is_deep = page.tree.nodes().any(|node| {
            node.ancestors().filter(|node| node.value().is_element()).nth(tree::MAX_DEPTH).is_some()
        });
        assert!(!is_deep, "the tree is as deep as is allowed");
    }
    checked(&page(&text, Kind::Html), &none());
}

/// A CSS selector, an attribute, a selector of what is removed, a regular expression of what is ignored, and a page.
pub(crate) fn css(input: &[u8]) {
    let [selector, attr, remove, ignore, html] = texts(input);
    let listed = |text: &str| if text.is_empty() { Vec::new() } else { vec![text.to_owned()] };
    let (remove, ignore) = (listed(&remove), listed(&ignore));
    let document = page(&html, Kind::Html);
    let attr = Some(attr.into_owned()).filter(|attr| !attr.is_empty());
    let found =
        first_of_all(&document, &Query::Css(selector.into_owned()), attr.as_deref(), &remove, &ignore);
    let Some((selection, extraction)) = found else { return };
    let cuts = removed(&document, &selection).unwrap();
    assert_eq!(cuts.len(), remove.len());
    assert_eq!(ignored(&extraction.text, &selection).len(), ignore.len());
}

/// An XPath expression, an attribute, and a document, which is read as a page and as XML.
pub(crate) fn xpath(input: &[u8]) {
    let [expression, attr, text] = texts(input);
    let attr = Some(attr.as_ref()).filter(|attr| !attr.is_empty());
    let query = Query::Xpath(expression.into_owned());
    for kind in [Kind::Html, Kind::Xml] {
        first_of_all(&page(&text, kind), &query, attr, &[], &[]);
    }
}

/// A JSONPath expression, and JSON.
pub(crate) fn jsonpath(input: &[u8]) {
    let [path, json] = texts(input);
    let document = page(&json, Kind::Json);
    first_of_all(&document, &Query::JsonPath(path.into_owned()), None, &[], &[]);
    let Some(extraction) = checked(&document, &none()) else { return };
    // One form of what means the same. Other characters than these may be normalised, keys among them.
    let is_plain = extraction.text.bytes().all(|byte| byte.is_ascii() && byte != 0x7f);
    if is_plain && extraction.text.starts_with(['{', '[']) && !json.trim_start().starts_with('"') {
        let again = checked(&page(&extraction.text, Kind::Json), &none()).unwrap();
        assert_eq!(again.text, extraction.text);
    }
}

fn page(text: &str, kind: Kind) -> Document<'_> {
    Document { bytes: text.as_bytes(), content_type: Some("text/html; charset=utf-8"), kind }
}

fn none() -> Selection {
    Selection::new(&BTreeMap::new(), &[], &[]).unwrap()
}

/// The longest expression, in characters, that the schema of the custom resources lets pass.
const LONGEST_EXPRESSION: usize = 1024;

/// Of a selector, all that it finds begins with the first that it finds; as the body, it is the text.
fn first_of_all(
    document: &Document<'_>,
    query: &Query,
    attr: Option<&str>,
    remove: &[String],
    ignore: &[String],
) -> Option<(Selection, Extraction)> {
    let (Query::Css(expression) | Query::Xpath(expression) | Query::JsonPath(expression)) = query;
    let expressions = [expression].into_iter().chain(remove).chain(ignore);
    if expressions.into_iter().any(|expression| expression.chars().count() > LONGEST_EXPRESSION) {
        return None;
    }
    let spec = |all| SelectorSpec { query: query.clone(), attr: attr.map(str::to_owned), all };
    let selectors = [("all", spec(true)), ("first", spec(false)), (BODY, spec(true))];
    let selectors = selectors.into_iter().map(|(name, spec)| (name.to_owned(), spec)).collect();
    let selection = Selection::new(&selectors, remove, ignore).ok()?;
    let extraction = checked(document, &selection)?;
    let values = |name: &str| extraction.fields.get(name).cloned().unwrap_or_default();
    let (all, first) = (values("all"), values("first"));
    assert_eq!(all.iter().take(1).collect::<Vec<_>>(), first.iter().collect::<Vec<_>>());
    assert_eq!(values(BODY), all);
    for name in ["all", "first", BODY] {
        assert_ne!(
            extraction.fields.contains_key(name),
            extraction.matched_nothing.iter().any(|other| other == name)
        );
    }
    assert!(!all.is_empty() || extraction.text.is_empty(), "a body that matches nothing has no text");
    Some((selection, extraction))
}

/// What is taken out, which is the same each time, within its bounds, and normal.
fn checked(document: &Document<'_>, selection: &Selection) -> Option<Extraction> {
    let extraction = match extract(document, selection) {
        Ok(extraction) => extraction,
        Err(ExtractError::Pdf(_) | ExtractError::Unsupported { .. }) => panic!("a kind that is read"),
        Err(error) => {
            assert!(!error.to_string().is_empty() && !error.reason().is_empty());
            return None;
        }
    };
    assert_eq!(extract(document, selection).unwrap(), extraction, "equal bytes have equal texts");
    // Normalisation may lengthen what it composes: U+1D160 becomes three characters.
    assert!(extraction.text.len() <= 3 * MAX_TEXT);
    assert_eq!(<[u8; 32]>::from(Sha256::digest(&extraction.text)), extraction.text_hash);
    assert!(extraction.fields.values().all(|values| !values.is_empty() && values.len() <= MAX_VALUES));
    if document.kind != Kind::Json {
        let texts = extraction.fields.values().flatten().chain([&extraction.text]);
        for text in texts {
            assert_eq!(&normalise(text), text, "what is normal stays so");
        }
    }
    Some(extraction)
}
