use std::time::{Duration, Instant};

use jiff::civil::DateTime;
use proptest::prelude::*;

use super::*;

fn utc(text: &str) -> Timestamp {
    text.parse::<DateTime>().unwrap().to_zoned(TimeZone::UTC).unwrap().timestamp()
}

/// The first `count` due times after `after`, both as UTC without the zone.
fn due(expression: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
    let schedule = Schedule::parse(expression, zone).unwrap_or_else(|error| panic!("{expression}: {error}"));
    schedule
        .due_between(utc(after), Timestamp::MAX, count)
        .iter()
        .map(|due| due.strftime("%Y-%m-%dT%H:%M").to_string())
        .collect()
}

#[test]
fn due_times() {
    // 2026-01-01 is a Thursday.
    let after = "2026-01-01T00:00:00";
    for (expression, expected) in [
        ("* * * * *", ["2026-01-01T00:01", "2026-01-01T00:02"]),
        ("*/15 * * * *", ["2026-01-01T00:15", "2026-01-01T00:30"]),
        ("5/20 * * * *", ["2026-01-01T00:05", "2026-01-01T00:25"]),
        ("10-20/5 3 * * *", ["2026-01-01T03:10", "2026-01-01T03:15"]),
        ("@hourly", ["2026-01-01T01:00", "2026-01-01T02:00"]),
        ("@daily", ["2026-01-02T00:00", "2026-01-03T00:00"]),
        ("@midnight", ["2026-01-02T00:00", "2026-01-03T00:00"]),
        ("@weekly", ["2026-01-04T00:00", "2026-01-11T00:00"]),
        ("@monthly", ["2026-02-01T00:00", "2026-03-01T00:00"]),
        ("@yearly", ["2027-01-01T00:00", "2028-01-01T00:00"]),
        // Monday is 1.
        ("0 9 * * 1", ["2026-01-05T09:00", "2026-01-12T09:00"]),
        ("0 9 * * MON", ["2026-01-05T09:00", "2026-01-12T09:00"]),
        ("0 9 * * mon", ["2026-01-05T09:00", "2026-01-12T09:00"]),
        // Sunday is 0 and 7.
        ("0 9 * * 0", ["2026-01-04T09:00", "2026-01-11T09:00"]),
        ("0 9 * * 7", ["2026-01-04T09:00", "2026-01-11T09:00"]),
        ("0 9 * * SAT-SUN", ["2026-01-03T09:00", "2026-01-04T09:00"]),
        ("0 9 * * 6-7", ["2026-01-03T09:00", "2026-01-04T09:00"]),
        ("0 9 * * SUN-SUN", ["2026-01-04T09:00", "2026-01-11T09:00"]),
        ("0 9 * * 7/2", ["2026-01-04T09:00", "2026-01-11T09:00"]),
        // All values are all values, whatever else is listed.
        ("0 9 3,* * MON", ["2026-01-05T09:00", "2026-01-12T09:00"]),
        ("1,* * * * *", ["2026-01-01T00:01", "2026-01-01T00:02"]),
        // A step restricts a field: every odd day, or a Monday.
        ("0 9 */2 * MON", ["2026-01-01T09:00", "2026-01-03T09:00"]),
        ("0 9 */1 * MON", ["2026-01-05T09:00", "2026-01-12T09:00"]),
        // Steps from a weekday end on Saturday: Monday, Wednesday, Friday, and no Sunday.
        ("0 9 * * 1/2", ["2026-01-02T09:00", "2026-01-05T09:00"]),
        // Day of month or day of week: the 3rd is a Saturday, the 5th a Monday.
        ("0 9 3 * MON", ["2026-01-03T09:00", "2026-01-05T09:00"]),
        ("0 9 3 * ?", ["2026-01-03T09:00", "2026-02-03T09:00"]),
        ("0 9 ? * MON", ["2026-01-05T09:00", "2026-01-12T09:00"]),
        ("0 0 1 JAN,JUL *", ["2026-07-01T00:00", "2027-01-01T00:00"]),
        ("0 0 31 * *", ["2026-01-31T00:00", "2026-03-31T00:00"]),
        ("0 0 29 2 *", ["2028-02-29T00:00", "2032-02-29T00:00"]),
        // Impossible as a date, but any Monday in February will do.
        ("0 0 30 2 MON", ["2026-02-02T00:00", "2026-02-09T00:00"]),
        ("  0   9 * * 1  ", ["2026-01-05T09:00", "2026-01-12T09:00"]),
    ] {
        assert_eq!(due(expression, "UTC", after, 2), expected, "{expression}");
    }
}

