//! What a status says: pure functions of a verdict, the catalog's summary, and the status before.

mod delivering;
mod source;

use crds::{
    LastRun, LastSkip, SubscriptionStatus,
    conditions::{
        DELIVERING, FRESH, REACHABLE, READY, RECONCILING, STALLED, SUCCEEDING, Status, find_condition,
        reasons, remove_condition, set_condition,
    },
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use store::catalog::{RunPhase, RunReport, SkippedDueTime, SubscriptionSummary, TargetHealth};

use delivering::set_delivering;
pub(crate) use source::{can_wait, overdue_in, source_status};

use crate::Verdict;

/// What the catalog knows of a Subscription.
#[derive(Clone, Copy)]
pub(crate) struct Known<'a> {
    pub(crate) summary: &'a SubscriptionSummary,
    /// Those of its targets that something was sent to.
    pub(crate) targets: &'a [TargetHealth],
}

/// The status of a Subscription. Where the catalog does not know it, what is shown of its runs and targets stays.
pub(crate) fn subscription_status(
    before: Option<&SubscriptionStatus>,
    verdict: &Verdict,
    generation: Option<i64>,
    known: Option<Known<'_>>,
    next_due: Option<Timestamp>,
    now: Timestamp,
) -> SubscriptionStatus {
    let mut status = before.cloned().unwrap_or_default();
    status.observed_generation = generation;
    set_verdict(&mut status.conditions, verdict, generation, now);
    let is_paused = verdict.reason == reasons::SUSPENDED;
    status.next_schedule_time = next_due.filter(|_| !is_paused).map(seconds);
    if let Some(Known { summary, targets }) = known {
        status.last_schedule_time = summary.last_schedule_time.map(seconds);
        status.active_runs = Some(summary.active_runs);
        status.versions = Some(summary.versions);
        status.last_change_time = summary.last_change_time.map(seconds);
        status.last_handled_request_at = summary.last_request.clone();
        status.last_handled_backfill_at = summary.last_backfill.clone();
        status.last_run = summary.last_run.as_ref().map(last_run);
        status.last_skip = summary.last_skip.as_ref().map(last_skip);
        set_succeeding(&mut status.conditions, summary.last_run.as_ref(), generation, now);
        set_delivering(&mut status.conditions, targets, generation, now);
    }
    status
}

fn last_run(run: &RunReport) -> LastRun {
    LastRun {
        id: run.id.to_string(),
        phase: match run.phase {
            RunPhase::Pending => crds::RunPhase::Pending,
            RunPhase::Running => crds::RunPhase::Running,
            RunPhase::Succeeded => crds::RunPhase::Succeeded,
            RunPhase::Failed => crds::RunPhase::Failed,
            RunPhase::Skipped => crds::RunPhase::Skipped,
        },
        reason: run.reason.clone(),
        message: run.message.clone(),
        trace_id: Some(run.trace_id.clone()),
        finished_at: run.finished_at.map(seconds),
    }
}

fn last_skip(skip: &SkippedDueTime) -> LastSkip {
    LastSkip {
        scheduled_for: seconds(skip.scheduled_for),
        reason: skip.reason.clone(),
        message: skip.message.clone(),
    }
}

/// The API's times have seconds only: what is compared with a stored one must have no more.
fn seconds(time: Timestamp) -> Time {
    Time(Timestamp::from_second(time.as_second()).unwrap_or(time))
}

/// Brings the conditions in line with a verdict.
pub(crate) fn set_verdict(
    conditions: &mut Vec<Condition>,
    verdict: &Verdict,
    generation: Option<i64>,
    now: Timestamp,
) {
    let mut set = |kind, status, reason: &str, message: &str| {
        set_condition(conditions, kind, status, reason, message, generation, seconds(now).0);
    };
    set(READY, Status::from(verdict.ready), verdict.reason, &verdict.message);
    let present = if verdict.ready {
        None
    } else if verdict.try_again {
        Some(RECONCILING)
    } else {
        Some(STALLED)
    };
    if let Some(kind) = present {
        set(kind, Status::True, verdict.reason, &verdict.message);
    }
    for kind in [RECONCILING, STALLED] {
        if present != Some(kind) {
            remove_condition(conditions, kind);
        }
    }
}

