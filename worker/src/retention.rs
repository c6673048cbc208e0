//! The keeper: removes what subscriptions do not keep, and the bodies that nothing points at any more.
//!
//! It runs in each worker with the version role. Several of them at a time do no harm: of a subscription one removes at a
//! time, and a body may be deleted twice. Where there is nothing to remove, nothing is written.

use std::time::Duration;

use events::error_chain;
use store::{
    blobs::{BlobError, BlobUri},
    catalog::{CatalogError, KeepingSubscription},
};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::Tools;

/// How often what is not kept is looked for, unless told otherwise.
pub const LOOK_EVERY: Duration = Duration::from_secs(15 * 60);
/// Between two batches, so that others have the catalog and the bucket to themselves most of the time.
const PAUSE: Duration = Duration::from_millis(100);
/// How many subscriptions one statement lists.
const SUBSCRIPTIONS_AT_ONCE: i64 = 500;
/// How many bodies are deleted between two notes of it.
const BLOBS_AT_ONCE: i64 = 100;

/// Removes what is not kept.
pub struct Keeper {
    tools: Tools,
    look_every: Duration,
}

impl Keeper {
    /// One that looks at once, and then so often.
    pub fn new(tools: &Tools, look_every: Duration) -> Self {
        Self { tools: tools.clone(), look_every }
    }

    /// Removes until `shutdown`. It may end at any moment: what it had not come to is found at the next look.
    pub async fn run(self, shutdown: CancellationToken) {
        let looking = async {
            let mut looks = interval(self.look_every);
            looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                looks.tick().await;
                if let Err(error) = self.look().await {
                    warn!(
                        error = error_chain(&error),
                        "what is not kept could not be removed; trying again later"
                    );
                }
            }
        };
        shutdown.run_until_cancelled(looking).await;
    }

    async fn look(&self) -> Result<(), CatalogError> {
        let mut after = 0;
        loop {
            let keeping = self.tools.catalog.keeping_subscriptions(after, SUBSCRIPTIONS_AT_ONCE).await?;
            let Some(last) = keeping.last() else { break };
            after = last.id;
            for subscription in &keeping {
                // One that cannot be cleared keeps no other from it.
                if let Err(error) = self.clear(subscription).await {
                    let id = subscription.id;
                    warn!(subscription = id, error = error_chain(&error), "not removed; trying again later");
                }
            }
        }
        self.delete_blobs().await
    }

    async fn clear(&self, subscription: &KeepingSubscription) -> Result<(), CatalogError> {
        loop {
            let removed = self.tools.catalog.remove_not_kept(subscription, self.tools.clock.now()).await?;
            if !removed.is_any() {
                return Ok(());
            }
            debug!(subscription = subscription.id, ?removed, "removed what is not kept");
            self.tools.metrics.removed(&removed);
            sleep(PAUSE).await;
        }
    }

    async fn delete_blobs(&self) -> Result<(), CatalogError> {
        loop {
            let uris = self.tools.catalog.blobs_to_delete(BLOBS_AT_ONCE).await?;
            if uris.is_empty() {
                return Ok(());
            }
            let mut deleted = Vec::with_capacity(uris.len());
            let mut failure = None;
            for uri in uris {
                match self.delete_blob(&uri).await {
                    Ok(()) => deleted.push(uri),
                    Err(error) => {
                        warn!(uri, error = error_chain(&error), "a body was not deleted; trying again later");
                        failure = Some(error);
                    }
                }
            }
            self.tools.catalog.blobs_deleted(&deleted, self.tools.clock.now()).await?;
            self.tools.metrics.blobs_removed(deleted.len());
            if failure.is_some() {
                return Ok(());
            }
            sleep(PAUSE).await;
        }
    }

    async fn delete_blob(&self, uri: &str) -> Result<(), BlobError> {
        let uri: BlobUri = uri.parse()?;
        self.tools.blobs.delete(&uri).await
    }
}
