//! What the documentation lists is what the code has, and the other way round.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use operator::{OperatorMetrics, scaling::ScalingMetrics};
use prometheus_client::{encoding::text::encode, registry::Registry};
use serde_json::Value;
use service::ReadinessMetrics;
use worker::WorkerMetrics;

const METRICS: &str = include_str!("../docs/metrics.md");
const STATUS: &str = include_str!("../docs/status.md");
const CONDITIONS: &str = include_str!("../crds/src/conditions.rs");
const RUN_REASONS: &str = include_str!("../events/src/run_reasons.rs");
const SCALING_METRICS: &str = include_str!("../operator/src/scaling/metrics.rs");
const ALERTS: &str = include_str!("../charts/tipstaff/alerts/tipstaff.yaml");
const ALERT_TESTS: &str = include_str!("alerts.yaml");
const DASHBOARD: &str = include_str!("../charts/tipstaff/dashboards/tipstaff.json");
const RUNBOOKS_URL: &str = "https://github.com/tipstaff/tipstaff/blob/main/docs/runbooks/";

#[test]
fn every_condition_and_reason_is_documented_and_no_other() {
    let (types, reasons) = CONDITIONS.split_once("pub mod reasons").unwrap();
    assert_eq!(listed(STATUS, "## Conditions"), constants(types));
    assert_eq!(listed(STATUS, "### Their reasons"), constants(reasons));
    let of_runs = &listed(STATUS, "## Runs") | &listed(STATUS, "## Skips");
    assert_eq!(&of_runs | &listed(STATUS, "## Deliveries"), constants(RUN_REASONS));
}

#[test]
fn every_metric_is_documented_and_no_other() {
    let mut registry = Registry::default();
    ReadinessMetrics::register(&mut registry);
    assert_documented("## Operator and workers", &registry);
    let mut registry = Registry::default();
    OperatorMetrics::register(&mut registry);
    // They have no samples before a lag was read.
    ScalingMetrics::register(&mut registry);
    assert_documented("## The operator", &registry);
    let scaling: Vec<&str> =
        SCALING_METRICS.split('"').filter(|text| text.starts_with("tipstaff_")).collect();
    assert_eq!(listed(METRICS, "## Scaling"), unique(scaling));
    let texts: Vec<&str> = SCALING_METRICS.split('"').skip(1).step_by(2).collect();
    for (row, registered) in rows(METRICS, "## Scaling").zip(texts.chunks(2)) {
        let [name, meaning] = registered else { panic!("{registered:?}") };
        assert!(row.starts_with(&format!("| `{name}` | gauge | `role`")), "{row}");
        assert!(row.ends_with(&format!(" | {meaning} |")), "{row}");
    }
    let mut registry = Registry::default();
    WorkerMetrics::register(&mut registry);
    assert_documented("## Workers", &registry);
}

#[test]
fn every_alert_has_its_runbook_and_every_runbook_its_alert() {
    let rules = rules();
    let alerts: Vec<&str> = rules.iter().filter_map(|rule| rule["alert"].as_str()).collect();
    let alerts = unique(alerts);
    let runbooks = runbooks();
    let pages: Vec<&str> = runbooks.keys().map(String::as_str).filter(|name| *name != "README").collect();
    assert_eq!(alerts, unique(pages));
    for rule in rules.iter().filter(|rule| rule["alert"].is_string()) {
        let name = rule["alert"].as_str().unwrap();
        assert!(["critical", "warning"].contains(&rule["labels"]["severity"].as_str().unwrap()), "{name}");
        let annotations = &rule["annotations"];
        assert!(annotations["summary"].is_string() && annotations["description"].is_string(), "{name}");
        assert_eq!(annotations["runbook_url"], format!("{RUNBOOKS_URL}{name}.md"));
        assert!(ALERT_TESTS.contains(&format!("alertname=\"{name}\"")), "{name} is not tested");
        assert!(runbooks[name].starts_with(&format!("# {name}\n")), "{name}");
    }
}

#[test]
fn alerts_dashboard_and_runbooks_ask_for_metrics_that_there_are() {
    let rules = rules();
    let recorded: BTreeSet<&str> = rules.iter().filter_map(|rule| rule["record"].as_str()).collect();
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let mut queries = Vec::new();
    for rule in &rules {
        queries.push(rule["expr"].as_str().unwrap());
    }
    collect_queries(&dashboard, &mut queries);
    let runbooks = runbooks();
    let samples = samples();
    let mut asked = BTreeSet::new();
    for text in queries.into_iter().chain(runbooks.values().map(String::as_str)).chain([METRICS]) {
        for name in names(text).filter(|name| !recorded.contains(name)) {
            assert!(samples.contains(name) || is_documented(text, name), "{name} is no metric: {text}");
            asked.insert(name);
        }
    }
    assert!(asked.len() > 10, "{asked:?}");
}

/// The rules of the alerts' file.
fn rules() -> Vec<Value> {
    let file: Value = serde_saphyr::from_str(ALERTS).unwrap();
    let groups = file["groups"].as_array().unwrap().iter();
    groups.flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

/// The pages of docs/runbooks, by name.
fn runbooks() -> BTreeMap<String, String> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/runbooks");
    let pages = fs::read_dir(folder).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().strip_suffix(".md").unwrap().to_owned();
        (name, fs::read_to_string(path).unwrap())
    });
    pages.collect()
}

/// What Prometheus calls the documented metrics' series.
fn samples() -> BTreeSet<String> {
    let mut samples = BTreeSet::new();
    for heading in ["## Operator and workers", "## The operator", "## Scaling", "## Workers"] {
        for row in rows(METRICS, heading) {
            let name = row.split('`').nth(1).unwrap();
            if row.contains("| histogram |") {
                samples.extend(["_bucket", "_count", "_sum"].map(|suffix| format!("{name}{suffix}")));
            } else {
                samples.insert(name.to_owned());
            }
        }
    }
    samples
}

/// Histograms are named as a whole in tables and sentences.
fn is_documented(text: &str, name: &str) -> bool {
    text.starts_with("# ") && METRICS.contains(&format!("| `{name}` | histogram |"))
}

/// The texts of a dashboard that Prometheus is asked.
fn collect_queries<'a>(value: &'a Value, queries: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if ["expr", "query", "definition"].contains(&name.as_str()) => {
                        queries.push(text);
                    }
                    _ => collect_queries(value, queries),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| collect_queries(value, queries)),
        _ => {}
    }
}

/// The metrics in a text: Tipstaff's, and those that rules record.
fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !(letter.is_ascii_alphanumeric() || "_:".contains(letter)))
        .filter(|word| word.starts_with("tipstaff_") || word.contains(":tipstaff_"))
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