/// A run that is not over leaves the condition as it was.
fn set_succeeding(
    conditions: &mut Vec<Condition>,
    run: Option<&RunReport>,
    generation: Option<i64>,
    now: Timestamp,
) {
    let Some(run) = run else { return };
    let (status, reason, message) = match run.phase {
        RunPhase::Succeeded => (Status::True, reasons::RUN_SUCCEEDED, "The latest run succeeded".to_owned()),
        RunPhase::Failed => {
            let reason = run.reason.as_deref().unwrap_or("Failed");
            let message = run.message.as_deref().unwrap_or("no more is known");
            (Status::False, reasons::RUN_FAILED, format!("{reason}: {message}"))
        }
        RunPhase::Pending | RunPhase::Running | RunPhase::Skipped => return,
    };
    set_condition(conditions, SUCCEEDING, status, reason, &message, generation, seconds(now).0);
}

/// The conditions that turned, and are worth an Event: whether the object is ready or why not, that its runs begin to
/// fail, that they succeed again, that a source does not answer or change or a target does not take what is sent, that it
/// does again. One run more that ends like the one before it is not, nor that a new object is as it should be: of thousands
/// that are applied at once, those that are not would be lost among the others.
pub(crate) fn news<'a>(before: &[Condition], after: &'a [Condition]) -> Vec<&'a Condition> {
    let is_news = |kind: &str, condition: &Condition| {
        let is_false = |condition: &Condition| condition.status == Status::False.as_str();
        let Some(was) = find_condition(before, kind) else { return is_false(condition) };
        if condition.status == Status::Unknown.as_str() {
            return false;
        }
        let has_turned = was.status != condition.status && (is_false(was) || is_false(condition));
        let says_more =
            was.reason != condition.reason || (is_false(condition) && was.message != condition.message);
        has_turned || (kind == READY && says_more)
    };
    [READY, SUCCEEDING, DELIVERING, REACHABLE, FRESH]
        .into_iter()
        .filter_map(|kind| find_condition(after, kind).filter(|condition| is_news(kind, condition)))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_what_turned_is_news() {
        use Status::{False, True};
        let conditions = |ready: (Status, &str, &str), succeeding: Option<(Status, &str, &str)>| {
            let mut conditions = Vec::new();
            for (kind, state) in [(READY, Some(ready)), (SUCCEEDING, succeeding)] {
                if let Some((status, reason, message)) = state {
                    set_condition(
                        &mut conditions,
                        kind,
                        status,
                        reason,
                        message,
                        None,
                        Timestamp::UNIX_EPOCH,
                    );
                }
            }
            conditions
        };
        let ready = (True, "Scheduled", "");
        let (invalid, invalid_otherwise) =
            ((False, "InvalidSpec", "schedule"), (False, "InvalidSpec", "zone"));
        let (success, failure) = (Some((True, "RunSucceeded", "")), Some((False, "RunFailed", "404")));
        let failure_otherwise = Some((False, "RunFailed", "503"));
        let none: &[&str] = &[];
        for (name, before, after, expected) in [
            ("new", Vec::new(), conditions(ready, None), none),
            ("new and invalid", Vec::new(), conditions(invalid, None), &["InvalidSpec"]),
            ("the same", conditions(ready, success), conditions(ready, success), none),
            ("the first success", conditions(ready, None), conditions(ready, success), none),
            ("the first failure", conditions(ready, None), conditions(ready, failure), &["RunFailed"]),
            ("a failure", conditions(ready, success), conditions(ready, failure), &["RunFailed"]),
            ("a further failure", conditions(ready, failure), conditions(ready, failure_otherwise), none),
            ("a recovery", conditions(ready, failure), conditions(ready, success), &["RunSucceeded"]),
            ("invalid", conditions(ready, success), conditions(invalid, success), &["InvalidSpec"]),
            (
                "invalid in another way",
                conditions(invalid, None),
                conditions(invalid_otherwise, None),
                &["InvalidSpec"],
            ),
            (
                "valid, and failing",
                conditions(invalid, success),
                conditions(ready, failure),
                &["Scheduled", "RunFailed"],
            ),
        ] {
            let reasons: Vec<&str> =
                news(&before, &after).into_iter().map(|condition| condition.reason.as_str()).collect();
            assert_eq!(reasons, expected, "{name}");
        }
    }

    fn verdict(ready: bool, reason: &'static str, try_again: bool) -> Verdict {
        Verdict { ready, reason, message: "why".into(), catalog_id: None, try_again }
    }

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_source_or_target_that_turns_is_news() {
        use Status::{False, True, Unknown};
        for (before, after, expected) in [
            (None, Unknown, false),
            (None, False, true),
            (Some(Unknown), True, false),
            (Some(Unknown), False, true),
            (Some(True), False, true),
            (Some(False), False, false),
            (Some(False), True, true),
            (Some(False), Unknown, false),
        ] {
            for kind in [DELIVERING, REACHABLE, FRESH] {
                let conditions = |status: Option<Status>, message| {
                    let mut conditions = Vec::new();
                    if let Some(status) = status {
                        let reason = status.as_str();
                        let now = Timestamp::UNIX_EPOCH;
                        set_condition(&mut conditions, kind, status, reason, message, None, now);
                    }
                    conditions
                };
                let (was, is) = (conditions(before, "one"), conditions(Some(after), "another"));
                assert_eq!(news(&was, &is).len(), usize::from(expected), "{before:?} {after:?}");
            }
        }
    }

    #[test]
    fn a_verdict_is_ready_stalled_or_reconciling() {
        let now = time("2026-01-01T00:00:00Z");
        let mut conditions = Vec::new();
        set_verdict(&mut conditions, &verdict(false, reasons::INVALID_SPEC, false), Some(1), now);
        assert_eq!(find_condition(&conditions, STALLED).unwrap().status, "True");
        set_verdict(&mut conditions, &verdict(false, reasons::IN_USE, true), Some(1), now);
        assert!(find_condition(&conditions, STALLED).is_none());
        assert_eq!(find_condition(&conditions, RECONCILING).unwrap().reason, "InUse");
        set_verdict(&mut conditions, &verdict(true, reasons::REGISTERED, false), Some(2), now);
        assert_eq!(conditions.len(), 1);
        assert_eq!(conditions[0].observed_generation, Some(2));
    }

    #[test]
    fn a_failed_run_says_why_and_a_new_one_keeps_it_until_it_ends() {
        let run = |phase, reason: Option<&str>| RunReport {
            id: uuid::Uuid::from_u128(1),
            subscription_id: 1,
            subscription: store::catalog::ObjectKey {
                uid: uuid::Uuid::from_u128(2),
                namespace: "n".into(),
                name: "s".into(),
            },
            scheduled_for: time("2026-01-01T00:00:00Z"),
            phase,
            reason: reason.map(Into::into),
            message: reason.map(|_| "the server answered 404".into()),
            changed: None,
            trace_id: "t".into(),
            created_at: time("2026-01-01T00:00:00Z"),
            finished_at: None,
        };
        let ready = verdict(true, reasons::SCHEDULED, false);
        let now = time("2026-01-01T00:00:00Z");
        let show = |before: Option<&SubscriptionStatus>, run| {
            let summary = SubscriptionSummary { last_run: Some(run), ..SubscriptionSummary::default() };
            let known = Known { summary: &summary, targets: &[] };
            subscription_status(before, &ready, Some(1), Some(known), None, now)
        };
        let failed = show(None, run(RunPhase::Failed, Some("HttpStatus")));
        let condition = find_condition(&failed.conditions, SUCCEEDING).unwrap();
        assert_eq!(
            (condition.status.as_str(), condition.message.as_str()),
            ("False", "HttpStatus: the server answered 404")
        );
        let running = show(Some(&failed), run(RunPhase::Running, None));
        assert_eq!(find_condition(&running.conditions, SUCCEEDING).unwrap().status, "False");
        let succeeded = show(Some(&running), run(RunPhase::Succeeded, Some("Changed")));
        assert_eq!(find_condition(&succeeded.conditions, SUCCEEDING).unwrap().status, "True");
    }
}
