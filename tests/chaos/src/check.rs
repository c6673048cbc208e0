//! The checker: what was promised, held against all that is there. It shares no code with what it checks.

mod deliveries;
mod evidence;
mod runs;
mod schedule;
mod versions;

use std::{collections::BTreeMap, fmt};

use crate::{Catalog, Ledger, Received, Record, SeenRuns, Site, World, bucket, finished::Stopped};

/// All that is there when everything is done.
pub struct Findings<'a> {
    /// What was watched.
    pub world: &'a World,
    /// The site, and what it answered.
    pub site: &'a Site,
    /// What must be found.
    pub ledger: &'a Ledger,
    /// What was seen of runs while they went on.
    pub seen: &'a SeenRuns,
    /// When each subscription was made, in seconds since 1970.
    pub made_at: &'a [i64],
    /// When the schedules of those that were due every minute were changed.
    pub stopped: Stopped,
    /// Subscriptions that wait for a run that succeeds, in vain.
    pub unserved: &'a [String],
    /// What was still to be done when it was waited for no longer.
    pub left: Option<&'a str>,
    /// The catalog.
    pub catalog: &'a Catalog,
    /// The bucket.
    pub bucket: &'a bucket::Objects,
    /// The topics.
    pub records: &'a [Record],
    /// What all targets got.
    pub received: &'a [Received],
    /// What was written at rest.
    pub written_at_rest: &'a [String],
}

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The number of the invariant.
    pub invariant: u8,
    /// What is wrong.
    pub what: String,
    /// The subscription that it concerns.
    pub subscription: Option<String>,
    /// The document that it concerns.
    pub url: Option<String>,
}

impl Violation {
    fn new(invariant: u8, what: impl Into<String>) -> Self {
        Self { invariant, what: what.into(), subscription: None, url: None }
    }

    fn of(mut self, subscription: &str) -> Self {
        self.subscription = Some(subscription.to_owned());
        self
    }

    fn at(mut self, url: &str) -> Self {
        self.url = Some(url.to_owned());
        self
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "invariant {}: {}", self.invariant, self.what)
    }
}

/// Checks everything.
#[must_use]
pub fn check(findings: &Findings<'_>) -> Vec<Violation> {
    let mut violations = schedule::check(findings);
    violations.extend(runs::check(findings));
    violations.extend(evidence::check(findings));
    violations.extend(versions::check(findings));
    violations.extend(deliveries::check(findings));
    let stuck = findings
        .unserved
        .iter()
        .map(|name| Violation::new(5, format!("{name}: no run succeeded though all had come back")).of(name));
    violations.extend(stuck);
    let left = findings.left.iter();
    violations.extend(
        left.map(|what| Violation::new(5, format!("still to be done though all had come back: {what}"))),
    );
    let written = findings.written_at_rest.iter();
    violations.extend(written.map(|what| Violation::new(7, format!("written at rest: {what}"))));
    violations
}

/// All that is known of what a violation concerns.
#[must_use]
pub fn history(findings: &Findings<'_>, violation: &Violation) -> Vec<String> {
    let Some(name) = &violation.subscription else { return Vec::new() };
    let catalog = findings.catalog;
    let is_url = |url: &str| violation.url.as_deref().is_none_or(|wanted| wanted == url);
    let expected = findings.ledger.changes().iter().filter(|((of, url), _)| of == name && is_url(url));
    let mut lines: Vec<String> =
        expected.map(|((_, url), changes)| format!("expected {url}: {changes:?}")).collect();
    let runs: BTreeMap<&str, _> = catalog
        .runs
        .iter()
        .filter(|run| run.subscription == *name && run.phase != "Skipped")
        .map(|run| (run.id.as_str(), run))
        .collect();
    let mut ordered: Vec<_> = runs.values().collect();
    ordered.sort_by_key(|run| run.scheduled_for);
    lines.extend(ordered.iter().map(|run| format!("{run:?}")));
    let artifacts = catalog.artifacts.iter().filter(|row| runs.contains_key(row.run.as_str()));
    lines.extend(artifacts.filter(|row| is_url(&row.url)).map(|row| format!("{row:?}")));
    let versions: Vec<_> =
        catalog.versions.iter().filter(|row| row.subscription == *name && is_url(&row.url)).collect();
    for version in versions {
        lines.push(format!("{version:?}"));
        let deliveries = catalog.deliveries.iter().filter(|row| row.version == version.id);
        lines.extend(deliveries.map(|row| format!("{row:?}")));
    }
    let received = findings.received.iter().filter(|received| received.subscription == *name);
    lines.extend(received.map(|received| format!("{received:?}")));
    let paths = findings.world.subscriptions.iter().find(|subscription| subscription.name == *name);
    if let Some(subscription) = paths {
        let base = &findings.world.sources[subscription.source].path;
        let document =
            violation.url.as_ref().and_then(|url| url.splitn(4, '/').nth(3)).map(|path| format!("/{path}"));
        for path in [Some(base.clone()), document.filter(|path| path != base)].into_iter().flatten() {
            lines.extend(findings.site.log_of(&path).iter().map(|served| format!("{served:?}")));
        }
    }
    let of_run = |record: &&Record| runs.keys().any(|run| record.value.contains(run));
    lines.extend(findings.records.iter().filter(of_run).map(|record| format!("{record:?}")));
    lines
}