#[test]
fn next_is_strictly_after_and_ignores_fractions() {
    let schedule = Schedule::parse("0 9 * * *", "UTC").unwrap();
    for (after, next) in [
        ("2026-01-01T08:59:59.999", "2026-01-01T09:00:00"),
        ("2026-01-01T09:00:00", "2026-01-02T09:00:00"),
        ("2026-01-01T09:00:00.001", "2026-01-02T09:00:00"),
    ] {
        assert_eq!(schedule.next_after(utc(after)), Some(utc(next)), "{after}");
    }
}

/// The first due times after a moment, both as the zone's clocks show them, with the offset.
fn local(expression: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
    let schedule = Schedule::parse(expression, zone).unwrap_or_else(|error| panic!("{expression}: {error}"));
    let after = after.parse::<DateTime>().unwrap().to_zoned(schedule.time_zone().clone()).unwrap();
    let due = schedule.due_between(after.timestamp(), Timestamp::MAX, count);
    due.iter()
        .map(|due| due.to_zoned(schedule.time_zone().clone()).strftime("%d %H:%M %:z").to_string())
        .collect()
}

#[test]
fn clocks_that_are_set_forward() {
    let new_york = ("America/New_York", "2026-03-07T12:00"); // 02:00 becomes 03:00 on the 8th.
    let lord_howe = ("Australia/Lord_Howe", "2026-10-03T12:00"); // 02:00 becomes 02:30 on the 4th.
    let sao_paulo = ("America/Sao_Paulo", "2018-11-03T12:00"); // 00:00 becomes 01:00 on the 4th.
    let apia = ("Pacific/Apia", "2011-12-29T12:00"); // The 31st follows the 29th.
    for (expression, (zone, after), expected) in [
        ("0 9 * * *", new_york, &["08 09:00 -04:00", "09 09:00 -04:00"][..]),
        // Fixed times that are left out come at the change, together, and once.
        ("30 2 * * *", new_york, &["08 03:00 -04:00", "09 02:30 -04:00"]),
        ("0,30 2 * * *", new_york, &["08 03:00 -04:00", "09 02:00 -04:00"]),
        ("0 2,3 * * *", new_york, &["08 03:00 -04:00", "09 02:00 -04:00", "09 03:00 -04:00"]),
        ("30 2,3 * * *", new_york, &["08 03:00 -04:00", "08 03:30 -04:00", "09 02:30 -04:00"]),
        ("0 3 * * *", new_york, &["08 03:00 -04:00", "09 03:00 -04:00"]),
        ("10 2 * * *", lord_howe, &["04 02:30 +11:00", "05 02:10 +11:00"]),
        ("10,30,40 2 * * *", lord_howe, &["04 02:30 +11:00", "04 02:40 +11:00", "05 02:10 +11:00"]),
        ("@daily", sao_paulo, &["04 01:00 -02:00", "05 00:00 -02:00"]),
        ("30 23,0 * * *", sao_paulo, &["03 23:30 -03:00", "04 01:00 -02:00", "04 23:30 -02:00"]),
        ("0 8,20 * * *", apia, &["29 20:00 -10:00", "31 00:00 +14:00", "31 08:00 +14:00"]),
        ("0 12 30 12 *", apia, &["31 00:00 +14:00", "30 12:00 +14:00"]),
        // Intervals go by what clocks show.
        (
            "*/30 1-3 * * *",
            new_york,
            &["08 01:00 -05:00", "08 01:30 -05:00", "08 03:00 -04:00", "08 03:30 -04:00"],
        ),
        ("*/30 2 * * *", new_york, &["09 02:00 -04:00", "09 02:30 -04:00"]),
        ("0 */2 * * *", ("America/New_York", "2026-03-08T00:00"), &["08 04:00 -04:00", "08 06:00 -04:00"]),
        ("*/20 2 * * *", lord_howe, &["04 02:40 +11:00", "05 02:00 +11:00"]),
    ] {
        assert_eq!(local(expression, zone, after, expected.len()), expected, "{expression} in {zone}");
    }
}

