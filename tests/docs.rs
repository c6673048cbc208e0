//! What the documentation lists is what the code has, and the other way round.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};

use operator::{OperatorMetrics, scaling::ScalingMetrics};
use prometheus_client::{encoding::text::encode, registry::Registry};
use worker::WorkerMetrics;

const METRICS: &str = include_str!("../docs/metrics.md");
const STATUS: &str = include_str!("../docs/status.md");
const CONDITIONS: &str = include_str!("../crds/src/conditions.rs");
const RUN_REASONS: &str = include_str!("../events/src/run_reasons.rs");

#[test]
fn every_condition_and_reason_is_documented_and_no_other() {
    let (types, reasons) = CONDITIONS.split_once("pub mod reasons").unwrap();
    assert_eq!(listed(STATUS, "## Conditions"), constants(types));
    assert_eq!(listed(STATUS, "### Their reasons"), constants(reasons));
    assert_eq!(&listed(STATUS, "## Runs") | &listed(STATUS, "## Skips"), constants(RUN_REASONS));
}

#[test]
fn every_metric_is_documented_and_no_other() {
    let mut registry = Registry::default();
    OperatorMetrics::register(&mut registry);
    ScalingMetrics::register(&mut registry);
    assert_documented("## The operator", &registry);
    let mut registry = Registry::default();
    WorkerMetrics::register(&mut registry);
    assert_documented("## Workers", &registry);
}

fn assert_documented(heading: &str, registry: &Registry) {
    let expected = table(registry);
    let found: Vec<&str> = rows(METRICS, heading).collect();
    assert_eq!(found.join("\n"), expected.join("\n"), "under {heading} belongs:\n{}\n", expected.join("\n"));
}

/// A registry as rows of a table: name, type, labels, meaning.
fn table(registry: &Registry) -> Vec<String> {
    let mut text = String::new();
    encode(&mut text, registry).unwrap();
    let mut help: BTreeMap<&str, &str> = BTreeMap::new();
    let mut types: Vec<(&str, &str)> = Vec::new();
    for line in text.lines() {
        if let Some((name, text)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            help.insert(name, text.trim_end_matches('.'));
        } else if let Some(named) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            types.push(named);
        }
    }
    types
        .into_iter()
        .map(|(name, kind)| {
            let suffix = if kind == "counter" { "_total" } else { "" };
            let sample = if kind == "histogram" { format!("{name}_sum") } else { format!("{name}{suffix}") };
            let labels = labels(&text, &sample).iter().map(|label| format!("`{label}`")).collect::<Vec<_>>();
            format!("| `{name}{suffix}` | {kind} | {} | {} |", labels.join(", "), help[name])
        })
        .collect()
}

/// The names of a sample's labels. A metric without a sample has labels that nobody can see.
fn labels<'a>(text: &'a str, sample: &str) -> Vec<&'a str> {
    let is_sample = |line: &&str| line.strip_prefix(sample).is_some_and(|rest| rest.starts_with(['{', ' ']));
    let line = text.lines().find(is_sample).unwrap_or_else(|| panic!("{sample} has no sample"));
    let Some((_, labels)) = line.split_once('{') else { return Vec::new() };
    let labels = labels.split_once('}').unwrap().0;
    labels.split("\",").map(|label| label.split('=').next().unwrap()).collect()
}

/// The values of a file's string constants.
fn constants(source: &str) -> BTreeSet<&str> {
    let values: Vec<&str> = source
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub const ")?.split_once(": &str = \""))
        .map(|(_, value)| value.trim_end_matches("\";"))
        .collect();
    unique(values)
}

/// The first words of the table rows under a heading.
fn listed<'a>(document: &'a str, heading: &str) -> BTreeSet<&'a str> {
    unique(rows(document, heading).filter_map(|row| row.split('`').nth(1)).collect())
}

/// The table rows under a heading that begin with a word in code.
fn rows<'a>(document: &'a str, heading: &str) -> impl Iterator<Item = &'a str> {
    document
        .lines()
        .skip_while(move |line| *line != heading)
        .skip(1)
        .take_while(|line| !line.starts_with('#'))
        .filter(|line| line.starts_with("| `"))
}

fn unique(words: Vec<&str>) -> BTreeSet<&str> {
    let set: BTreeSet<&str> = words.iter().copied().collect();
    assert!(!set.is_empty() && set.len() == words.len(), "none, or one twice: {words:?}");
    set
}
