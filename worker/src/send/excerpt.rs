//! What is kept of an answer: one short line without secrets.

use url::Url;

/// The most characters that are kept.
const LONGEST: usize = 500;
/// A secret that is shorter would be found in many a word. It hides nothing.
const SHORTEST_SECRET: usize = 6;

/// Texts that are taken out of what an endpoint says before it is kept: many repeat what they were asked.
#[derive(Clone, Default)]
pub(super) struct Hidden(Vec<String>);

impl Hidden {
    /// Hides these texts.
    pub(super) fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        let mut secrets: Vec<String> =
            secrets.into_iter().filter(|text| text.len() >= SHORTEST_SECRET).collect();
        // A part of another must not leave the rest of it.
        secrets.sort_by_key(|text| std::cmp::Reverse(text.len()));
        Self(secrets)
    }

    /// Hides what of a URL is not shown: its query, whole and by values, and its user name and password.
    pub(super) fn query_of(url: &Url) -> Self {
        Self::new(query_parts(url))
    }

    /// Hides a URL of which nothing is shown but its host.
    pub(super) fn all_of(url: &Url) -> Self {
        let segments = url.path().split('/').map(str::to_owned);
        Self::new(
            [url.to_string(), url.path().to_owned()].into_iter().chain(segments).chain(query_parts(url)),
        )
    }

    /// One line of a text without what is hidden, query strings and control characters, as far as it is kept.
    pub(super) fn excerpt(&self, text: &str) -> String {
        let mut shown = text.to_owned();
        for secret in &self.0 {
            shown = shown.replace(secret.as_str(), "…");
        }
        self.cut_beginning_of_secret(&mut shown);
        let shown: String = shown.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
        let shown = without_queries(&shown);
        let words: Vec<&str> = shown.split_whitespace().collect();
        shortened(&words.join(" "))
    }

    /// The text may have been cut in the midst of one.
    fn cut_beginning_of_secret(&self, text: &mut String) {
        let begun = |secret: &String| {
            let lengths =
                (SHORTEST_SECRET..secret.len()).rev().filter(|length| secret.is_char_boundary(*length));
            lengths.into_iter().find(|length| text.ends_with(&secret[..*length]))
        };
        if let Some(length) = self.0.iter().filter_map(begun).max() {
            text.truncate(text.len() - length);
            text.push('…');
        }
    }
}

fn query_parts(url: &Url) -> Vec<String> {
    let values = url.query_pairs().map(|(_, value)| value.into_owned());
    let parts = [url.query(), Some(url.username()), url.password()];
    parts.into_iter().flatten().map(str::to_owned).chain(values).collect()
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
        let hidden = Hidden::query_of(&url("https://user:password@example.org/hook?token=s3cret-value&a=1"));
        for (text, kept) in [
            ("", ""),
            ("ok\n", "ok"),
            ("line\r\n\tline\u{0}\u{1b}[31m red\u{7f}\u{85}", "line line [31m red"),
            ("Cannot POST /hook?token=s3cret-value&a=1", "Cannot POST /hook?…"),
            ("Cannot POST /hook?token=s3cret-value&amp;a=1</pre>", "Cannot POST /hook?…</pre>"),
            ("see <a href=\"/login?next=%2Fhook\">login</a>", "see <a href=\"/login?…\">login</a>"),
            ("{\"error\":\"invalid token s3cret-value\"}", "{\"error\":\"invalid token …\"}"),
            ("no such user:password", "no such user:…"),
            ("what? \"what?\"", "what? \"what?\""),
            ("invalid token s3cret-v", "invalid token …"),
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
            parts in prop::collection::vec(prop_oneof![".*", Just("s3cret-value".to_owned())], 0..40),
            cut in 0_usize..4000,
        ) {
            let text: String = parts.concat().chars().take(cut).collect();
            let kept = Hidden::new(["s3cret-value".to_owned()]).excerpt(&text);
            prop_assert!(!kept.contains("s3cret"), "{kept}");
            prop_assert!(!kept.chars().any(char::is_control) && kept.chars().count() <= 500);
        }
    }
}
