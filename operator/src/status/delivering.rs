//! What the status of a Subscription says of its targets.

use crds::conditions::{
    DELIVERING, Status, find_condition, reasons, remove_condition, set_condition, set_condition_since,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use store::catalog::{TargetFailing, TargetHealth};

use super::seconds;

/// Shows whether the targets took what was last sent to them. The reason is that of the one which has failed for longest.
pub(super) fn set_delivering(
    conditions: &mut Vec<Condition>,
    targets: &[TargetHealth],
    generation: Option<i64>,
    now: Timestamp,
) {
    if targets.is_empty() {
        remove_condition(conditions, DELIVERING);
        return;
    }
    let mut failing: Vec<(&str, &TargetFailing)> =
        targets.iter().filter_map(|target| Some((target.name.as_str(), target.failing.as_ref()?))).collect();
    failing.sort_by_key(|(name, failing)| (failing.since, *name));
    let Some((_, first)) = failing.first() else {
        let message = "Each target took what was last sent to it";
        let reason = reasons::DELIVERED;
        set_condition(conditions, DELIVERING, Status::True, reason, message, generation, seconds(now).0);
        return;
    };
    // Where one target fails after another, there was a failing one all the time.
    let since = find_condition(conditions, DELIVERING)
        .filter(|before| before.status == Status::False.as_str())
        .map_or(seconds(first.since).0, |before| before.last_transition_time.0);
    let sentences: Vec<String> = failing.iter().map(|(name, failing)| sentence(name, failing)).collect();
    let message = sentences.join(". ");
    set_condition_since(conditions, DELIVERING, Status::False, &first.reason, &message, generation, since);
}

fn sentence(name: &str, failing: &TargetFailing) -> String {
    let TargetFailing { since, reason, message, next_attempt_at, is_gone } = failing;
    let next = match next_attempt_at {
        _ if *is_gone => "nothing is sent to it until its settings change".to_owned(),
        Some(time) => format!("the next attempt is at {time:.0}"),
        None => "it is tried again with the next change".to_owned(),
    };
    format!("{name} has failed since {since:.0}: {reason}: {message}; {next}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use jiff::SignedDuration;

    use super::*;

    const NOON: Timestamp = Timestamp::constant(1_773_057_600, 0);

    fn minute(number: i64) -> Timestamp {
        NOON + SignedDuration::from_mins(number)
    }

    fn taking(name: &str) -> TargetHealth {
        TargetHealth { subscription_id: 1, name: name.to_owned(), failing: None }
    }

    fn failing(name: &str, since: i64, reason: &str, next: Option<i64>) -> TargetHealth {
        let failing = TargetFailing {
            // The catalog's times are finer than the API's.
            since: minute(since) + SignedDuration::from_millis(250),
            reason: reason.to_owned(),
            message: "why".to_owned(),
            next_attempt_at: next.map(minute),
            is_gone: reason == "TargetGone",
        };
        TargetHealth { failing: Some(failing), ..taking(name) }
    }

    /// The condition as a line: its status, reason, since how many minutes after noon, message.
    fn line(conditions: &[Condition]) -> String {
        let Some(condition) = find_condition(conditions, DELIVERING) else { return "none".to_owned() };
        let since = condition.last_transition_time.0.duration_since(NOON).as_mins();
        format!("{} {} {since}: {}", condition.status, condition.reason, condition.message)
    }

    #[test]
    fn each_state_of_the_targets_has_its_condition() {
        // All of them an hour after noon.
        for (name, targets, expected) in [
            ("nothing was sent", vec![], "none"),
            (
                "all take it",
                vec![taking("a"), taking("b")],
                "True Delivered 60: Each target took what was last sent to it",
            ),
            (
                "one fails",
                vec![failing("clerks", 5, "HttpStatus", Some(65)), taking("b")],
                "False HttpStatus 5: clerks has failed since 2026-03-09T12:05:00Z: HttpStatus: why; the next attempt is \
                 at 2026-03-09T13:05:00Z",
            ),
            (
                "what it failed to take is given up",
                vec![failing("clerks", 5, "Timeout", None)],
                "False Timeout 5: clerks has failed since 2026-03-09T12:05:00Z: Timeout: why; it is tried again with \
                 the next change",
            ),
            (
                "several fail",
                vec![
                    failing("a", 7, "Timeout", Some(61)),
                    taking("b"),
                    failing("c", 6, "TargetGone", Some(61)),
                ],
                "False TargetGone 6: c has failed since 2026-03-09T12:06:00Z: TargetGone: why; nothing is sent to it until \
                 its settings change. a has failed since 2026-03-09T12:07:00Z: Timeout: why; the next attempt is at \
                 2026-03-09T13:01:00Z",
            ),
        ] {
            let mut conditions = Vec::new();
            set_delivering(&mut conditions, &targets, Some(1), minute(60));
            assert_eq!(line(&conditions), expected, "{name}");
            let shown = conditions.clone();
            set_delivering(&mut conditions, &targets, Some(1), minute(90));
            assert_eq!(conditions, shown, "{name}, later");
        }
    }

    #[test]
    fn the_condition_tells_since_when_one_fails() {
        let mut conditions = Vec::new();
        let mut show = |now, targets: &[TargetHealth]| {
            set_delivering(&mut conditions, targets, Some(1), minute(now));
            line(&conditions).split(':').next().unwrap().to_owned()
        };
        assert_eq!(show(1, &[taking("a")]), "True Delivered 1");
        assert_eq!(show(2, &[taking("a"), taking("b")]), "True Delivered 1");
        assert_eq!(show(5, &[failing("a", 3, "Timeout", None), taking("b")]), "False Timeout 3");
        let both = [failing("a", 3, "Timeout", None), failing("b", 6, "HttpStatus", None)];
        assert_eq!(show(7, &both), "False Timeout 3");
        assert_eq!(show(8, &[taking("a"), failing("b", 6, "HttpStatus", None)]), "False HttpStatus 3");
        assert_eq!(show(9, &[taking("a"), taking("b")]), "True Delivered 9");
        // The targets were taken out of the subscription.
        assert_eq!(show(10, &[]), "none");
    }
}
