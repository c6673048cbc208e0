//! The spool, and what is particular to blobs in a directory. What every kind of blobs promises is tested in the package
//! `tests`, for directories and for a real object store alike.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use store::blobs::{BlobError, BlobKey, BlobUri, Blobs, DirectoryBlobs, Spool, SpooledBody};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;

const MEMORY_LIMIT: usize = 256 * 1024;

async fn spooled(spool: &Spool, chunks: &[&[u8]]) -> SpooledBody {
    let mut writer = spool.writer();
    for chunk in chunks {
        writer.write(chunk).await.unwrap();
    }
    writer.finish().await.unwrap()
}

async fn read(body: &SpooledBody) -> Vec<u8> {
    let mut bytes = Vec::new();
    body.open().await.unwrap().read_to_end(&mut bytes).await.unwrap();
    bytes
}

fn files(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect()
}

fn make_file(path: &Path, age: Duration) {
    let file = File::create(path).unwrap();
    file.set_modified(SystemTime::now() - age).unwrap();
}

/// Files are removed on another thread.
fn wait_until_empty(directory: &Path) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !files(directory).is_empty() {
        assert!(Instant::now() < deadline, "still there: {:?}", files(directory));
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn a_small_body_stays_in_memory() {
    let directory = TempDir::new().unwrap();
    let spool = Spool::open(directory.path()).await.unwrap();

    let body = spooled(&spool, &[b"a", b"", b"bc"]).await;
    // The example of FIPS 180.
    assert_eq!(body.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_eq!((body.byte_size, body.head.as_ref()), (3, b"abc".as_slice()));
    assert!(!body.is_in_file());
    assert_eq!((read(&body).await, read(&body).await), (b"abc".to_vec(), b"abc".to_vec()));

    let empty = spooled(&spool, &[]).await;
    assert_eq!(empty.sha256, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_eq!((empty.byte_size, read(&empty).await), (0, Vec::new()));
    assert!(files(directory.path()).is_empty());
}

#[tokio::test]
async fn a_large_body_goes_to_a_file_that_is_removed_on_drop() {
    let directory = TempDir::new().unwrap();
    let spool = Spool::open(directory.path()).await.unwrap();

    let at_limit = spooled(&spool, &[&[7; MEMORY_LIMIT]]).await;
    assert!(!at_limit.is_in_file());

    let bytes: Vec<u8> = (0..1_000_000_u32).map(|index| (index % 251) as u8).collect();
    let chunks: Vec<&[u8]> = bytes.chunks(10_007).collect();
    let body = spooled(&spool, &chunks).await;
    assert!(body.is_in_file());
    assert_eq!(body.byte_size, 1_000_000);
    assert_eq!(body.head.as_ref(), &bytes[..4096]);
    assert_eq!(read(&body).await, bytes);
    // Hashed at once, it has the same hash.
    assert_eq!(body.sha256, spooled(&spool, &[&bytes]).await.sha256);

    drop(body);
    wait_until_empty(directory.path());
}

#[tokio::test]
async fn a_writer_that_is_given_up_leaves_nothing() {
    let directory = TempDir::new().unwrap();
    let spool = Spool::open(directory.path()).await.unwrap();
    let mut writer = spool.writer();
    writer.write(&[1; MEMORY_LIMIT + 1]).await.unwrap();
    assert_eq!(files(directory.path()).len(), 1);
    drop(writer);
    wait_until_empty(directory.path());
}

#[tokio::test]
async fn only_abandoned_files_of_the_spool_are_removed_at_the_start() {
    let directory = TempDir::new().unwrap();
    let (abandoned, in_use, foreign) = (
        directory.path().join("spool-old"),
        directory.path().join("spool-new"),
        directory.path().join("notes"),
    );
    make_file(&abandoned, Duration::from_secs(24 * 60 * 60));
    make_file(&in_use, Duration::from_secs(60));
    make_file(&foreign, Duration::from_secs(24 * 60 * 60));

    Spool::open(directory.path()).await.unwrap();
    assert!(!abandoned.exists() && in_use.exists() && foreign.exists());
}

#[tokio::test]
async fn a_spool_that_cannot_write_says_where() {
    let directory = TempDir::new().unwrap();
    let place = directory.path().join("spool");
    let spool = Spool::open(&place).await.unwrap();
    fs::remove_dir(&place).unwrap();

    let error = spool.writer().write(&[0; MEMORY_LIMIT + 1]).await.unwrap_err();
    assert!(error.to_string().contains(&place.display().to_string()), "{error}");
    assert!(error.is_transient() && std::error::Error::source(&error).is_some());
}

#[tokio::test]
async fn the_key_is_the_day_in_utc_and_the_hash() {
    let directory = TempDir::new().unwrap();
    let spool = Spool::open(directory.path()).await.unwrap();
    let body = spooled(&spool, &[b"abc"]).await;
    let fetched_at: Timestamp = "2026-01-01T00:30:00+02:00".parse().unwrap();
    assert_eq!(
        BlobKey::new(42, fetched_at, &body).as_str(),
        "raw/42/2025/12/31/ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad.bin"
    );
}

#[tokio::test]
async fn a_blob_is_a_file_below_the_directory_and_nothing_else_is_left() {
    let directory = TempDir::new().unwrap();
    let blobs = DirectoryBlobs::open(directory.path().join("blobs")).await.unwrap();
    let spool = Spool::open(directory.path().join("spool")).await.unwrap();
    let body = spooled(&spool, &[b"abc"]).await;
    let key = BlobKey::new(1, Timestamp::UNIX_EPOCH, &body);

    let uri = blobs.put(&key, &body).await.unwrap();
    let path = directory.path().canonicalize().unwrap().join("blobs").join(key.as_str());
    assert_eq!(uri.to_string(), format!("file://{}", path.display()));
    assert_eq!(fs::read(&path).unwrap(), b"abc");
    assert!(files(&directory.path().join("blobs/incoming")).is_empty());
}

#[tokio::test]
async fn a_blob_of_another_size_is_replaced() {
    let directory = TempDir::new().unwrap();
    let blobs = DirectoryBlobs::open(directory.path()).await.unwrap();
    let spool = Spool::open(directory.path().join("spool")).await.unwrap();
    let body = spooled(&spool, &[b"abc"]).await;
    let key = BlobKey::new(1, Timestamp::UNIX_EPOCH, &body);
    let path = directory.path().join(key.as_str());
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, b"ab").unwrap();

    blobs.put(&key, &body).await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"abc");
}

#[tokio::test]
async fn what_lies_outside_the_directory_is_refused() {
    let directory = TempDir::new().unwrap();
    let blobs = DirectoryBlobs::open(directory.path().join("blobs")).await.unwrap();
    let outside = directory.path().join("secret");
    fs::write(&outside, b"secret").unwrap();
    let climbing = directory.path().canonicalize().unwrap().join("blobs/../secret");
    for uri in [
        BlobUri::File(outside),
        BlobUri::File(climbing),
        BlobUri::S3 { bucket: "bucket".to_owned(), key: "key".to_owned() },
    ] {
        assert!(matches!(blobs.open(&uri).await, Err(BlobError::Elsewhere { .. })), "{uri}");
        assert!(matches!(blobs.exists(&uri).await, Err(BlobError::Elsewhere { .. })), "{uri}");
    }
}
