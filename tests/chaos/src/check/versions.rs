//! Invariant 4, its first half: the versions are the changes of the script, each once and in order, and no others.

use std::collections::BTreeMap;

use super::{Findings, Violation};
use crate::ledger::{Document, Expected};

pub(super) fn check(findings: &Findings<'_>) -> Vec<Violation> {
    let mut found: BTreeMap<Document, Vec<(String, Option<u32>)>> = BTreeMap::new();
    let mut violations = Vec::new();
    for version in &findings.catalog.versions {
        let document = (version.subscription.clone(), version.url.clone());
        let versions = found.entry(document).or_default();
        versions.push((version.kind.clone(), version.edition));
        if usize::try_from(version.number) != Ok(versions.len()) {
            let what = format!(
                "{}: version {} of {} is its version {}",
                version.subscription,
                versions.len(),
                version.url,
                version.number
            );
            violations.push(Violation::new(4, what).of(&version.subscription).at(&version.url));
        }
    }
    let nothing = Vec::new();
    for (document, expected) in findings.ledger.changes() {
        let found = found.remove(document).unwrap_or_default();
        if !is_same(expected, &found) {
            violations.push(difference(document, expected, &found));
        }
    }
    violations.extend(found.iter().map(|(document, found)| difference(document, &nothing, found)));
    violations
}

fn is_same(expected: &[Expected], found: &[(String, Option<u32>)]) -> bool {
    let is_it = |(expected, (kind, edition)): (&Expected, &(String, Option<u32>))| {
        // The text of one that is gone is what it was.
        expected.kind == kind && (expected.kind == "Removed" || Some(expected.edition) == *edition)
    };
    expected.len() == found.len() && expected.iter().zip(found).all(is_it)
}

fn difference(
    (name, url): &(String, String),
    expected: &[Expected],
    found: &[(String, Option<u32>)],
) -> Violation {
    let expected: Vec<String> = expected.iter().map(|one| format!("{} {}", one.kind, one.edition)).collect();
    let found: Vec<String> = found
        .iter()
        .map(|(kind, edition)| {
            format!("{kind} {}", edition.map_or_else(|| "?".to_owned(), |edition| edition.to_string()))
        })
        .collect();
    let what = format!(
        "{name}: {url} changed [{}], and its versions are [{}]",
        expected.join(", "),
        found.join(", ")
    );
    Violation::new(4, what).of(name).at(url)
}
