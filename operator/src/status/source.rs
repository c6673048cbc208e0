//! What the status of a Source says.

use std::time::Duration;

use crds::{
    SourceStatus,
    conditions::{FRESH, REACHABLE, Status, reasons, remove_condition, set_condition, set_condition_since},
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use store::catalog::SourceHealth;

use super::{seconds, set_verdict};
use crate::Verdict;

/// How old the last fetch that is shown may become before a newer one alone is worth a write.
const FETCHES_SHOWN_EVERY: SignedDuration = SignedDuration::from_secs(15);

/// The status of a Source. Without health, which one has that is in the catalog, it shows no more than the verdict.
pub(crate) fn source_status(
    before: Option<&SourceStatus>,
    verdict: &Verdict,
    generation: Option<i64>,
    health: Option<&SourceHealth>,
    now: Timestamp,
) -> SourceStatus {
    let mut conditions = before.map(|status| status.conditions.clone()).unwrap_or_default();
    set_verdict(&mut conditions, verdict, generation, now);
    set_finding(&mut conditions, REACHABLE, health.map(reachable), generation, now);
    let fresh = health.and_then(|health| fresh(health, now));
    set_finding(&mut conditions, FRESH, fresh, generation, now);
    let failing = health.filter(|health| !health.is_suspended).and_then(|health| health.failing.as_ref());
    SourceStatus {
        observed_generation: generation,
        conditions,
        last_fetch_time: health.and_then(|health| health.last_fetch_at).map(seconds),
        last_change_time: health.and_then(|health| health.last_change_at).map(seconds),
        next_try_time: failing.and_then(|failing| failing.next_try_at).map(seconds),
    }
}

/// How long a status can wait to be written, since nothing but the last fetch is new.
pub(crate) fn can_wait(before: &SourceStatus, after: &SourceStatus, now: Timestamp) -> Option<Duration> {
    let shown = before.last_fetch_time.clone()?;
    let without_fetch = SourceStatus { last_fetch_time: Some(shown.clone()), ..after.clone() };
    if before == after || *before != without_fetch {
        return None;
    }
    let wait = FETCHES_SHOWN_EVERY - now.duration_since(shown.0);
    Duration::try_from(wait.min(FETCHES_SHOWN_EVERY)).ok().filter(|wait| !wait.is_zero())
}

/// In which time a source becomes overdue if it does not change.
pub(crate) fn overdue_in(health: &SourceHealth, now: Timestamp) -> Option<Duration> {
    let change_due_at = change_due_at(health).filter(|_| !health.is_suspended)?;
    Duration::try_from(change_due_at.duration_since(now)).ok().filter(|left| !left.is_zero())
}

/// What a condition is to say.
struct Finding<'a> {
    status: Status,
    reason: &'a str,
    message: String,
    /// Where that is known.
    since: Option<Timestamp>,
}

fn reachable(health: &SourceHealth) -> Finding<'_> {
    let (status, reason, message) = match &health.failing {
        _ if health.is_suspended => return suspended(),
        Some(failing) => {
            let next_try = match failing.next_try_at {
                Some(time) => format!("it is tried again from {time:.0} on"),
                None => "it is tried again when it is due".to_owned(),
            };
            return Finding {
                status: Status::False,
                reason: &failing.reason,
                message: format!("{}; {next_try}", failing.message),
                since: Some(failing.since),
            };
        }
        None if health.last_fetch_at.is_none() => {
            (Status::Unknown, reasons::NOT_FETCHED, "Nothing was asked for yet")
        }
        None => (Status::True, reasons::ANSWERS, "The source answers"),
    };
    Finding { status, reason, message: message.to_owned(), since: None }
}

/// None where nobody said what to expect.
fn fresh(health: &SourceHealth, now: Timestamp) -> Option<Finding<'_>> {
    let change_due_at = change_due_at(health)?;
    if health.is_suspended {
        return Some(suspended());
    }
    if now < change_due_at {
        return Some(Finding {
            status: Status::True,
            reason: reasons::AS_EXPECTED,
            message: format!("The next change is expected before {change_due_at:.0}"),
            since: None,
        });
    }
    let cadence = crds::Duration::from(health.cadence.unwrap_or_default());
    let message = match health.last_change_at {
        Some(time) => format!("Nothing has changed since {time:.0}; a change is expected every {cadence}"),
        None => format!(
            "Nothing was fetched since watching began, {:.0}; a change is expected every {cadence}",
            health.watched_since
        ),
    };
    Some(Finding {
        status: Status::False,
        reason: reasons::CHANGE_OVERDUE,
        message,
        since: Some(change_due_at),
    })
}

fn suspended() -> Finding<'static> {
    Finding {
        status: Status::Unknown,
        reason: reasons::SUSPENDED,
        message: "Nothing is fetched while spec.suspend is true".to_owned(),
        since: None,
    }
}

/// Until when the next change is expected.
fn change_due_at(health: &SourceHealth) -> Option<Timestamp> {
    health.last_change_at.unwrap_or(health.watched_since).checked_add(health.cadence?).ok()
}

