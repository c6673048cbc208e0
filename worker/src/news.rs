//! What happens while events are handled that somebody may want to be told at once.

use jiff::Timestamp;
use tokio::sync::broadcast;
use uuid::Uuid;

/// How much news a slow listener may fall behind.
const LISTENER_BUFFER: usize = 1_024;

/// Something happened.
#[derive(Clone, Debug)]
pub enum News {
    /// A part of a run failed in a way that may pass, and is tried again.
    Setback(Setback),
    /// A delivery was tried.
    Delivery(DeliveryTried),
}

/// A part of a run failed in a way that may pass, and is tried again.
#[derive(Clone, Debug)]
pub struct Setback {
    /// The run.
    pub run_id: Uuid,
    /// The catalog's id of its subscription.
    pub subscription_id: i64,
    /// A CamelCase word for what happened.
    pub reason: &'static str,
    /// A sentence for a person.
    pub message: String,
    /// When it is tried again.
    pub retry_at: Timestamp,
}

/// A delivery was tried.
#[derive(Clone, Debug)]
pub struct DeliveryTried {
    /// The delivery.
    pub delivery_id: Uuid,
    /// The catalog's id of its subscription.
    pub subscription_id: i64,
    /// The run that saw the first of its changes.
    pub begun_by: Uuid,
    /// The target's name.
    pub target: String,
    /// How many changes it carries.
    pub changes: usize,
    /// Whether the target has it.
    pub is_delivered: bool,
    /// A CamelCase word for what happened.
    pub reason: &'static str,
    /// The beginning of the answer, or what went wrong.
    pub detail: String,
    /// When it is tried again; none: it is not.
    pub retry_at: Option<Timestamp>,
}

/// Where news is told, and listened to. Clones share it.
#[derive(Clone, Debug)]
pub struct Newsroom {
    listeners: broadcast::Sender<News>,
}

impl Default for Newsroom {
    fn default() -> Self {
        Self { listeners: broadcast::channel(LISTENER_BUFFER).0 }
    }
}

impl Newsroom {
    /// The news from now on.
    pub fn listen(&self) -> broadcast::Receiver<News> {
        self.listeners.subscribe()
    }

    pub(crate) fn tell(&self, news: News) {
        // Without listeners there is nobody to tell.
        let _ = self.listeners.send(news);
    }
}
