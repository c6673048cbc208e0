//! Subscriptions that are no longer on the API server are taken out of the catalog.
//!
//! They have no finalizer: that would cost two writes for each, and keep them from going where no operator runs any more.
//! Instead, what is live in the catalog is compared with what a complete watch shows: whenever one goes, and whenever the
//! watch begins anew, since any number may have gone unseen.

use std::{collections::HashSet, sync::Arc, time::Duration};

use crds::Subscription;
use events::error_chain;
use kube::{Resource, runtime::reflector::Store, runtime::watcher::Event};
use tokio::{sync::Notify, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use super::{objects::Guarded, status_board::StatusBoard};
use crate::{ReconcileError, Reconciler, backoff::Backoff, reconcile::object_uid};

/// How long removals are gathered: many that are deleted together are one statement.
const GATHER: Duration = Duration::from_millis(200);

/// Removes subscriptions.
pub(super) struct Removals {
    pub(super) reconciler: Reconciler,
    pub(super) board: StatusBoard,
    /// The namespace that the watch is of; all without it.
    pub(super) namespace: Option<String>,
    pub(super) store: Store<Guarded<Subscription>>,
    /// Notified when one may have gone, and not before the store is complete.
    pub(super) gone: Arc<Notify>,
}

/// Whether a subscription may have gone with this event, which the store knows of already.
pub(super) fn may_remove(event: &Event<Guarded<Subscription>>) -> bool {
    match event {
        Event::Delete(_) | Event::InitDone => true,
        Event::Apply(object) => is_leaving(object),
        Event::Init | Event::InitApply(_) => false,
    }
}

/// Somebody else's finalizer may keep it for long; it is not to be run until then.
pub(super) fn is_leaving(object: &Guarded<Subscription>) -> bool {
    object.meta().deletion_timestamp.is_some()
}

impl Removals {
    /// Removes what goes until `stop`.
    pub(super) async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.remove_for_ever() => {}
        }
    }

    async fn remove_for_ever(&self) {
        let mut backoff = Backoff::new();
        loop {
            self.gone.notified().await;
            sleep(GATHER).await;
            while let Err(error) = self.remove().await {
                warn!(
                    error = error_chain(&error),
                    "deleted subscriptions could not be removed; trying again"
                );
                sleep(backoff.after_failure()).await;
            }
            backoff.reset();
        }
    }

    async fn remove(&self) -> Result<(), ReconcileError> {
        // In this order: what is made in between is not taken for gone.
        let live = self.reconciler.engine.catalog.live_subscriptions(self.namespace.as_deref()).await?;
        let state = self.store.state();
        let shown: HashSet<Uuid> = state
            .iter()
            .filter(|object| !is_leaving(object))
            .filter_map(|object| object_uid(&**object).ok())
            .collect();
        let gone: Vec<Uuid> = live.into_iter().filter(|uid| !shown.contains(uid)).collect();
        if !gone.is_empty() {
            self.reconciler.delete_subscriptions(&gone).await?;
            for uid in &gone {
                self.board.remove(*uid);
            }
            info!(subscriptions = gone.len(), "removed from the catalog: deleted on the API server");
        }
        Ok(())
    }
}
