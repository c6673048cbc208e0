//! Checks of single values, each with the message a user gets.

use std::time;

use regex::RegexBuilder;
use url::Url;

use crate::{Duration, rules::Bounds};

/// The memory a compiled regular expression may take, in bytes.
const REGEX_SIZE: usize = 1 << 20;

/// How deep a regular expression may nest.
const REGEX_NESTING: u32 = 64;

/// An absolute http or https URL with a host.
pub(super) fn http_url(text: &str, message: &str) -> Result<Url, String> {
    Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host() && is_plain(text))
        .ok_or_else(|| message.to_owned())
}

/// Whether a URL is written without what browsers, and the parser here, mend and others do not: spaces around it,
/// backslashes for slashes, fewer or more than two slashes before the host.
fn is_plain(text: &str) -> bool {
    let odd = |character: char| character.is_whitespace() || character.is_control() || character == '\\';
    !text.contains(odd)
        && text
            .split_once("://")
            .is_some_and(|(scheme, rest)| !scheme.contains(['/', ':']) && !rest.starts_with(['/', '?', '#']))
}

/// Whether a URL holds a user name or password.
pub(super) fn has_credentials(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

/// A CSS selector that the parser of the worker accepts.
pub(super) fn css(text: &str) -> Result<(), String> {
    scraper::Selector::parse(text).map(drop).map_err(|error| format!("is not a CSS selector: {error}"))
}

/// A JSONPath expression (RFC 9535).
pub(super) fn json_path(text: &str) -> Result<(), String> {
    jsonpath_rust::parser::parse_json_path(text)
        .map(drop)
        .map_err(|_| "is not a JSONPath expression (RFC 9535), such as $.items[*].title".to_owned())
}

/// A text in which brackets and quotes are closed: what can be said of an XPath expression without evaluating it.
pub(super) fn xpath(text: &str) -> Result<(), String> {
    let mut open = Vec::new();
    let mut quote = None;
    for character in text.chars() {
        match (quote, character) {
            (Some(mark), _) if character == mark => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(character),
            (None, '[') => open.push(']'),
            (None, '(') => open.push(')'),
            (None, ']' | ')') if open.pop() != Some(character) => {
                return Err(format!("is not an XPath expression: {character:?} closes nothing"));
            }
            (None, _) => {}
        }
    }
    match quote.or(open.pop()) {
        None if text.trim().is_empty() => Err("is not an XPath expression: it is blank".to_owned()),
        None => Ok(()),
        Some(missing) => Err(format!("is not an XPath expression: {missing:?} is missing at the end")),
    }
}

/// A regular expression of bounded size.
pub(super) fn regex(text: &str) -> Result<(), String> {
    RegexBuilder::new(text).size_limit(REGEX_SIZE).nest_limit(REGEX_NESTING).build().map(drop).map_err(
        |error| {
            match error {
                regex::Error::CompiledTooBig(_) => {
                    "is too large a regular expression once compiled".to_owned()
                }
                // The parser draws the place with a caret under several lines; its last line says what is wrong.
                error => {
                    let text = error.to_string();
                    format!(
                        "is not a regular expression: {}",
                        text.lines().last().unwrap_or_default().trim_start_matches("error: ")
                    )
                }
            }
        },
    )
}

/// A duration within bounds.
pub(super) fn bounded(duration: Duration, bounds: Bounds) -> Result<time::Duration, String> {
    let value = duration.get();
    let within = value >= time::Duration::from_secs(bounds.min_seconds)
        && value <= time::Duration::from_secs(bounds.max_seconds);
    within.then_some(value).ok_or_else(|| bounds.message())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for text in
            ["http://a", "HTTPS://example.org:8443/a?b#c", "http://[::1]/", "https://b\u{fc}cher.example/"]
        {
            assert!(http_url(text, "").is_ok(), "{text}");
        }
        for text in [
            "",
            "a",
            "http:",
            "http://",
            "http:a",
            "http:/a",
            "http:///a",
            "http://?a",
            "//a",
            "ftp://a",
            "http:\\\\a",
            "http://a\\@b",
            " http://a",
            "http://a\n",
            "http://a b/",
            "http:a://b",
            "http://a:99999/",
            "http://[::1",
        ] {
            assert_eq!(http_url(text, "no").unwrap_err(), "no", "{text:?}");
        }
        assert!(has_credentials(&http_url("http://:b@c/", "").unwrap()));
        assert!(!has_credentials(&http_url("http://c/@", "").unwrap()));
    }

    #[test]
    fn regular_expressions() {
        assert_eq!(regex("^Printed on \\d+$"), Ok(()));
        assert!(regex("a(").unwrap_err().contains("is not a regular expression: unclosed group"));
        assert!(regex("(?:a{1000}){1000}").unwrap_err().contains("too large"));
        assert!(regex(&"(".repeat(500)).is_err());
    }

    #[test]
    fn expressions() {
        for text in ["//a", "//div[@class='x']/p[1]", "string(//h1)", "//a[contains(., '(')]"] {
            assert_eq!(xpath(text), Ok(()), "{text}");
        }
        for text in ["//a[1", "//a)", "//a['x]", "", " "] {
            assert!(xpath(text).is_err(), "{text:?}");
        }
        for text in ["$.items[*].title", "$..id", "$['a b'][0]", "$.a[?@.b > 1]"] {
            assert_eq!(json_path(text), Ok(()), "{text}");
        }
        for text in ["items", "$.items[", "$.", ""] {
            assert!(json_path(text).is_err(), "{text:?}");
        }
        for text in ["h1", "main article > p:not(.ad)", "a[href^='/']"] {
            assert_eq!(css(text), Ok(()), "{text}");
        }
        for text in ["", "p[", "::", "> >"] {
            assert!(css(text).unwrap_err().starts_with("is not a CSS selector"), "{text:?}");
        }
    }
}
