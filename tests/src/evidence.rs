//! What of the evidence can be checked from outside.

use sha2::{Digest, Sha256};
use stack::Stack;
use store::blobs::{BlobUri, Blobs, S3Blobs, S3Credentials, S3Options};
use tempfile::NamedTempFile;
use tokio::io::AsyncReadExt;

/// The SHA-256, in hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The stack's object store, and the file that has its credentials.
pub fn blobs(stack: &Stack) -> (S3Blobs, NamedTempFile) {
    let s3 = stack.s3().unwrap();
    let credentials = NamedTempFile::new().unwrap();
    let text = format!(
        "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
        s3.access_key, s3.secret_key
    );
    std::fs::write(credentials.path(), text).unwrap();
    let blobs = S3Blobs::new(&S3Options {
        endpoint: Some(s3.endpoint),
        region: s3.region,
        bucket: s3.bucket,
        path_style: true,
        ca_file: None,
        credentials: S3Credentials::File(credentials.path().to_owned()),
    });
    (blobs.unwrap(), credentials)
}

/// The bytes of a blob in the stack's object store.
pub async fn read_blob(stack: &Stack, uri: &str) -> Vec<u8> {
    let (blobs, _credentials) = blobs(stack);
    let uri: BlobUri = uri.parse().unwrap();
    let mut body = Vec::new();
    blobs.open(&uri).await.unwrap().read_to_end(&mut body).await.unwrap();
    body
}
