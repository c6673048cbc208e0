//! How much waits in the outbox, looked up from time to time for whoever scrapes the metrics.

use std::time::Duration;

use events::error_chain;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{EngineHandle, OperatorMetrics};

/// How often it is looked up. Scrapes are not more frequent.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// How far it is counted: a count reads every row, and beyond this it matters no more how many there are.
const COUNT_UP_TO: i64 = 100_000;

/// Looks until `stop`.
pub(super) async fn keep(engine: EngineHandle, metrics: OperatorMetrics, stop: CancellationToken) {
    let look = async {
        loop {
            let now = engine.clock.now();
            match engine.catalog.outbox_backlog(COUNT_UP_TO, now).await {
                Ok(backlog) => metrics.outbox(&backlog, now),
                // The relay says so louder.
                Err(error) => debug!(error = error_chain(&error), "the outbox could not be looked into"),
            }
            sleep(LOOK_EVERY).await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = look => {}
    }
}
