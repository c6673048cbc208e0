#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

const WINDOW: i64 = 60;
const BOUNDS: Bounds = Bounds { min: 0, max: 4, target_lag: 100 };

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn lag(events: u64) -> Reading {
    Reading::Lag { events, partitions: 6 }
}

fn history() -> History {
    History::new(SignedDuration::from_secs(WINDOW), SignedDuration::from_secs(20))
}

/// Decides for readings five seconds apart, and returns the replicas after each.
fn decide(bounds: Bounds, mut replicas: u32, readings: impl IntoIterator<Item = Reading>) -> Vec<u32> {
    let mut history = history();
    let readings = readings.into_iter().zip(0..);
    readings
        .map(|(reading, number)| {
            replicas = history.decide(bounds, replicas, reading, at(number * 5));
            replicas
        })
        .collect()
}

#[test]
fn a_lag_asks_for_so_many_replicas() {
    let rows = [
        // min, max, events, partitions, replicas
        (0, 4, 0, 6, 0),
        (0, 4, 1, 6, 1),
        (0, 4, 100, 6, 1),
        (0, 4, 101, 6, 2),
        (0, 4, 400, 6, 4),
        (0, 4, 401, 6, 4),
        (0, 4, u64::MAX, 6, 4),
        // No more than partitions.
        (0, 9, 900, 6, 6),
        (0, 9, u64::MAX, 1, 1),
        // Unless the minimum asks for them.
        (3, 9, 900, 2, 3),
        (2, 9, 0, 6, 2),
        (4, 4, 0, 6, 4),
        // A topic without partitions holds nothing.
        (0, 4, 0, 0, 0),
    ];
    for (min, max, events, partitions, replicas) in rows {
        let bounds = Bounds { min, max, target_lag: 100 };
        assert_eq!(bounds.ask(events, partitions), replicas, "{bounds:?}, {events} in {partitions}");
    }
}

#[test]
fn it_goes_up_at_once() {
    assert_eq!(decide(BOUNDS, 0, [lag(0), lag(1), lag(250), lag(9_000)]), [0, 1, 3, 4]);
}

#[test]
fn it_goes_down_to_the_highest_of_the_window_when_that_is_over() {
    let readings = [lag(400)].into_iter().chain((0..6).map(|_| lag(150))).chain((0..30).map(|_| lag(10)));
    let replicas = decide(BOUNDS, 0, readings);
    // 400 was asked for at 0 s and holds through 60 s, 150 was last asked for at 30 s and holds through 90 s.
    assert!(replicas[..=12].iter().all(|replicas| *replicas == 4), "{replicas:?}");
    assert!(replicas[13..=18].iter().all(|replicas| *replicas == 2), "{replicas:?}");
    assert!(replicas[19..].iter().all(|replicas| *replicas == 1), "{replicas:?}");
}

#[test]
fn one_reading_that_asks_for_more_begins_the_window_anew() {
    let mut readings = vec![lag(400)];
    readings.extend((0..8).map(|_| lag(0)));
    readings.push(lag(400));
    readings.extend((0..12).map(|_| lag(0)));
    assert!(decide(BOUNDS, 0, readings.clone()).iter().all(|replicas| *replicas == 4));
    readings.push(lag(0));
    assert_eq!(decide(BOUNDS, 0, readings).last(), Some(&0));
}

#[test]
fn it_goes_to_zero_only_when_nothing_was_left_for_the_whole_window() {
    let calm = |count: usize| std::iter::repeat_n(lag(0), count);
    let replicas = decide(BOUNDS, 1, calm(13).chain([lag(1)]).chain(calm(12)));
    assert_eq!(replicas[12], 1);
    assert!(replicas.iter().all(|replicas| *replicas == 1), "{replicas:?}");
    assert_eq!(decide(BOUNDS, 1, calm(14)).last(), Some(&0));
    let kept = Bounds { min: 1, ..BOUNDS };
    assert_eq!(decide(kept, 3, calm(40)).last(), Some(&1));
}

#[test]
fn what_cannot_be_read_changes_nothing_and_begins_the_window_anew() {
    let unknown = |count: usize| std::iter::repeat_n(Reading::Unknown, count);
    assert!(decide(BOUNDS, 3, unknown(100)).iter().all(|replicas| *replicas == 3));
    assert!(decide(BOUNDS, 0, unknown(100)).iter().all(|replicas| *replicas == 0));
    // Eleven calm readings, one that failed, and calm again.
    let calm = |count: usize| std::iter::repeat_n(lag(0), count);
    let replicas = decide(BOUNDS, 3, calm(11).chain(unknown(1)).chain(calm(13)));
    assert_eq!((replicas[12], replicas[23], replicas[24]), (3, 3, 0), "{replicas:?}");
    // The first reading that succeeds may scale up.
    assert_eq!(decide(BOUNDS, 1, unknown(3).chain([lag(300)])), [1, 1, 1, 3]);
}

