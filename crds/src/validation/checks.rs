//! Checks of single values, each with the message a user gets.

use std::{collections::BTreeMap, time};

use content::{Selection, SelectorSpec};
use regex::RegexBuilder;
use url::Url;

use super::Query;
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

/// An expression that the parsers of documents take. On an empty document, which XPath expressions are tried on, all
/// is evaluated but conditions in brackets.
pub(super) fn selector(query: &Query) -> Result<(), String> {
    let query = match query {
        Query::Css(text) => content::Query::Css(text.clone()),
        Query::Xpath(text) => content::Query::Xpath(text.clone()),
        Query::JsonPath(text) => content::Query::JsonPath(text.clone()),
    };
    let spec = SelectorSpec { query, attr: None, all: false };
    compiled(&BTreeMap::from([(String::new(), spec)]), &[], &[])
}

/// A CSS selector.
pub(super) fn css(text: &str) -> Result<(), String> {
    compiled(&BTreeMap::new(), &[text.to_owned()], &[])
}

/// A regular expression of what does not count in a text.
pub(super) fn noise(expression: &str) -> Result<(), String> {
    // Which says the same of most in better words.
    regex(expression)?;
    compiled(&BTreeMap::new(), &[], &[expression.to_owned()])
}

fn compiled(
    selectors: &BTreeMap<String, SelectorSpec>,
    remove: &[String],
    ignore: &[String],
) -> Result<(), String> {
    Selection::new(selectors, remove, ignore).map(drop).map_err(|error| error.message)
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
    fn what_does_not_count() {
        assert_eq!(noise("^Printed on \\d+$"), Ok(()));
        assert!(noise("a(").unwrap_err().contains("is not a regular expression: unclosed group"));
        assert!(noise("(?:a{1000}){1000}").unwrap_err().contains("too large"));
    }

    #[test]
    fn expressions() {
        let xpath = |text: &str| selector(&Query::Xpath(text.to_owned()));
        for text in ["//a", "//div[@class='x']/p[1]", "string(//h1)", "//a[contains(., '(')]"] {
            assert_eq!(xpath(text), Ok(()), "{text}");
        }
        for text in ["//a[1", "//a)", "//a['x]", "//a[@href=]", "nothing(//a)", "", " "] {
            assert!(xpath(text).unwrap_err().starts_with("is not an XPath 1.0 expression"), "{text:?}");
        }
        let json_path = |text: &str| selector(&Query::JsonPath(text.to_owned()));
        for text in ["$.items[*].title", "$..id", "$['a b'][0]", "$.a[?@.b > 1]"] {
            assert_eq!(json_path(text), Ok(()), "{text}");
        }
        for text in ["items", "$.items[", "$.", ""] {
            assert!(json_path(text).unwrap_err().starts_with("is not a JSONPath expression"), "{text:?}");
        }
        let selected = |text: &str| selector(&Query::Css(text.to_owned()));
        for text in ["h1", "main article > p:not(.ad)", "a[href^='/']"] {
            assert_eq!((css(text), selected(text)), (Ok(()), Ok(())), "{text}");
        }
        for text in ["", "p[", "::", "> >"] {
            for refusal in [css(text), selected(text)] {
                assert!(refusal.unwrap_err().starts_with("is not a CSS selector"), "{text:?}");
            }
        }
    }
}
