//! Conditions of the two kinds: their types and reasons as constants, and the one way to set one.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The object is valid, and what it asks for is in force. Present from the first reconcile on.
pub const READY: &str = "Ready";
/// The operator is still working towards the spec (kstatus). Present only when so.
pub const RECONCILING: &str = "Reconciling";
/// The operator cannot get further without a change of the spec (kstatus). Present only when so.
pub const STALLED: &str = "Stalled";
/// Subscription: the latest run succeeded.
pub const SUCCEEDING: &str = "Succeeding";
/// Subscription: its targets take what is sent to them. Present once something was sent to one.
pub const DELIVERING: &str = "Delivering";
/// Source: it answers.
pub const REACHABLE: &str = "Reachable";
/// Source: it has changed within `spec.expect.cadence`. Present only when that is given.
pub const FRESH: &str = "Fresh";

/// Reasons: why a condition has its status, as one word that programs may rely on. docs/status.md says what to do.
pub mod reasons {
    /// The source is in the catalog and may be subscribed to.
    pub const REGISTERED: &str = "Registered";
    /// The subscription is in the catalog and its runs are scheduled.
    pub const SCHEDULED: &str = "Scheduled";
    /// `spec.suspend` is true.
    pub const SUSPENDED: &str = "Suspended";
    /// The object cannot be read as its kind.
    pub const UNREADABLE: &str = "Unreadable";
    /// The spec breaks a rule; the message says which.
    pub const INVALID_SPEC: &str = "InvalidSpec";
    /// There is no Source of the name in `spec.sourceRef`.
    pub const SOURCE_NOT_FOUND: &str = "SourceNotFound";
    /// The Source is being deleted, and subscriptions still use it.
    pub const IN_USE: &str = "InUse";
    /// The latest run succeeded.
    pub const RUN_SUCCEEDED: &str = "RunSucceeded";
    /// The latest run failed.
    pub const RUN_FAILED: &str = "RunFailed";
    /// Each target took what was last sent to it. Why one that did not fails, the catalog says.
    pub const DELIVERED: &str = "Delivered";
    /// Nothing of the source was asked for yet.
    pub const NOT_FETCHED: &str = "NotFetched";
    /// The source was fetched. Why one that was not fails, the run reasons say.
    pub const ANSWERS: &str = "Answers";
    /// The source changes at least as often as is expected of it.
    pub const AS_EXPECTED: &str = "AsExpected";
    /// The source has not changed for longer than is expected of it.
    pub const CHANGE_OVERDUE: &str = "ChangeOverdue";
}

/// The status of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It is not known whether it holds.
    Unknown,
}

impl Status {
    /// The text the API uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Status {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// The longest message the API conventions allow, in characters.
const MAX_MESSAGE: usize = 32_768;

/// Sets the condition `kind`, adding it where it is missing, and says whether anything changed.
///
/// `lastTransitionTime` becomes `now` only when the status flips, so that setting what already holds changes nothing.
/// The message is cut to the length the API conventions allow.
pub fn set_condition(
    conditions: &mut Vec<Condition>,
    kind: &str,
    status: Status,
    reason: &str,
    message: &str,
    observed_generation: Option<i64>,
    now: Timestamp,
) -> bool {
    let before = find_condition(conditions, kind).filter(|before| before.status == status.as_str());
    let since = before.map_or(now, |before| before.last_transition_time.0);
    set_condition_since(conditions, kind, status, reason, message, observed_generation, since)
}

/// The same, where it is known since when the status holds: that becomes the `lastTransitionTime`.
pub fn set_condition_since(
    conditions: &mut Vec<Condition>,
    kind: &str,
    status: Status,
    reason: &str,
    message: &str,
    observed_generation: Option<i64>,
    since: Timestamp,
) -> bool {
    let wanted = Condition {
        type_: kind.to_owned(),
        status: status.as_str().to_owned(),
        reason: reason.to_owned(),
        message: message.chars().take(MAX_MESSAGE).collect(),
        observed_generation,
        last_transition_time: Time(since),
    };
    let Some(existing) = conditions.iter_mut().find(|condition| condition.type_ == kind) else {
        conditions.push(wanted);
        return true;
    };
    let changed = *existing != wanted;
    *existing = wanted;
    changed
}

/// Removes the condition `kind`, and says whether it was there.
pub fn remove_condition(conditions: &mut Vec<Condition>, kind: &str) -> bool {
    let before = conditions.len();
    conditions.retain(|condition| condition.type_ != kind);
    conditions.len() != before
}

/// The condition `kind`, where it is present.
pub fn find_condition<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// Whether the condition `kind` is present with status True.
pub fn is_true(conditions: &[Condition], kind: &str) -> bool {
    find_condition(conditions, kind).is_some_and(|condition| condition.status == Status::True.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn transition_time_moves_only_when_the_status_flips() {
        let mut conditions = Vec::new();
        let mut set = |status: Status, reason: &str, generation: i64, second: i64| {
            let changed =
                set_condition(&mut conditions, READY, status, reason, "text", Some(generation), at(second));
            assert_eq!(conditions.len(), 1);
            (changed, conditions[0].last_transition_time.0, conditions[0].reason.clone())
        };
        assert_eq!(set(Status::True, "A", 1, 10), (true, at(10), "A".into()), "added");
        assert_eq!(set(Status::True, "A", 1, 20), (false, at(10), "A".into()), "nothing changed");
        assert_eq!(
            set(Status::True, "B", 1, 30),
            (true, at(10), "B".into()),
            "a new reason is no transition"
        );
        assert_eq!(set(Status::True, "B", 2, 40), (true, at(10), "B".into()), "nor is a new generation");
        assert_eq!(set(Status::False, "B", 2, 50), (true, at(50), "B".into()), "a flip is");
    }

    #[test]
    fn transition_time_is_the_one_that_is_known() {
        let mut conditions = Vec::new();
        let mut set = |second| {
            let changed = set_condition_since(
                &mut conditions,
                REACHABLE,
                Status::False,
                "Timeout",
                "text",
                Some(1),
                at(second),
            );
            (changed, conditions[0].last_transition_time.0)
        };
        assert_eq!([set(10), set(10), set(20)], [(true, at(10)), (false, at(10)), (true, at(20))]);
    }

    #[test]
    fn finds_and_removes() {
        let mut conditions = Vec::new();
        set_condition(&mut conditions, READY, Status::True, "A", "", None, at(1));
        set_condition(&mut conditions, STALLED, Status::Unknown, "A", "", None, at(1));
        assert!(is_true(&conditions, READY));
        assert!(!is_true(&conditions, STALLED));
        assert!(remove_condition(&mut conditions, READY));
        assert!(!remove_condition(&mut conditions, READY));
        assert_eq!(find_condition(&conditions, READY), None);
    }

    #[test]
    fn cuts_messages_between_characters() {
        let mut conditions = Vec::new();
        set_condition(&mut conditions, READY, Status::False, "A", &"é".repeat(MAX_MESSAGE + 1), None, at(1));
        assert_eq!(conditions[0].message.chars().count(), MAX_MESSAGE);
    }
}
