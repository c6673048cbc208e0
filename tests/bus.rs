//! What a bus promises, and the consumer loop on it: the same tests in one process and on a real Kafka; then what is
//! particular to Kafka.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

#[path = "bus/dead_letters.rs"]
mod dead_letters;
#[path = "bus/delivery.rs"]
mod delivery;
#[path = "bus/handling.rs"]
mod handling;
#[path = "bus/kafka.rs"]
mod kafka;
#[path = "bus/lag.rs"]
mod lag;
#[path = "bus/member.rs"]
mod member;
#[path = "bus/memory.rs"]
mod memory;
#[path = "bus/place.rs"]
mod place;
#[path = "bus/stopping.rs"]
mod stopping;
#[path = "bus/traced.rs"]
mod traced;
