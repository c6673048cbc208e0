//! What a document is, going by its bytes.

use crate::{charset, sniff};

/// How much of a document is looked at, in bytes.
const HEAD_BYTES: usize = 4096;

/// What a document is, which says how its text is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An HTML page.
    Html,
    /// A feed in XML: RSS, Atom.
    Feed,
    /// JSON, JSON Feed included.
    Json,
    /// Any other XML.
    Xml,
    /// Plain text.
    Text,
    /// PDF.
    Pdf,
    /// What no text is taken from; with its content type, by its first bytes.
    Other(&'static str),
}

impl Kind {
    /// What the first bytes speak for. The declared type decides only where they leave it open: text that begins like no
    /// markup is HTML if it is declared so, and JSON if it is declared so or begins with a bracket.
    pub fn of(bytes: &[u8], declared_content_type: Option<&str>) -> Self {
        let head = bytes.get(..HEAD_BYTES).unwrap_or(bytes);
        let sniffed = sniff::content_type(head);
        let is_text = sniffed.starts_with("text/")
            || matches!(sniffed, "application/json" | "application/xml" | "application/x-empty")
            || charset::of(head, declared_content_type).is_some();
        match sniffed {
            "application/pdf" => return Self::Pdf,
            // A document in UTF-16 without a mark looks binary.
            "application/octet-stream" if head.starts_with(b"<\0") || head.starts_with(b"\0<") => {}
            _ if !is_text => return Self::Other(sniffed),
            _ => {}
        }
        let declared = declared_content_type.unwrap_or_default().to_ascii_lowercase();
        let media_type = declared.split(';').next().unwrap_or_default().trim();
        let text = charset::decode(head, declared_content_type).text;
        let text = text.trim_start();
        match root_name(text).as_deref() {
            Some("rss" | "feed" | "rdf:rdf") => Self::Feed,
            Some("html") => Self::Html,
            _ if text.starts_with("<?xml") || media_type == "text/xml" || media_type == "application/xml" => {
                Self::Xml
            }
            _ if sniffed == "text/html" || matches!(media_type, "text/html" | "application/xhtml+xml") => {
                Self::Html
            }
            _ if text.starts_with(['{', '[']) && media_type != "text/plain" => Self::Json,
            _ if media_type.ends_with("/json") || media_type.ends_with("+json") => Self::Json,
            _ => Self::Text,
        }
    }
}

/// The name of the first element in lower case, if markup is what the text begins with.
fn root_name(text: &str) -> Option<String> {
    let mut rest = text;
    loop {
        rest = rest.trim_start().strip_prefix('<')?;
        rest = if let Some(comment) = rest.strip_prefix("!--") {
            comment.split_once("-->")?.1
        } else if let Some(doctype) = rest.strip_prefix('!') {
            if doctype
                .get(.."doctype html".len())
                .is_some_and(|name| name.eq_ignore_ascii_case("doctype html"))
            {
                return Some("html".to_owned());
            }
            doctype.split_once('>')?.1
        } else if rest.starts_with('?') {
            rest.split_once('>')?.1
        } else {
            let end =
                rest.find(|character: char| character.is_whitespace() || matches!(character, '>' | '/'));
            return Some(rest.get(..end?)?.to_ascii_lowercase());
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_what_it_begins_with_and_its_declared_type_where_that_is_open() {
        for (bytes, declared, expected) in [
            (b"<!DOCTYPE html><p>x".as_slice(), Some("text/plain"), Kind::Html),
            (b"<?xml version='1.0'?><!DOCTYPE html PUBLIC ''><html>", None, Kind::Html),
            (b"<p>x", Some("text/html; charset=utf-8"), Kind::Html),
            (b"hello", Some("text/html"), Kind::Html),
            (b"<?xml version='1.0'?><!-- x --><rss version='2.0'>", Some("text/html"), Kind::Feed),
            (b"<feed xmlns='http://www.w3.org/2005/Atom'>", None, Kind::Feed),
            (b"<?xml version='1.0'?><law>", None, Kind::Xml),
            (b" {\"a\": 1}", None, Kind::Json),
            (b"[1] A footnote", Some("text/plain"), Kind::Text),
            (b"7", Some("application/problem+json"), Kind::Json),
            (b"Opinions of 2026", None, Kind::Text),
            (b"", None, Kind::Text),
            (b"%PDF-1.7\n%\xe2\xe3", Some("text/html"), Kind::Pdf),
            (b"PK\x03\x04\x14\x00\x06", None, Kind::Other("application/zip")),
            (b"\x00\x01\x02", None, Kind::Other("application/octet-stream")),
        ] {
            assert_eq!(Kind::of(bytes, declared), expected, "{bytes:?}");
        }
    }
}
