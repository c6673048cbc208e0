//! What runs out, each on the real stack: memory stays bounded, the rest keeps its promises, and something tells what is wrong.
//! docs/exhaustion.md has a table of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]
#![allow(clippy::print_stderr, reason = "a test that cannot run here says so")]

#[path = "exhaustion/broken_objects.rs"]
mod broken_objects;
#[path = "exhaustion/due_at_once.rs"]
mod due_at_once;
#[path = "exhaustion/full_bucket.rs"]
mod full_bucket;
#[path = "exhaustion/large_document.rs"]
mod large_document;
#[path = "exhaustion/many_links.rs"]
mod many_links;
#[path = "exhaustion/no_leader.rs"]
mod no_leader;
#[path = "exhaustion/objects.rs"]
mod objects;
#[path = "exhaustion/slow_catalog.rs"]
mod slow_catalog;
#[path = "exhaustion/small_disk.rs"]
mod small_disk;
