//! Who leads, by a Lease.

use std::time::Duration;

use events::error_chain;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder, LeaseManagerError};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};
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
    options: LeaseOptions,
    leases: Api<Lease>,
    holds: watch::Receiver<bool>,
    manager: JoinHandle<Result<LeaseManager, LeaseManagerError>>,
}

impl Leadership {
    /// Waits until this replica leads.
    pub(super) async fn acquire(client: Client, options: LeaseOptions) -> Result<Self, LeaseError> {
        let leases = Api::namespaced(client.clone(), &options.namespace);
        let duration = options.duration.as_secs().max(3);
        let manager = LeaseManagerBuilder::new(client, &options.name)
            .with_namespace(&options.namespace)
            .with_identity(&options.identity)
            .with_field_manager(format!("{}-{}", crds::FIELD_MANAGER, options.identity))
            .with_duration(duration)
            .with_grace((duration / 3).max(1))
            .build()
            .await
            .map_err(|source| LeaseError {
                namespace: options.namespace.clone(),
                name: options.name.clone(),
                source,
            })?;
        let (mut holds, manager) = manager.watch().await;
        // The sender lives in the manager's task, which goes on until the channel is dropped.
        let _ = holds.wait_for(|holds| *holds).await;
        Ok(Self { options, leases, holds, manager })
    }

    /// Waits until the lease is another's.
    pub(super) async fn lost(&mut self) {
        let watched = watch_holder(&self.leases, &self.options);
        tokio::select! {
            // An error means that the manager ended, and with it the lease.
            _ = self.holds.wait_for(|holds| !*holds) => {}
            () = watched => {}
        }
    }

    /// Gives the lease back, so that another replica need not wait for it to expire.
    pub(super) async fn release(self) {
        drop(self.holds);
        match timeout(Duration::from_secs(5), self.manager).await {
            Ok(Ok(Ok(_))) => {}
            Ok(Ok(Err(error))) => {
                warn!(error = error_chain(&error), "the lease was not given back and has to expire");
            }
            Ok(Err(error)) => {
                warn!(error = error_chain(&error), "the lease was not given back and has to expire");
            }
            Err(_) => warn!("the lease was not given back in time and has to expire"),
        }
    }
}

/// Looks who holds the lease and ends when it is another: the manager does not say so when it missed its own renewal.
///
/// A leader that cannot reach the API server leads on. The clock must not stop with it, and what two leaders might do at
/// once is harmless: due times, generations and requests are compared in the catalog.
async fn watch_holder(leases: &Api<Lease>, options: &LeaseOptions) {
    let look_every = (options.duration / 4).max(Duration::from_millis(500));
    loop {
        sleep(look_every).await;
        let Ok(Ok(lease)) = timeout(look_every, leases.get(&options.name)).await else { continue };
        let holder = lease.spec.and_then(|spec| spec.holder_identity);
        if holder.is_some_and(|holder| !holder.is_empty() && holder != options.identity) {
            return;
        }
    }
}
