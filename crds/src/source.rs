//! The `Source`: where something is published, and how it may be fetched.

#![allow(
    clippy::duplicated_attributes,
    reason = "each printer column has a type, and clippy takes the second for a repetition"
)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Duration, SecretKeyReference,
    rules::{Bounds, rules},
};

/// How long a fetch may be allowed to take.
pub(crate) const TIMEOUT: Bounds = Bounds::seconds(1, 600);

/// How long the pause between two requests to a host may be.
pub(crate) const MIN_INTERVAL: Bounds = Bounds::seconds(0, 86_400);

/// How often a change may be expected: a minute to ten years.
pub(crate) const CADENCE: Bounds = Bounds::seconds(60, 87_600 * 3600);

/// Said when `baseURL` is not usable.
pub(crate) const BASE_URL: &str =
    "must be an absolute http or https URL with a host, such as https://example.org/notices";

/// Said when `baseURL` holds credentials.
pub(crate) const URL_CREDENTIALS: &str = "must not contain a user name or password: put an Authorization header, with its value from a Secret, in fetch.headers";

/// Said when a header has no value, or two.
pub(crate) const ONE_HEADER_VALUE: &str = "must have exactly one of value and valueFrom";

/// Said when a header may not be set.
pub(crate) const RESERVED_HEADER: &str = "must not be Host, Content-Length, a header of the connection (Connection, Keep-Alive, Transfer-Encoding, TE, Trailer, Upgrade, HTTP2-Settings, Expect, Proxy-...), of a part (Range, If-Range) or a condition (If-Match, If-None-Match, If-Modified-Since, If-Unmodified-Since), or User-Agent: the client sets those where they are needed; for User-Agent use fetch.userAgent";

/// Header names, in lower case, that a Source may not set; nor may it any with [`RESERVED_PREFIX`].
pub(crate) const RESERVED_HEADERS: [&str; 17] = [
    "host",
    "content-length",
    "connection",
    "keep-alive",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "http2-settings",
    "expect",
    "range",
    "if-range",
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
    "user-agent",
];

/// No proxy is used: what is meant for one would go to the site.
pub(crate) const RESERVED_PREFIX: &str = "proxy-";

/// Said when two headers have one name.
pub(crate) const UNIQUE_HEADERS: &str = "must not name a header twice (names are compared without case)";

/// Where something is published: a page, a feed, a sitemap or a file, and how it may be fetched. Subscriptions in the
/// same namespace refer to it by name.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "tipstaff.dev",
    version = "v1alpha1",
    kind = "Source",
    plural = "sources",
    shortname = "tsrc",
    category = "tipstaff",
    namespaced,
    status = "SourceStatus",
    derive = "PartialEq",
    doc = "Source is a place where something is published (a page, a feed, a sitemap, a file) and how it may be fetched. Subscriptions in the same namespace refer to it by name.",
    printcolumn(
        name = "Kind",
        type_ = "string",
        json_path = ".spec.kind",
        description = "What is published there."
    ),
    printcolumn(
        name = "URL",
        type_ = "string",
        json_path = ".spec.baseURL",
        description = "Where fetching starts."
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether the source is valid and in use."
    ),
    printcolumn(
        name = "Reachable",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Reachable\")].status",
        description = "Whether the source answers."
    ),
    printcolumn(
        name = "Fresh",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Fresh\")].status",
        description = "Whether the source has changed within the time that is expected of it."
    ),
    printcolumn(
        name = "Last Change",
        type_ = "date",
        json_path = ".status.lastChangeTime",
        description = "When the source had last changed."
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "Why the source is ready or not.",
        priority = 1
    ),
    printcolumn(
        name = "Answer",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Reachable\")].reason",
        description = "Why the source is reachable or not.",
        priority = 1
    ),
    printcolumn(
        name = "Last Fetch",
        type_ = "date",
        json_path = ".status.lastFetchTime",
        description = "When the source was last fetched.",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct SourceSpec {
    /// What is published at the URL: `html`, `feed` (RSS, Atom, JSON Feed), `sitemap`, `json`, `text`, `pdf`, or
    /// `auto`, which decides by the content type of each response. Defaults to `auto`.
    #[serde(default)]
    pub kind: SourceKind,

    /// URL at which fetching starts: absolute, http or https, without user name or password.
    #[serde(rename = "baseURL")]
    #[schemars(length(min = 1, max = 2048), extend("x-kubernetes-validations" = rules(&[
        ("isURL(self) && url(self).getScheme() in ['http', 'https'] && url(self).getHostname() != ''", BASE_URL),
        ("!self.matches('^[a-zA-Z]+://[^/?#]*@')", URL_CREDENTIALS),
    ])))]
    pub base_url: String,

    /// Whether the site's robots.txt is followed: `obey` (RFC 9309), or `allow`, which fetches anyway and is for
    /// sources you have permission for. Defaults to `obey`.
    #[serde(default)]
    pub robots_mode: RobotsMode,

    /// Whether fetching from this source is paused, for all of its subscriptions. Defaults to false.
    #[serde(default)]
    pub suspend: bool,

    /// How requests are made.
    #[serde(default)]
    pub fetch: Fetch,

    /// How the site is spared.
    #[serde(default)]
    pub politeness: Politeness,

    /// Which links are fetched besides the base URL. Without it, none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follow: Option<Follow>,

    /// What is normal for this source, so that silence is noticed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<Expect>,
}

