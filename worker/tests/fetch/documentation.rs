//! docs/fetching.md says what the code does.

use std::collections::BTreeMap;

use worker::fetch::{FetchError, MAX_REDIRECTS};
use worker::robots;

const FETCHING: &str = include_str!("../../../docs/fetching.md");
const ERRORS: &str = include_str!("../../src/fetch/error.rs");
const SECRETS: &str = include_str!("../../src/secrets.rs");
const RUN_REASONS: &str = include_str!("../../../events/src/run_reasons.rs");

/// Each reason with when it is tried again, from a table of the code.
fn of_code(source: &'static str) -> BTreeMap<&'static str, String> {
    let table = source.split_once("fn class(&self)").unwrap().1;
    let rows = table
        .lines()
        .take_while(|line| *line != "    }")
        .filter_map(|line| line.split_once("=> (run_reasons::"));
    rows.map(|(_, row)| {
        let (name, retried) = row.split_once(", ").unwrap();
        let constant = format!("pub const {name}: &str = \"");
        let value = RUN_REASONS.split_once(&constant).unwrap().1.split_once('"').unwrap().0;
        let retried = match retried.trim_end_matches("),") {
            "Yes" => "yes".to_owned(),
            "No" => "no".to_owned(),
            _ => passing_statuses(),
        };
        (value, retried)
    })
    .collect()
}

fn passing_statuses() -> String {
    let is_passing = |status: &u16| {
        FetchError::Status { url: String::new(), status: *status, retry_after: None }.is_transient()
    };
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for status in (100..=999).filter(is_passing) {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == status => *last = status,
            _ => ranges.push((status, status)),
        }
    }
    let shown = ranges.into_iter().flat_map(|(first, last)| {
        if last - first < 5 {
            (first..=last).map(|status| status.to_string()).collect()
        } else {
            vec![format!("{first} to {last}")]
        }
    });
    shown.collect::<Vec<_>>().join(", ")
}

#[test]
fn what_is_tried_again_is_documented() {
    let section = FETCHING.split_once("## What is tried again").unwrap().1;
    // The first table; what may be wrong with a list that came has one of its own.
    let table = section.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| !line.is_empty());
    let documented: BTreeMap<&str, String> = table
        .filter(|line| line.starts_with("| `"))
        .map(|row| {
            let mut cells = row.trim_matches('|').split('|').map(str::trim);
            (cells.next().unwrap().trim_matches('`'), cells.next().unwrap().to_owned())
        })
        .collect();
    let mut all = BTreeMap::new();
    for (source, error) in [(ERRORS, "pub enum FetchError"), (SECRETS, "pub enum SecretError")] {
        let of_code = of_code(source);
        let variants = source.split_once(error).unwrap().1.split_once("\n}").unwrap().0;
        let shared = source.split_once("fn class(&self)").unwrap().1.matches(" | Self::").count();
        assert_eq!(of_code.len() + shared, variants.matches("#[error(").count(), "each variant has a row");
        all.extend(of_code);
    }
    assert_eq!(documented, all);
}

#[test]
fn the_limits_are_documented() {
    for limit in [
        format!("| redirects | {MAX_REDIRECTS};"),
        format!("The first {} KiB are read", robots::MAX_SIZE / 1024),
        format!("up to {} hours", robots::LONGEST_CRAWL_DELAY.as_secs() / 3600),
        format!("for {} days at most", robots::UNREACHABLE_FOR.as_hours() / 24),
        format!("holds for {} hours", robots::LONGEST_CACHED.as_secs() / 3600),
    ] {
        assert!(FETCHING.contains(&limit), "{limit}");
    }
}
