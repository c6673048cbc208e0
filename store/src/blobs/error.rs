//! What can go wrong with blobs.

use std::io;
use std::path::PathBuf;

use uuid::Uuid;

use super::uri::BlobUri;

/// An error of the blobs or of the spool. It names what was touched; the cause is its source.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The options do not describe a storage that can be used.
    #[error("the blob storage is not configured correctly: {0}")]
    Configuration(String),

    /// A file with credentials could not be read.
    #[error("could not read the credentials of the object store from {}", path.display())]
    CredentialsFile {
        /// The configured file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },

    /// Text that is not the address of a blob.
    #[error("{uri:?} is not the address of a blob: {reason}")]
    InvalidUri {
        /// The text.
        uri: String,
        /// What is wrong with it.
        reason: &'static str,
    },

    /// The address of a blob that another storage keeps.
    #[error(
        "{uri} is not kept in {storage}: the storage configured now is not the one the blob was written to"
    )]
    Elsewhere {
        /// The blob.
        uri: BlobUri,
        /// The storage that was asked.
        storage: String,
    },

    /// The bucket or directory is another catalog's.
    #[error(
        "{marker} says that what is stored there belongs to {owner}, and this catalog is {catalog}: two catalogs give the same \
         keys, and what one removes the other may need. Give this one a bucket or directory of its own; if the other is gone for \
         good, delete {marker}"
    )]
    OtherCatalog {
        /// Where it is said: `s3://bucket/key`, or a file.
        marker: String,
        /// The identity of the catalog that has it.
        owner: String,
        /// The identity of the catalog that asked.
        catalog: Uuid,
    },

    /// No blob is there.
    #[error("there is no blob at {0}")]
    NotFound(BlobUri),

    /// A file or a directory could not be used.
    #[error("could not {action} {}", path.display())]
    File {
        /// What was tried: "write", "open" …
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },

    /// The object store refused a request or did not answer it.
    #[error("could not {action} {target}: {reason}")]
    ObjectStore {
        /// What was tried: "store", "create the bucket" …
        action: &'static str,
        /// The object, `s3://bucket/key`, or the bucket, `s3://bucket`.
        target: String,
        /// The object store's answer, or why there is none.
        reason: String,
        /// Whether the object store says that the credentials do not permit it.
        denied: bool,
        /// The client's error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl BlobError {
    /// Whether the same call may succeed later with nothing changed here.
    ///
    /// A refusal for want of permission counts: an administrator grants it elsewhere, and no bytes should be lost until then.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::File { .. } | Self::ObjectStore { .. } | Self::CredentialsFile { .. } => true,
            Self::Configuration(_)
            | Self::InvalidUri { .. }
            | Self::Elsewhere { .. }
            | Self::OtherCatalog { .. }
            | Self::NotFound(_) => false,
        }
    }

    /// For `map_err` on what is done to a file.
    pub(super) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}
