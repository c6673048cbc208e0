//! What the operator takes out of a valid spec and leaves in the catalog for the beat and the workers.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::ObjectKey;

/// How a source is fetched. Times in milliseconds, sizes in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceSettings {
    /// Where fetching begins.
    pub base_url: String,
    /// What stands there: html, feed, sitemap, json, text, pdf or auto.
    pub kind: String,
    /// Whether robots.txt is obeyed.
    pub obey_robots: bool,
    /// Whether nothing is to be fetched for now.
    pub suspend: bool,
    /// Sent as User-Agent instead of Tipstaff's own.
    pub user_agent: Option<String>,
    /// Sent with each request.
    pub headers: Vec<HeaderSetting>,
    /// The longest a fetch may take.
    pub timeout_ms: u64,
    /// The largest body that is stored.
    pub max_bytes: u64,
    /// The shortest time between two requests to one host.
    pub min_interval_ms: u64,
    /// Which links of the page are fetched too. Settings of an older release have none.
    #[serde(default)]
    pub follow: Option<FollowSettings>,
    /// Within which time a change is expected at least once.
    #[serde(default)]
    pub cadence_ms: Option<u64>,
}

/// Which links of a page, or entries of a feed or sitemap, are fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowSettings {
    /// A CSS selector of elements with a link.
    pub links: String,
    /// Regular expressions of which one must match a part of the link's URL; none: every link is taken.
    pub include: Vec<String>,
    /// Regular expressions of which none may match a part of it.
    pub exclude: Vec<String>,
    /// Whether only links to the base URL's own host are taken.
    pub same_host: bool,
    /// How many links are fetched in one run at most.
    pub limit: u32,
}

/// A header of each request to a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderSetting {
    /// The header's name.
    pub name: String,
    /// Where its value comes from.
    pub value: HeaderSource,
}

/// Where a header's value comes from. The catalog never holds a secret. `Debug` shows no value: one may be a credential
/// all the same.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeaderSource {
    /// The value itself.
    Plain(String),
    /// A key of a Secret in the source's namespace.
    Secret {
        /// The Secret's name.
        name: String,
        /// The key in it.
        key: String,
    },
}

impl fmt::Debug for HeaderSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(_) => formatter.write_str("Plain(..)"),
            Self::Secret { name, key } => {
                formatter.debug_struct("Secret").field("name", name).field("key", key).finish()
            }
        }
    }
}

/// What to do when a run is due while another of the subscription is active.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Concurrency {
    /// Skip the new one.
    Forbid,
    /// Run both.
    Allow,
    /// End the active one.
    Replace,
}

/// What to do with due times that passed while nothing could fire them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CatchUp {
    /// Run for the latest, skip the others.
    Latest,
    /// Run for each.
    All,
    /// Skip all.
    None,
}

/// When a subscription is due and what becomes of its runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionSettings {
    /// A 5-field cron expression.
    pub schedule: String,
    /// The IANA time zone of the schedule.
    pub time_zone: String,
    /// How late a run may begin, in seconds.
    pub starting_deadline_seconds: Option<i64>,
    /// What happens to a run that is due while another is active.
    pub concurrency: Concurrency,
    /// What happens to missed due times.
    pub catch_up: CatchUp,
    /// The largest delay after the due time, in seconds; each subscription has its own, always the same.
    pub jitter_seconds: u32,
    /// Whether due times are skipped for now.
    pub suspend: bool,
    /// The jurisdiction that the documents belong to.
    pub jurisdiction: Option<String>,
    /// What is taken out of documents. Settings of an older release have none.
    #[serde(default)]
    pub selection: SelectionSettings,
    /// Who is told of changes.
    #[serde(default)]
    pub targets: Vec<TargetSettings>,
    /// Which versions are kept; none: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<RetentionSettings>,
}

/// Which versions of a document are kept besides the newest: those that either keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionSettings {
    /// The newest so many.
    pub versions: Option<u32>,
    /// Those that are younger.
    pub age_ms: Option<u64>,
}

/// What is taken out of documents, and what of it does not count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelectionSettings {
    /// Named values.
    pub selectors: BTreeMap<String, SelectorSettings>,
    /// CSS selectors of elements that are cut out first.
    pub remove: Vec<String>,
    /// Regular expressions of text that does not count.
    pub ignore: Vec<String>,
}

impl SelectionSettings {
    /// A SHA-256 that tells apart what is not comparable, lower-case hexadecimal: texts that were selected otherwise.
    pub fn hash(&self) -> String {
        // The fields have an order, and a map of the settings' types always becomes JSON.
        let json = serde_json::to_vec(self).unwrap_or_default();
        Sha256::digest(json).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// How one named value is found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelectorSettings {
    /// The expression.
    pub query: SelectorQuery,
    /// The attribute that is taken in place of an element's text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attr: Option<String>,
    /// Whether all matches are taken; otherwise the first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// Whether a document may have none of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

/// An expression, by its language.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SelectorQuery {
    /// A CSS selector.
    Css(String),
    /// An XPath 1.0 expression.
    Xpath(String),
    /// A JSONPath expression (RFC 9535).
    JsonPath(String),
}

/// Who is told of which changes, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetSettings {
    /// Its name in the subscription.
    pub name: String,
    /// Where it is.
    pub place: TargetPlace,
    /// The kinds of changes that it wants, as versions have them; none: all but first versions.
    #[serde(default)]
    pub kinds: Vec<String>,
    /// A regular expression that what changed must match.
    #[serde(default)]
    pub matches: Option<String>,
    /// What is sent together.
    #[serde(default)]
    pub digest: DigestSettings,
}

/// Where changes are sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetPlace {
    /// An HTTP endpoint.
    Webhook {
        /// Where it is.
        url: String,
        /// Signs the requests.
        secret: Option<SecretKey>,
        /// Signs them too, until receivers know the newer one.
        previous_secret: Option<SecretKey>,
    },
    /// A Slack channel.
    Slack {
        /// Its incoming webhook's URL.
        url_secret: SecretKey,
    },
    /// Mailboxes.
    Email {
        /// Their addresses.
        to: Vec<String>,
    },
    /// A topic of the Kafka cluster that Tipstaff uses.
    Kafka {
        /// Its name.
        topic: String,
    },
    /// Objects in the object store that Tipstaff uses.
    S3 {
        /// The bucket.
        bucket: String,
        /// What their keys begin with.
        prefix: String,
    },
}

/// A key of a Secret in the object's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretKey {
    /// The Secret's name.
    pub name: String,
    /// The key in it.
    pub key: String,
}

/// What of a target's changes is sent together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DigestSettings {
    /// Nothing: each change is a delivery.
    #[default]
    None,
    /// What one run saw, when it has ended.
    Run,
    /// What is seen within so many milliseconds of the first change.
    WindowMs(u64),
}

/// A subscription as the beat needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduledSubscription {
    /// The catalog's id.
    pub id: i64,
    /// The object.
    pub key: ObjectKey,
    /// The generation of the spec that the settings come from.
    pub generation: i64,
    /// When it is due.
    pub settings: SubscriptionSettings,
    /// Whether its source is suspended.
    pub source_suspended: bool,
    /// Every due time up to and including this one is accounted for.
    pub scheduled_through: Timestamp,
}
