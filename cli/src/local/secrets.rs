//! The Secrets of the manifests: in memory, and nowhere else.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use worker::secrets::{SecretError, SecretName, SecretReader, SecretValues};

use crate::manifests::Manifests;

/// What the manifests held when they were last read. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct ManifestSecrets {
    known: Arc<RwLock<BTreeMap<SecretName, Arc<SecretValues>>>>,
}

impl ManifestSecrets {
    /// Takes the Secrets of the manifests in force.
    pub(crate) fn update(&self, manifests: &Manifests) {
        // A map is whole between any two calls.
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        // One that is missing because of a problem was not taken away by anybody.
        if manifests.problems.is_empty() {
            known.clear();
        }
        known.extend(manifests.secrets.iter().map(|(secret, values)| (secret.clone(), values.clone())));
    }
}

#[async_trait]
impl SecretReader for ManifestSecrets {
    async fn read(&self, secret: &SecretName) -> Result<Arc<SecretValues>, SecretError> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(secret).cloned().ok_or_else(|| SecretError::NotFound { secret: secret.clone() })
    }
}
