//! What the answer to a delivery over HTTP means.

use jiff::Timestamp;

/// What becomes of a delivery after an attempt. When none was answered at all, it is `Retry`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has arrived.
    Delivered,
    /// It is tried again when [`next_attempt`](crate::next_attempt) says, not before the time that the target named.
    Retry {
        /// From its `Retry-After`.
        not_before: Option<Timestamp>,
    },
    /// The target says that it is gone: nothing more is sent to it until its spec changes.
    TargetGone,
}

/// Reads the answer as Standard Webhooks has it: only 2xx is success, 410 is for good, and anything else may be mended
/// within the time of the retries: a login that is renewed, a route that is deployed. Redirects are not followed, so that
/// a body goes nowhere but where the administrator lets it.
pub fn outcome_of(status: u16, retry_after: Option<Timestamp>) -> Outcome {
    match status {
        200..=299 => Outcome::Delivered,
        410 => Outcome::TargetGone,
        _ => Outcome::Retry { not_before: retry_after },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_2xx_is_success_and_only_410_is_for_good() {
        let later = Some(Timestamp::UNIX_EPOCH);
        for (status, retry_after, outcome) in [
            (200, None, Outcome::Delivered),
            (202, later, Outcome::Delivered),
            (204, None, Outcome::Delivered),
            (299, None, Outcome::Delivered),
            (199, None, Outcome::Retry { not_before: None }),
            (301, None, Outcome::Retry { not_before: None }),
            (304, None, Outcome::Retry { not_before: None }),
            (400, None, Outcome::Retry { not_before: None }),
            (401, None, Outcome::Retry { not_before: None }),
            (404, None, Outcome::Retry { not_before: None }),
            (410, later, Outcome::TargetGone),
            (429, later, Outcome::Retry { not_before: later }),
            (500, None, Outcome::Retry { not_before: None }),
            (502, later, Outcome::Retry { not_before: later }),
            (503, later, Outcome::Retry { not_before: later }),
            (504, None, Outcome::Retry { not_before: None }),
        ] {
            assert_eq!(outcome_of(status, retry_after), outcome, "{status}");
        }
    }
}
