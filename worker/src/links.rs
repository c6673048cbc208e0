//! Which documents a list names: a page, a feed (RSS, Atom, JSON Feed) or a sitemap.
//!
//! Nothing here does I/O: what was fetched comes in as bytes, links go out. Whatever the bytes are, no function panics,
//! and what a hostile document may cost is bounded.

mod choice;
mod feed;
mod kind;
mod page;
mod sitemap;

use content::{Sign, tree::TreeError};
use events::run_reasons;
use thiserror::Error;
use url::Url;

pub use choice::choose;
pub use feed::feed_links;
pub use kind::{ListKind, list_kind, sniffed_list};
pub use page::page_links;
pub use sitemap::{MAX_ENTRIES, Sitemap, sitemap_links};

/// The longest URL that is taken for a link, in bytes: servers refuse longer ones (RFC 9110, 4.1, asks for 8000).
const MAX_URL_BYTES: usize = 8192;

/// A document that a list names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Where it is, by http or https, without a fragment.
    pub url: Url,
    /// What changes when the document does, so that it is fetched only then. `None`: only fetching tells.
    pub marker: Option<String>,
}

/// The links of a page or feed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The links, each URL once, in the list's order.
    pub links: Vec<Link>,
    /// How many further links there are beyond the limit.
    pub left_out_by_limit: usize,
    /// How many elements the selector matched, or entries the feed has. With 0, the selector does not fit the page.
    pub elements: usize,
    /// How many of these have no link by http or https.
    pub without_link: usize,
    /// What the page was taken for, if it stands in for the list.
    pub looks_blocked: Option<Sign>,
}

/// Why a list cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LinksError {
    /// A page's elements are nested deeper than pages written for people are.
    #[error(
        "its elements are nested more than {limit} deep, which no reader takes: choose another page as baseURL"
    )]
    TooDeep {
        /// How deep they may be nested.
        limit: usize,
    },
    /// A page has too many elements, or one has too many attributes.
    #[error("it has more than {limit} {what}: choose a smaller page as baseURL")]
    TooMany {
        /// What there are too many of.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// A compressed list is too large when unpacked.
    #[error(
        "it is larger than {max_bytes} bytes when unpacked: raise fetch.maxBytes, or name one of its parts"
    )]
    TooLarge {
        /// How large it may be.
        max_bytes: u64,
    },
    /// `follow.links` is not a CSS selector.
    #[error("follow.links is not a CSS selector: {reason}")]
    Selector {
        /// Where it fails.
        reason: String,
    },
    /// One of `follow.include` or `follow.exclude` is not a regular expression.
    #[error("follow.{field} holds what is not a regular expression: correct it")]
    Pattern {
        /// The field: include or exclude.
        field: &'static str,
        /// Where it fails.
        #[source]
        source: regex::Error,
    },
    /// The feed's bytes are none that can be read.
    #[error(
        "it is no feed that can be read (RSS 0.91, 0.92, 1.0 and 2.0, Atom, JSON Feed): check baseURL and kind"
    )]
    Feed(#[source] feed_rs::parser::ParseFeedError),
    /// The sitemap's XML is not well-formed.
    #[error("its XML is not well-formed: check what the site serves there")]
    Xml(#[source] quick_xml::Error),
    /// The sitemap's compressed bytes cannot be unpacked.
    #[error("its gzip data is damaged: check what the site serves there")]
    Gzip(#[source] std::io::Error),
    /// What was read as a sitemap is something else.
    #[error("it is no sitemap (sitemaps.org): {found}; check baseURL and kind")]
    NotASitemap {
        /// What it is.
        found: &'static str,
    },
}

impl LinksError {
    /// The kind of failure, as runs, statuses and events name it: one of [`events::run_reasons`].
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooDeep { .. } => run_reasons::TOO_DEEP,
            Self::TooMany { .. } | Self::TooLarge { .. } => run_reasons::TOO_LARGE,
            Self::Selector { .. }
            | Self::Pattern { .. }
            | Self::Feed(_)
            | Self::Xml(_)
            | Self::Gzip(_)
            | Self::NotASitemap { .. } => run_reasons::UNREADABLE_LIST,
        }
    }
}

impl From<TreeError> for LinksError {
    fn from(error: TreeError) -> Self {
        match error {
            TreeError::TooMany { what, limit } => Self::TooMany { what, limit },
            TreeError::TooDeep { limit } => Self::TooDeep { limit },
        }
    }
}

/// Resolves what stands in a list as a browser does. `None` for what cannot be fetched: another scheme, not a URL.
fn resolve(reference: &str, base: &Url) -> Option<Url> {
    let mut url = base.join(reference).ok()?;
    url.set_fragment(None);
    (matches!(url.scheme(), "http" | "https") && url.as_str().len() <= MAX_URL_BYTES).then_some(url)
}
