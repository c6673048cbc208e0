//! Cron expressions, and the times that sites name.

use std::time::Duration;

use crds::Schedule;
use jiff::{SignedDuration, Timestamp};
use worker::{
    fetch::retry_after,
    robots::{LONGEST_CACHED, SHORTEST_CACHED, cached_for},
};

use crate::input::texts;

const NOW: Timestamp = Timestamp::constant(1_780_477_200, 0);
const NANOSECOND: SignedDuration = SignedDuration::from_nanos(1);
/// How many due times are looked at.
const DUE_TIMES: usize = 20;

/// A cron expression, a time zone, and the seconds since 1970 after which it is due.
pub(crate) fn cron(input: &[u8]) {
    let [expression, zone, after] = texts(input);
    let Ok(schedule) = Schedule::parse(&expression, &zone) else { return };
    assert_eq!(Schedule::parse(&schedule.to_string(), &zone).as_ref(), Ok(&schedule));
    let seconds = after.trim().parse().unwrap_or_else(|_| NOW.as_second());
    let Ok(after) = Timestamp::from_second(seconds) else { return };
    let mut last = after;
    for due in schedule.due_between(after, Timestamp::MAX, DUE_TIMES) {
        assert!(due > last, "{due} after {last}");
        // The due times are a set: wherever one asks between two of them, the later one is next.
        let between = due.duration_since(last) / 2;
        for moment in [last, last + between, due - NANOSECOND] {
            assert_eq!(schedule.next_after(moment), Some(due), "after {moment}");
        }
        last = due;
    }
}

/// The value of a `Retry-After`, of a `Cache-Control`, and a duration as manifests have it.
pub(crate) fn http_dates(input: &[u8]) {
    let [retry, cache, duration] = texts(input);
    if let Some(at) = retry_after::parse(&retry, NOW) {
        assert!(at >= NOW && at <= NOW + retry_after::LONGEST, "{at}");
        if let Ok(seconds) = retry.trim().parse::<u32>() {
            let wait = SignedDuration::from_secs(seconds.into()).min(retry_after::LONGEST);
            assert_eq!(at, NOW + wait);
        }
    }
    // A date that is written as HTTP has it is read as what it is.
    if let Some(at) =
        retry.trim().parse().ok().and_then(|seconds| NOW.checked_add(SignedDuration::from_secs(seconds)).ok())
    {
        let date = at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let expected = at.max(NOW).min(NOW + retry_after::LONGEST);
        if at.strftime("%Y").to_string().len() == 4 && at > Timestamp::UNIX_EPOCH {
            assert_eq!(retry_after::parse(&date, NOW), Some(expected), "{date}");
        }
    }
    let cached = cached_for(Some(&cache));
    assert!((SHORTEST_CACHED..=LONGEST_CACHED).contains(&cached), "{cached:?}");
    if let Ok(duration) = duration.parse::<crds::Duration>() {
        assert_eq!(duration.to_string().parse(), Ok(duration));
        assert_eq!(duration.get().subsec_nanos() % 1_000_000, 0);
        assert!(duration.get() < Duration::from_secs(u64::from(u32::MAX) * 1_000_000));
    }
}