/// What is published at a URL.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// Web pages.
    Html,
    /// RSS, Atom or JSON Feed.
    Feed,
    /// A sitemap or sitemap index.
    Sitemap,
    /// JSON documents.
    Json,
    /// Plain text.
    Text,
    /// PDF files.
    Pdf,
    /// Decided by the content type of each response.
    #[default]
    Auto,
}

impl SourceKind {
    /// Its name in manifests and in the catalog.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Html => "html",
            Self::Feed => "feed",
            Self::Sitemap => "sitemap",
            Self::Json => "json",
            Self::Text => "text",
            Self::Pdf => "pdf",
            Self::Auto => "auto",
        }
    }
}

/// Whether robots.txt is followed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RobotsMode {
    /// Follow RFC 9309.
    #[default]
    Obey,
    /// Fetch anyway: for sources you have permission for.
    Allow,
}

/// How requests are made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Fetch {
    /// User-Agent header of the requests, also the name looked up in robots.txt. It should say whom a site's owner can
    /// write to. Without it, Tipstaff's own, with its version and the address of a page that says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = "^[\\x21-\\x7e]([\\x20-\\x7e]*[\\x21-\\x7e])?$"))]
    pub user_agent: Option<String>,

    /// Headers sent with every request to the origin (scheme, host and port) of the base URL, at most 32. They are not
    /// sent to other origins, where redirects and links lead, nor with requests for robots.txt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        extend("x-kubernetes-list-type" = "map"),
        extend("x-kubernetes-list-map-keys" = ["name"]),
        extend("x-kubernetes-validations" = rules(&[(
            "self.all(header, self.exists_one(other, other.name.lowerAscii() == header.name.lowerAscii()))",
            UNIQUE_HEADERS,
        )]))
    )]
    pub headers: Vec<Header>,

    /// Time within which a response must have arrived whole, redirects included, between 1s and 10m. Defaults to
    /// 30s.
    #[serde(default = "default_timeout")]
    #[schemars(extend("x-kubernetes-validations" = TIMEOUT.rules()))]
    pub timeout: Duration,

    /// Size in bytes, after decompression, beyond which a response is given up, at most 268435456 (256 MiB). Defaults
    /// to 16777216 (16 MiB).
    #[serde(default = "default_max_bytes")]
    #[schemars(range(min = 1, max = 268_435_456))]
    pub max_bytes: i64,
}

impl Default for Fetch {
    fn default() -> Self {
        Self {
            user_agent: None,
            headers: Vec::new(),
            timeout: default_timeout(),
            max_bytes: default_max_bytes(),
        }
    }
}

fn default_timeout() -> Duration {
    Duration::from_secs(30)
}

fn default_max_bytes() -> i64 {
    16 * 1024 * 1024
}