#[test]
fn clocks_that_are_set_back() {
    let new_york = ("America/New_York", "2026-10-31T12:00"); // 02:00 becomes 01:00 on the 1st.
    let lord_howe = ("Australia/Lord_Howe", "2026-04-04T12:00"); // 02:00 becomes 01:30 on the 5th.
    let havana = ("America/Havana", "2024-11-02T12:00"); // 01:00 becomes 00:00 on the 3rd.
    for (expression, (zone, after), expected) in [
        // A fixed time counts when it is shown first.
        ("30 1 * * *", new_york, &["01 01:30 -04:00", "02 01:30 -05:00"][..]),
        (
            "0,30 1,2 * * *",
            new_york,
            &["01 01:00 -04:00", "01 01:30 -04:00", "01 02:00 -05:00", "01 02:30 -05:00"],
        ),
        ("45 1 * * *", lord_howe, &["05 01:45 +11:00", "06 01:45 +10:30"]),
        ("@daily", havana, &["03 00:00 -04:00", "04 00:00 -05:00"]),
        // An interval counts both.
        (
            "30 * * * *",
            ("America/New_York", "2026-11-01T00:40"),
            &["01 01:30 -04:00", "01 01:30 -05:00", "01 02:30 -05:00"],
        ),
        (
            "*/30 1 * * *",
            new_york,
            &["01 01:00 -04:00", "01 01:30 -04:00", "01 01:00 -05:00", "01 01:30 -05:00"],
        ),
        (
            "45 * * * *",
            ("Australia/Lord_Howe", "2026-04-05T01:00"),
            &["05 01:45 +11:00", "05 01:45 +10:30", "05 02:45 +10:30"],
        ),
        (
            "0 * * * *",
            ("America/Havana", "2024-11-02T23:10"),
            &["03 00:00 -04:00", "03 00:00 -05:00", "03 01:00 -05:00"],
        ),
    ] {
        assert_eq!(local(expression, zone, after, expected.len()), expected, "{expression} in {zone}");
    }
}

#[test]
fn a_fixed_time_that_has_been_shown_does_not_come_again_for_one_who_looks_late() {
    // New York at 01:10, 01:30 and 01:59 for the second time.
    let schedule = Schedule::parse("0,30 1 * * *", "America/New_York").unwrap();
    for after in ["2026-11-01T06:00:00", "2026-11-01T06:10:00", "2026-11-01T06:30:00", "2026-11-01T06:59:59"]
    {
        assert_eq!(schedule.next_after(utc(after)), Some(utc("2026-11-02T06:00:00")), "{after}");
    }
}

#[test]
fn no_clock_is_set_back_over_the_change_before() {
    for name in TIME_ZONES.available() {
        let zone = TIME_ZONES.get(name.as_str()).unwrap();
        let mut last = (Timestamp::MIN, zone.to_offset(Timestamp::MIN));
        let end = utc("2200-01-01T00:00:00");
        for change in zone.following(Timestamp::MIN).take_while(|change| change.timestamp() < end) {
            let back = i64::from(last.1.seconds() - change.offset().seconds());
            assert!(
                change.timestamp().as_second() - last.0.as_second() > back,
                "{name}: {}",
                change.timestamp()
            );
            last = (change.timestamp(), change.offset());
        }
    }
}

#[test]
fn the_ends_of_time_are_no_trouble() {
    for zone in ["UTC", "Pacific/Apia", "America/New_York"] {
        for expression in ["* * * * *", "0 0 29 2 *", "@yearly"] {
            let schedule = Schedule::parse(expression, zone).unwrap();
            let start = Timestamp::MIN + SignedDuration::from_hours(48);
            assert!(schedule.next_after(start).is_some(), "{expression} in {zone}");
            assert!(schedule.next_after(Timestamp::MIN).is_none_or(|due| due > Timestamp::MIN));
            assert_eq!(schedule.next_after(Timestamp::MAX), None, "{expression} in {zone}");
            let due = schedule.due_between(utc("9995-12-01T00:00:00"), Timestamp::MAX, 10);
            assert!(
                due.last().is_some_and(|due| due.to_string().starts_with("999")),
                "{expression} in {zone}"
            );
        }
    }
    // Fractions of a second before 1970.
    let schedule = Schedule::parse("* * * * *", "UTC").unwrap();
    let just_before = Timestamp::UNIX_EPOCH - SignedDuration::from_nanos(1);
    assert_eq!(schedule.next_after(just_before), Some(Timestamp::UNIX_EPOCH));
}

#[test]
fn a_schedule_takes_little_memory() {
    assert!(size_of::<Schedule>() <= 64, "{}", size_of::<Schedule>());
}

