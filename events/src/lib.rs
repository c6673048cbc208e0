//! Events and how they travel: topics, payloads, the CloudEvents envelope, the [`Bus`] in its two forms
//! (Kafka and in-process), the consumer loop, and the routing registry.

mod answered;
mod bus;
mod clock;
mod consumer;
mod envelope;
mod error_chain;
mod handler;
mod in_flight;
mod job;
pub mod kafka;
pub mod memory;
mod metrics;
mod payloads;
pub mod run_reasons;
pub mod spans;
mod topics;
mod trace;

pub use bus::{Bus, BusError, Consumer, Partition, Received, Record, Revocation, Signal, Unacknowledged};
pub use clock::{Clock, ManualClock, SystemClock};
pub use consumer::{ConsumerLoop, ConsumerLoopOptions, LoopError};
pub use envelope::{DecodeError, Event, EventId};
pub use error_chain::error_chain;
pub use handler::{
    GivenUp, Handler, HandlerError, PutOff, Registry, RegistryError, Role, Setbacks, UnknownRole,
};
pub use metrics::ConsumerMetrics;
pub use payloads::{
    CrawlResult, CrawlUrl, DeliveryRequest, ParseRequest, ParseResult, Payload, SubscriptionScheduled,
    VersioningRequest, VersioningResult,
};
pub use topics::Topic;
pub use trace::{TraceId, TraceParent, TraceParseError};

/// A boxed error as the source of a wider one.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
