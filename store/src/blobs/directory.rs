//! Blobs as files of a directory.

use std::fs;
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::fs::File;
use uuid::Uuid;

use super::leftovers::{prepare_directory, run_blocking};
use super::spool::Contents;
use super::{BlobError, BlobKey, BlobReader, BlobUri, Blobs, OWNER, SpooledBody, check_object, check_owner};

/// Blobs are written here first, then renamed into place: on the same filesystem, and never seen half written.
const INCOMING: &str = "incoming";

const FILE_PREFIX: &str = "blob-";

/// Has a folder for each bucket that users' objects are put into.
const BUCKETS: &str = "buckets";

/// Keeps each blob in a file named by its key below one directory.
#[derive(Debug, Clone)]
pub struct DirectoryBlobs {
    root: PathBuf,
}

impl DirectoryBlobs {
    /// Blobs below `root`, which is created when missing. Addresses name the real path: links are followed here, once.
    pub async fn open(root: impl AsRef<Path>) -> Result<Self, BlobError> {
        let root = root.as_ref();
        prepare_directory(&root.join(INCOMING), FILE_PREFIX).await?;
        let root =
            tokio::fs::canonicalize(root).await.map_err(BlobError::file("open the directory", root))?;
        Ok(Self { root })
    }

    /// Makes the directory the catalog's, unless it is one's already.
    ///
    /// # Errors
    /// [`BlobError::OtherCatalog`] when it is another's.
    pub async fn claim(&self, catalog: Uuid) -> Result<(), BlobError> {
        let (root, path) = (self.root.clone(), self.root.join(OWNER));
        let owner = run_blocking({
            let path = path.clone();
            move || match fs::read(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let text = catalog.to_string();
                    write_whole(&root, &path, Existing::Stays, |file| file.write_all(text.as_bytes()))?;
                    fs::read(&path)
                }
                read => read,
            }
        })
        .await
        .map_err(BlobError::file("say whose the directory is in", &path))?;
        check_owner(path.display().to_string(), &owner, catalog)
    }

    fn path_of<'a>(&self, uri: &'a BlobUri) -> Result<&'a Path, BlobError> {
        match uri {
            // Parsing an address takes dots away; one made by hand may still climb.
            BlobUri::File(path)
                if path.starts_with(&self.root)
                    && !path.components().any(|part| part == Component::ParentDir) =>
            {
                Ok(path)
            }
            _ => Err(BlobError::Elsewhere { uri: uri.clone(), storage: self.root.display().to_string() }),
        }
    }
}

#[async_trait]
impl Blobs for DirectoryBlobs {
    async fn put(&self, key: &BlobKey, body: &SpooledBody) -> Result<BlobUri, BlobError> {
        let path = self.root.join(key.as_str());
        let (root, contents, byte_size) = (self.root.clone(), body.contents().clone(), body.byte_size);
        run_blocking({
            let path = path.clone();
            move || store(&root, &path, &contents, byte_size)
        })
        .await
        .map_err(BlobError::file("store the blob", &path))?;
        Ok(BlobUri::File(path))
    }

    async fn open(&self, uri: &BlobUri) -> Result<BlobReader, BlobError> {
        let path = self.path_of(uri)?;
        match File::open(path).await {
            Ok(file) => Ok(Box::pin(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(BlobError::NotFound(uri.clone())),
            Err(error) => Err(BlobError::file("open the blob", path)(error)),
        }
    }

    async fn exists(&self, uri: &BlobUri) -> Result<bool, BlobError> {
        let path = self.path_of(uri)?;
        tokio::fs::try_exists(path).await.map_err(BlobError::file("look for the blob", path))
    }

    async fn delete(&self, uri: &BlobUri) -> Result<(), BlobError> {
        let path = self.path_of(uri)?;
        match tokio::fs::remove_file(path).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(BlobError::file("delete the blob", path)(error))
            }
            _ => Ok(()),
        }
    }

    async fn put_object(
        &self,
        bucket: &str,
        key: &str,
        _content_type: &str,
        bytes: Bytes,
    ) -> Result<BlobUri, BlobError> {
        check_object(bucket, key)?;
        let path = self.root.join(BUCKETS).join(bucket).join(key);
        let root = self.root.clone();
        run_blocking({
            let path = path.clone();
            move || write_whole(&root, &path, Existing::IsReplaced, |file| file.write_all(&bytes))
        })
        .await
        .map_err(BlobError::file("store the object", &path))?;
        Ok(BlobUri::File(path))
    }
}

fn store(root: &Path, path: &Path, contents: &Contents, byte_size: u64) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|there| there.len() == byte_size) {
        return Ok(());
    }
    write_whole(root, path, Existing::IsReplaced, |file| {
        let copied = contents.copy_to(file)?;
        if copied != byte_size {
            let problem = format!("the spooled body has {copied} bytes instead of {byte_size}");
            return Err(io::Error::other(problem));
        }
        Ok(())
    })
}

/// What becomes of a file that is there already.
#[derive(Clone, Copy)]
enum Existing {
    Stays,
    IsReplaced,
}

/// Writes a file below `root` so that, whatever happens, it is there wholly or as it was.
fn write_whole(
    root: &Path,
    path: &Path,
    existing: Existing,
    write: impl FnOnce(&mut fs::File) -> io::Result<()>,
) -> io::Result<()> {
    let mut incoming = tempfile::Builder::new().prefix(FILE_PREFIX).tempfile_in(root.join(INCOMING))?;
    write(incoming.as_file_mut())?;
    incoming.as_file().sync_all()?;

    let parent = path.parent().unwrap_or(root);
    create_directory(parent)?;
    match existing {
        Existing::IsReplaced => incoming.persist(path).map(drop)?,
        Existing::Stays => match incoming.persist_noclobber(path) {
            Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => return Err(error.into()),
            _ => {}
        },
    }
    sync_directory(parent)
}

/// Creates a directory and those above it so that they survive a power failure.
fn create_directory(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let Some(parent) = directory.parent() else {
        return Ok(());
    };
    create_directory(parent)?;
    match fs::create_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => sync_directory(parent),
    }
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    fs::File::open(directory)?.sync_all()
}
