//! Sending to real receivers on this machine: HTTP endpoints, mail servers, a bus and a directory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "send/addresses.rs"]
mod addresses;
#[path = "send/email.rs"]
mod email;
#[path = "send/kafka.rs"]
mod kafka;
#[path = "send/mail_server.rs"]
mod mail_server;
#[path = "send/receiver.rs"]
mod receiver;
#[path = "send/s3.rs"]
mod s3;
#[path = "send/sending.rs"]
mod sending;
#[path = "send/slack.rs"]
mod slack;
#[path = "send/slow.rs"]
mod slow;
#[path = "send/webhook.rs"]
mod webhook;