/// A header sent with every request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules(&[("has(self.value) != has(self.valueFrom)", ONE_HEADER_VALUE)])))]
pub struct Header {
    /// Name of the header, such as `Accept-Language`.
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"), extend("x-kubernetes-validations" = rules(&[(
        "!(self.lowerAscii() in ['host', 'content-length', 'connection', 'keep-alive', 'transfer-encoding', 'te', 'trailer', 'upgrade', 'http2-settings', 'expect', 'range', 'if-range', 'if-match', 'if-none-match', 'if-modified-since', 'if-unmodified-since', 'user-agent']) && !self.lowerAscii().startsWith('proxy-')",
        RESERVED_HEADER,
    )])))]
    pub name: String,

    /// Value of the header in plain text: visible ASCII characters, spaces and tabs. For a credential use valueFrom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096), regex(pattern = "^[\\t\\x20-\\x7e]*$"))]
    pub value: Option<String>,

    /// Where the value of the header is read, for a credential. It is read anew for each fetch, or was less than half
    /// a minute before; a line break at its end is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<HeaderValueSource>,
}

/// Where a header's value is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeaderValueSource {
    /// Key of a Secret in the same namespace.
    pub secret_key_ref: SecretKeyReference,
}

/// How a site is spared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Politeness {
    /// Pause between two requests to the same host, from 0s to 24h, across all sources. The site's own Crawl-delay
    /// and Retry-After win when they are longer. Defaults to 1s.
    #[serde(default = "default_min_interval")]
    #[schemars(extend("x-kubernetes-validations" = MIN_INTERVAL.rules()))]
    pub min_interval: Duration,
}

impl Default for Politeness {
    fn default() -> Self {
        Self { min_interval: default_min_interval() }
    }
}

fn default_min_interval() -> Duration {
    Duration::from_secs(1)
}

/// Which links are fetched besides the base URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Follow {
    /// CSS selector of the links in the fetched page. Defaults to `a[href]`. In a feed or sitemap, every entry is a
    /// link.
    #[serde(default = "default_links")]
    #[schemars(length(min = 1, max = 1024))]
    pub links: String,

    /// Regular expressions, at most 32, of which at least one must match the whole of a link's URL or a part of it.
    /// Without any, every link is taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 1024)), extend("x-kubernetes-list-type" = "atomic"))]
    pub include: Vec<String>,

    /// Regular expressions, at most 32, of which none may match a part of a link's URL. They win over include.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 1024)), extend("x-kubernetes-list-type" = "atomic"))]
    pub exclude: Vec<String>,

    /// Whether only links to the base URL's own host are taken. Defaults to true.
    #[serde(default = "default_same_host")]
    pub same_host: bool,

    /// Number of links that are fetched in one run at most, from 1 to 10000. Defaults to 100.
    #[serde(default = "default_limit")]
    #[schemars(range(min = 1, max = 10_000))]
    pub limit: i32,
}

impl Default for Follow {
    fn default() -> Self {
        Self {
            links: default_links(),
            include: Vec::new(),
            exclude: Vec::new(),
            same_host: default_same_host(),
            limit: default_limit(),
        }
    }
}

fn default_links() -> String {
    "a[href]".to_owned()
}

fn default_same_host() -> bool {
    true
}

fn default_limit() -> i32 {
    100
}

/// What is normal for a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Expect {
    /// Time within which a change is expected at least once, between 1m and 87600h (a week is 168h).
    #[schemars(extend("x-kubernetes-validations" = CADENCE.rules()))]
    pub cadence: Duration,
}

/// What the operator has found out about a source.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Conditions of the source: Ready (always present), Reconciling and Stalled (when so), Reachable (whether it
    /// answers), and, with expect.cadence, Fresh (whether it changes as expected).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map"),
        extend("x-kubernetes-list-map-keys" = ["type"])
    )]
    pub conditions: Vec<Condition>,

    /// Time at which something of the source was last fetched. Where nothing else is new, it is brought up to date about
    /// every 15 seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_fetch_time: Option<Time>,

    /// Time at which something was fetched that differs from what there was before, or is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_change_time: Option<Time>,

    /// Time from which on a source that does not answer is tried again. Absent when it answers, and while it is
    /// suspended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_try_time: Option<Time>,
}
