use std::{fmt, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::watch;

/// The time, as a value that tests control.
#[async_trait]
pub trait Clock: fmt::Debug + Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;

    /// Waits until it is `time` or later.
    async fn sleep_until(&self, time: Timestamp);

    /// Waits until it is earlier than `time` again: until the clock was set back.
    async fn set_back_before(&self, time: Timestamp);
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

/// The longest wait between two looks at the clock, so that one that is set forward or back is noticed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn sleep_until(&self, time: Timestamp) {
        while let Ok(left) = Duration::try_from(time.duration_since(Timestamp::now())) {
            if left.is_zero() {
                break;
            }
            tokio::time::sleep(left.min(LOOK_AGAIN)).await;
        }
    }

    async fn set_back_before(&self, time: Timestamp) {
        while Timestamp::now() >= time {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

/// A clock that stands still until it is set. Clones share the time.
#[derive(Clone, Debug)]
pub struct ManualClock {
    time: watch::Sender<Timestamp>,
}

impl ManualClock {
    /// A clock that stands at `time`.
    pub fn new(time: Timestamp) -> Self {
        Self { time: watch::Sender::new(time) }
    }

    /// Sets the clock and wakes whoever waits for that time.
    pub fn set(&self, time: Timestamp) {
        self.time.send_replace(time);
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.time.borrow()
    }

    async fn sleep_until(&self, time: Timestamp) {
        // The sender lives in `self`, so the wait ends only with the condition.
        let _ = self.time.subscribe().wait_for(|now| *now >= time).await;
    }

    async fn set_back_before(&self, time: Timestamp) {
        let _ = self.time.subscribe().wait_for(|now| *now < time).await;
    }
}
