//! What of the evidence can be checked from outside.

use sha2::{Digest, Sha256};
use stack::Stack;

use crate::s3_client;

/// The SHA-256, in hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of a blob in the stack's object store.
pub async fn read_blob(stack: &Stack, uri: &str) -> Vec<u8> {
    let (bucket, key) = uri.strip_prefix("s3://").and_then(|path| path.split_once('/')).unwrap();
    let client = s3_client(&stack.s3().unwrap());
    let object = client.get_object().bucket(bucket).key(key).send().await.unwrap();
    object.body.collect().await.unwrap().to_vec()
}
