//! What the court publishes, as a function of the edition.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// When edition 0 appeared: 2026-01-01T00:00:00Z.
const FIRST_EDITION: Timestamp = Timestamp::constant(1_767_225_600, 0);
/// How many opinions the page shows.
const RECENT: u64 = 12;
/// A corrected opinion is corrected this many editions after it was filed.
const CORRECTED_AFTER: u64 = 2;

const PARTIES: [&str; 12] = [
    "Gnomon and Daughters Clockworks",
    "Port Umbra Harbour Board",
    "Estate of Quillfeather",
    "Thistledown Ferry Company",
    "Ministry of Weights and Whistles",
    "City of Lower Imaginaria",
    "Bramblecroft Umbrella Cooperative",
    "Snorkelwood Tramways",
    "Guild of Unhurried Couriers",
    "Marzipan Quarries Limited",
    "Lighthouse Keepers of Nowhere Sound",
    "Parish of Saint Elsewhere",
];

const QUESTIONS: [&str; 8] = [
    "whether a lost umbrella is abandoned property once the rain has ended",
    "whether a ferry that arrives early has arrived on time",
    "who owns the echo of a bell that hangs over a boundary",
    "whether a clock set by the harbour cannon gives lawful notice",
    "whether a tramway must carry a passenger who walks backwards",
    "how a quarry of marzipan is to be taxed in a leap year",
    "whether fog excuses the late delivery of a lamp",
    "whether a whistle may be weighed before it is blown",
];

const OUTCOMES: [&str; 5] = [
    "Affirmed.",
    "Reversed and remanded.",
    "Affirmed in part, vacated in part.",
    "Appeal dismissed.",
    "Order stayed pending a further hearing.",
];

/// One state of the site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edition {
    number: u64,
    interval: Duration,
}

/// An opinion as one edition shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Opinion {
    pub(super) number: u64,
    pub(super) title: String,
    pub(super) docket: String,
    pub(super) question: &'static str,
    pub(super) outcome: &'static str,
    pub(super) filed: Timestamp,
    /// When a corrected text replaced the first one.
    pub(super) corrected: Option<Timestamp>,
}

impl Edition {
    /// The edition at a time: each interval has one.
    pub(super) fn at(now: Timestamp, interval: Duration) -> Edition {
        let elapsed = now.duration_since(FIRST_EDITION).as_secs();
        let number = u64::try_from(elapsed).unwrap_or(0) / interval.as_secs().max(1);
        Edition { number, interval }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// When it appeared.
    pub(super) fn published(&self) -> Timestamp {
        self.time_of(self.number)
    }

    /// The newest opinions, newest first. Each edition adds one.
    pub(super) fn recent(&self) -> Vec<Opinion> {
        let oldest = self.number.saturating_sub(RECENT - 1);
        (oldest..=self.number).rev().filter_map(|number| self.opinion(number)).collect()
    }

    /// An opinion, once it has been filed. One in five is corrected later, so that something changes within the page too.
    pub(super) fn opinion(&self, number: u64) -> Option<Opinion> {
        if number > self.number {
            return None;
        }
        let seed = mix(number);
        let appellant = pick(&PARTIES, seed);
        // The offset is never a multiple of the length: nobody appeals against themselves.
        let parties = PARTIES.len() as u64;
        let appellee = pick(&PARTIES, seed % parties + 1 + (seed >> 8) % (parties - 1));
        let filed = self.time_of(number);
        let corrected_in = number.saturating_add(CORRECTED_AFTER);
        let is_corrected = number % 5 == 3 && corrected_in <= self.number;
        Some(Opinion {
            number,
            title: format!("{appellant} v. {appellee}"),
            docket: format!("{}-{number:05}", filed.strftime("%y")),
            question: pick(&QUESTIONS, seed >> 16),
            outcome: pick(&OUTCOMES, seed >> 24),
            filed,
            corrected: is_corrected.then(|| self.time_of(corrected_in)),
        })
    }

    fn time_of(&self, number: u64) -> Timestamp {
        let seconds = number.saturating_mul(self.interval.as_secs());
        let since_first = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
        FIRST_EDITION.saturating_add(since_first).unwrap_or(Timestamp::MAX)
    }
}

fn pick(choices: &[&'static str], seed: u64) -> &'static str {
    let index = usize::try_from(seed % choices.len() as u64).unwrap_or(0);
    choices[index]
}

/// Spreads consecutive numbers (the finaliser of SplitMix64), so that neighbours share no party.
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(90);

    fn edition(number: u64) -> Edition {
        Edition { number, interval: INTERVAL }
    }

    #[test]
    fn edition_counts_intervals() {
        let cases = [(-5, 0), (0, 0), (89, 0), (90, 1), (179, 1), (180, 2), (90_000, 1000)];
        for (seconds, expected) in cases {
            let now = FIRST_EDITION.saturating_add(SignedDuration::from_secs(seconds)).expect("in range");
            let found = Edition::at(now, INTERVAL);
            assert_eq!(found.number(), expected, "{seconds} s");
            assert!(seconds < 0 || found.published() <= now, "{seconds} s");
        }
    }

    #[test]
    fn each_edition_adds_one_opinion_and_drops_the_oldest() {
        assert_eq!(edition(0).recent().len(), 1);
        assert_eq!(edition(11).recent().len(), 12);
        let numbers = |edition: Edition| -> Vec<u64> {
            edition.recent().iter().map(|opinion| opinion.number).collect()
        };
        assert_eq!(numbers(edition(12)), (1..=12).rev().collect::<Vec<_>>());
        assert_eq!(numbers(edition(500)), (489..=500).rev().collect::<Vec<_>>());
        assert_eq!(edition(500).opinion(501), None);
    }

    #[test]
    fn an_opinion_changes_only_when_it_is_corrected() {
        for number in 0..200 {
            let first = edition(number).opinion(number).expect("just filed");
            assert_eq!(first.corrected, None, "{number}");
            let (appellant, appellee) = first.title.split_once(" v. ").expect("two parties");
            assert_ne!(appellant, appellee, "{number}");
            let later = edition(number + 50).opinion(number).expect("still there");
            assert_eq!(later.corrected.is_some(), number % 5 == 3, "{number}");
            assert_eq!(Opinion { corrected: None, ..later }, first, "{number}");
        }
    }
}
