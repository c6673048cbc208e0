//! Webhooks: the delivery's JSON by POST, signed as Standard Webhooks 1.0.0 has it
//! (<https://www.standardwebhooks.com>).

use changes::{Delivery, SigningSecret, sign};
use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use store::catalog::SecretKey;
use url::Url;

use super::{Answer, SendError, Sender, excerpt::Hidden, http::Post, secret_name};

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

impl Sender {
    /// Sends to an endpoint, signed with each of the secrets; without any, unsigned.
    pub(super) async fn send_webhook(
        &self,
        url: &str,
        secrets: [Option<&SecretKey>; 2],
        namespace: &str,
        delivery: &Delivery,
        now: Timestamp,
    ) -> Result<Answer, SendError> {
        let url: Url = url.parse()?;
        let mut signing = Vec::with_capacity(secrets.len());
        for key in secrets.into_iter().flatten() {
            signing.push(self.signing_secret(namespace, key).await?);
        }
        let json = serde_json::to_vec(delivery)?;
        let headers = signed_headers(&signing, delivery, &json, now);
        let hidden = Hidden::query_of(&url);
        Ok(self.post(Post { url: &url, headers, json, hidden }, now).await?.into())
    }

    async fn signing_secret(&self, namespace: &str, key: &SecretKey) -> Result<SigningSecret, SendError> {
        let value = self.secret(namespace, key).await?;
        value.parse().map_err(|source| SendError::SigningSecret {
            secret: secret_name(namespace, key),
            key: key.key.clone(),
            source,
        })
    }
}

/// Which delivery it is and when it was tried is said in any case: an unsigned receiver wants to know it too.
fn signed_headers(secrets: &[SigningSecret], delivery: &Delivery, json: &[u8], now: Timestamp) -> HeaderMap {
    let signed = sign(secrets, &delivery.data.id.to_string(), now, json);
    let mut named = vec![(ID, signed.id), (TIMESTAMP, signed.timestamp)];
    if !secrets.is_empty() {
        named.push((SIGNATURE, signed.signature));
    }
    // A UUID, a number and base64 are headers' values.
    named.into_iter().filter_map(|(name, value)| Some((name, HeaderValue::try_from(value).ok()?))).collect()
}
