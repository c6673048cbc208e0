//! Why no text comes out of a document.

use thiserror::Error;

use crate::pdf::PdfError;
use crate::tree::TreeError;

/// Why a document has no text or fields.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ExtractError {
    /// The page's tree is too deep or too large.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// What comes out of it is more than is kept.
    #[error("its {what} are more than {limit}: select less of it")]
    TooMuch {
        /// What there is too much of, with its unit.
        what: &'static str,
        /// How much there may be.
        limit: usize,
    },
    /// The JSON cannot be read.
    #[error("it is no JSON that can be read: check what the site serves there")]
    Json(#[source] serde_json::Error),
    /// The XML cannot be read.
    #[error("it is no XML that can be read: check what the site serves there")]
    Xml(#[source] uppsala::XmlError),
    /// The feed cannot be read.
    #[error("it is no feed that can be read (RSS, Atom, JSON Feed): check what the site serves there")]
    Feed(#[source] feed_rs::parser::ParseFeedError),
    /// The text of a PDF could not be had.
    #[error(transparent)]
    Pdf(#[from] PdfError),
    /// A selector cannot be evaluated on this document.
    #[error("the selector {name} cannot be evaluated: {message}")]
    Selector {
        /// The selector's name.
        name: String,
        /// What is wrong.
        message: String,
    },
    /// The document is of a type from which no text is taken.
    #[error("no text is taken from {content_type}: exclude such documents from the source")]
    Unsupported {
        /// Its type, by its first bytes.
        content_type: &'static str,
    },
}

impl ExtractError {
    /// The kind of failure, as runs, statuses and events name it.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Tree(error) => error.reason(),
            Self::TooMuch { .. } => "TooLarge",
            Self::Json(_) | Self::Xml(_) | Self::Feed(_) => "UnreadableDocument",
            Self::Pdf(error) => error.reason(),
            Self::Selector { .. } => "SelectorFailed",
            Self::Unsupported { .. } => "UnsupportedType",
        }
    }
}
