//! An HTML tree of bounded depth and size.

use std::iter;

use html5ever::tendril::{StrTendril, TendrilSink};
use html5ever::{ParseOpts, parse_document};
use scraper::{Html, HtmlTreeSink};
use thiserror::Error;

/// How deep elements may be nested. The parser's time grows with the square of the depth; pages written for people stay
/// below 50, and browsers cut at 512.
pub const MAX_DEPTH: usize = 512;

/// How many nodes (elements, texts, comments) a page may have.
pub const MAX_NODES: usize = 500_000;

/// How many attributes an element may have: each is compared with all before it.
pub const MAX_ATTRIBUTES: usize = 10_000;

/// How much is parsed between two looks at the tree, in bytes: what it can do before it is stopped.
const STEP_BYTES: usize = 4096;

/// Why a page is not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TreeError {
    /// Its elements are nested deeper than pages written for people are.
    #[error("its elements are nested more than {limit} deep, which no reader takes")]
    TooDeep {
        /// How deep they may be nested.
        limit: usize,
    },
    /// It has too many elements, or one has too many attributes.
    #[error("it has more than {limit} {what}")]
    TooMany {
        /// What there are too many of.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
}

impl TreeError {
    /// The kind of failure, as runs, statuses and events name it.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooDeep { .. } => "TooDeep",
            Self::TooMany { .. } => "TooLarge",
        }
    }
}

/// Parses a page, and stops as soon as its tree is too deep or too large.
///
/// # Errors
///
/// [`TreeError::TooDeep`] and [`TreeError::TooMany`].
pub fn parse(html: &str) -> Result<Html, TreeError> {
    if may_have_too_many_attributes(html.as_bytes()) && has_too_many_attributes(html.as_bytes()) {
        return Err(TreeError::TooMany { what: "attributes in one element", limit: MAX_ATTRIBUTES });
    }
    let mut parser = parse_document(HtmlTreeSink::new(Html::new_document()), ParseOpts::default());
    let (mut rest, mut known) = (html, 0);
    while !rest.is_empty() {
        let (step, behind) = rest.split_at(rest.floor_char_boundary(STEP_BYTES));
        parser.process(StrTendril::from_slice(step));
        known = check(&parser.tokenizer.sink.sink.0.borrow(), known)?;
        rest = behind;
    }
    // What closing tags move afterwards comes to stand no deeper.
    Ok(parser.finish())
}

/// Looks at the nodes that came after the first `known`, and returns how many there are now.
fn check(html: &Html, known: usize) -> Result<usize, TreeError> {
    let count = html.tree.values().len();
    if count > MAX_NODES {
        return Err(TreeError::TooMany { what: "nodes", limit: MAX_NODES });
    }
    for node in html.tree.nodes().rev().take(count - known) {
        // Only leaves: what is above them is less deep.
        let upwards = iter::once(node).chain(node.ancestors());
        if !node.has_children() && upwards.filter(|node| node.value().is_element()).nth(MAX_DEPTH).is_some() {
            return Err(TreeError::TooDeep { limit: MAX_DEPTH });
        }
    }
    Ok(count)
}

/// Whether it takes a closer look. An attribute begins behind a space, a slash or a quotation mark, and with none of them that could
/// end the tag: most pages have fewer such places than one tag may have attributes.
fn may_have_too_many_attributes(html: &[u8]) -> bool {
    let is_between = |byte: u8| is_space(byte) || byte == b'/';
    let begins = |pair: &&[u8]| {
        matches!(pair, [before, byte] if (is_between(*before) || matches!(before, b'"' | b'\''))
            && !is_between(*byte) && *byte != b'>')
    };
    html.windows(2).filter(begins).count() > MAX_ATTRIBUTES
}

/// As HTML has it.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b'\x0C')
}

/// Where in a tag a tokenizer can be (HTML standard, 13.2.5.8 and 13.2.5.32 to 13.2.5.39).
#[derive(Clone, Copy)]
enum Place {
    TagName,
    BeforeName,
    Name,
    AfterName,
    BeforeValue,
    DoubleQuoted,
    SingleQuoted,
    Unquoted,
}

impl Place {
    const ALL: [Self; 8] = [
        Self::TagName,
        Self::BeforeName,
        Self::Name,
        Self::AfterName,
        Self::BeforeValue,
        Self::DoubleQuoted,
        Self::SingleQuoted,
        Self::Unquoted,
    ];

    /// Where the next byte leads, and whether an attribute begins there; `None` behind the tag.
    fn next(self, byte: u8) -> Option<(Self, bool)> {
        let is_space = is_space(byte);
        Some(match (self, byte) {
            (Self::DoubleQuoted, b'"') | (Self::SingleQuoted, b'\'') => (Self::BeforeName, false),
            (Self::DoubleQuoted | Self::SingleQuoted, _) => (self, false),
            (_, b'>') => return None,
            (Self::BeforeValue, b'"') => (Self::DoubleQuoted, false),
            (Self::BeforeValue, b'\'') => (Self::SingleQuoted, false),
            (Self::BeforeValue, _) => (if is_space { self } else { Self::Unquoted }, false),
            (Self::Unquoted, _) => (if is_space { Self::BeforeName } else { self }, false),
            (Self::Name | Self::AfterName, b'=') => (Self::BeforeValue, false),
            (Self::Name | Self::AfterName, _) if is_space => (Self::AfterName, false),
            (_, b'/') => (Self::BeforeName, false),
            (Self::TagName | Self::BeforeName, _) if is_space => (Self::BeforeName, false),
            (Self::TagName | Self::Name, _) => (self, false),
            (Self::BeforeName | Self::AfterName, _) => (Self::Name, true),
        })
    }
}

