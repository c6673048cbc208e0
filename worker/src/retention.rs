//! The keeper: removes what subscriptions do not keep, and the bodies that nothing points at any more.
//!
//! It runs in each worker with the version role. Several of them at a time do no harm: of a subscription one removes at a
//! time, and a body may be deleted twice. Where there is nothing to remove, nothing is written.

use std::time::Duration;

use events::error_chain;
use jiff::SignedDuration;
use store::{
    blobs::{BlobError, BlobUri},
    catalog::{CatalogError, KeepingTime, Removed},
};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::Tools;

/// Between two batches, so that others have the catalog and the bucket to themselves most of the time.
const PAUSE: Duration = Duration::from_millis(100);
/// How many subscriptions one statement lists.
const SUBSCRIPTIONS_AT_ONCE: i64 = 500;
/// How many bodies are deleted between two notes of it.
const BLOBS_AT_ONCE: i64 = 100;

/// How the keeper goes about it.
#[derive(Clone, Copy, Debug)]
pub struct KeeperOptions {
    /// How often what is not kept is looked for.
    pub look_every: Duration,
    /// How long everything is kept whatever a subscription says: events under way may still ask for it.
    pub grace: Duration,
}

impl Default for KeeperOptions {
    fn default() -> Self {
        Self { look_every: Duration::from_secs(15 * 60), grace: Duration::from_secs(60 * 60) }
    }
}

/// Removes what is not kept.
pub struct Keeper {
    tools: Tools,
    look_every: Duration,
    grace: SignedDuration,
}

impl Keeper {
    /// One that looks at once, and then so often.
    pub fn new(tools: &Tools, options: KeeperOptions) -> Self {
        let grace = SignedDuration::try_from(options.grace).unwrap_or(SignedDuration::MAX);
        Self { tools: tools.clone(), look_every: options.look_every, grace }
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
        let (mut removed, mut bodies) = (Removed::default(), 0);
        let looked = self.look_into(&mut removed, &mut bodies).await;
        // What was removed before it failed is said too.
        if removed.is_any() || bodies > 0 {
            let Removed { versions, deliveries, runs, artifacts } = removed;
            info!(versions, deliveries, runs, artifacts, bodies, "removed what subscriptions do not keep");
        }
        looked
    }

    async fn look_into(&self, removed: &mut Removed, bodies: &mut u64) -> Result<(), CatalogError> {
        let mut after = 0;
        loop {
            let keeping =
                self.tools.catalog.keeping_subscriptions(after, SUBSCRIPTIONS_AT_ONCE, self.time()).await?;
            let Some(last) = keeping.last() else { break };
            after = last.id;
            for subscription in keeping.iter().filter(|subscription| subscription.has_not_kept) {
                // One that cannot be cleared keeps no other from it.
                if let Err(error) = self.clear(subscription.id, removed).await {
                    let error = error_chain(&error);
                    warn!(subscription = subscription.id, error, "not removed; trying again later");
                }
            }
        }
        self.delete_blobs(bodies).await
    }

    async fn clear(&self, subscription_id: i64, all: &mut Removed) -> Result<(), CatalogError> {
        loop {
            let removed = self.tools.catalog.remove_not_kept(subscription_id, self.time()).await?;
            if !removed.is_any() {
                return Ok(());
            }
            debug!(subscription = subscription_id, ?removed, "removed what is not kept");
            self.tools.metrics.removed(&removed);
            *all += removed;
            sleep(PAUSE).await;
        }
    }

    /// Goes over all that wait once: one that cannot be deleted keeps no other from it.
    async fn delete_blobs(&self, bodies: &mut u64) -> Result<(), CatalogError> {
        let mut after = String::new();
        loop {
            let uris = self.tools.catalog.blobs_to_delete(&after, BLOBS_AT_ONCE).await?;
            let Some(last) = uris.last() else { return Ok(()) };
            after.clone_from(last);
            let mut deleted = Vec::with_capacity(uris.len());
            let mut is_away = true;
            for uri in uris {
                match self.delete_blob(&uri).await {
                    Ok(()) => deleted.push(uri),
                    Err(error) => {
                        is_away &= error.is_transient();
                        warn!(uri, error = error_chain(&error), "a body was not deleted; trying again later");
                    }
                }
            }
            let noted = self.tools.catalog.blobs_deleted(&deleted, self.tools.clock.now()).await?;
            self.tools.metrics.bodies_removed(noted);
            *bodies += noted;
            if deleted.is_empty() && is_away {
                // Not this one or that: the bucket is away, or does not let us.
                return Ok(());
            }
            sleep(PAUSE).await;
        }
    }

    fn time(&self) -> KeepingTime {
        KeepingTime::new(self.tools.clock.now(), self.grace)
    }

    async fn delete_blob(&self, uri: &str) -> Result<(), BlobError> {
        let uri: BlobUri = uri.parse()?;
        self.tools.blobs.delete(&uri).await
    }
}
