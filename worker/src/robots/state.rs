//! What follows from the answer to a request for robots.txt (RFC 9309, sections 2.3.1 and 2.4).

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Robots;
use crate::fetch::FetchError;

/// How long a site whose robots.txt cannot be read is left alone; the RFC's example of a reasonably long time.
pub const UNREACHABLE_FOR: SignedDuration = SignedDuration::from_hours(30 * 24);

/// How long an answer holds unless the site says less.
pub const LONGEST_CACHED: Duration = Duration::from_secs(24 * 60 * 60);

/// How long it holds at least: robots.txt is not asked for with every page.
pub const SHORTEST_CACHED: Duration = Duration::from_secs(60);

/// What a request for robots.txt came to. Whoever makes it follows at least five redirects, to other hosts too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RobotsAnswer<'a> {
    /// The last answer, which is no redirect.
    Answered {
        /// Its HTTP status.
        status: u16,
        /// The file, at least its first [`MAX_SIZE`](super::MAX_SIZE) bytes; not looked at unless the status is 2xx.
        body: &'a [u8],
    },
    /// Redirects without an end in sight.
    RedirectsOnly,
    /// No answer, or none that can be used.
    Failed,
}

impl From<&FetchError> for RobotsAnswer<'_> {
    fn from(error: &FetchError) -> Self {
        match error {
            FetchError::Status { status, .. } => Self::Answered { status: *status, body: &[] },
            FetchError::TooManyRedirects { .. } | FetchError::RedirectLoop { .. } => Self::RedirectsOnly,
            _ => Self::Failed,
        }
    }
}

/// What a crawler may do on a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RobotsState {
    /// What the file permits.
    Rules(Robots),
    /// Everything: there is no file.
    AllowAll,
    /// Nothing, until robots.txt can be read: it is to be asked for again before long.
    Unreachable,
}

/// What follows from `answer` for the crawler of that product token.
///
/// `failing_since` is when the site's robots.txt was found to be [`RobotsState::Unreachable`] first, with no other answer
/// since; `None` when it was not the last time.
pub fn outcome(
    answer: RobotsAnswer<'_>,
    product_token: &str,
    failing_since: Option<Timestamp>,
    now: Timestamp,
) -> RobotsState {
    match answer {
        RobotsAnswer::Answered { status: 200..=299, body } => {
            RobotsState::Rules(Robots::parse(body, product_token))
        }
        RobotsAnswer::Answered { status: 429, .. } => unreachable_since(failing_since, now),
        // A redirect that cannot be followed leads to no file either.
        RobotsAnswer::Answered { status: 300..=499, .. } | RobotsAnswer::RedirectsOnly => {
            RobotsState::AllowAll
        }
        RobotsAnswer::Answered { .. } | RobotsAnswer::Failed => unreachable_since(failing_since, now),
    }
}

fn unreachable_since(failing_since: Option<Timestamp>, now: Timestamp) -> RobotsState {
    match failing_since {
        Some(since) if now.duration_since(since) >= UNREACHABLE_FOR => RobotsState::AllowAll,
        _ => RobotsState::Unreachable,
    }
}

/// How long an answer holds, by its `Cache-Control` (RFC 9111, section 5.2.2): [`LONGEST_CACHED`], or as long as `max-age`
/// says if that is less, but [`SHORTEST_CACHED`] at least.
pub fn cached_for(cache_control: Option<&str>) -> Duration {
    let longest = cache_control.unwrap_or_default().split(',').filter_map(max_age).min();
    longest.unwrap_or(LONGEST_CACHED).clamp(SHORTEST_CACHED, LONGEST_CACHED)
}

