//! The relay: it publishes the events of the outbox when their time has come, and removes them when they are acknowledged.

use std::sync::Arc;

use events::{Bus, BusError, Clock, error_chain};
use jiff::{SignedDuration, Timestamp};
use service::Check;
use store::catalog::{Catalog, CatalogError};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{OperatorMetrics, backoff::Backoff};

/// How many events one transaction takes.
const EVENTS_AT_ONCE: i64 = 1_000;
/// How often to look for events that workers put off: nobody notifies of those. Looking is one read of an index.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_millis(500);
const PART: &str = "outbox";

pub(crate) struct Relay {
    pub(crate) catalog: Catalog,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Notified when events were added.
    pub(crate) wake: Arc<Notify>,
    pub(crate) metrics: OperatorMetrics,
    pub(crate) check: Check,
}

#[derive(Debug, thiserror::Error)]
enum RelayError {
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl Relay {
    /// Creates the topics, then publishes until `shutdown`.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.relay() => {}
        }
    }

    async fn relay(&self) {
        let mut backoff = Backoff::new();
        self.check.ill(PART, "topics are not known to exist yet");
        while let Err(error) = self.bus.ensure_topics().await {
            self.failed(&error, "topics could not be created; trying again");
            tokio::time::sleep(backoff.after_failure()).await;
        }
        info!("topics are there");
        self.check.well(PART);
        backoff.reset();
        loop {
            match self.publish_available().await {
                Ok(next) => {
                    self.check.well(PART);
                    backoff.reset();
                    tokio::select! {
                        () = self.wake.notified() => {}
                        () = self.clock.sleep_until(next) => {}
                    }
                }
                Err(error) => {
                    self.failed(&error, "events were not published; trying again");
                    tokio::time::sleep(backoff.after_failure()).await;
                }
            }
        }
    }

    /// Publishes what is available and says when to look again.
    async fn publish_available(&self) -> Result<Timestamp, RelayError> {
        loop {
            let now = self.clock.now();
            let look_again = now.checked_add(LOOK_AGAIN).unwrap_or(now);
            match self.catalog.next_outbox().await? {
                None => return Ok(look_again),
                Some(next) if next > now => return Ok(next.min(look_again)),
                Some(_) => {}
            }
            let batch = self.catalog.take_outbox(EVENTS_AT_ONCE, now).await?;
            if batch.records.is_empty() {
                // Another relay holds them.
                return Ok(look_again);
            }
            self.bus.publish(&batch.records).await?;
            let count = batch.records.len();
            batch.commit().await?;
            self.metrics.relayed(count);
        }
    }

    fn failed(&self, error: &dyn std::error::Error, message: &'static str) {
        let cause = error_chain(error);
        warn!(error = cause, "{message}");
        self.check.ill(PART, cause);
    }
}
