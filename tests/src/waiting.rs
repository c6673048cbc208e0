use std::{fmt::Debug, time::Duration};

use tokio::time::{Instant, sleep};

/// Waits until `look` finds something.
///
/// # Panics
/// At the deadline, saying what was waited for and what was seen last.
pub async fn eventually<T, Seen: Debug>(
    what: &str,
    within: Duration,
    mut look: impl AsyncFnMut() -> Result<T, Seen>,
) -> T {
    let deadline = Instant::now() + within;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) if Instant::now() >= deadline => {
                panic!("{what} did not come within {within:?}; seen last: {seen:?}")
            }
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}
