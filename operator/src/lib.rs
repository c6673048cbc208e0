//! The operator: it reconciles Sources and Subscriptions into the catalog, is the clock that makes their runs, relays
//! the outbox to the bus, follows the runs, and shows in the status what became of them.
//!
//! [`Engine`] is what does not need a cluster: `tipstaff local` runs the same. [`cluster`] adds the API server.

mod backoff;
mod beat;
pub mod cluster;
mod engine;
mod metrics;
pub mod program;
mod reconcile;
mod relay;
mod run_tracking;
pub mod scaling;
mod status;

pub use beat::{BeatHandle, Due, Plan, Skipped, decide, stable_offset, when_active};
pub use engine::{Engine, EngineHandle, EngineOptions};
pub use metrics::OperatorMetrics;
pub use reconcile::{ReconcileError, Reconciler, SourceDeletion, Verdict, source_settings};
pub use run_tracking::RunEvent;
