//! What becomes of due times: pure decisions. `docs/runs.md` has them as tables, which the tests here read.

use events::run_reasons;
use jiff::{SignedDuration, Timestamp};
use store::catalog::{CatchUp, Concurrency, Skip, SubscriptionSettings, WhenActive};

/// How late a due time may be and still count as met: less is the delay of a busy moment, more means that nothing was
/// there to fire it.
pub(super) const MISSED: SignedDuration = SignedDuration::from_secs(60);
/// How many missed due times of one subscription are run at most, the newest: as in a CronJob, more would help nobody.
pub(super) const CATCH_UP_LIMIT: usize = 100;

/// Why a due time gets no run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skipped {
    /// The subscription or its source is suspended.
    Suspended,
    /// It is too late for it: see `startingDeadlineSeconds` and, with `catchUp: None`, a minute.
    DeadlineExceeded,
    /// A later due time is fired instead: `catchUp: Latest`, or more were missed than are caught up with.
    Superseded,
}

impl Skipped {
    /// The reason in the catalog, with a sentence for a person.
    pub fn to_skip(self) -> Skip {
        let (reason, message) = match self {
            Self::Suspended => (run_reasons::SUSPENDED, "the subscription or its source is suspended"),
            Self::DeadlineExceeded => (run_reasons::DEADLINE_EXCEEDED, "it could not be started in time"),
            Self::Superseded => {
                (run_reasons::SUPERSEDED, "it was missed, and a later due time is run instead")
            }
        };
        Skip { reason, message: message.to_owned() }
    }
}

/// Decides for each due time (ascending, none later than `now`) whether it is run (`None`) or skipped.
///
/// A list that is cut off must have at least [`CATCH_UP_LIMIT`] more due times than are acted upon.
pub fn decide(
    settings: &SubscriptionSettings,
    source_suspended: bool,
    due: &[Timestamp],
    now: Timestamp,
) -> Vec<Option<Skipped>> {
    let is_suspended = settings.suspend || source_suspended;
    let deadline = settings.starting_deadline_seconds.map(SignedDuration::from_secs);
    let catch_up_limit = match settings.catch_up {
        CatchUp::All => CATCH_UP_LIMIT,
        CatchUp::Latest | CatchUp::None => 1,
    };
    due.iter()
        .enumerate()
        .map(|(index, time)| {
            let late = now.duration_since(*time);
            if is_suspended {
                Some(Skipped::Suspended)
            } else if deadline.is_some_and(|deadline| late > deadline)
                || (settings.catch_up == CatchUp::None && late > MISSED)
            {
                Some(Skipped::DeadlineExceeded)
            } else {
                (due.len() - index > catch_up_limit).then_some(Skipped::Superseded)
            }
        })
        .collect()
}

