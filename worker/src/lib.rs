//! Workers: they consume topics and do the jobs of their roles.
//!
//! [`routes`] is the one table of what is done by whom; [`Pipeline`] runs the consumer loops of the roles a process has.

mod bytes;
mod comparison;
mod crawl;
mod deliver;
pub mod fetch;
pub mod http_routes;
pub mod links;
mod metrics;
mod news;
mod parse;
pub mod pdf_reader;
mod pipeline;
pub mod program;
mod retention;
pub mod robots;
mod routes;
mod schedule;
pub mod secrets;
pub mod send;
mod setbacks;
mod source_request;
mod tools;
mod version;

pub use metrics::WorkerMetrics;
pub use news::{DeliveryTried, News, Newsroom, Setback};
pub use pipeline::{Pipeline, PipelineError, PipelineOptions};
pub use retention::{Keeper, KeeperOptions};
pub use routes::{ROUTES, Route};
pub use source_request::{SourceRequestError, source_request};
pub use tools::Tools;
