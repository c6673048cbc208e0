//! What every long-running process of Tipstaff has: flags, logs, signals, health and metrics.

mod arguments;
mod bus_watch;
mod export;
mod health;
mod logging;
mod run_span;
mod signals;

pub use arguments::{DatabaseArguments, KafkaArguments, KafkaClusterArguments};
pub use bus_watch::watch_bus;
pub use export::{SpanExport, SpanExportError};
pub use health::{Check, HealthServer, HealthServerError, ReadinessMetrics};
pub use logging::{LogFormat, init_logging};
/// Where programs have their memory from: documents, events and statements are many small pieces that live briefly, which took
/// glibc's allocator a quarter of a worker's time. Fuzzers, whose sanitizers look at each allocation, keep theirs.
pub use mimalloc::MiMalloc as Allocator;
pub use run_span::run_span;
pub use signals::shutdown_on_signal;
