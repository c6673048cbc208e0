use std::{fmt, str::FromStr};

/// The topics of the pipeline. Their names are a contract with whoever reads them besides Tipstaff.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// A subscription is due.
    SubsSchedule,
    /// A URL is to be fetched.
    CrawlRequest,
    /// A URL was fetched and its bytes are stored.
    CrawlResult,
    /// Stored bytes are to be parsed again.
    ParseRequest,
    /// A document was parsed.
    ParseResult,
    /// A parsed document is to be compared again.
    VersioningRequest,
    /// A document was compared with its last version.
    VersioningResult,
    /// A change is to be sent to a target.
    DeliveryRequest,
}

impl Topic {
    /// All topics, in the order in which an event passes through them.
    pub const ALL: [Topic; 8] = [
        Topic::SubsSchedule,
        Topic::CrawlRequest,
        Topic::CrawlResult,
        Topic::ParseRequest,
        Topic::ParseResult,
        Topic::VersioningRequest,
        Topic::VersioningResult,
        Topic::DeliveryRequest,
    ];

    /// The topic's name on the wire, before any prefix of the installation.
    pub const fn name(self) -> &'static str {
        match self {
            Topic::SubsSchedule => "subs.schedule",
            Topic::CrawlRequest => "crawl.request",
            Topic::CrawlResult => "crawl.result",
            Topic::ParseRequest => "parse.request",
            Topic::ParseResult => "parse.result",
            Topic::VersioningRequest => "versioning.request",
            Topic::VersioningResult => "versioning.result",
            Topic::DeliveryRequest => "delivery.request",
        }
    }

    /// The name of the topic for messages of this one that could not be handled.
    pub fn dead_letter_name(self) -> String {
        format!("{}.dlq", self.name())
    }

    /// Whether a topic of this name, prefix and all, may be one of Tipstaff's, of this installation or of another one on the
    /// cluster, or is Kafka's own: nobody else is to write to it.
    pub fn is_reserved(name: &str) -> bool {
        let is_of = |topic: Topic| name.ends_with(topic.name()) || name.ends_with(&topic.dead_letter_name());
        name.starts_with("__") || Topic::ALL.into_iter().any(is_of)
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no topic of Tipstaff.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a topic of Tipstaff")]
pub struct UnknownTopic(String);

impl FromStr for Topic {
    type Err = UnknownTopic;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Topic::ALL.into_iter().find(|topic| topic.name() == name).ok_or_else(|| UnknownTopic(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_parses_back() {
        for topic in Topic::ALL {
            assert_eq!(topic.name().parse::<Topic>().ok(), Some(topic));
        }
        assert!("crawl.request.dlq".parse::<Topic>().is_err());
    }

    #[test]
    fn names_that_end_in_one_of_ours_are_reserved() {
        for topic in Topic::ALL {
            for name in [topic.name().to_owned(), topic.dead_letter_name()] {
                assert!(Topic::is_reserved(&name) && Topic::is_reserved(&format!("prod.{name}")), "{name}");
                assert!(!Topic::is_reserved(&format!("{name}.of-ours")), "{name}");
            }
        }
        assert!(Topic::is_reserved("__consumer_offsets"));
        for name in ["opinions", "court.changes", "delivery", "request", "tipstaff.changes", "_opinions"] {
            assert!(!Topic::is_reserved(name), "{name}");
        }
    }
}
