//! The real parts that Tipstaff works with, for tests: etcd, the Kubernetes API server and controllers, Kafka, PostgreSQL
//! and an S3-compatible object store, on free loopback ports, without containers. And a node, on which pods run.
//!
//! PostgreSQL is the installed one. The rest is built from package registries (Go modules, Maven) once a version, into
//! `~/.cache/tipstaff-stack`, or the folder that `TIPSTAFF_STACK_CACHE` names. `scripts/setup.sh test` installs the
//! tools for that.
//!
//! # In tests
//!
//! Most tests share the one stack that `make test` starts. They keep apart by names: a database, a topic, a namespace, a key
//! prefix of their own.
//!
//! ```no_run
//! # async fn test() -> Result<(), stack::StackError> {
//! let stack = stack::Stack::shared().await?;
//! let database = stack.create_database("orders_are_kept").await?;
//! let brokers = stack.kafka_brokers()?;
//! # Ok(())
//! # }
//! ```
//!
//! A test that stops, kills or pauses a part starts its own, and only what it needs:
//!
//! ```no_run
//! # async fn test() -> Result<(), stack::StackError> {
//! use stack::{Part, Stack, StackOptions};
//! let stack = Stack::start(&[Part::Kafka], StackOptions::default()).await?;
//! stack.service(Part::Kafka)?.kill().await?;
//! // What does the code under test do now?
//! stack.service(Part::Kafka)?.start().await?;
//! # Ok(())
//! # }
//! ```
//!
//! A part keeps its port and its data over [`Service::stop`], [`Service::kill`], [`Service::start`] and
//! [`Service::restart`]. "Ready" means asked and answered in the part's own protocol, by the process that was started. A
//! part that does not start is an error with its name and the end of its log.
//!
//! An own stack ends when its value is dropped: processes are killed, data is removed, logs stay for a day. When the test
//! panics, or `TIPSTAFF_STACK_KEEP` is set, data stays too; the paths are printed. When the test program itself is killed,
//! the kernel kills the parts (on Linux, through util-linux's `setpriv`).
//!
//! # Pods
//!
//! With [`Part::NODE`] a stack has a node: it needs Linux and root ([`can_run_node`]). The servers then listen where pods
//! reach them, on [`Stack::node_host_address`].
//!
//! ```no_run
//! # async fn test(program: &std::path::Path) -> Result<(), stack::StackError> {
//! use stack::{Image, Part, Stack, StackOptions};
//! let stack = Stack::start(&[&Part::SERVERS[..], &Part::NODE].concat(), StackOptions::default()).await?;
//! let image = Image {
//!     name: "tipstaff.test/worker:1",
//!     files: program,
//!     entrypoint: &["/worker"],
//!     environment: &[],
//!     user: "65532:65532",
//! };
//! stack.load_image(&image).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # By hand
//!
//! The binary `stack` starts a stack that stays: see `README.md` beside this crate.

mod access;
mod build;
mod cache;
mod certificates;
mod cgroups;
mod command;
mod error;
mod files;
mod health;
mod image;
mod network;
mod part;
mod parts;
mod port;
mod process;
mod progress;
mod service;
mod stack;
mod start;
mod state;

pub use access::{S3, quote};
pub use build::{Artifact, build};
pub use cache::CACHE_VARIABLE;
pub use error::StackError;
pub use image::Image;
pub use part::{Part, needed};
pub use parts::can_run_node;
pub use service::Service;
pub use stack::{BUCKET, DATABASE, KEEP_VARIABLE, STATE_VARIABLE, Stack, StackOptions};
