//! Who leads, by a Lease.

use std::time::Duration;

use kube::Client;
use kube_lease_manager::{LeaseManagerBuilder, LeaseManagerError};
use tokio::{sync::watch, task::JoinHandle, time::timeout};
use tracing::warn;

pub(super) struct LeaseOptions {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) identity: String,
    pub(super) duration: Duration,
}

/// The lease could not be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "the Lease {namespace}/{name} cannot be used; the operator needs get, create and patch of Leases there"
)]
pub struct LeaseError {
    namespace: String,
    name: String,
    #[source]
    source: LeaseManagerError,
}

/// The lease, held.
pub(super) struct Leadership {
    holds: watch::Receiver<bool>,
    manager: JoinHandle<Result<kube_lease_manager::LeaseManager, LeaseManagerError>>,
}

impl Leadership {
    /// Waits until this replica leads.
    pub(super) async fn acquire(client: Client, options: LeaseOptions) -> Result<Self, LeaseError> {
        let failed =
            |source| LeaseError { namespace: options.namespace.clone(), name: options.name.clone(), source };
        let duration = options.duration.as_secs().max(3);
        let manager = LeaseManagerBuilder::new(client, &options.name)
            .with_namespace(&options.namespace)
            .with_identity(&options.identity)
            .with_field_manager(format!("{}-{}", crds::FIELD_MANAGER, options.identity))
            .with_duration(duration)
            .with_grace((duration / 3).max(1))
            .build()
            .await
            .map_err(failed)?;
        let (mut holds, manager) = manager.watch().await;
        // The sender lives in the manager's task, which goes on until the channel is dropped.
        let _ = holds.wait_for(|holds| *holds).await;
        Ok(Self { holds, manager })
    }

    /// Waits until the lease is another's.
    pub(super) async fn lost(&mut self) {
        // An error means that the manager ended, and with it the lease.
        let _ = self.holds.wait_for(|holds| !*holds).await;
    }

    /// Gives the lease back, so that another replica need not wait for it to expire.
    pub(super) async fn release(self) {
        drop(self.holds);
        match timeout(Duration::from_secs(5), self.manager).await {
            Ok(Ok(Ok(_))) => {}
            Ok(Ok(Err(error))) => warn!(%error, "the lease was not given back and has to expire"),
            Ok(Err(error)) => warn!(%error, "the lease was not given back and has to expire"),
            Err(_) => warn!("the lease was not given back in time and has to expire"),
        }
    }
}
