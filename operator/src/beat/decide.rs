//! What becomes of due times: a pure decision.

use events::run_reasons;
use jiff::{SignedDuration, Timestamp};
use store::catalog::{CatchUp, Skip, SubscriptionSettings};

/// With `catchUp: None`, how late a due time may be and still fire: less is the delay of a busy moment, more means that
/// nothing was there to fire it.
const LATE: SignedDuration = SignedDuration::from_secs(60);

/// Why a due time gets no run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skipped {
    /// The subscription or its source is suspended.
    Suspended,
    /// It is too late for it: see `startingDeadlineSeconds` and, with `catchUp: None`, a minute.
    DeadlineExceeded,
    /// A later due time is fired instead: `catchUp: Latest`.
    Superseded,
}

impl Skipped {
    /// The reason in the catalog, with a sentence for a person.
    pub fn to_skip(self) -> Skip {
        let (reason, message) = match self {
            Self::Suspended => (run_reasons::SUSPENDED, "the subscription or its source is suspended"),
            Self::DeadlineExceeded => (run_reasons::DEADLINE_EXCEEDED, "it could not be started in time"),
            Self::Superseded => {
                (run_reasons::SUPERSEDED, "it was missed, and the latest due time is run instead")
            }
        };
        Skip { reason, message: message.to_owned() }
    }
}

/// Decides for each due time (ascending, none later than `now`) whether it is run (`None`) or skipped.
///
/// Overlap with an active run is decided by the catalog, which alone knows what is active.
pub fn decide(
    settings: &SubscriptionSettings,
    source_suspended: bool,
    due: &[Timestamp],
    now: Timestamp,
) -> Vec<Option<Skipped>> {
    let is_suspended = settings.suspend || source_suspended;
    let deadline = settings.starting_deadline_seconds.map(SignedDuration::from_secs);
    let latest = due.last();
    due.iter()
        .map(|time| {
            let late = now.duration_since(*time);
            if is_suspended {
                Some(Skipped::Suspended)
            } else if deadline.is_some_and(|deadline| late > deadline) {
                Some(Skipped::DeadlineExceeded)
            } else {
                match settings.catch_up {
                    CatchUp::All => None,
                    CatchUp::Latest => (Some(time) != latest).then_some(Skipped::Superseded),
                    CatchUp::None => (late > LATE).then_some(Skipped::DeadlineExceeded),
                }
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use store::catalog::Concurrency;

    use super::*;

    fn settings(change: impl Fn(&mut SubscriptionSettings)) -> SubscriptionSettings {
        let mut settings = SubscriptionSettings {
            schedule: "* * * * *".into(),
            time_zone: "UTC".into(),
            starting_deadline_seconds: None,
            concurrency: Concurrency::Forbid,
            catch_up: CatchUp::Latest,
            jitter_seconds: 0,
            suspend: false,
            jurisdiction: None,
        };
        change(&mut settings);
        settings
    }

    #[test]
    fn decision_table() {
        use Skipped::{DeadlineExceeded, Superseded, Suspended};
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        // Due ten minutes, two minutes and half a second ago.
        let due: Vec<Timestamp> = ["2026-03-01T11:50:00Z", "2026-03-01T11:58:00Z", "2026-03-01T11:59:59.5Z"]
            .map(|time| time.parse().unwrap())
            .to_vec();
        type Case = (&'static str, SubscriptionSettings, bool, [Option<Skipped>; 3]);
        let cases: Vec<Case> = vec![
            ("latest", settings(|_| ()), false, [Some(Superseded), Some(Superseded), None]),
            ("all", settings(|s| s.catch_up = CatchUp::All), false, [None, None, None]),
            (
                "none",
                settings(|s| s.catch_up = CatchUp::None),
                false,
                [Some(DeadlineExceeded), Some(DeadlineExceeded), None],
            ),
            (
                "all with a deadline",
                settings(|s| {
                    s.catch_up = CatchUp::All;
                    s.starting_deadline_seconds = Some(300);
                }),
                false,
                [Some(DeadlineExceeded), None, None],
            ),
            (
                "latest with a deadline",
                settings(|s| s.starting_deadline_seconds = Some(300)),
                false,
                [Some(DeadlineExceeded), Some(Superseded), None],
            ),
            (
                "deadline of zero",
                settings(|s| s.starting_deadline_seconds = Some(0)),
                false,
                [Some(DeadlineExceeded); 3],
            ),
            ("suspended", settings(|s| s.suspend = true), false, [Some(Suspended); 3]),
            ("source suspended", settings(|s| s.catch_up = CatchUp::All), true, [Some(Suspended); 3]),
        ];
        for (name, settings, source_suspended, expected) in cases {
            assert_eq!(decide(&settings, source_suspended, &due, now), expected, "{name}");
        }
    }
}
