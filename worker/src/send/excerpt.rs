//! What is kept of an answer: one short line without secrets.

use url::Url;

/// As much of a text (bytes) as is looked at. It has more than is kept, whatever its characters are.
pub(super) const READ: usize = 4 * 1024;

/// The most characters that are kept.
pub const LONGEST: usize = 500;
/// A secret of fewer bytes would be found in many a word. It hides nothing.
pub const SHORTEST_SECRET: usize = 6;

/// Texts that are taken out of what an endpoint says before it is kept: many repeat what they were asked.
#[derive(Clone, Default)]
pub struct Hidden(Vec<String>);

impl Hidden {
    /// Hides these texts.
    pub fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        let mut secrets: Vec<String> =
            secrets.into_iter().filter(|text| text.len() >= SHORTEST_SECRET).collect();
        // A part of another must not leave the rest of it.
        secrets.sort_by_key(|text| std::cmp::Reverse(text.len()));
        Self(secrets)
    }

    /// Hides what of a URL is not shown: its query, whole and by values, and its user name and password.
    pub fn query_of(url: &Url) -> Self {
        Self::new(query_parts(url))
    }

    /// Hides a URL of which nothing is shown but its host.
    pub fn all_of(url: &Url) -> Self {
        let segments = url.path().split('/').map(str::to_owned);
        Self::new(
            [url.to_string(), url.path().to_owned()].into_iter().chain(segments).chain(query_parts(url)),
        )
    }

    /// One line of a text without what is hidden, query strings and control characters, as far as it is kept.
    pub fn excerpt(&self, text: &str) -> String {
        let mut shown = self.hide(&text[..text.floor_char_boundary(READ)]);
        if text.len() > READ {
            // It may end in the midst of a secret.
            let longest = self.0.first().map_or(0, String::len);
            shown.truncate(shown.floor_char_boundary(shown.len().saturating_sub(longest)));
        }
        let shown: String = shown.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
        let shown = without_queries(&shown);
        let words: Vec<&str> = shown.split_whitespace().collect();
        // One that has a space was perhaps shown with another kind of it.
        shortened(&self.hide(&words.join(" ")))
    }

    fn hide(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |shown, secret| shown.replace(secret.as_str(), "…"))
    }
}

fn query_parts(url: &Url) -> Vec<String> {
    let decoded = url.query_pairs().map(|(_, value)| value.into_owned());
    let values = url.query().unwrap_or_default().split('&').filter_map(|pair| Some(pair.split_once('=')?.1));
    let parts = [url.query(), Some(url.username()), url.password()].into_iter().flatten();
    parts.chain(values).map(str::to_owned).chain(decoded).collect()
}

/// What follows a question mark within a word may be the query of some URL.
fn without_queries(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut left = text;
    while let Some(at) = left.find('?') {
        let (before, query) = left.split_at(at + 1);
        shown.push_str(before);
        let is_outside = |char: char| char.is_whitespace() || matches!(char, '"' | '\'' | '`' | '<' | '>');
        let end = query.find(is_outside).unwrap_or(query.len());
        if end > 0 {
            shown.push('…');
        }
        left = &query[end..];
    }
    shown.push_str(left);
    shown
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        None => text.to_owned(),
        Some(_) => text.chars().take(LONGEST - 1).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_kept_is_a_line_without_queries_and_secrets() {
        let hidden = Hidden::query_of(&url(
            "https://user:password@example.org/hook?token=s3cret-value&a=1&b=two%20words",
        ));
        for (text, kept) in [
            ("", ""),
            ("ok\n", "ok"),
            ("line\r\n\tline\u{0}\u{1b}[31m red\u{7f}\u{85}", "line line [31m red"),
            ("Cannot POST /hook?token=s3cret-value&a=1&b=two%20words", "Cannot POST /hook?…"),
            ("Cannot POST /hook?token=s3cret-value&amp;a=1</pre>", "Cannot POST /hook?…</pre>"),
            ("see <a href=\"/login?next=%2Fhook\">login</a>", "see <a href=\"/login?…\">login</a>"),
            ("{\"error\":\"invalid token s3cret-value\"}", "{\"error\":\"invalid token …\"}"),
            ("no such user:password", "no such user:…"),
            ("what? \"what?\"", "what? \"what?\""),
            ("neither two%20words nor two words", "neither … nor …"),
            ("nor two\twords nor two  words", "nor … nor …"),
            ("Grüße", "Grüße"),
        ] {
            assert_eq!(hidden.excerpt(text), kept, "{text:?}");
        }
    }

    #[test]
    fn nothing_of_a_url_that_is_a_credential_is_kept() {
        let hidden =
            Hidden::all_of(&url("https://hooks.example.org/services/T0000001/B0000001/XXXXYYYYZZZZ"));
        for (text, kept) in [
            ("no_service", "no_service"),
            ("https://hooks.example.org/services/T0000001/B0000001/XXXXYYYYZZZZ is gone", "… is gone"),
            ("POST /services/T0000001/B0000001/XXXXYYYYZZZZ HTTP/1.1", "POST … HTTP/1.1"),
            ("{\"path\":\"\\/T0000001\\/B0000001\\/XXXXYYYYZZZZ\"}", "{\"path\":\"\\/…\\/…\\/…\"}"),
        ] {
            assert_eq!(hidden.excerpt(text), kept, "{text:?}");
        }
    }

    #[test]
    fn at_most_500_characters_are_kept() {
        for (length, kept) in [(499, 499), (500, 500), (501, 500), (4000, 500)] {
            for character in ["a", "é", "\u{1f600}"] {
                let excerpt = Hidden::default().excerpt(&character.repeat(length));
                assert_eq!(excerpt.chars().count(), kept);
                assert_eq!(excerpt.ends_with('…'), length > 500);
            }
        }
    }

    proptest! {
        #[test]
        fn no_text_shows_a_secret_or_a_control_character(
            parts in prop::collection::vec(prop_oneof![".{0,9}", Just("s3cret-value".to_owned())], 0..800),
        ) {
            let text = parts.concat();
            let kept = Hidden::new(["s3cret-value".to_owned()]).excerpt(&text);
            prop_assert!(!kept.contains("s3cret"), "{kept}");
            prop_assert!(!kept.chars().any(char::is_control) && kept.chars().count() <= 500);
        }
    }
}