fn max_age(directive: &str) -> Option<Duration> {
    let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
    let name = name.trim();
    if name.eq_ignore_ascii_case("no-store") || name.eq_ignore_ascii_case("no-cache") {
        return Some(Duration::ZERO);
    }
    let digits = value.trim().trim_matches('"');
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    // More digits than fit are a very long time.
    (name.eq_ignore_ascii_case("max-age") && is_number)
        .then(|| Duration::from_secs(digits.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const FILE: &[u8] = b"User-agent: *\nDisallow: /";

    fn after(failing_since: Option<&str>, answer: RobotsAnswer<'_>) -> RobotsState {
        let now = "2026-03-31T12:00:00Z".parse().unwrap();
        outcome(answer, "Tipstaff", failing_since.map(|since| since.parse().unwrap()), now)
    }

    fn answered(status: u16) -> RobotsAnswer<'static> {
        RobotsAnswer::Answered { status, body: FILE }
    }

    #[test]
    fn a_file_is_obeyed_a_missing_one_allows_and_a_failing_site_is_left_alone() {
        for status in [200, 203, 206, 299] {
            assert_eq!(after(None, answered(status)), RobotsState::Rules(Robots::parse(FILE, "Tipstaff")));
        }
        assert_eq!(
            after(None, RobotsAnswer::Answered { status: 204, body: b"" }),
            RobotsState::Rules(Robots::default())
        );
        for status in [300, 304, 400, 401, 403, 404, 410, 428, 430, 451, 499] {
            assert_eq!(after(None, answered(status)), RobotsState::AllowAll, "{status}");
        }
        assert_eq!(after(None, RobotsAnswer::RedirectsOnly), RobotsState::AllowAll);
        for status in [429, 500, 501, 503, 504, 522, 599, 600, 999, 100] {
            assert_eq!(after(None, answered(status)), RobotsState::Unreachable, "{status}");
        }
        assert_eq!(after(None, RobotsAnswer::Failed), RobotsState::Unreachable);
    }

    #[test]
    fn a_site_that_fails_for_thirty_days_is_left_alone_no_longer() {
        for (since, state) in [
            ("2026-03-31T11:00:00Z", RobotsState::Unreachable),
            ("2026-03-01T12:00:01Z", RobotsState::Unreachable),
            ("2026-03-01T12:00:00Z", RobotsState::AllowAll),
            ("2025-03-01T12:00:00Z", RobotsState::AllowAll),
            // A clock that was set back.
            ("2026-04-30T12:00:00Z", RobotsState::Unreachable),
        ] {
            for failure in [RobotsAnswer::Failed, answered(429), answered(503)] {
                assert_eq!(after(Some(since), failure), state, "{since} {failure:?}");
            }
            assert_eq!(after(Some(since), answered(404)), RobotsState::AllowAll);
            assert!(matches!(after(Some(since), answered(200)), RobotsState::Rules(_)));
        }
    }

    #[test]
    fn failures_of_a_fetch_are_failures_of_the_site_but_for_statuses_and_redirects() {
        let url = String::new;
        let status = FetchError::Status { url: url(), status: 404, retry_after: None };
        assert_eq!(RobotsAnswer::from(&status), RobotsAnswer::Answered { status: 404, body: b"" });
        for circle in
            [FetchError::TooManyRedirects { url: url(), limit: 10 }, FetchError::RedirectLoop { url: url() }]
        {
            assert_eq!(RobotsAnswer::from(&circle), RobotsAnswer::RedirectsOnly);
        }
        for failure in [FetchError::Timeout { url: url() }, FetchError::TooLarge { url: url(), max_bytes: 1 }]
        {
            assert_eq!(RobotsAnswer::from(&failure), RobotsAnswer::Failed);
        }
    }

    #[test]
    fn an_answer_holds_for_a_day_or_as_long_as_the_site_says() {
        for (cache_control, seconds) in [
            (None, 86_400),
            (Some(""), 86_400),
            (Some("public"), 86_400),
            (Some("public, max-age=3600"), 3600),
            (Some("MAX-AGE = \"600\" , immutable"), 600),
            (Some("max-age=61"), 61),
            (Some("max-age=60"), 60),
            (Some("max-age=59"), 60),
            (Some("max-age=0"), 60),
            (Some("no-store"), 60),
            (Some("no-cache, max-age=3600"), 60),
            (Some("max-age=3600, max-age=600"), 600),
            (Some("max-age=86401"), 86_400),
            (Some("max-age=99999999999999999999999999"), 86_400),
            (Some("max-age=-1"), 86_400),
            (Some("max-age=soon"), 86_400),
            (Some("s-maxage=5"), 86_400),
        ] {
            assert_eq!(cached_for(cache_control), Duration::from_secs(seconds), "{cache_control:?}");
        }
    }
}
