//! A [`Source`] with its values parsed.

use std::{collections::BTreeSet, time::Duration};

use serde::Serialize;
use url::Url;

use super::{Violation, Violations, checks, schema};
use crate::{
    Fetch, Follow, Header, RobotsMode, SecretKeyReference, Source, SourceKind,
    source::{
        BASE_URL, CADENCE, MIN_INTERVAL, ONE_HEADER_VALUE, RESERVED_HEADER, RESERVED_HEADERS,
        RESERVED_PREFIX, TIMEOUT, UNIQUE_HEADERS, URL_CREDENTIALS,
    },
};

/// A valid source. No later code reads the raw spec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ValidatedSource {
    /// What is published at the URL.
    pub kind: SourceKind,
    /// Where fetching starts: http or https, with a host, without credentials.
    pub base_url: Url,
    /// Whether robots.txt is followed.
    pub robots_mode: RobotsMode,
    /// Whether fetching is paused.
    pub suspend: bool,
    /// How requests are made.
    pub fetch: ValidatedFetch,
    /// The pause between two requests to one host.
    pub min_interval: Duration,
    /// Which links are fetched besides the base URL.
    pub follow: Option<ValidatedFollow>,
    /// Within which time a change is expected.
    pub cadence: Option<Duration>,
}

/// How requests are made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ValidatedFetch {
    /// The User-Agent header, where the source has its own.
    pub user_agent: Option<String>,
    /// Headers sent with every request; no name occurs twice.
    pub headers: Vec<ValidatedHeader>,
    /// Within which time a response must have arrived whole.
    pub timeout: Duration,
    /// The size, in bytes, beyond which a response is given up.
    pub max_bytes: u64,
}

/// A header sent with every request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ValidatedHeader {
    /// Its name, a token of RFC 9110 in the case it was written in.
    pub name: String,
    /// Its value, or where that is.
    pub value: HeaderValue,
}

/// The value of a header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HeaderValue {
    /// Given in the spec: visible ASCII characters, spaces and tabs.
    Plain(String),
    /// A key of a Secret in the source's namespace.
    Secret(SecretKeyReference),
}

/// Which links are fetched besides the base URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ValidatedFollow {
    /// A CSS selector that parses.
    pub links: String,
    /// Regular expressions that compile; one must match, where there are any.
    pub include: Vec<String>,
    /// Regular expressions that compile; none may match.
    pub exclude: Vec<String>,
    /// Whether links to other hosts are left.
    pub same_host: bool,
    /// The number of links fetched in one run at most.
    pub limit: u32,
}

/// Checks everything about a source that can be known without asking anyone.
///
/// # Errors
/// All violations, in the order of the fields.
pub fn validate_source(source: &Source) -> Result<ValidatedSource, Vec<Violation>> {
    let mut violations = Violations::default();
    schema::check_source(source, &mut violations);
    let spec = &source.spec;
    let base_url = base_url(&spec.base_url, &mut violations);
    let fetch = fetch(&spec.fetch, &mut violations);
    let min_interval = violations
        .take("spec.politeness.minInterval", checks::bounded(spec.politeness.min_interval, MIN_INTERVAL));
    let follow = spec.follow.as_ref().and_then(|spec| follow(spec, &mut violations));
    let cadence = spec
        .expect
        .as_ref()
        .and_then(|expect| violations.take("spec.expect.cadence", checks::bounded(expect.cadence, CADENCE)));
    let validated = (|| {
        Some(ValidatedSource {
            kind: spec.kind,
            base_url: base_url?,
            robots_mode: spec.robots_mode,
            suspend: spec.suspend,
            fetch: fetch?,
            min_interval: min_interval?,
            follow,
            cadence,
        })
    })();
    violations.finish(validated)
}

fn base_url(text: &str, violations: &mut Violations) -> Option<Url> {
    let url = violations.take("spec.baseURL", checks::http_url(text, BASE_URL))?;
    if checks::has_credentials(&url) {
        violations.add("spec.baseURL", URL_CREDENTIALS);
    }
    Some(url)
}

fn fetch(fetch: &Fetch, violations: &mut Violations) -> Option<ValidatedFetch> {
    let mut names = BTreeSet::new();
    if !fetch.headers.iter().all(|header| names.insert(header.name.to_ascii_lowercase())) {
        violations.add("spec.fetch.headers", UNIQUE_HEADERS);
    }
    let headers = fetch
        .headers
        .iter()
        .enumerate()
        .filter_map(|(index, header)| {
            validated_header(header, &format!("spec.fetch.headers[{index}]"), violations)
        })
        .collect();
    Some(ValidatedFetch {
        user_agent: fetch.user_agent.clone(),
        headers,
        timeout: violations.take("spec.fetch.timeout", checks::bounded(fetch.timeout, TIMEOUT))?,
        // The schema has refused what is not positive.
        max_bytes: u64::try_from(fetch.max_bytes).ok()?,
    })
}

fn validated_header(header: &Header, path: &str, violations: &mut Violations) -> Option<ValidatedHeader> {
    if is_reserved(&header.name) {
        violations.add(format!("{path}.name"), RESERVED_HEADER);
    }
    let value = match (&header.value, &header.value_from) {
        (Some(value), None) => HeaderValue::Plain(value.clone()),
        (None, Some(source)) => HeaderValue::Secret(source.secret_key_ref.clone()),
        _ => {
            violations.add(path, ONE_HEADER_VALUE);
            return None;
        }
    };
    Some(ValidatedHeader { name: header.name.clone(), value })
}

fn is_reserved(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    RESERVED_HEADERS.contains(&name.as_str()) || name.starts_with(RESERVED_PREFIX)
}

fn follow(follow: &Follow, violations: &mut Violations) -> Option<ValidatedFollow> {
    violations.take("spec.follow.links", checks::css(&follow.links));
    for (field, expressions) in [("include", &follow.include), ("exclude", &follow.exclude)] {
        for (index, expression) in expressions.iter().enumerate() {
            violations.take(format!("spec.follow.{field}[{index}]"), checks::regex(expression));
        }
    }
    Some(ValidatedFollow {
        links: follow.links.clone(),
        include: follow.include.clone(),
        exclude: follow.exclude.clone(),
        same_host: follow.same_host,
        // The schema has refused what is not positive.
        limit: u32::try_from(follow.limit).ok()?,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use kube::CustomResourceExt;

    use super::*;

    #[test]
    fn headers_that_are_not_a_sources_to_set_are_refused_here_and_by_the_definition() {
        let definition = serde_json::to_string(&Source::crd()).unwrap();
        let named = RESERVED_HEADERS.map(|name| format!("'{name}'")).join(", ");
        let rule = format!(
            "!(self.lowerAscii() in [{named}]) && !self.lowerAscii().startsWith('{RESERVED_PREFIX}')"
        );
        assert!(definition.contains(&rule), "{rule} is no rule of the definition");
        for name in RESERVED_HEADERS.into_iter().chain(["proxy-authorization", "proxy-connection"]) {
            let mut letters = name.to_owned();
            letters[..1].make_ascii_uppercase();
            for spelling in [name.to_owned(), name.to_ascii_uppercase(), letters] {
                assert!(is_reserved(&spelling), "{spelling}");
            }
        }
        for name in ["Authorization", "Cookie", "Accept", "X-Api-Key", "X-Proxy-Token", "Accept-Encoding"] {
            assert!(!is_reserved(name), "{name}");
        }
    }
}
