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
pub use run_span::run_span;
pub use signals::shutdown_on_signal;
