//! The `Retry-After` header (RFC 9110, section 10.2.3).

use jiff::civil::DateTime;
use jiff::fmt::rfc2822;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// A site may ask for less or say nothing; it may not silence a Source for longer than this.
pub const LONGEST: SignedDuration = SignedDuration::from_hours(30 * 24);

/// When the site wants to be asked again, from seconds or a date in any of HTTP's three formats; never before `now`.
pub fn parse(value: &str, now: Timestamp) -> Option<Timestamp> {
    let value = value.trim();
    let wait = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are a very long time.
        SignedDuration::from_secs(value.parse().unwrap_or(i64::MAX))
    } else {
        http_date(value)?.duration_since(now)
    };
    now.checked_add(wait.clamp(SignedDuration::ZERO, LONGEST)).ok()
}

fn http_date(value: &str) -> Option<Timestamp> {
    if let Ok(date) = rfc2822::DateTimeParser::new().parse_timestamp(value) {
        return Some(date);
    }
    // The two obsolete formats, which recipients must still accept.
    let date = DateTime::strptime("%A, %d-%b-%y %H:%M:%S GMT", value)
        .or_else(|_| DateTime::strptime("%a %b %e %H:%M:%S %Y", value))
        .ok()?;
    Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn seconds_and_dates_become_a_time() {
        let now: Timestamp = "1994-11-06T08:00:00Z".parse().unwrap();
        for (value, expected) in [
            ("120", Some("1994-11-06T08:02:00Z")),
            (" 0 ", Some("1994-11-06T08:00:00Z")),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some("1994-11-06T08:49:37Z")),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some("1994-11-06T08:49:37Z")),
            ("Sun Nov  6 08:49:37 1994", Some("1994-11-06T08:49:37Z")),
            // In the past: at once.
            ("Sat, 05 Nov 1994 08:49:37 GMT", Some("1994-11-06T08:00:00Z")),
            // Beyond all reason: in thirty days.
            ("31536000", Some("1994-12-06T08:00:00Z")),
            ("99999999999999999999999", Some("1994-12-06T08:00:00Z")),
            ("Wed, 01 Dec 9999 23:59:59 GMT", Some("1994-12-06T08:00:00Z")),
            ("", None),
            ("-5", None),
            ("soon", None),
            ("1.5", None),
        ] {
            assert_eq!(parse(value, now), expected.map(|text| text.parse().unwrap()), "{value:?}");
        }
    }
}
