//! What the handlers of the roles do with events that come in an unusual order or at an unusual time, on a real PostgreSQL
//! and from a site on loopback. The tests hold the events in their hands.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

#[path = "roles/blocked.rs"]
mod blocked;
#[path = "catalog/place.rs"]
#[allow(dead_code, reason = "the catalog's tests use the rest")]
mod catalog_place;
#[path = "roles/delivering.rs"]
mod delivering;
#[path = "roles/extending.rs"]
mod extending;
#[path = "roles/pdfs.rs"]
mod pdfs;
#[path = "roles/phase.rs"]
mod phase;
#[path = "roles/place.rs"]
mod place;
#[path = "roles/selecting.rs"]
mod selecting;
