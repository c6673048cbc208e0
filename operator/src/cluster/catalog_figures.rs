//! Figures of the catalog, looked up from time to time for whoever scrapes the metrics: how much waits in the outbox, and
//! how the sources are.

use std::time::Duration;

use events::error_chain;
use store::catalog::CatalogError;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{EngineHandle, OperatorMetrics};

/// How often it is looked up. Scrapes are not more frequent.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// How far the outbox is counted: a count reads every row, and beyond this it matters no more how many there are.
const COUNT_UP_TO: i64 = 100_000;

/// Looks until `stop`.
pub(super) async fn keep(engine: EngineHandle, metrics: OperatorMetrics, stop: CancellationToken) {
    let look = async {
        loop {
            if let Err(error) = note(&engine, &metrics).await {
                // The relay says so louder.
                debug!(error = error_chain(&error), "figures of the catalog could not be looked up");
            }
            sleep(LOOK_EVERY).await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = look => {}
    }
}

async fn note(engine: &EngineHandle, metrics: &OperatorMetrics) -> Result<(), CatalogError> {
    let now = engine.clock.now();
    metrics.outbox(&engine.catalog.outbox_backlog(COUNT_UP_TO, now).await?, now);
    metrics.sources(&engine.catalog.source_figures(now).await?);
    Ok(())
}