#[test]
fn refuses_what_a_cron_job_refuses() {
    for (expression, message) in [
        ("", "must be five fields"),
        ("* * * *", "must be five fields"),
        ("0 * * * * *", "must be five fields"),
        ("0 0 1 1 * 2026", "must be five fields"),
        ("@reboot", "must be five fields"),
        ("@every 1h", "must be five fields"),
        ("TZ=UTC 0 9 * * 1", "must be five fields"),
        ("60 * * * *", r#"invalid minute "60": a value must be between 0 and 59"#),
        ("* 24 * * *", "invalid hour"),
        ("* * 0 * *", "invalid day of month"),
        ("* * * 13 *", "invalid month"),
        ("* * * * 8", "a value must be between 0 and 7, or a name from SUN to SAT"),
        ("* * * * MONDAY", "invalid day of week"),
        ("* * * MON *", "invalid month"),
        ("*/0 * * * *", "a step must be between 1 and 59"),
        ("/5 * * * *", "invalid minute"),
        ("1,,2 * * * *", "invalid minute"),
        ("20-10 * * * *", "runs backwards"),
        ("? * * * *", "invalid minute"),
        ("* * L * *", "invalid day of month"),
        ("* * 15W * *", "invalid day of month"),
        ("* * * * 5#2", "invalid day of week"),
        ("* * * * +MON", "invalid day of week"),
        ("-1 * * * *", "invalid minute"),
        ("+1 * * * *", "invalid minute"),
    ] {
        let error = Schedule::parse(expression, "UTC").expect_err(expression);
        assert!(error.to_string().contains(message), "{expression}: {error}");
        assert!(!error.is_time_zone(), "{expression}");
    }
}

#[test]
fn refuses_dates_that_never_come_at_once() {
    let started = Instant::now();
    for expression in ["0 0 30 2 *", "0 0 30,31 2 *", "0 0 31 4,6,9,11 *", "0 0 31 4/5 *", "0 0 30-31 FEB ?"]
    {
        assert_eq!(Schedule::parse(expression, "UTC"), Err(InvalidSchedule::Never), "{expression}");
    }
    assert!(started.elapsed() < Duration::from_secs(1));
    for expression in ["0 0 31 */2 *", "0 0 29-31 2 *", "0 0 */30 2 *", "0 0 31 4-6 *"] {
        assert!(Schedule::parse(expression, "UTC").is_ok(), "{expression}");
    }
}

#[test]
fn refuses_unknown_time_zones() {
    for zone in ["", "Local", "Mars/Olympus", "Etc/Unknown", "EST5EDT,M3.2.0,M11.1.0", "+02:00"] {
        let error = Schedule::parse("@daily", zone).expect_err(zone);
        assert!(error.is_time_zone(), "{zone}: {error}");
    }
    for zone in ["UTC", "Etc/UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5"] {
        assert!(Schedule::parse("@daily", zone).is_ok(), "{zone}");
    }
}

/// A field of a cron expression, in each of the forms there are.
fn field(min: u8, max: u8) -> impl Strategy<Value = String> {
    prop_oneof![
        3 => Just("*".to_owned()),
        2 => (min..=max).prop_map(|value| value.to_string()),
        1 => (min..=max, min..=max).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        1 => (1..=max).prop_map(|step| format!("*/{step}")),
        1 => (min..=max, min..=max).prop_map(|(a, b)| format!("{a},{b}")),
        1 => (min..=max, 1..=max).prop_map(|(a, step)| format!("{a}/{step},*/{step}")),
    ]
}

fn expression() -> impl Strategy<Value = String> {
    (field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 7))
        .prop_map(|(minute, hour, day, month, weekday)| format!("{minute} {hour} {day} {month} {weekday}"))
}

/// Any zone there is.
fn zone() -> impl Strategy<Value = String> {
    prop::sample::select(TIME_ZONES.available().map(|name| name.to_string()).collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn due_times_rise_and_due_between_agrees(
        expression in expression(),
        zone in zone(),
        // 2000 to 2060.
        start in 946_684_800i64..2_840_140_800,
        nanoseconds in 0i32..1_000_000_000,
        length in 0i64..40 * 86_400,
        limit in 0usize..50,
    ) {
        let schedule = match Schedule::parse(&expression, &zone) {
            Ok(schedule) => schedule,
            Err(InvalidSchedule::Never) => return Ok(()),
            Err(error) => return Err(TestCaseError::fail(format!("{expression}: {error}"))),
        };
        let after = Timestamp::new(start, nanoseconds).unwrap();
        let until = Timestamp::from_second(start + length).unwrap();

        let mut iterated = Vec::new();
        let mut last = after;
        while let Some(next) = schedule.next_after(last) {
            prop_assert!(next > last, "{expression} in {zone}: {next} is not after {last}");
            prop_assert_eq!(next.as_nanosecond() % 60_000_000_000, 0, "a whole minute");
            if next > until || iterated.len() == limit {
                break;
            }
            iterated.push(next);
            last = next;
        }
        prop_assert_eq!(schedule.due_between(after, until, limit), iterated);
    }

    #[test]
    fn no_due_time_is_jumped_over(
        expression in expression(),
        zone in zone(),
        start in 946_684_800i64..2_840_140_800,
        back in 1i64..100_000,
    ) {
        let Ok(schedule) = Schedule::parse(&expression, &zone) else { return Ok(()) };
        let Some(next) = schedule.next_after(Timestamp::from_second(start).unwrap()) else { return Ok(()) };
        // Seen from any earlier moment, the time is still among those that are due.
        let earlier = Timestamp::from_second(start - back).unwrap();
        let due = schedule.due_between(earlier, next, usize::MAX);
        prop_assert_eq!(due.last().copied(), Some(next), "{} in {}", expression, zone);
    }
}
