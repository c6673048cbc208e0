//! What users see of a role: one line, which changes when the replicas change or the lag begins or ceases to be known.
//!
//! It stands in an annotation of the role's Deployment, where one looks for its replicas and where it costs no write of its
//! own: a Deployment's conditions belong to its controller, and a further object would have to be found first. The figures
//! behind it change with every reading and are metrics.

use std::cmp::Ordering;

use super::{
    configuration::RoleWorkers,
    decide::{Bounds, Reading},
};

const KNOWN: &str = "LagKnown";
const UNKNOWN: &str = "LagUnknown";
/// An annotation is no log.
const LONGEST_CAUSE: usize = 300;

/// How many replicas a role shall have, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleState {
    /// So many.
    pub replicas: u32,
    /// The line that users see.
    pub line: String,
}

/// Something that is worth an Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// More replicas.
    ScaledUp,
    /// Fewer replicas.
    ScaledDown,
    /// The lag cannot be read any more.
    LagUnknown,
    /// The lag can be read again.
    LagKnown,
}

impl Transition {
    /// The reason of the Event.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::ScaledUp => "ScaledUp",
            Self::ScaledDown => "ScaledDown",
            Self::LagUnknown => UNKNOWN,
            Self::LagKnown => KNOWN,
        }
    }
}

impl RoleState {
    /// The state after a decision, and whether that is news; a first state is none, whatever it is. `before` is also
    /// what another operator left on the role's Deployment; `cause` says why a reading failed.
    pub fn next(
        before: Option<&Self>,
        settings: &RoleWorkers,
        replicas: u32,
        reading: Reading,
        cause: &str,
    ) -> (Self, Option<Transition>) {
        let is_known = reading != Reading::Unknown;
        let transition = before.and_then(|before| {
            let was_known = !before.line.starts_with(UNKNOWN);
            match replicas.cmp(&before.replicas) {
                Ordering::Greater => Some(Transition::ScaledUp),
                Ordering::Less => Some(Transition::ScaledDown),
                Ordering::Equal if was_known && !is_known => Some(Transition::LagUnknown),
                Ordering::Equal if !was_known && is_known => Some(Transition::LagKnown),
                Ordering::Equal => None,
            }
        });
        let summary = summary(settings, replicas, is_known);
        let state = match before {
            Some(before) if before.replicas == replicas && before.line.starts_with(&summary) => {
                before.clone()
            }
            _ => Self { replicas, line: summary + &reason(settings, reading, cause) },
        };
        (state, transition)
    }
}

impl RoleWorkers {
    /// The bounds that decisions keep.
    pub fn bounds(&self) -> Bounds {
        Bounds { min: self.min, max: self.max, target_lag: self.target_lag }
    }
}

/// How the line begins. It is written anew when this changes.
fn summary(settings: &RoleWorkers, replicas: u32, is_known: bool) -> String {
    let word = if is_known { KNOWN } else { UNKNOWN };
    format!("{word}: {replicas} of {}..{} replicas", settings.min, settings.max)
}

fn reason(settings: &RoleWorkers, reading: Reading, cause: &str) -> String {
    let target = settings.target_lag;
    match reading {
        Reading::Lag { events, partitions } => {
            let wanted = events.div_ceil(target.max(1));
            format!(
                " since a lag of {events} at {target} per replica asked for {wanted}; {partitions} partitions"
            )
        }
        Reading::Unknown => {
            let cause: String = cause.chars().take(LONGEST_CAUSE).collect();
            format!(" stay as they are: {cause}")
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const SETTINGS: RoleWorkers = RoleWorkers {
        min: 0,
        max: 4,
        target_lag: 100,
        resources: None,
        env: Vec::new(),
        service_account_name: None,
        automount_service_account_token: false,
    };

    fn lag(events: u64) -> Reading {
        Reading::Lag { events, partitions: 6 }
    }

    #[test]
    fn the_line_changes_with_the_replicas_and_with_what_is_known_only() {
        let steps = [
            // replicas, reading, transition, the line as it is then
            (
                0,
                lag(0),
                None,
                "LagKnown: 0 of 0..4 replicas since a lag of 0 at 100 per replica asked for 0; 6 partitions",
            ),
            (
                2,
                lag(150),
                Some(Transition::ScaledUp),
                "LagKnown: 2 of 0..4 replicas since a lag of 150 at 100 per replica asked for 2; 6 partitions",
            ),
            (
                2,
                lag(120),
                None,
                "LagKnown: 2 of 0..4 replicas since a lag of 150 at 100 per replica asked for 2; 6 partitions",
            ),
            (
                2,
                Reading::Unknown,
                Some(Transition::LagUnknown),
                "LagUnknown: 2 of 0..4 replicas stay as they are: no broker",
            ),
            (2, Reading::Unknown, None, "LagUnknown: 2 of 0..4 replicas stay as they are: no broker"),
            (
                2,
                lag(0),
                Some(Transition::LagKnown),
                "LagKnown: 2 of 0..4 replicas since a lag of 0 at 100 per replica asked for 0; 6 partitions",
            ),
            (
                0,
                lag(0),
                Some(Transition::ScaledDown),
                "LagKnown: 0 of 0..4 replicas since a lag of 0 at 100 per replica asked for 0; 6 partitions",
            ),
        ];
        let mut state: Option<RoleState> = None;
        for (replicas, reading, expected, line) in steps {
            let (next, transition) =
                RoleState::next(state.as_ref(), &SETTINGS, replicas, reading, "no broker");
            assert_eq!((next.line.as_str(), transition), (line, expected));
            state = Some(next);
        }
    }

    #[test]
    fn a_role_that_begins_without_a_known_lag_says_so_and_needs_no_event() {
        let (state, transition) = RoleState::next(None, &SETTINGS, 0, Reading::Unknown, "no broker");
        assert_eq!(state.line, "LagUnknown: 0 of 0..4 replicas stay as they are: no broker");
        assert_eq!(transition, None);
    }

    #[test]
    fn a_line_of_other_bounds_and_one_that_somebody_removed_are_written_anew() {
        for line in ["LagKnown: 2 of 0..9 replicas since", ""] {
            let before = RoleState { replicas: 2, line: line.to_owned() };
            let (state, transition) = RoleState::next(Some(&before), &SETTINGS, 2, lag(150), "");
            assert!(state.line.starts_with("LagKnown: 2 of 0..4 replicas"), "{state:?}");
            assert_eq!(transition, None);
        }
    }
}
