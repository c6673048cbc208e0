//! S3: where objects go. Here the raw bytes are kept in a directory, and so are they.

use std::fs;
use std::path::{Path, PathBuf};

use changes::{Delivery, Outcome};
use events::run_reasons;
use store::catalog::TargetPlace;

use crate::sending::{RETRY, Sending, delivery};

fn s3(bucket: &str, prefix: &str) -> TargetPlace {
    TargetPlace::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[tokio::test]
async fn a_further_attempt_writes_the_same_object_again() {
    let sending = Sending::local(&[]).await;
    let blobs = sending.directory.path().join("blobs").canonicalize().unwrap();
    let id = delivery().data.id;
    let path = blobs.join(format!("buckets/opinions/changes/courts/slip-opinions/2026/03/09/{id}.json"));
    for _ in 0..2 {
        let attempt = sending.send(s3("opinions", "changes/")).await;
        assert_eq!((attempt.outcome, attempt.status), (Outcome::Delivered, None));
        assert_eq!(attempt.reason, run_reasons::DELIVERED);
        assert_eq!(attempt.detail, format!("file://{}", path.display()));
        assert_eq!(files(&blobs), std::slice::from_ref(&path));
        assert_eq!(serde_json::from_slice::<Delivery>(&fs::read(&path).unwrap()).unwrap(), delivery());
        // What stood there in its place, of the same length, does not stay.
        let length = fs::metadata(&path).unwrap().len();
        fs::write(&path, vec![b'x'; usize::try_from(length).unwrap()]).unwrap();
    }
    assert_eq!(sending.send(s3("opinions", "changes/")).await.outcome, Outcome::Delivered);
    assert_eq!(serde_json::from_slice::<Delivery>(&fs::read(&path).unwrap()).unwrap(), delivery());
}

#[tokio::test]
async fn nothing_is_written_outside_the_bucket() {
    let sending = Sending::local(&[]).await;
    for (bucket, prefix) in [
        ("..", ""),
        ("opinions/../..", ""),
        ("", ""),
        ("opinions", "../"),
        ("opinions", "a/../../../raw/"),
        ("opinions", "/etc/"),
    ] {
        let attempt = sending.send(s3(bucket, prefix)).await;
        assert_eq!((attempt.outcome, attempt.reason), (RETRY, run_reasons::OBJECT_NOT_STORED));
    }
    assert!(files(sending.directory.path()).is_empty());
}
