use std::{sync::Arc, time::Duration};

use events::{Bus, error_chain};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::Check;

/// How often the bus is asked for a sign of life: a process with nothing to do notices no other way that it is away.
const ASK_EVERY: Duration = Duration::from_secs(5);
const PART: &str = "bus";

/// Shows in the readiness whether the bus answers, until `shutdown`.
pub async fn watch_bus(bus: Arc<dyn Bus>, check: Check, shutdown: CancellationToken) {
    check.ill(PART, "it was not asked yet");
    let mut answers = None;
    let watch = async {
        loop {
            let answer = bus.ping().await;
            let is_news = answers != Some(answer.is_ok());
            answers = Some(answer.is_ok());
            match answer {
                Ok(()) => {
                    if is_news {
                        info!("the bus answers");
                    }
                    check.well(PART);
                }
                Err(error) => {
                    let cause = error_chain(&error);
                    if is_news {
                        warn!(error = cause, "the bus is away");
                    }
                    check.ill(PART, cause);
                }
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = watch => {}
    }
}
