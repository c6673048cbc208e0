//! Chaos: Tipstaff on the real stack while everything that it consists of and works with is killed, paused and cut off at
//! random, and a checker that then looks for what was promised and not kept.
//!
//! `docs/chaos.md` says how it is run, and how its report is read.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test that cannot go on fails, and says meanwhile how far it is"
)]

pub mod bucket;
pub mod catalog;
pub mod check;
pub mod documents;
pub mod faults;
pub mod finished;
pub mod fleet;
pub mod ledger;
pub mod objects;
pub mod plan;
pub mod quiet;
pub mod receiver;
pub mod report;
pub mod rest;
pub mod run;
pub mod script;
pub mod seen;
pub mod site;
pub mod topics;
pub mod world;

pub use bucket::Bucket;
pub use catalog::Catalog;
pub use check::{Findings, Violation};
pub use faults::Victims;
pub use finished::{Finished, State};
pub use fleet::Fleet;
pub use ledger::Ledger;
pub use objects::Objects;
pub use plan::Plan;
pub use receiver::{Received, Receiver};
pub use report::Report;
pub use rest::Written;
pub use run::run;
pub use script::Script;
pub use seen::SeenRuns;
pub use site::Site;
pub use topics::{Record, Topics};
pub use world::{Places, World};

/// Why it could not go on.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
