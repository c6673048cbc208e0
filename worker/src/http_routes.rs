//! Routes to services of the user's: a topic's events are posted to a URL, and the events that it answers are emitted.
//!
//! They are the administrator's configuration, as the addresses of Kafka and PostgreSQL are: the rules for addresses that
//! hold for what users of the cluster name do not hold for them.

mod answer;
mod handler;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use events::{Topic, error_chain};
use serde::{Deserialize, Deserializer};
use url::Url;

pub use answer::{AnswerError, emitted};
pub use handler::HttpHandler;

/// The longest name of a route, in characters.
const LONGEST_NAME: usize = 40;

/// One route.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpRoute {
    /// Tells it from others, in logs, dead letters and its consumer group: lower-case letters, digits and hyphens.
    pub name: String,
    /// Whose events are posted.
    #[serde(deserialize_with = "topic")]
    pub topic: Topic,
    /// Where to.
    #[serde(deserialize_with = "url")]
    pub url: Url,
    /// How long the service may take to answer, in seconds.
    #[serde(default = "default_timeout")]
    pub timeout_seconds: u16,
    /// The environment variable that holds the value of the header `Authorization`, where the service asks for one.
    #[serde(default)]
    pub authorization_from_env: Option<String>,
    /// The topics that events which it answers may go to, each by their type.
    #[serde(default, deserialize_with = "topics")]
    pub emits: Vec<Topic>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    routes: Vec<HttpRoute>,
}

/// The routes cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HttpRouteError {
    /// There is no such file, or it is not to be read.
    #[error("the file of HTTP routes {} cannot be read", .path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// It is not what a file of routes is.
    #[error("the HTTP routes cannot be read: {0}")]
    Unreadable(String),
    /// A route says what cannot be.
    #[error("the HTTP route `{route}` is not valid: {problem}")]
    Invalid {
        /// The route's name.
        route: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The HTTP client cannot be made.
    #[error("cannot build the HTTP client of a route; are root certificates installed?")]
    Client(#[source] reqwest::Error),
}

/// The routes of a file.
///
/// # Errors
/// When it cannot be read, or is not valid.
pub fn read(path: &Path) -> Result<Vec<HttpRoute>, HttpRouteError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| HttpRouteError::File { path: path.to_owned(), source })?;
    parse(&text)
}

/// The routes of a text, which is YAML.
///
/// # Errors
/// When it is none, has a field that does not exist, or a route that cannot be.
pub fn parse(text: &str) -> Result<Vec<HttpRoute>, HttpRouteError> {
    // Not with the lines around it: a URL may hold a secret.
    let unreadable =
        |error: serde_saphyr::Error| HttpRouteError::Unreadable(error_chain(error.without_snippet()));
    let File { routes } = serde_saphyr::from_str(text).map_err(unreadable)?;
    let mut names = BTreeSet::new();
    for route in &routes {
        let invalid = |problem: String| HttpRouteError::Invalid { route: route.name.clone(), problem };
        if let Some(problem) = route.problem() {
            return Err(invalid(problem));
        }
        if !names.insert(&route.name) {
            return Err(invalid("another route has its name".to_owned()));
        }
    }
    Ok(routes)
}

impl HttpRoute {
    /// The route's consumer group, before any prefix of the installation.
    pub fn group(&self) -> String {
        format!("tipstaff.route.{}", self.name)
    }

    fn problem(&self) -> Option<String> {
        let is_of_names =
            |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
        if self.name.is_empty() || self.name.len() > LONGEST_NAME || !self.name.chars().all(is_of_names) {
            return Some(format!(
                "its name has to be of lower-case letters, digits and hyphens, {LONGEST_NAME} at most"
            ));
        }
        if !matches!(self.url.scheme(), "http" | "https") {
            return Some("its URL is neither http nor https".to_owned());
        }
        if !self.url.username().is_empty() || self.url.password().is_some() {
            return Some("its URL has a user or a password: give them by authorizationFromEnv".to_owned());
        }
        if self.timeout_seconds == 0 {
            return Some("timeoutSeconds is 0".to_owned());
        }
        if self.emits.contains(&self.topic) {
            return Some(format!("it emits to {}, whose events it gets: they would go round", self.topic));
        }
        let mut types = BTreeSet::new();
        let twice = self.emits.iter().find(|topic| !types.insert(topic.job_type()));
        twice.map(|topic| {
            let job_type = topic.job_type();
            format!("it emits to two topics whose events have the type `{job_type}`: an answer could not tell which")
        })
    }

    /// How long the service may take to answer.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(u64::from(self.timeout_seconds))
    }
}

fn default_timeout() -> u16 {
    20
}

/// The library's error shows the URL, which may hold a secret.
fn url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Url, D::Error> {
    let text = String::deserialize(deserializer)?;
    Url::parse(&text)
        .map_err(|error| serde::de::Error::custom(format!("a route's URL is not valid: {error}")))
}

fn topic<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Topic, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

fn topics<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Topic>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    names.iter().map(|name| name.parse().map_err(serde::de::Error::custom)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    #[test]
    fn a_route_is_read_with_its_defaults() {
        let text = "routes:\n- name: ocr\n  topic: crawl.result\n  url: http://ocr.archive.svc:8080/events\n";
        let [route] = &parse(text).unwrap()[..] else { panic!("one route") };
        assert_eq!(
            (route.topic, route.timeout(), route.emits.len()),
            (Topic::CrawlResult, Duration::from_secs(20), 0)
        );
        assert_eq!(route.group(), "tipstaff.route.ocr");
    }

    #[test]
    fn what_cannot_be_is_refused_and_said() {
        let rows = [
            ("name: a\n  topic: crawl.results\n  url: http://a/", "`crawl.results` is not a topic"),
            ("name: a\n  topic: crawl.result\n  url: a", "relative URL"),
            ("name: a\n  topic: crawl.result\n  url: http://me:secret@a:b/?key=secret", "invalid port"),
            ("name: a\n  topic: crawl.result\n  url: ftp://a/", "neither http nor https"),
            ("name: a\n  topic: crawl.result\n  url: http://me:secret@a/", "authorizationFromEnv"),
            ("name: A\n  topic: crawl.result\n  url: http://a/", "lower-case"),
            ("name: a\n  topic: crawl.result\n  url: http://a/\n  timeoutSeconds: 0", "timeoutSeconds"),
            ("name: a\n  topic: crawl.result\n  url: http://a/\n  retries: 3", "retries"),
            (
                "name: a\n  topic: parse.result\n  url: http://a/\n  emits: [parse.request, crawl.result]",
                "parse.content",
            ),
            ("name: a\n  topic: parse.request\n  url: http://a/\n  emits: [parse.request]", "go round"),
            (
                "name: a\n  topic: crawl.result\n  url: http://a/\n- name: a\n  topic: crawl.result\n  url: http://a/",
                "another route",
            ),
        ];
        for (route, part) in rows {
            let error = parse(&format!("routes:\n- {route}\n")).unwrap_err().to_string();
            assert!(error.contains(part), "{part:?} in {error:?}");
            assert!(!error.contains("secret"), "{error:?}");
        }
        assert!(parse("route: []").is_err());
    }
}
