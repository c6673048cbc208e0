//! Secrets of the cluster.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Client, Resource,
    core::{Request, params::GetParams},
};
use tokio::{sync::OnceCell, time::timeout};

use super::{SecretError, SecretName, SecretReader, SecretValues};

const READ_WITHIN: Duration = Duration::from_secs(10);

/// Reads Secrets from the API server, each by one `get`: no other verb is needed.
///
/// The client is made, of the kubeconfig or the pod's service account, when the first Secret is asked for: without
/// Secrets no API server is needed.
#[derive(Default)]
pub struct ClusterSecrets {
    client: OnceCell<Client>,
}

/// Why an answer is of no use.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("no way to the API server is configured: neither a kubeconfig nor a service account's token")]
    NotConfigured(#[source] kube::Error),
    #[error("the API server did not give it")]
    Refused(#[source] kube::Error),
    #[error("the API server did not answer within {} seconds", READ_WITHIN.as_secs())]
    TooLate,
    /// Without what the parser says, which might quote a value.
    #[error("the API server's answer is no Secret")]
    NoSecret,
}

#[async_trait]
impl SecretReader for ClusterSecrets {
    async fn read(&self, secret: &SecretName) -> Result<Arc<SecretValues>, SecretError> {
        let reading = timeout(READ_WITHIN, self.ask(secret)).await;
        let failure = match reading.unwrap_or(Err(Failure::TooLate)) {
            Ok(values) => return Ok(Arc::new(values)),
            Err(failure) => failure,
        };
        let secret = secret.clone();
        Err(match &failure {
            Failure::Refused(kube::Error::Api(status)) if status.code == 404 => {
                SecretError::NotFound { secret }
            }
            Failure::Refused(kube::Error::Api(status)) if status.code == 403 => {
                SecretError::Forbidden { secret, source: Arc::new(failure) }
            }
            Failure::NotConfigured(_) => SecretError::Forbidden { secret, source: Arc::new(failure) },
            Failure::Refused(_) | Failure::TooLate | Failure::NoSecret => {
                SecretError::Unavailable { secret, source: Arc::new(failure) }
            }
        })
    }
}

impl ClusterSecrets {
    /// The client's own reading of objects would log an answer that it does not understand: a Secret.
    async fn ask(&self, secret: &SecretName) -> Result<SecretValues, Failure> {
        let client =
            self.client.get_or_try_init(Client::try_default).await.map_err(Failure::NotConfigured)?;
        let request = Request::new(Secret::url_path(&(), Some(&secret.namespace)))
            .get(&secret.name, &GetParams::default())
            .map_err(|error| Failure::Refused(kube::Error::BuildRequest(error)))?;
        let answer = client.request_text(request).await.map_err(Failure::Refused)?;
        let found: Secret = serde_json::from_str(&answer).map_err(|_| Failure::NoSecret)?;
        Ok(SecretValues::new(found.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0))))
    }
}
