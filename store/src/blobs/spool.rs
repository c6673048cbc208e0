//! The spool: holds a body of unknown length while it arrives, and knows its SHA-256 and size at the end.

use std::io::{self, Cursor};
use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha256};
use tempfile::TempPath;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use tokio::runtime::Handle;

use super::leftovers::{prepare_directory, run_blocking};
use super::{BlobError, BlobReader};

/// Bodies up to this size (bytes) stay in memory: most pages are smaller, and need no file.
const MEMORY_LIMIT: usize = 256 * 1024;

/// As much of a body (bytes) as anyone needs to tell its format.
const HEAD_SIZE: usize = 4 * 1024;

const FILE_PREFIX: &str = "spool-";

/// Makes a [`SpoolWriter`] for each body. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Spool {
    directory: Arc<Path>,
    memory_limit: usize,
}

impl Spool {
    /// A spool with its temporary files in `directory`, which is created when missing. Files that a killed process left
    /// there hours ago are removed.
    pub async fn open(directory: impl AsRef<Path>) -> Result<Self, BlobError> {
        let directory = directory.as_ref();
        prepare_directory(directory, FILE_PREFIX).await?;
        Ok(Self { directory: directory.into(), memory_limit: MEMORY_LIMIT })
    }

    /// Begins a body.
    pub fn writer(&self) -> SpoolWriter {
        SpoolWriter {
            spool: self.clone(),
            hasher: Sha256::new(),
            byte_size: 0,
            head: Vec::new(),
            sink: Sink::Memory(BytesMut::new()),
        }
    }

    async fn create_file(&self) -> Result<(File, SpoolFile), BlobError> {
        let directory = self.directory.clone();
        let created =
            run_blocking(move || tempfile::Builder::new().prefix(FILE_PREFIX).tempfile_in(directory))
                .await
                .map_err(BlobError::file("create a temporary file in", self.directory.as_ref()))?;
        let (file, path) = created.into_parts();
        Ok((File::from_std(file), SpoolFile(Some(path))))
    }
}

/// Takes the bytes of one body in order. Dropped before [`finish`](Self::finish), it leaves nothing behind.
#[derive(Debug)]
pub struct SpoolWriter {
    spool: Spool,
    hasher: Sha256,
    byte_size: u64,
    head: Vec<u8>,
    sink: Sink,
}

#[derive(Debug)]
enum Sink {
    Memory(BytesMut),
    File(File, SpoolFile),
}

impl SpoolWriter {
    /// Appends bytes. After an error, or when this call was cancelled, the body is lost: drop the writer.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        self.hasher.update(bytes);
        self.byte_size += bytes.len() as u64;
        let wanted = HEAD_SIZE.saturating_sub(self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..wanted]);

        if let Sink::Memory(buffer) = &mut self.sink {
            if buffer.len() + bytes.len() <= self.spool.memory_limit {
                buffer.extend_from_slice(bytes);
                return Ok(());
            }
            let buffered = buffer.split();
            let (file, path) = self.spool.create_file().await?;
            self.sink = Sink::File(file, path);
            self.write_to_file(&buffered).await?;
        }
        self.write_to_file(bytes).await
    }

    /// The number of bytes written so far.
    pub fn byte_size(&self) -> u64 {
        self.byte_size
    }

    /// Ends the body.
    pub async fn finish(self) -> Result<SpooledBody, BlobError> {
        let contents = match self.sink {
            Sink::Memory(buffer) => Contents::Memory(buffer.freeze()),
            Sink::File(mut file, path) => {
                // A tokio file reports the error of its last write only here.
                file.flush().await.map_err(BlobError::file("write", path.path()))?;
                Contents::File(Arc::new(path))
            }
        };
        Ok(SpooledBody {
            sha256: hex::encode(self.hasher.finalize()),
            byte_size: self.byte_size,
            head: self.head.into(),
            contents,
        })
    }

    async fn write_to_file(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        match &mut self.sink {
            Sink::File(file, path) => {
                file.write_all(bytes).await.map_err(BlobError::file("write", path.path()))
            }
            Sink::Memory(_) => Ok(()),
        }
    }
}

/// A whole body, held in memory or in a temporary file that is removed on drop.
#[derive(Debug)]
pub struct SpooledBody {
    /// SHA-256 of the body: 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// Its length in bytes.
    pub byte_size: u64,
    /// Its first bytes, at most 4 KiB: enough to tell its format.
    pub head: Bytes,
    contents: Contents,
}

/// Shared, so that a copy under way on a blocking thread keeps the file when its caller gives up.
#[derive(Debug, Clone)]
pub(super) enum Contents {
    Memory(Bytes),
    File(Arc<SpoolFile>),
}

impl Contents {
    /// Copies all of it to `target` and says how many bytes that was. Blocks.
    pub(super) fn copy_to(&self, target: &mut std::fs::File) -> io::Result<u64> {
        match self {
            Self::Memory(bytes) => io::copy(&mut bytes.as_ref(), target),
            Self::File(file) => io::copy(&mut std::fs::File::open(file.path())?, target),
        }
    }
}

impl SpooledBody {
    /// Reads the body from its start; may be called again.
    pub async fn open(&self) -> Result<BlobReader, BlobError> {
        match &self.contents {
            Contents::Memory(bytes) => Ok(Box::pin(Cursor::new(bytes.clone()))),
            Contents::File(file) => {
                let opened = File::open(file.path()).await.map_err(BlobError::file("open", file.path()))?;
                Ok(Box::pin(opened))
            }
        }
    }

    /// Whether the body is held in a file rather than in memory.
    pub fn is_in_file(&self) -> bool {
        matches!(self.contents, Contents::File(_))
    }

    pub(super) fn contents(&self) -> &Contents {
        &self.contents
    }
}

/// A temporary file, removed on drop, off the runtime's threads. `None` only while it is being dropped.
#[derive(Debug)]
pub(super) struct SpoolFile(Option<TempPath>);

impl SpoolFile {
    pub(super) fn path(&self) -> &Path {
        self.0.as_deref().unwrap_or(Path::new(""))
    }
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        let path = self.0.take();
        match Handle::try_current() {
            // A runtime that is shutting down drops the task, and with it the file.
            Ok(runtime) => drop(runtime.spawn_blocking(move || drop(path))),
            Err(_) => drop(path),
        }
    }
}
