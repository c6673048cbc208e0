//! The path of a rule, and how it is compared with a URL's (RFC 9309, sections 2.2.2 and 2.2.3).
//!
//! Both are brought into one spelling first, in which the same octet is always written the same way:
//!
//! - letters, digits, `-`, `.`, `_` and `~` stand for themselves, also when they came percent-encoded;
//! - in a query so do `:`, `/`, `?`, `@` and `'`: which of them are encoded there is up to whoever wrote the URL;
//! - other percent-encoded octets stay so, with upper-case digits: `%2F` in a path is no `/`;
//! - whatever a URL cannot hold (spaces, octets above 127) is percent-encoded;
//! - `*` and `$` of a URL are percent-encoded, since in a rule they are special.

use memchr::memmem;
use url::Url;

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Delimiters that mean nothing in a query, or are encoded there by the rules for URLs.
const PLAIN_IN_QUERY: &[u8] = b":/?@'";

/// Reserved characters that neither a rule nor a query gives another meaning.
const KEPT: &[u8] = b":/?@'[]!&()+,;=";

/// The path of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    /// What is to be found in a path in this order: the first at its beginning, the others anywhere behind it.
    parts: Vec<Vec<u8>>,
    /// Whether the last part must end the path.
    is_anchored: bool,
    octets: usize,
}

impl Pattern {
    /// Never fails: every sequence of octets is a pattern, if one that no path matches.
    pub(super) fn parse(path: &[u8]) -> Self {
        let (path, is_anchored) = match path.strip_suffix(b"$") {
            Some(path) => (path, true),
            None => (path, false),
        };
        let mut is_query = false;
        let mut parts: Vec<Vec<u8>> =
            path.split(|octet| *octet == b'*').map(|part| normalise(part, &mut is_query)).collect();
        let octets = parts.iter().map(Vec::len).sum::<usize>() + parts.len() - 1 + usize::from(is_anchored);
        // Several `*` in a row are one, and one at the end is none.
        let mut at = 0;
        let last = parts.len() - 1;
        parts.retain(|part| {
            let is_needed = at == 0 || !part.is_empty() || (at == last && is_anchored);
            at += 1;
            is_needed
        });
        Self { parts, is_anchored, octets }
    }

    /// How specific the rule is: the longer, the more.
    pub(super) fn octets(&self) -> usize {
        self.octets
    }

    /// Whether a path, as [`path_of`] returns it, matches.
    ///
    /// Taking the first place where a part is found is enough, since a `*` takes whatever lies between; so the path is
    /// gone through once, however many `*` there are.
    pub(super) fn matches(&self, path: &[u8]) -> bool {
        let Some((first, others)) = self.parts.split_first() else { return false };
        let Some(mut rest) = path.strip_prefix(first.as_slice()) else { return false };
        let Some((last, between)) = others.split_last() else { return !self.is_anchored || rest.is_empty() };
        for part in between {
            match memmem::find(rest, part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        if self.is_anchored { rest.ends_with(last) } else { memmem::find(rest, last).is_some() }
    }
}

/// Path and query of a URL, in the spelling of this module.
pub(super) fn path_of(url: &Url) -> Vec<u8> {
    let mut is_query = false;
    let mut path = normalise(url.path().as_bytes(), &mut is_query);
    if let Some(query) = url.query() {
        path.push(b'?');
        is_query = true;
        path.extend(normalise(query.as_bytes(), &mut is_query));
    }
    path
}

fn normalise(text: &[u8], is_query: &mut bool) -> Vec<u8> {
    let mut normal = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&octet, after)) = rest.split_first() {
        rest = after;
        let encoded = if octet == b'%' { hex_octet(after) } else { None };
        match encoded {
            Some(octet) => {
                rest = &after[2..];
                if is_unreserved(octet) || (*is_query && PLAIN_IN_QUERY.contains(&octet)) {
                    normal.push(octet);
                } else {
                    push_encoded(&mut normal, octet);
                }
            }
            None if is_unreserved(octet) || KEPT.contains(&octet) => {
                *is_query |= octet == b'?';
                normal.push(octet);
            }
            None => push_encoded(&mut normal, octet),
        }
    }
    normal
}

fn is_unreserved(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"-._~".contains(&octet)
}

/// The octet that two hexadecimal digits at the beginning of `text` stand for.
fn hex_octet(text: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*text.get(at)?).to_digit(16);
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

fn push_encoded(text: &mut Vec<u8>, octet: u8) {
    text.extend([b'%', HEX[usize::from(octet >> 4)], HEX[usize::from(octet & 15)]]);
}
