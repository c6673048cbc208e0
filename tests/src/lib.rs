//! What the tests on the real stack share: an origin to fetch from, Tipstaff's processes, and an installation of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod evidence;
mod installation;
mod kafka_topic;
mod object_store;
mod origin;
pub mod politeness;
mod process;
mod proxy;
mod random;
mod waiting;

pub use evidence::{read_blob, sha256};
pub use installation::{Installation, Run, install_definitions};
pub use kafka_topic::{KafkaRecord, KafkaTopic};
pub use object_store::s3_client;
pub use origin::{Origin, Request};
pub use process::{Process, program};
pub use proxy::{Proxy, Traffic};
pub use random::Random;
pub use waiting::eventually;

/// Pages that courts published.
pub mod corpus {
    /// The Supreme Court's slip opinions.
    pub const SCOTUS: &str = include_str!("../corpus/courts/pages/scotus_slip.html");
    /// The Eleventh Circuit's published opinions.
    pub const CA11: &str = include_str!("../corpus/courts/pages/ca11.html");
}
