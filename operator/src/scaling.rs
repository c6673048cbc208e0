//! Workers per role: as many as the lag of the role's consumer group asks for.
//!
//! The leader reads the lag every five seconds ([`scaler`]), decides ([`decide`]), and keeps one Deployment and one
//! PodDisruptionBudget a role ([`deployment`]) as decided, by server-side apply ([`objects`]). What is read from Kafka and from
//! the API server meets only in the scaler; the rest is pure.

pub mod configuration;
pub mod decide;
pub mod deployment;
mod kept;
mod metrics;
mod objects;
mod scaler;
pub mod state;

use events::kafka::KafkaOptions;

pub use configuration::{Workers, WorkersError};
pub use metrics::ScalingMetrics;
pub(crate) use scaler::Scaler;

/// What is scaled, and whose it is.
#[derive(Clone, Debug)]
pub struct ScalingOptions {
    /// The workers file.
    pub workers: Workers,
    /// The name of the operator's own Deployment: when it is deleted, so are the workers.
    pub owner: Option<String>,
    /// Where the lag is read.
    pub kafka: KafkaOptions,
}
