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
/// How long events wait that the bus did not take while it took others: those of a partition without a leader, for one. Each
/// attempt holds up the others for as long as it takes to fail.
const TRY_AGAIN_AFTER: SignedDuration = SignedDuration::from_secs(20);
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
        // Until when events wait that the bus did not take.
        let mut held_until = None;
        loop {
            match self.publish_available(&mut held_until).await {
                Ok(next) => {
                    if held_until.is_none_or(|until| until < self.clock.now()) {
                        held_until = None;
                        self.check.well(PART);
                    }
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

    /// Publishes what is available and says when to look again. What the bus does not take while it takes others waits.
    async fn publish_available(&self, held_until: &mut Option<Timestamp>) -> Result<Timestamp, RelayError> {
        loop {
            let now = self.clock.now();
            let look_again = now.checked_add(LOOK_AGAIN).unwrap_or(now);
            match self.catalog.next_outbox().await? {
                None => return Ok(look_again),
                Some(next) if next > now => return Ok(next.min(look_again)),
                Some(_) => {}
            }
            let mut batch = self.catalog.take_outbox(EVENTS_AT_ONCE, now).await?;
            if batch.records.is_empty() {
                // Another relay holds them.
                return Ok(look_again);
            }
            let mut unacknowledged = self.bus.publish_each(&batch.records).await;
            let count = batch.records.len();
            let is_full = i64::try_from(count).is_ok_and(|count| count >= EVENTS_AT_ONCE);
            // Of a whole batch others may stand behind it.
            if unacknowledged.len() == count
                && !is_full
                && let Some(first) = unacknowledged.pop()
            {
                return Err(first.error.into());
            }
            if let Some(first) = unacknowledged.first() {
                let later = self.clock.now().checked_add(TRY_AGAIN_AFTER).unwrap_or(now);
                batch.put_back(unacknowledged.iter().map(|record| record.number), later).await?;
                *held_until = Some(later);
                self.failed(&first.error, "some events were not published and are tried again later");
            }
            batch.commit().await?;
            self.metrics.relayed(count - unacknowledged.len());
        }
    }

    fn failed(&self, error: &dyn std::error::Error, message: &'static str) {
        let cause = error_chain(error);
        warn!(error = cause, "{message}");
        self.check.ill(PART, cause);
    }
}
