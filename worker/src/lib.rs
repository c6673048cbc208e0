//! Workers: they consume topics and do the jobs of their roles.
//!
//! [`routes`] is the one table of what is done by whom; [`Pipeline`] runs the consumer loops of the roles a process has.

mod crawl;
pub mod fetch;
pub mod links;
mod metrics;
mod pipeline;
pub mod program;
pub mod robots;
mod routes;
mod schedule;
pub mod secrets;
mod setbacks;
mod tools;

pub use metrics::WorkerMetrics;
pub use pipeline::{Pipeline, PipelineError, PipelineOptions};
pub use routes::{ROUTES, Route};
pub use setbacks::Setback;
pub use tools::Tools;
