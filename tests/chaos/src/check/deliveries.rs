//! Invariant 4, its second half: each version is delivered to each target at least once, and what is delivered is a version.

use std::collections::{BTreeSet, HashMap};

use super::{Findings, Violation};

pub(super) fn check(findings: &Findings<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    // Subscription, target, URL, number and kind of what was taken.
    let mut taken: BTreeSet<(&str, &str, &str, i64, String)> = BTreeSet::new();
    for received in findings.received.iter().filter(|received| received.is_taken) {
        for change in &received.changes {
            let kind = change.kind.clone();
            taken.insert((&received.subscription, &received.target, &change.url, change.number, kind));
        }
    }
    let mut rows: HashMap<(i64, &str), &crate::catalog::DeliveryRow> = HashMap::new();
    for row in &findings.catalog.deliveries {
        rows.insert((row.version, row.target.as_str()), row);
    }
    let targets: HashMap<&str, _> = findings
        .world
        .subscriptions
        .iter()
        .map(|subscription| (subscription.name.as_str(), &subscription.targets))
        .collect();
    for version in &findings.catalog.versions {
        let name = version.subscription.as_str();
        let kind = version.kind.to_lowercase();
        let of_version = format!("{name}: version {} of {} ({kind})", version.number, version.url);
        let mut add = |what: String| violations.push(Violation::new(4, what).of(name).at(&version.url));
        if !version.is_planned {
            add(format!("{of_version}: nobody looked for its targets"));
        }
        for target in targets.get(name).into_iter().flat_map(|targets| targets.iter()) {
            let target = target.name();
            let was_taken =
                taken.remove(&(name, target, version.url.as_str(), i64::from(version.number), kind.clone()));
            match rows.get(&(version.id, target)) {
                Some(row) if row.phase == "Delivered" && was_taken => {}
                Some(row) if row.phase == "Delivered" => {
                    add(format!("{of_version}: {target} did not get it, though delivery {} says so", row.id));
                }
                Some(row) => {
                    let taken = if was_taken { "has it all the same" } else { "does not have it" };
                    let error = row.last_error.as_deref().unwrap_or("no error");
                    add(format!(
                        "{of_version}: its delivery to {target} is {} ({error}), and {target} {taken}",
                        row.phase
                    ));
                }
                None => add(format!("{of_version}: it has no delivery to {target}")),
            }
        }
    }
    violations.extend(taken.into_iter().map(|(name, target, url, number, kind)| {
        let what = format!("{name}: {target} got version {number} of {url} ({kind}), which is none");
        Violation::new(4, what).of(name).at(url)
    }));
    let left = findings.catalog.outbox.iter();
    violations
        .extend(left.map(|(topic, key)| Violation::new(4, format!("left in the outbox: {topic} {key}"))));
    violations
}
