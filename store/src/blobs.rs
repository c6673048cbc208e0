//! Blobs: the raw bytes of what was fetched, in an S3-compatible object store or in a directory.
//!
//! A body first goes into a [`Spool`], which computes its SHA-256 while it arrives; a [`SpooledBody`] is then put into
//! [`Blobs`] under a [`BlobKey`] made of its source, its day and its hash. A blob never changes once it is there:
//! putting the same body again changes nothing, and a crash at any moment leaves either no blob or a whole one.

mod credentials;
mod directory;
mod error;
mod leftovers;
mod recent;
mod s3;
mod spool;
mod uri;

use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::io::AsyncRead;
use uuid::Uuid;

pub use credentials::S3Credentials;
pub use directory::DirectoryBlobs;
pub use error::BlobError;
pub use recent::RecentBlobs;
pub use s3::{S3Blobs, S3Options};
pub use spool::{Spool, SpoolWriter, SpooledBody};
pub use uri::BlobUri;

/// The bytes of a blob or of a spooled body, to be read once from the start.
pub type BlobReader = Pin<Box<dyn AsyncRead + Send>>;

/// Where raw bytes are kept.
#[async_trait]
pub trait Blobs: fmt::Debug + Send + Sync {
    /// Stores `body` under `key` and says where it is. Returns once the blob is durable.
    ///
    /// A large body is not uploaded when a blob of that key and size is already there: the key holds the hash of its bytes.
    async fn put(&self, key: &BlobKey, body: &SpooledBody) -> Result<BlobUri, BlobError>;

    /// Opens the blob at `uri`; [`BlobError::NotFound`] when there is none.
    async fn open(&self, uri: &BlobUri) -> Result<BlobReader, BlobError>;

    /// Whether there is a blob at `uri`.
    async fn exists(&self, uri: &BlobUri) -> Result<bool, BlobError>;

    /// Deletes the blob at `uri`, or finds that there is none. [`BlobError::OtherCatalog`] when it is in a bucket that was configured
    /// before, and is another catalog's.
    async fn delete(&self, uri: &BlobUri) -> Result<(), BlobError>;

    /// Puts a small object into a bucket of a user's, over what is there: no blob, which has neither a bucket of its own
    /// nor a key that anybody chose. The bucket is not created. A directory has a folder for each such bucket.
    ///
    /// # Errors
    /// [`BlobError::InvalidUri`] when `bucket` is no bucket's name or `key` climbs; others when it is not stored.
    async fn put_object(
        &self,
        bucket: &str,
        key: &str,
        content_type: &str,
        bytes: Bytes,
    ) -> Result<BlobUri, BlobError>;
}

/// Where to keep blobs, as configured.
#[derive(Debug, Clone)]
pub enum BlobLocation {
    /// A directory of this machine; it is created when missing.
    Directory(PathBuf),
    /// A bucket of an S3-compatible object store; it is created when missing.
    S3(S3Options),
}

/// Opens the blobs at `location`, creating its directory or bucket when missing, for the catalog of this
/// [identity](crate::catalog::Catalog::identity): the first that comes gets it, and no other.
///
/// # Errors
/// [`BlobError::OtherCatalog`] when another catalog has it; others when it cannot be used.
pub async fn connect(location: &BlobLocation, catalog: Uuid) -> Result<Arc<dyn Blobs>, BlobError> {
    match location {
        BlobLocation::Directory(path) => {
            let blobs = DirectoryBlobs::open(path).await?;
            blobs.claim(catalog).await?;
            Ok(Arc::new(blobs))
        }
        BlobLocation::S3(options) => {
            let blobs = S3Blobs::new(options, catalog)?;
            blobs.ensure_bucket().await?;
            blobs.claim().await?;
            Ok(Arc::new(blobs))
        }
    }
}

/// `owner` is what stands in the [`OWNER`] at `marker`.
fn check_owner(marker: String, owner: &[u8], catalog: Uuid) -> Result<(), BlobError> {
    let owner = String::from_utf8_lossy(owner).trim().to_owned();
    if owner == catalog.to_string() {
        Ok(())
    } else {
        Err(BlobError::OtherCatalog { marker, owner, catalog })
    }
}

/// Refuses an object that would not stay where its user may put it: in a bucket that is none, or under a key that climbs
/// into another one on its way through a file system or a proxy.
fn check_object(bucket: &str, key: &str) -> Result<(), BlobError> {
    let invalid = |reason| Err(BlobError::InvalidUri { uri: format!("s3://{bucket}/{key}"), reason });
    if !is_bucket_name(bucket) {
        return invalid(NOT_A_BUCKET);
    }
    if key.is_empty() || key.starts_with('/') || key.split('/').any(|part| matches!(part, "." | "..")) {
        return invalid("its key must not be empty, begin with a slash or have . or .. between slashes");
    }
    Ok(())
}

/// What a bucket is called, in the rules of S3 that other object stores have too.
fn is_bucket_name(name: &str) -> bool {
    let is_allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
    (3..=63).contains(&name.len())
        && name.bytes().all(is_allowed)
        // Neither a path's `..` nor an empty label of a host's name.
        && !name.split('.').any(str::is_empty)
}

/// What is said of a name that is none.
const NOT_A_BUCKET: &str = "it is not a bucket name: 3 to 63 lower-case letters, digits, hyphens and dots";

/// What the keys of blobs begin with.
const RAW: &str = "raw/";

/// The key that has the identity of the catalog whose blobs these are. It is among theirs, so that whoever may write them may write
/// it, and is copied with them.
const OWNER: &str = "raw/catalog";

/// The key of a blob: `raw/{source_id}/{yyyy}/{mm}/{dd}/{sha256}.bin`, the day in UTC.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BlobKey(String);

impl BlobKey {
    /// The key of `body`, fetched for a source at a time.
    ///
    /// It is made from the body itself, so that a key always names the hash of the bytes stored under it.
    pub fn new(source_id: i64, fetched_at: Timestamp, body: &SpooledBody) -> Self {
        let day = fetched_at.to_zoned(TimeZone::UTC).date().strftime("%Y/%m/%d");
        Self(format!("{RAW}{source_id}/{day}/{}.bin", body.sha256))
    }

    /// The key of a body that was stored and removed so often before: `….bin` becomes `…-{removals}.bin`, so that no key
    /// is ever used again and a deletion that comes late meets nothing.
    #[must_use]
    pub fn after_removals(self, removals: i64) -> Self {
        match (removals, self.0.strip_suffix(".bin")) {
            (1.., Some(stem)) => Self(format!("{stem}-{removals}.bin")),
            _ => self,
        }
    }

    /// The key as the object store knows it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BlobKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_object_stays_in_its_bucket() {
        for (bucket, key) in [
            ("opinions", "courts/slip-opinions/2026/03/09/id.json"),
            ("my.bucket-7", "id.json"),
            ("opinions", "a//b/..c/d..e/.f/id.json"),
        ] {
            check_object(bucket, key).unwrap();
        }
        for (bucket, key) in [
            ("", "id.json"),
            ("ab", "id.json"),
            ("..", "id.json"),
            ("...", "id.json"),
            ("a..b", "id.json"),
            ("Opinions", "id.json"),
            ("opinions/raw", "id.json"),
            ("opinions", ""),
            ("opinions", "/id.json"),
            ("opinions", "../evidence/id.json"),
            ("opinions", "a/../../evidence/id.json"),
            ("opinions", "a/./id.json"),
            ("opinions", "a/.."),
        ] {
            let refused = check_object(bucket, key);
            assert!(matches!(refused, Err(BlobError::InvalidUri { .. })), "{bucket} {key}");
        }
    }
}
