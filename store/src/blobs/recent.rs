//! Bodies that were stored a moment ago, read from memory by those who work on them next in the same process.

use std::collections::{HashMap, VecDeque};
use std::io::Cursor;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::spool::Contents;
use super::{BlobError, BlobKey, BlobReader, BlobUri, Blobs, SpooledBody};

/// The most that is kept, in bytes.
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// Blobs of which those that were stored last are in memory too, unless they are large. What is kept here was stored first, and a
/// blob never changes.
#[derive(Debug)]
pub struct RecentBlobs {
    blobs: Arc<dyn Blobs>,
    most_bytes: usize,
    recent: Mutex<Recent>,
}

#[derive(Debug, Default)]
struct Recent {
    bodies: HashMap<BlobUri, Bytes>,
    /// The first is the oldest.
    order: VecDeque<BlobUri>,
    bytes: usize,
}

impl RecentBlobs {
    /// Keeps some of what is stored in `blobs`.
    pub fn new(blobs: Arc<dyn Blobs>) -> Self {
        Self { blobs, most_bytes: MOST_BYTES, recent: Mutex::default() }
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        // Nothing panics while it is locked.
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, uri: &BlobUri, body: &Bytes) {
        let mut recent = self.recent();
        if body.len() > self.most_bytes || recent.bodies.contains_key(uri) {
            return;
        }
        while recent.bytes + body.len() > self.most_bytes
            && let Some(oldest) = recent.order.pop_front()
        {
            recent.take(&oldest);
        }
        recent.bytes += body.len();
        recent.order.push_back(uri.clone());
        // The buffer that a body arrived in may be larger than the body.
        recent.bodies.insert(uri.clone(), Bytes::copy_from_slice(body));
    }
}

impl Recent {
    fn forget(&mut self, uri: &BlobUri) {
        if self.take(uri) {
            self.order.retain(|kept| kept != uri);
        }
    }

    /// Takes a body out, and leaves its place in the order.
    fn take(&mut self, uri: &BlobUri) -> bool {
        let body = self.bodies.remove(uri);
        self.bytes -= body.as_ref().map_or(0, Bytes::len);
        body.is_some()
    }
}

#[async_trait]
impl Blobs for RecentBlobs {
    async fn put(&self, key: &BlobKey, body: &SpooledBody) -> Result<BlobUri, BlobError> {
        let uri = self.blobs.put(key, body).await?;
        if let Contents::Memory(bytes) = body.contents() {
            self.keep(&uri, bytes);
        }
        Ok(uri)
    }

    async fn open(&self, uri: &BlobUri) -> Result<BlobReader, BlobError> {
        let kept = self.recent().bodies.get(uri).cloned();
        match kept {
            Some(body) => Ok(Box::pin(Cursor::new(body))),
            None => self.blobs.open(uri).await,
        }
    }

    async fn exists(&self, uri: &BlobUri) -> Result<bool, BlobError> {
        self.blobs.exists(uri).await
    }

    async fn delete(&self, uri: &BlobUri) -> Result<(), BlobError> {
        self.recent().forget(uri);
        self.blobs.delete(uri).await
    }

    async fn put_object(
        &self,
        bucket: &str,
        key: &str,
        content_type: &str,
        bytes: Bytes,
    ) -> Result<BlobUri, BlobError> {
        self.blobs.put_object(bucket, key, content_type, bytes).await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use jiff::Timestamp;
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::blobs::{DirectoryBlobs, Spool};

    struct Place {
        spool: Spool,
        blobs: RecentBlobs,
        /// The same without what is in memory.
        stored: DirectoryBlobs,
        _folder: tempfile::TempDir,
    }

    impl Place {
        async fn new(most_bytes: usize) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let spool = Spool::open(folder.path().join("spool")).await.unwrap();
            let stored = DirectoryBlobs::open(folder.path().join("blobs")).await.unwrap();
            let blobs = RecentBlobs { most_bytes, ..RecentBlobs::new(Arc::new(stored.clone())) };
            Self { spool, blobs, stored, _folder: folder }
        }

        async fn put(&self, body: &[u8]) -> BlobUri {
            let mut writer = self.spool.writer();
            writer.write(body).await.unwrap();
            let body = writer.finish().await.unwrap();
            let key = BlobKey::new(7, Timestamp::UNIX_EPOCH, &body);
            self.blobs.put(&key, &body).await.unwrap()
        }

        /// What is read after the stored blob is gone: nothing of what is not in memory.
        async fn kept(&self, uri: &BlobUri) -> Option<Vec<u8>> {
            self.stored.delete(uri).await.unwrap();
            let mut bytes = Vec::new();
            match self.blobs.open(uri).await {
                Ok(mut reader) => reader.read_to_end(&mut bytes).await.unwrap(),
                Err(BlobError::NotFound(_)) => return None,
                Err(error) => panic!("{error}"),
            };
            Some(bytes)
        }
    }

    #[tokio::test]
    async fn what_was_stored_last_is_in_memory_as_far_as_there_is_room() {
        let place = Place::new(10).await;
        let (first, second) = (place.put(b"first").await, place.put(b"other").await);
        assert!(place.stored.exists(&first).await.unwrap(), "it is stored as well");
        assert_eq!(place.put(b"first").await, first, "stored again, it is no second one");
        let third = place.put(b"third").await;
        assert_eq!(place.kept(&first).await, None);
        assert_eq!(place.kept(&second).await.as_deref(), Some(&b"other"[..]));
        assert_eq!(place.kept(&third).await.as_deref(), Some(&b"third"[..]));
        let large = place.put(b"more than ten").await;
        assert_eq!(place.kept(&large).await, None);
        assert_eq!(place.kept(&third).await.as_deref(), Some(&b"third"[..]), "it has made no room in vain");
    }

    #[tokio::test]
    async fn what_is_in_a_file_is_read_from_the_store() {
        let place = Place::new(MOST_BYTES).await;
        let large = place.put(&vec![b'x'; 300 * 1024]).await;
        assert_eq!(place.kept(&large).await, None);
    }

    #[tokio::test]
    async fn what_was_deleted_is_gone_and_leaves_room() {
        let place = Place::new(10).await;
        let (first, second) = (place.put(b"first").await, place.put(b"other").await);
        place.blobs.delete(&first).await.unwrap();
        assert!(matches!(place.blobs.open(&first).await, Err(BlobError::NotFound(_))));
        let third = place.put(b"third").await;
        for uri in [second, third] {
            assert!(place.kept(&uri).await.is_some(), "{uri}");
        }
    }
}
