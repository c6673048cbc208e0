//! When a delivery that failed is tried again, and when it is given up.

use jiff::{SignedDuration, Timestamp};

/// How long after each failed attempt the next is made, in seconds: ten attempts over 22.6 to 24.9 hours.
const DELAYS: [i64; 9] = [5, 60, 300, 1800, 3600, 7200, 14_400, 25_200, 28_800];
/// The most that a delay is longer, in thousandths: what failed together is not tried again together.
const JITTER: u64 = 100;
/// No target puts a delivery off for longer than this with its `Retry-After`.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_hours(24);

/// When the next attempt is made after `failed` attempts, the last of them at `now`. None: it is given up.
///
/// `seed` tells deliveries apart, such as a part of their id: the same delivery is predictable, many spread.
/// `not_before` is what the target asked for with `Retry-After`, which is heeded up to a day.
pub fn next_attempt(
    failed: u32,
    seed: u64,
    now: Timestamp,
    not_before: Option<Timestamp>,
) -> Option<Timestamp> {
    let delay = DELAYS.get(usize::try_from(failed).ok()?.checked_sub(1)?)?;
    let jitter = i64::try_from(mix(seed, failed) % (JITTER + 1)).ok()?;
    let delay = SignedDuration::from_millis(delay * (1000 + jitter));
    let asked = not_before.map_or(SignedDuration::ZERO, |time| time.duration_since(now).min(LONGEST_WAIT));
    now.checked_add(delay.max(asked)).ok()
}

/// A number that follows from both and looks like neither (the last steps of SplitMix64).
fn mix(seed: u64, attempt: u32) -> u64 {
    let mut mixed = seed.wrapping_add(u64::from(attempt).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn delay(failed: u32, seed: u64, not_before: Option<i64>) -> Option<SignedDuration> {
        let not_before = not_before.map(|second| Timestamp::from_second(second).unwrap());
        Some(next_attempt(failed, seed, NOW, not_before)?.duration_since(NOW))
    }

    #[test]
    fn delays_grow_spread_and_end_after_about_a_day() {
        let mut shortest = SignedDuration::ZERO;
        let mut longest = SignedDuration::ZERO;
        for (failed, seconds) in (1..).zip(DELAYS) {
            let delays: Vec<SignedDuration> =
                (0..1000).map(|seed| delay(failed, seed, None).unwrap()).collect();
            let (first, last) = (*delays.iter().min().unwrap(), *delays.iter().max().unwrap());
            assert_eq!(first, SignedDuration::from_secs(seconds));
            assert_eq!(last, SignedDuration::from_millis(seconds * 1100));
            assert_eq!(delay(failed, 7, None), delay(failed, 7, None));
            shortest += first;
            longest += last;
        }
        assert!(shortest > SignedDuration::from_hours(22) && longest < SignedDuration::from_hours(25));
        assert_eq!(delay(10, 0, None), None);
        assert_eq!(delay(u32::MAX, 0, None), None);
        // Before the first attempt there is nothing to retry.
        assert_eq!(delay(0, 0, None), None);
    }

    #[test]
    fn what_the_target_asks_for_is_heeded_up_to_a_day() {
        let minutes = SignedDuration::from_mins;
        for (failed, asked, expected) in [
            // Later than the schedule has it.
            (2, 600, minutes(10)),
            // Sooner, or in the past: the schedule stands.
            (4, 600, delay(4, 3, None).unwrap()),
            (4, -600, delay(4, 3, None).unwrap()),
            (2, 30 * 86_400, minutes(24 * 60)),
        ] {
            assert_eq!(delay(failed, 3, Some(asked)), Some(expected), "{failed} {asked}");
        }
        assert_eq!(delay(10, 3, Some(600)), None);
    }
}
