//! What the catalog promises, on a real PostgreSQL: each test has a database of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

#[path = "catalog/artifacts.rs"]
mod artifacts;
#[path = "catalog/backfill.rs"]
mod backfill;
#[path = "catalog/batches.rs"]
mod batches;
#[path = "catalog/comparing.rs"]
mod comparing;
#[path = "catalog/deliveries.rs"]
mod deliveries;
#[path = "catalog/ending.rs"]
mod ending;
#[path = "catalog/health.rs"]
mod health;
#[path = "catalog/hosts.rs"]
mod hosts;
#[path = "catalog/inspect.rs"]
mod inspect;
#[path = "catalog/lead.rs"]
mod lead;
#[path = "catalog/lists.rs"]
mod lists;
#[path = "catalog/objects.rs"]
mod objects;
#[path = "catalog/order.rs"]
mod order;
#[path = "catalog/outbox.rs"]
mod outbox;
#[path = "catalog/place.rs"]
mod place;
#[path = "catalog/retention.rs"]
mod retention;
#[path = "catalog/runs.rs"]
mod runs;
#[path = "catalog/schedule.rs"]
mod schedule;
#[path = "catalog/schema.rs"]
mod schema;
#[path = "catalog/selections.rs"]
mod selections;
#[path = "catalog/stuck.rs"]
mod stuck;
#[path = "catalog/summaries.rs"]
mod summaries;
#[path = "catalog/targets.rs"]
mod targets;
#[path = "catalog/versions.rs"]
mod versions;
