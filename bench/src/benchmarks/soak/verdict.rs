//! Whether what must be flat is, and whether what grows does so as it should.

use std::collections::BTreeSet;

use events::BoxError;

use super::samples::{FLAT, Sample};
use crate::{
    report::{Measure, Report, Unit},
    statistics::{median, slope},
};

/// What is flat may grow by this share of its level over the time that is judged …
const SHARE: f64 = 0.1;
/// … or by so many megabytes, of a process or of a table …
const MEGABYTES: f64 = 4.0;
/// … or so many things …
const THINGS: f64 = 10.0;
/// … or rows that are gone: autovacuum comes every minute, and not to a table with few of them.
const DEAD_ROWS: f64 = 5_000.0;
/// What grows may do so by this factor faster, or slower, than it should.
const STEADY: f64 = 1.1;

/// What is expected to grow.
pub(super) struct Rates {
    pub(super) runs_per_second: f64,
    /// Of subscriptions that keep everything.
    pub(super) kept_runs_per_second: f64,
    pub(super) has_retention: bool,
}

/// Judges the last two thirds.
pub(super) fn report(samples: &[Sample], rates: &Rates, report: &mut Report) -> Result<(), BoxError> {
    let judged = &samples[samples.len() / 3..];
    let [first, _, _, .., last] = judged else {
        return Err("there were too few looks to tell what grows".into());
    };
    report.note(format!(
        "Growth is that of a straight line through the {} looks of the last {:.0} minutes.",
        judged.len(),
        (last.at - first.at) / 60.0
    ));
    let flat = |name: String, unit, slack, value: &dyn Fn(&Sample) -> f64| {
        let points: Vec<(f64, f64)> = judged.iter().map(|sample| (sample.at, value(sample))).collect();
        let level = median(&points.iter().map(|(_, value)| *value).collect::<Vec<_>>());
        let growth = slope(&points) * (last.at - first.at);
        let name = format!("{name} ({level:.0}) grows by");
        Measure::new(name, unit, growth).at_most((level * SHARE).max(slack))
    };
    for name in first.processes.keys().copied() {
        let memory = |sample: &Sample| sample.processes.get(name).map_or(0.0, |taken| taken.memory);
        report.add(flat(format!("{name}: memory"), Unit::Megabytes, MEGABYTES, &memory));
        let handles = |sample: &Sample| sample.processes.get(name).map_or(0.0, |taken| taken.handles);
        report.add(flat(format!("{name}: open files"), Unit::Count, THINGS, &handles));
    }
    for name in FLAT {
        report.add(flat(name.replace('_', " "), Unit::Count, THINGS, &|sample| sample.count(name)));
    }
    let tables: BTreeSet<&String> = judged.iter().flat_map(|sample| sample.tables.keys()).collect();
    for name in tables {
        let table = |sample: &Sample| sample.tables.get(name).copied().unwrap_or_default();
        report.add(flat(format!("{name}: dead rows"), Unit::Count, DEAD_ROWS, &|sample| table(sample).dead));
        if table(last).megabytes.is_some() {
            let megabytes = |sample: &Sample| table(sample).megabytes.unwrap_or_default();
            report.add(flat(format!("{name}: size"), Unit::Megabytes, MEGABYTES, &megabytes));
        }
    }
    let steady = |name: &str, expected: f64, value: &dyn Fn(&Sample) -> f64| {
        let points: Vec<(f64, f64)> = judged.iter().map(|sample| (sample.at, value(sample))).collect();
        let ratio = slope(&points) / expected;
        let name = format!("{name}: {:.1}/s, off by a factor of", slope(&points));
        Measure::new(name, Unit::Factor, ratio.max(1.0 / ratio.max(1e-9))).at_most(STEADY)
    };
    // Of all evidence, that of runs is what is known before.
    if rates.kept_runs_per_second > 0.0 {
        report.add(steady("runs that are kept", rates.kept_runs_per_second, &|sample| {
            sample.count("kept_runs")
        }));
    }
    let earlier = &judged[..judged.len() / 2];
    let of_earlier = |value: &dyn Fn(&Sample) -> f64| {
        slope(&earlier.iter().map(|sample| (sample.at, value(sample))).collect::<Vec<_>>())
    };
    let (events, posted) = (|sample: &Sample| sample.events, |sample: &Sample| sample.posted);
    report.add(steady("events in Kafka", of_earlier(&events), &events));
    let megabytes = |sample: &Sample| sample.topic_megabytes;
    report.add(steady("megabytes of topics on the broker's disk", of_earlier(&megabytes), &megabytes));
    report.add(steady("deliveries", of_earlier(&posted), &posted));
    if slope(&judged.iter().map(|sample| (sample.at, sample.events)).collect::<Vec<_>>())
        < rates.runs_per_second
    {
        return Err("there were fewer events than runs are due: it was not under load".into());
    }
    if rates.has_retention && last.count("deleted_bodies") == first.count("deleted_bodies") {
        return Err("no body was deleted: retention was not under load".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use super::*;
    use crate::benchmarks::soak::samples::{Table, Taken};

    const RATES: Rates = Rates { runs_per_second: 1.0, kept_runs_per_second: 1.0, has_retention: true };

    /// An hour under a load that is as it should be.
    fn hour() -> Vec<Sample> {
        let sample = |minute| {
            let minute = f64::from(minute);
            let mut rows = BTreeMap::from(FLAT.map(|name| (name, 100.0)));
            rows.insert("kept_runs", 60.0 * minute);
            rows.insert("deleted_bodies", minute);
            Sample {
                at: minute * 60.0,
                processes: [("crawl", Taken { memory: 50.0, handles: 30.0 })].into(),
                rows,
                tables: [("outbox".to_owned(), Table { dead: 900.0, megabytes: Some(1.0) })].into(),
                events: 1_200.0 * minute,
                topic_megabytes: 2.0 * minute,
                posted: 60.0 * minute,
            }
        };
        (0..60).map(sample).collect()
    }

    /// Whether all is as it should be when something is done to each look, of which the minute is told.
    fn is_met(change: impl Fn(&mut Sample, f64)) -> bool {
        let mut samples = hour();
        for sample in &mut samples {
            let minute = sample.at / 60.0;
            change(sample, minute);
        }
        let mut found = Report::new("soak");
        report(&samples, &RATES, &mut found).unwrap();
        found.are_targets_met()
    }

    fn grow(value: &mut f64, by: f64) {
        *value += by;
    }

    #[test]
    fn what_grows_and_must_not_is_told_from_what_does_not() {
        assert!(is_met(|_, _| ()));
        // 40 minutes are judged, 39 of growth: 4 MB, 10 things, or a tenth of what is there are let pass.
        let memory = |by: f64| {
            is_met(|sample, minute| grow(&mut sample.processes.get_mut("crawl").unwrap().memory, by * minute))
        };
        assert!(memory(0.1));
        assert!(!memory(0.2));
        let handles = |by: f64| {
            is_met(|sample, minute| {
                grow(&mut sample.processes.get_mut("crawl").unwrap().handles, by * minute)
            })
        };
        assert!(handles(0.2));
        assert!(!handles(0.3));
        for name in FLAT {
            let rows =
                |by: f64| is_met(|sample, minute| grow(sample.rows.get_mut(name).unwrap(), by * minute));
            assert!(rows(0.2), "{name}");
            assert!(!rows(0.4), "{name}");
        }
        let table = |megabytes: f64, dead: f64| {
            is_met(|sample, minute| {
                let table = sample.tables.get_mut("outbox").unwrap();
                table.megabytes = Some(1.0 + megabytes * minute);
                table.dead += dead * minute;
            })
        };
        assert!(table(0.1, 120.0));
        assert!(!table(0.11, 0.0));
        assert!(!table(0.0, 130.0));
    }

    #[test]
    fn what_is_there_before_the_judged_time_or_goes_up_and_down_is_no_growth() {
        assert!(is_met(|sample, minute| {
            sample.rows.insert("outbox", if minute < 20.0 { minute * 1_000.0 } else { 20_000.0 });
        }));
        assert!(is_met(|sample, minute| {
            sample.rows.insert("outbox", 500.0 + 100.0 * (minute % 4.0));
        }));
    }

    #[test]
    fn evidence_that_comes_too_slow_or_too_fast_is_told() {
        for factor in [0.8, 1.25] {
            assert!(!is_met(|sample, _| *sample.rows.get_mut("kept_runs").unwrap() *= factor), "{factor}");
        }
        for factor in [0.95, 1.05] {
            assert!(is_met(|sample, _| *sample.rows.get_mut("kept_runs").unwrap() *= factor), "{factor}");
        }
        // As many as before, and then none any more.
        assert!(!is_met(|sample, minute| sample.posted = 60.0 * minute.min(40.0)));
        assert!(!is_met(|sample, minute| sample.events = 1_200.0 * minute.min(45.0)));
        assert!(!is_met(|sample, minute| sample.topic_megabytes += 4.0 * (minute - 40.0).max(0.0)));
    }

    #[test]
    fn what_was_not_under_load_is_no_soak() {
        let failure = |change: fn(&mut Vec<Sample>)| {
            let mut samples = hour();
            change(&mut samples);
            report(&samples, &RATES, &mut Report::new("soak")).unwrap_err().to_string()
        };
        assert!(failure(|samples| samples.truncate(3)).contains("looks"));
        assert!(failure(|samples| samples.clear()).contains("looks"));
        let idle =
            |samples: &mut Vec<Sample>| samples.iter_mut().for_each(|sample| sample.events = sample.at / 2.0);
        assert!(failure(idle).contains("under load"));
        let unremoved = |samples: &mut Vec<Sample>| {
            for sample in samples {
                sample.rows.insert("deleted_bodies", 7.0);
            }
        };
        assert!(failure(unremoved).contains("no body was deleted"));
    }
}
