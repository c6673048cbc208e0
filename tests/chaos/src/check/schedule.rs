//! Invariant 1: every due time has one run, or one recorded skip. And whatever was asked for has one run.

use std::collections::BTreeMap;

use super::{Findings, Violation};

const MINUTE: i64 = 60_000_000;

pub(super) fn check(findings: &Findings<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (number, subscription) in findings.world.subscriptions.iter().enumerate() {
        let name = &subscription.name;
        let runs = || findings.catalog.runs.iter().filter(move |run| run.subscription == *name);
        let asked_for = runs().filter(|run| run.trigger == "Request").count();
        let requests = findings.ledger.requests_of(name);
        if asked_for != requests {
            let what = format!("{name}: {requests} runs were asked for, {asked_for} made");
            violations.push(Violation::new(1, what).of(name));
        }
        let mut accounted: BTreeMap<i64, usize> = BTreeMap::new();
        for run in runs().filter(|run| run.trigger == "Schedule") {
            let (first, last) = (run.first / MINUTE, run.scheduled_for / MINUTE);
            for minute in first..=last {
                *accounted.entry(minute).or_default() += 1;
            }
            if i64::from(run.due_times) != last - first + 1 {
                let what = format!(
                    "{name}: a row stands for {} due times, and there are {}",
                    run.due_times,
                    last - first + 1
                );
                violations.push(Violation::new(1, what).of(name));
            }
        }
        if !subscription.is_minutely {
            if let Some(minute) = accounted.keys().next() {
                let what = format!("{name}: a due time at {} that is none", time(*minute));
                violations.push(Violation::new(1, what).of(name));
            }
            continue;
        }
        // A minute that begins as the object is made may count or not, and so may those that begin while its schedule is being
        // changed: whether the operator saw the change before them is not known. None may count twice.
        let made_at = findings.made_at[number].div_euclid(60);
        let certainly = made_at + 1..=findings.stopped.from.div_euclid(60);
        let perhaps = made_at..=findings.stopped.until.div_euclid(60);
        for minute in certainly {
            let count = accounted.remove(&minute).unwrap_or_default();
            if count != 1 {
                let what = format!("{name}: the due time {} is accounted for {count} times", time(minute));
                violations.push(Violation::new(1, what).of(name));
            }
        }
        let surplus = accounted.into_iter().filter(|(minute, count)| *count > 1 || !perhaps.contains(minute));
        violations.extend(surplus.map(|(minute, count)| {
            let what = format!("{name}: the due time {} is accounted for {count} times", time(minute));
            Violation::new(1, what).of(name)
        }));
    }
    violations
}

fn time(minute: i64) -> String {
    jiff::Timestamp::from_second(minute * 60).map_or_else(|_| minute.to_string(), |time| time.to_string())
}