/// Whether a tag can have too many attributes. Where tags begin depends on all that stands before (scripts, comments),
/// so every `<` with a letter is taken for the begin of one, and all that are open are followed at once: for each place,
/// the most attributes that a tag which is there has.
fn has_too_many_attributes(html: &[u8]) -> bool {
    let mut most = [None::<usize>; Place::ALL.len()];
    let mut before = [0, 0];
    for &byte in html {
        let mut next = [None; Place::ALL.len()];
        for (place, attributes) in Place::ALL.into_iter().zip(most) {
            if let (Some(attributes), Some((place, begins))) = (attributes, place.next(byte)) {
                let attributes = attributes + usize::from(begins);
                if attributes > MAX_ATTRIBUTES {
                    return true;
                }
                if let Some(known) = next.get_mut(place as usize) {
                    *known = (*known).max(Some(attributes));
                }
            }
        }
        if byte.is_ascii_alphabetic() && (before[1] == b'<' || before == *b"</") {
            let [tag_name, ..] = &mut next;
            *tag_name = (*tag_name).max(Some(0));
        }
        most = next;
        before = [before[1], byte];
    }
    false
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn depth(html: &str) -> Result<usize, &'static str> {
        let html = parse(html).map_err(|error| error.reason())?;
        let depths = html.tree.nodes().map(|node| {
            iter::once(node).chain(node.ancestors()).filter(|node| node.value().is_element()).count()
        });
        Ok(depths.max().unwrap_or_default())
    }

    #[test]
    fn a_million_nested_elements_are_refused() {
        assert_eq!(depth(&"<div>".repeat(1_000_000)), Err("TooDeep"));
        assert_eq!(depth(&"<ul><li>".repeat(500_000)), Err("TooDeep"));
        assert_eq!(depth(&"<table><tr><td>".repeat(300_000)), Err("TooDeep"));
    }

    #[test]
    fn elements_that_end_each_other_do_not_nest() {
        assert_eq!(depth(&"<p>text".repeat(100_000)), Ok(3));
        assert_eq!(depth(&format!("<ul>{}", "<li>text".repeat(100_000))), Ok(4));
        assert_eq!(depth(&"<div></div>".repeat(100_000)), Ok(3));
        assert_eq!(depth(&format!("<table>{}", "<tr><td>1<td>2".repeat(50_000))), Ok(6));
    }

    #[test]
    fn the_deepest_that_is_taken_is_512() {
        // html and body are above.
        assert_eq!(depth(&"<div>".repeat(MAX_DEPTH - 2)), Ok(MAX_DEPTH));
        assert_eq!(depth(&format!("{}text", "<div>".repeat(MAX_DEPTH - 2))), Ok(MAX_DEPTH));
        assert_eq!(depth(&"<div>".repeat(MAX_DEPTH - 1)), Err("TooDeep"));
    }

    #[test]
    fn end_tags_that_close_nothing_hide_no_depth() {
        assert_eq!(depth(&"<div></b></span>".repeat(100_000)), Err("TooDeep"));
        // Formatting elements are opened again in each paragraph.
        let formats: String = (0..2_000).map(|number| format!("<p><b id={number}>")).collect();
        assert_eq!(depth(&formats), Err("TooDeep"));
    }

    #[test]
    fn end_tags_that_cross_move_nothing_deeper() {
        let formats: String = (0..200).map(|number| format!("<b id={number}>")).collect();
        let crossed = format!("{formats}{}{}", "<div>".repeat(200), "</b>".repeat(20_000));
        assert_eq!(depth(&crossed), Ok(402));
    }

    #[test]
    fn a_page_may_have_500000_nodes() {
        assert_eq!(depth(&"<br>".repeat(MAX_NODES)), Err("TooLarge"));
    }

    #[test]
    fn an_element_may_have_10000_attributes() {
        let attributes =
            |count: usize| (0..count).map(|number| format!(" a{number}='<i b=\">'")).collect::<String>();
        assert!(parse(&format!("<div{}>", attributes(MAX_ATTRIBUTES))).is_ok());
        let hidden = attributes(MAX_ATTRIBUTES + 1);
        for html in [
            format!("<div{hidden}>"),
            format!("</div{hidden}>"),
            format!("<script><a b=\"</script><div{hidden}>"),
            format!("<!-- <a b=' --><div{hidden}>"),
            format!("<svg><style><div{hidden}>"),
            format!("<div \"{}>", " a".repeat(MAX_ATTRIBUTES)),
            format!("<div ='{}>", "/a=b c".repeat(MAX_ATTRIBUTES)),
            format!("<div a{}>", "='b'c".repeat(MAX_ATTRIBUTES + 1)),
            format!("<div {}>", "=/".repeat(MAX_ATTRIBUTES + 1)),
        ] {
            assert_eq!(
                parse(&html).map(drop).map_err(|error| error.reason()),
                Err("TooLarge"),
                "{:.60}",
                html
            );
        }
    }

    #[test]
    fn text_with_many_words_is_no_element_with_many_attributes() {
        let words = "word ".repeat(MAX_ATTRIBUTES - 10);
        assert!(
            parse(&format!("<p title=\"{words}{words}\">{words}<script>if (a<b) {{ {words} }}</script>"))
                .is_ok()
        );
        let words = "a < b, a<b and c > d <e f=\"g\"> ".repeat(MAX_ATTRIBUTES);
        assert!(!has_too_many_attributes(words.as_bytes()));
    }
}
