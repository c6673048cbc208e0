//! Where targets of the kinds `kafka` and `s3` may not write: rules of the schema, and checks of the same.

use serde_json::Value;

use crate::rules::rules;

/// The topics of the pipeline, without the prefix of an installation: `events::Topic`, to which a test holds them.
const OWN_TOPICS: [&str; 8] = [
    "subs.schedule",
    "crawl.request",
    "crawl.result",
    "parse.request",
    "parse.result",
    "versioning.request",
    "versioning.result",
    "delivery.request",
];

/// Said of what Kafka has no topic for.
const NOT_A_TOPIC: &str = "must not be . or .., which Kafka takes for no topic's name";

/// Said of topics that others write to, whatever prefix an installation has.
const RESERVED_TOPIC: &str = "must not begin with __ nor end in the name of a topic of Tipstaff's own, such as crawl.request or crawl.request.dlq";

/// Said of keys that climb.
const CLIMBING_PREFIX: &str = "must not have . or .. between slashes";

/// What the keys of bodies begin with: `raw/{source_id}/…`. Which bucket has them is not known where subscriptions are
/// checked.
const BODIES: &str = "raw/";

/// Said of keys among those of bodies.
const RESERVED_PREFIX: &str =
    "must not begin with raw/, below which Tipstaff keeps the bodies that it fetched";

/// The value of `x-kubernetes-validations` of a topic.
pub(crate) fn topic_rules() -> Value {
    let reserved = format!(
        "!self.startsWith('__') && !['{}'].exists(own, self.endsWith(own) || self.endsWith(own + '.dlq'))",
        OWN_TOPICS.join("', '")
    );
    rules(&[("self != '.' && self != '..'", NOT_A_TOPIC), (&reserved, RESERVED_TOPIC)])
}

/// The same of a topic of an object that has been read.
pub(crate) fn check_topic(topic: &str) -> Result<(), &'static str> {
    if matches!(topic, "." | "..") {
        return Err(NOT_A_TOPIC);
    }
    let without_suffix = topic.strip_suffix(".dlq").unwrap_or(topic);
    if topic.starts_with("__") || OWN_TOPICS.iter().any(|own| without_suffix.ends_with(own)) {
        return Err(RESERVED_TOPIC);
    }
    Ok(())
}

/// The value of `x-kubernetes-validations` of what objects' keys begin with.
pub(crate) fn prefix_rules() -> Value {
    rules(&[
        ("!self.split('/').exists(part, part == '.' || part == '..')", CLIMBING_PREFIX),
        (&format!("!self.startsWith('{BODIES}')"), RESERVED_PREFIX),
    ])
}

/// The same of the prefix of an object that has been read.
pub(crate) fn check_prefix(prefix: &str) -> Result<(), &'static str> {
    if prefix.split('/').any(|part| matches!(part, "." | "..")) {
        return Err(CLIMBING_PREFIX);
    }
    if prefix.starts_with(BODIES) {
        return Err(RESERVED_PREFIX);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use events::Topic;

    use super::*;

    #[test]
    fn the_topics_that_are_reserved_are_those_of_events() {
        assert_eq!(OWN_TOPICS, Topic::ALL.map(Topic::name));
        let own =
            Topic::ALL.into_iter().flat_map(|topic| [topic.name().to_owned(), topic.dead_letter_name()]);
        let own = own.flat_map(|name| [format!("prod.{name}"), format!("{name}.of-ours"), name]);
        let others =
            ["__consumer_offsets", "court.changes", "delivery", "_opinions", "x.dlq"].map(str::to_owned);
        for name in own.chain(others) {
            assert_eq!(check_topic(&name).is_err(), Topic::is_reserved(&name), "{name}");
        }
    }
}