#[test]
fn bounds_hold_whatever_is_known() {
    assert_eq!(decide(BOUNDS, 9, [Reading::Unknown]), [4]);
    assert_eq!(decide(Bounds { min: 2, ..BOUNDS }, 0, [Reading::Unknown]), [2]);
    assert_eq!(decide(BOUNDS, 9, [lag(9_000)]), [4]);
    // A topic has fewer partitions than there are replicas.
    assert_eq!(decide(BOUNDS, 4, [Reading::Lag { events: 900, partitions: 2 }]), [2]);
}

#[test]
fn a_gap_between_readings_counts_as_asking_for_what_there_is() {
    let mut history = history();
    assert_eq!(history.decide(BOUNDS, 3, lag(0), at(0)), 3);
    // As after a night's sleep: the first reading says nothing about what was before it.
    assert_eq!(history.decide(BOUNDS, 3, lag(0), at(40_000)), 3);
    for second in (5..=60).step_by(5) {
        assert_eq!(history.decide(BOUNDS, 3, lag(0), at(40_000 + second)), 3);
    }
    assert_eq!(history.decide(BOUNDS, 3, lag(0), at(40_065)), 0);
}

#[test]
fn without_a_window_the_second_reading_may_scale_down() {
    let mut history = History::new(SignedDuration::ZERO, SignedDuration::from_secs(20));
    assert_eq!(history.decide(BOUNDS, 3, lag(0), at(0)), 3);
    assert_eq!(history.decide(BOUNDS, 3, lag(150), at(5)), 2);
    assert_eq!(history.decide(BOUNDS, 2, lag(0), at(10)), 0);
}

#[test]
fn a_clock_that_is_set_back_does_no_harm() {
    let mut history = history();
    assert_eq!(history.decide(BOUNDS, 2, lag(0), at(1_000)), 2);
    assert_eq!(history.decide(BOUNDS, 2, lag(0), at(0)), 2);
    assert_eq!(history.decide(BOUNDS, 2, lag(400), at(5)), 4);
}

fn any_reading() -> impl Strategy<Value = Reading> {
    prop_oneof![
        1 => Just(Reading::Unknown),
        4 => (prop_oneof![Just(0), 0..2_000_u64, any::<u64>()], 1..12_u32)
            .prop_map(|(events, partitions)| Reading::Lag { events, partitions }),
    ]
}

prop_compose! {
    fn any_bounds()(min in 0..6_u32, more in 0..6_u32, target_lag in 1..500_u64) -> Bounds {
        Bounds { min, max: (min + more).max(1), target_lag }
    }
}

proptest! {
    #[test]
    fn every_decision_keeps_its_promises(
        bounds in any_bounds(),
        start in 0..12_u32,
        readings in prop::collection::vec((any_reading(), 1..15_i64), 1..80),
    ) {
        let mut history = history();
        let mut replicas = start.clamp(bounds.min, bounds.max);
        let mut now = 0;
        let mut past: Vec<(i64, Option<u32>)> = Vec::new();
        for (reading, step) in readings {
            now += step;
            let before = replicas;
            replicas = history.decide(bounds, before, reading, at(now));
            prop_assert!((bounds.min..=bounds.max).contains(&replicas));
            let Reading::Lag { events, partitions } = reading else {
                prop_assert_eq!(replicas, before, "unknown changes nothing");
                past.push((now, None));
                continue;
            };
            let asked = bounds.ask(events, partitions);
            let ceiling = partitions.max(bounds.min);
            prop_assert!(replicas <= ceiling);
            prop_assert!(replicas >= asked, "up at once");
            prop_assert!(replicas == asked || replicas <= before, "up to what is asked for only");
            prop_assert!(events == 0 || replicas >= 1, "something to do has somebody to do it");
            past.push((now, Some(asked)));
            if replicas < before.min(ceiling) {
                let in_window: Vec<_> = past.iter().filter(|(time, _)| now - time <= WINDOW).collect();
                prop_assert!(now - past[0].0 > WINDOW, "nothing is known of the whole window");
                for (_, asked) in in_window {
                    prop_assert!(asked.is_some_and(|asked| asked <= replicas), "a reading spoke against it");
                }
            }
        }
    }

    #[test]
    fn a_lag_that_swings_within_the_window_never_makes_it_flap(
        lags in prop::collection::vec(0..1_000_u64, 24),
    ) {
        // The highest comes again every 55 s.
        let swinging = lags.chunks(12).flat_map(|_| lags.iter().take(10).map(|events| lag(*events)).chain([lag(1_000)]));
        let readings: Vec<_> = [lag(1_000)].into_iter().chain(swinging).collect();
        prop_assert!(decide(BOUNDS, 0, readings).iter().all(|replicas| *replicas == 4));
    }
}