/// What becomes of a due time while another run is active.
///
/// `catchUp: All` promises a run for each due time that was missed: under Forbid they wait for each other. One that is
/// met on time is skipped: there is nothing to catch up with.
pub fn when_active(settings: &SubscriptionSettings, time: Timestamp, now: Timestamp) -> WhenActive {
    match settings.concurrency {
        Concurrency::Forbid if settings.catch_up == CatchUp::All && now.duration_since(time) > MISSED => {
            WhenActive::Wait
        }
        Concurrency::Forbid => WhenActive::Skip,
        Concurrency::Allow => WhenActive::RunBoth,
        Concurrency::Replace => WhenActive::Replace,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    const DOCUMENTED: &str = include_str!("../../../docs/runs.md");
    const NOW: Timestamp = Timestamp::constant(1_772_366_400, 0);

    /// The rows of the documented table with this heading, cell by cell.
    fn table(heading: &str) -> Vec<Vec<String>> {
        let from = DOCUMENTED.find(heading).unwrap_or_else(|| panic!("no {heading:?} in docs/runs.md"));
        let rows: Vec<Vec<String>> = DOCUMENTED[from..]
            .lines()
            .skip(1)
            .skip_while(|line| !line.starts_with('|'))
            .take_while(|line| line.starts_with('|'))
            .skip(2)
            .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect())
            .collect();
        assert!(!rows.is_empty(), "no table under {heading:?}");
        rows
    }

    fn seconds(cell: &str) -> i64 {
        let cell = cell.trim();
        let (number, unit) = cell.split_once(' ').unwrap_or_else(|| panic!("{cell:?} is no duration"));
        let number: i64 = number.parse().unwrap();
        match unit {
            "s" => number,
            "min" => 60 * number,
            "h" => 3_600 * number,
            _ => panic!("{cell:?} is no duration"),
        }
    }

    fn settings(catch_up: &str, concurrency: &str) -> SubscriptionSettings {
        SubscriptionSettings {
            schedule: "* * * * *".into(),
            time_zone: "Etc/UTC".into(),
            starting_deadline_seconds: None,
            concurrency: match concurrency {
                "Forbid" => Concurrency::Forbid,
                "Allow" => Concurrency::Allow,
                "Replace" => Concurrency::Replace,
                other => panic!("{other:?} is no concurrencyPolicy"),
            },
            catch_up: match catch_up {
                "Latest" => CatchUp::Latest,
                "All" => CatchUp::All,
                "None" => CatchUp::None,
                other => panic!("{other:?} is no catchUp"),
            },
            jitter_seconds: 0,
            suspend: false,
            jurisdiction: None,
            retention: None,
            selection: store::catalog::SelectionSettings::default(),
            targets: Vec::new(),
        }
    }

    fn ago(cells: &str) -> Vec<Timestamp> {
        cells.split(',').map(|cell| NOW - SignedDuration::from_secs(seconds(cell))).collect()
    }

    #[test]
    fn due_times_become_what_the_documented_table_says() {
        for row in table("## Due times that pass") {
            let [suspended, catch_up, deadline, due, outcome] = row.as_slice() else { panic!("{row:?}") };
            for catch_up in catch_up.split(", ") {
                let mut settings = settings(catch_up, "Forbid");
                settings.starting_deadline_seconds = (deadline != "–").then(|| seconds(deadline));
                settings.suspend = suspended == "yes";
                let decided: Vec<String> = decide(&settings, false, &ago(due), NOW)
                    .into_iter()
                    .map(|skip| skip.map_or_else(|| "run".to_owned(), |skip| format!("{skip:?}")))
                    .collect();
                assert_eq!(decided.join(", "), *outcome, "{row:?}, {catch_up}");
                // A suspended source is as good as a suspended subscription.
                if settings.suspend {
                    settings.suspend = false;
                    assert_eq!(decide(&settings, true, &ago(due), NOW).len(), decided.len());
                    assert!(
                        decide(&settings, true, &ago(due), NOW)
                            .iter()
                            .all(|skip| *skip == Some(Skipped::Suspended))
                    );
                }
            }
        }
    }

    #[test]
    fn an_active_run_means_what_the_documented_table_says() {
        for row in table("## While a run is active") {
            let [concurrency, catch_up, due, outcome] = row.as_slice() else { panic!("{row:?}") };
            for catch_up in catch_up.split(", ") {
                let expected = match outcome.split(':').next().unwrap() {
                    "skipped" => WhenActive::Skip,
                    "waits" => WhenActive::Wait,
                    "both run" => WhenActive::RunBoth,
                    "replaces" => WhenActive::Replace,
                    other => panic!("{other:?}"),
                };
                for time in ago(due) {
                    let settings = settings(catch_up, concurrency);
                    assert_eq!(when_active(&settings, time, NOW), expected, "{row:?}, {catch_up}, {time}");
                }
            }
        }
    }

    #[test]
    fn of_very_many_missed_due_times_the_newest_hundred_are_caught_up_with() {
        let due: Vec<Timestamp> =
            (0..1_000).rev().map(|minute| NOW - SignedDuration::from_mins(minute)).collect();
        let runs = |catch_up| {
            let decided = decide(&settings(catch_up, "Forbid"), false, &due, NOW);
            let runs = decided.iter().filter(|skip| skip.is_none()).count();
            assert!(decided[1_000 - runs..].iter().all(Option::is_none), "the newest");
            runs
        };
        // With None, one that is a minute late still counts as met.
        assert_eq!([runs("All"), runs("Latest"), runs("None")], [100, 1, 1]);
    }
}