fn set_finding(
    conditions: &mut Vec<Condition>,
    kind: &str,
    finding: Option<Finding<'_>>,
    generation: Option<i64>,
    now: Timestamp,
) {
    let Some(Finding { status, reason, message, since }) = finding else {
        remove_condition(conditions, kind);
        return;
    };
    match since {
        Some(since) => {
            set_condition_since(conditions, kind, status, reason, &message, generation, seconds(since).0)
        }
        None => set_condition(conditions, kind, status, reason, &message, generation, seconds(now).0),
    };
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crds::conditions::find_condition;
    use store::catalog::SourceFailing;

    use super::*;

    const NOON: Timestamp = Timestamp::constant(1_773_057_600, 0);

    fn minute(number: i64) -> Timestamp {
        NOON + SignedDuration::from_mins(number)
    }

    fn verdict() -> Verdict {
        Verdict {
            ready: true,
            reason: reasons::REGISTERED,
            message: "why".into(),
            catalog_id: Some(1),
            try_again: false,
        }
    }

    /// Watched since noon.
    fn new() -> SourceHealth {
        SourceHealth {
            failing: None,
            last_fetch_at: None,
            last_change_at: None,
            watched_since: NOON,
            cadence: None,
            is_suspended: false,
        }
    }

    fn fetched(changed: i64, fetched: i64) -> SourceHealth {
        SourceHealth { last_fetch_at: Some(minute(fetched)), last_change_at: Some(minute(changed)), ..new() }
    }

    fn failing(since: i64, next_try: Option<i64>, before: SourceHealth) -> SourceHealth {
        let failing = SourceFailing {
            since: minute(since),
            reason: "Timeout".to_owned(),
            message: "no answer within 30s".to_owned(),
            next_try_at: next_try.map(minute),
        };
        SourceHealth { failing: Some(failing), ..before }
    }

    fn expecting(minutes: u64, health: SourceHealth) -> SourceHealth {
        SourceHealth { cadence: Some(Duration::from_secs(minutes * 60)), ..health }
    }

    fn suspended(health: SourceHealth) -> SourceHealth {
        SourceHealth { is_suspended: true, ..health }
    }

    fn status(before: Option<&SourceStatus>, health: &SourceHealth, now: Timestamp) -> SourceStatus {
        source_status(before, &verdict(), Some(1), Some(health), now)
    }

    /// A condition as a line: its status, reason, since how many minutes after noon, message.
    fn line(status: &SourceStatus, kind: &str) -> String {
        let Some(condition) = find_condition(&status.conditions, kind) else { return "none".to_owned() };
        let since = condition.last_transition_time.0.duration_since(NOON).as_mins();
        format!("{} {} {since}: {}", condition.status, condition.reason, condition.message)
    }

    #[test]
    fn each_state_of_health_has_its_conditions() {
        let not_fetched = "Unknown NotFetched 60: Nothing was asked for yet";
        let answers = "True Answers 60: The source answers";
        let paused = "Unknown Suspended 60: Nothing is fetched while spec.suspend is true";
        // All of them an hour after noon.
        for (name, health, reachable, fresh) in [
            ("new", new(), not_fetched, "none"),
            ("fetched", fetched(1, 30), answers, "none"),
            (
                "failing",
                failing(5, Some(64), fetched(1, 2)),
                "False Timeout 5: no answer within 30s; it is tried again from 2026-03-09T13:04:00Z on",
                "none",
            ),
            (
                "failing, and other settings since",
                failing(5, None, new()),
                "False Timeout 5: no answer within 30s; it is tried again when it is due",
                "none",
            ),
            ("suspended while it failed", suspended(failing(5, Some(64), new())), paused, "none"),
            (
                "new, a change is expected",
                expecting(61, new()),
                not_fetched,
                "True AsExpected 60: The next change is expected before 2026-03-09T13:01:00Z",
            ),
            (
                "never fetched in time",
                expecting(60, new()),
                not_fetched,
                "False ChangeOverdue 60: Nothing was fetched since watching began, 2026-03-09T12:00:00Z; a change is \
                 expected every 1h",
            ),
            (
                "changed in time",
                expecting(60, fetched(1, 30)),
                answers,
                "True AsExpected 60: The next change is expected before 2026-03-09T13:01:00Z",
            ),
            (
                "fetched, but not changed in time",
                expecting(50, fetched(1, 59)),
                answers,
                "False ChangeOverdue 51: Nothing has changed since 2026-03-09T12:01:00Z; a change is expected every 50m",
            ),
            (
                "failing, and not changed in time",
                expecting(50, failing(5, Some(64), fetched(1, 2))),
                "False Timeout 5: no answer within 30s; it is tried again from 2026-03-09T13:04:00Z on",
                "False ChangeOverdue 51: Nothing has changed since 2026-03-09T12:01:00Z; a change is expected every 50m",
            ),
            ("suspended while it was overdue", suspended(expecting(50, fetched(1, 2))), paused, paused),
        ] {
            let status = status(None, &health, minute(60));
            assert_eq!(line(&status, REACHABLE), reachable, "{name}");
            assert_eq!(line(&status, FRESH), fresh, "{name}");
        }
    }

    #[test]
    fn conditions_tell_since_when_they_hold() {
        let mut shown = None;
        let mut show = |health: &SourceHealth, now: i64, kind| {
            let status = status(shown.as_ref(), health, minute(now));
            let line = line(&status, kind);
            shown = Some(status);
            line.split(':').next().unwrap().to_owned()
        };
        let expecting = |health| expecting(50, health);
        assert_eq!(show(&expecting(new()), 1, REACHABLE), "Unknown NotFetched 1");
        assert_eq!(show(&expecting(fetched(2, 2)), 3, REACHABLE), "True Answers 3");
        assert_eq!(show(&expecting(fetched(2, 9)), 10, REACHABLE), "True Answers 3");
        assert_eq!(show(&expecting(failing(11, None, fetched(2, 9))), 20, REACHABLE), "False Timeout 11");
        // It answered and failed again between two looks.
        assert_eq!(show(&expecting(failing(29, None, fetched(2, 25))), 30, REACHABLE), "False Timeout 29");
        assert_eq!(show(&expecting(failing(29, None, fetched(2, 25))), 51, FRESH), "True AsExpected 1");
        assert_eq!(show(&expecting(failing(29, None, fetched(2, 25))), 60, FRESH), "False ChangeOverdue 52");
        assert_eq!(show(&expecting(fetched(70, 70)), 71, FRESH), "True AsExpected 71");
        // Nobody expects anything any more.
        assert_eq!(show(&fetched(70, 70), 72, FRESH), "none");
    }

    #[test]
    fn the_times_are_shown_in_whole_seconds_and_the_next_try_while_there_is_one() {
        let mut health = failing(5, Some(64), fetched(1, 2));
        health.last_fetch_at = Some(minute(2) + SignedDuration::from_millis(750));
        let shown = status(None, &health, minute(60));
        let times = [&shown.last_fetch_time, &shown.last_change_time, &shown.next_try_time];
        let expected = [2, 1, 64].map(|number| Some(minute(number)));
        assert_eq!(times.map(|time| time.as_ref().map(|time| time.0)), expected);
        assert_eq!(status(Some(&shown), &fetched(1, 61), minute(62)).next_try_time, None);
        assert_eq!(status(Some(&shown), &suspended(health), minute(62)).next_try_time, None);
        // Its row is gone.
        let gone = source_status(Some(&shown), &verdict(), Some(1), None, minute(62));
        assert_eq!((gone.conditions.len(), gone.last_fetch_time, gone.last_change_time), (1, None, None));
    }

    #[test]
    fn the_same_health_later_changes_nothing() {
        for health in [
            new(),
            expecting(5, fetched(1, 2)),
            expecting(500, fetched(1, 2)),
            expecting(5, failing(3, Some(64), fetched(1, 2))),
            suspended(expecting(5, failing(3, Some(64), new()))),
        ] {
            let shown = status(None, &health, minute(60) + SignedDuration::from_millis(500));
            assert_eq!(status(Some(&shown), &health, minute(90)), shown);
        }
    }

    #[test]
    fn a_fetch_alone_waits_until_the_one_that_is_shown_is_old_enough() {
        let after = |seconds: i64| minute(2) + SignedDuration::from_secs(seconds);
        let shown = status(None, &fetched(1, 2), after(1));
        let wait = |health: &SourceHealth, now| can_wait(&shown, &status(Some(&shown), health, now), now);
        let again = SourceHealth { last_fetch_at: Some(after(4)), ..fetched(1, 2) };
        let changed = SourceHealth { last_change_at: Some(after(4)), ..again.clone() };
        assert_eq!(wait(&again, after(5)), Some(Duration::from_secs(10)));
        assert_eq!(wait(&again, after(14)), Some(Duration::from_secs(1)));
        assert_eq!(wait(&again, after(15)), None);
        // Clocks differ.
        assert_eq!(wait(&again, after(-60)), Some(Duration::from_secs(15)));
        assert_eq!(wait(&changed, after(5)), None, "a change is shown at once");
        assert_eq!(wait(&fetched(1, 2), after(5)), None, "nothing is new");
        let first = status(None, &new(), after(1));
        assert_eq!(can_wait(&first, &status(Some(&first), &again, after(5)), after(5)), None);
    }

    #[test]
    fn a_source_is_looked_at_again_when_its_change_is_due() {
        let seconds = |health: &SourceHealth, now| overdue_in(health, now).map(|left| left.as_secs());
        assert_eq!(seconds(&expecting(10, fetched(5, 8)), minute(9)), Some(360));
        assert_eq!(seconds(&expecting(10, new()), minute(9)), Some(60));
        assert_eq!(seconds(&expecting(10, new()), minute(10)), None, "it is overdue already");
        assert_eq!(seconds(&fetched(5, 8), minute(9)), None, "nothing is expected");
        assert_eq!(seconds(&suspended(expecting(10, new())), minute(9)), None);
    }
}
