//! What is in the bucket, read with a client of the checker's own.

use std::collections::BTreeMap;

use aws_sdk_s3::{Client, primitives::ByteStream};
use futures::{StreamExt, TryStreamExt, stream};
use stack::S3;
use tests::{s3_client, sha256};

use crate::{Failure, Received, world::DELIVERED};

const AT_ONCE: usize = 8;

/// A client of the bucket.
pub struct Bucket {
    client: Client,
    name: String,
}

/// The bucket's objects.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// The SHA-256 of each object, by its URI.
    pub hashes: BTreeMap<String, String>,
    /// Deliveries to the bucket.
    pub delivered: Vec<Received>,
}

impl Bucket {
    /// Asks nothing yet.
    #[must_use]
    pub fn new(s3: S3) -> Self {
        Self { client: s3_client(&s3), name: s3.bucket }
    }

    /// Reads all objects.
    pub async fn read(&self) -> Result<Objects, Failure> {
        let keys = self.keys().await?;
        let mut bodies = stream::iter(keys)
            .map(|key| async {
                let body = self.get(&key).await?;
                Ok::<_, Failure>((key, body))
            })
            .buffered(AT_ONCE);
        let mut objects = Objects::default();
        while let Some((key, body)) = bodies.try_next().await? {
            if key.starts_with(DELIVERED) {
                objects.delivered.extend(Received::read(&body, true));
            }
            objects.hashes.insert(format!("s3://{}/{key}", self.name), sha256(&body));
        }
        Ok(objects)
    }

    /// The names of all objects.
    pub async fn keys(&self) -> Result<Vec<String>, Failure> {
        let mut keys = Vec::new();
        let mut pages = self.client.list_objects_v2().bucket(&self.name).into_paginator().send();
        while let Some(page) = pages.next().await {
            keys.extend(page?.contents().iter().filter_map(|object| object.key().map(str::to_owned)));
        }
        Ok(keys)
    }

    /// The bytes of an object.
    pub async fn get(&self, key: &str) -> Result<Vec<u8>, Failure> {
        let object = self.client.get_object().bucket(&self.name).key(key).send().await?;
        Ok(object.body.collect().await?.to_vec())
    }

    /// Writes an object.
    pub async fn put(&self, key: &str, body: Vec<u8>) -> Result<(), Failure> {
        self.client.put_object().bucket(&self.name).key(key).body(ByteStream::from(body)).send().await?;
        Ok(())
    }

    /// Deletes an object.
    pub async fn delete(&self, key: &str) -> Result<(), Failure> {
        self.client.delete_object().bucket(&self.name).key(key).send().await?;
        Ok(())
    }
}
