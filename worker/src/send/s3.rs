//! S3: an object in a bucket of the user's, in the object store that has the raw bytes, with the same credentials.

use changes::{Delivery, object_key};

use super::{Answer, SendError, Sender};

impl Sender {
    /// Puts the delivery's JSON into a bucket. A further attempt puts the same under the same key.
    pub(super) async fn send_object(
        &self,
        bucket: &str,
        prefix: &str,
        delivery: &Delivery,
    ) -> Result<Answer, SendError> {
        let json = serde_json::to_vec(delivery)?;
        let key = object_key(prefix, delivery);
        let put = self.blobs.put_object(bucket, &key, "application/json", json.into()).await;
        Ok(Answer::delivered(put.map_err(SendError::NotStored)?.to_string()))
    }
}
