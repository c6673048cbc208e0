//! What is fuzzed: one function for each parser of what others wrote, that takes any bytes and panics where a property
//! does not hold. `fuzz/` has a program for each of them, which libFuzzer drives; the tests here run them over the seeds
//! and over what was found before. `docs/fuzzing.md` says how.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what does not hold ends a target"
)]

mod configuration;
mod deliveries;
mod differences;
mod documents;
mod events;
mod input;
mod lists;
mod manifests;
mod pdf;
mod robots;
mod times;

/// A function that is fuzzed.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: that of its program, and of its folders of inputs.
    pub name: &'static str,
    /// What it does with an input. It panics where a property does not hold.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 22] = [
    Target { name: "answers", run: deliveries::answers },
    Target { name: "charset", run: documents::charset },
    Target { name: "cron", run: times::cron },
    Target { name: "css", run: documents::css },
    Target { name: "diff", run: differences::diff },
    Target { name: "events", run: events::events },
    Target { name: "feed", run: lists::feed },
    Target { name: "html", run: documents::html },
    Target { name: "http_dates", run: times::http_dates },
    Target { name: "http_routes", run: configuration::http_routes },
    Target { name: "jsonpath", run: documents::jsonpath },
    Target { name: "links", run: lists::links },
    Target { name: "manifests", run: manifests::manifests },
    Target { name: "objects", run: manifests::objects },
    Target { name: "patch", run: differences::patch },
    Target { name: "payloads", run: events::payloads },
    Target { name: "pdf", run: pdf::pdf },
    Target { name: "robots", run: robots::robots },
    Target { name: "sitemap", run: lists::sitemap },
    Target { name: "webhook", run: deliveries::webhook },
    Target { name: "workers", run: configuration::workers },
    Target { name: "xpath", run: documents::xpath },
];

/// Runs the target of that name.
///
/// # Panics
/// When a property does not hold, or there is no such target.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.unwrap_or_else(|| panic!("there is no target {name}")).run)(input);
}
