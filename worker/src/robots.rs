//! robots.txt as RFC 9309 has it: what of a site may be fetched, and how often it wants to be asked.
//!
//! Beyond the RFC, as most crawlers do: `Crawl-delay`, and a line whose colon was forgotten (`disallow /`).

mod pattern;
mod state;

use std::time::Duration;

use url::Url;

use pattern::{Pattern, path_of};

pub use state::{
    LONGEST_CACHED, RobotsAnswer, RobotsState, SHORTEST_CACHED, UNREACHABLE_FOR, cached_for, outcome,
};

/// How much of a file is read, in bytes: what section 2.5 of the RFC asks for at least. The line that the limit falls
/// into is not read: cut short, a rule would say something else.
pub const MAX_SIZE: usize = 500 * 1024;

/// A `Crawl-delay` longer than this is taken for this.
pub const LONGEST_CRAWL_DELAY: Duration = Duration::from_secs(24 * 60 * 60);

const PATH: &str = "/robots.txt";

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What a robots.txt says to one crawler.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Robots {
    /// The most specific first; of those that are alike, `Allow` first: the first that matches a path decides.
    rules: Vec<Rule>,
    crawl_delay: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    pattern: Pattern,
    allows: bool,
}

impl Robots {
    /// Reads what `bytes` say to the crawler of that product token (letters, `-` and `_`; see [`product_token`]): the rules
    /// of all groups that name it in whatever case, or, when none does, of those for `*`. Never fails: what cannot be
    /// understood is passed over.
    pub fn parse(bytes: &[u8], product_token: &str) -> Self {
        let mut groups = Groups::new(product_token);
        for line in lines(whole_lines(bytes)) {
            if let Some((key, value)) = directive(line) {
                groups.take(key, value);
            }
        }
        groups.finish()
    }

    /// Whether `url`, of the site that the file is of, may be fetched. The file itself always may.
    pub fn permits(&self, url: &Url) -> bool {
        if url.path() == PATH {
            return true;
        }
        let path = path_of(url);
        self.rules.iter().find(|rule| rule.pattern.matches(&path)).is_none_or(|rule| rule.allows)
    }

    /// How long to wait between two requests, if the site says so: the longest that it says to this crawler, and
    /// [`LONGEST_CRAWL_DELAY`] at most.
    pub fn crawl_delay(&self) -> Option<Duration> {
        self.crawl_delay
    }
}

/// The name in a `User-Agent` header by which robots.txt knows its crawler: `Tipstaff` of `Tipstaff/1.0 (+https://…)`.
/// Empty when it begins with something else than a letter, `-` or `_`; then only the groups for `*` are for it.
pub fn product_token(user_agent: &str) -> &str {
    let end = user_agent.bytes().position(|byte| !is_token(byte)).unwrap_or(user_agent.len());
    // All before it is ASCII.
    &user_agent[..end]
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'-' || byte == b'_'
}

/// The groups for one crawler and those for all, while lines are read.
struct Groups<'a> {
    product_token: &'a str,
    own: Group,
    everyone: Group,
    /// Whether rules followed the last `User-agent`, so that another one begins a new group. Other lines end no group.
    has_rules: bool,
}

#[derive(Default)]
struct Group {
    robots: Robots,
    is_named: bool,
    /// Whether the next rules are for it.
    is_open: bool,
}

impl<'a> Groups<'a> {
    fn new(product_token: &'a str) -> Self {
        Self { product_token, own: Group::default(), everyone: Group::default(), has_rules: false }
    }

    fn take(&mut self, key: &[u8], value: &[u8]) {
        if key.eq_ignore_ascii_case(b"user-agent") {
            self.begin(value);
        } else if key.eq_ignore_ascii_case(b"allow") {
            self.add_rule(value, true);
        } else if key.eq_ignore_ascii_case(b"disallow") {
            self.add_rule(value, false);
        } else if key.eq_ignore_ascii_case(b"crawl-delay") {
            self.delay(value);
        }
    }

    fn begin(&mut self, user_agent: &[u8]) {
        if self.has_rules {
            self.has_rules = false;
            self.own.is_open = false;
            self.everyone.is_open = false;
        }
        let is_for_everyone = user_agent
            .strip_prefix(b"*")
            .is_some_and(|rest| rest.first().is_none_or(u8::is_ascii_whitespace));
        if is_for_everyone {
            self.everyone.open();
            return;
        }
        // What follows the token, such as a version, does not count.
        let end = user_agent.iter().position(|byte| !is_token(*byte)).unwrap_or(user_agent.len());
        if end > 0 && user_agent[..end].eq_ignore_ascii_case(self.product_token.as_bytes()) {
            self.own.open();
        }
    }

    fn add_rule(&mut self, path: &[u8], allows: bool) {
        self.has_rules = true;
        // An empty path matches nothing: `Disallow:` allows everything.
        if path.is_empty() {
            return;
        }
        for group in self.open_groups() {
            group.robots.rules.push(Rule { pattern: Pattern::parse(path), allows });
        }
    }

    fn delay(&mut self, value: &[u8]) {
        let Some(delay) = seconds(value) else { return };
        for group in self.open_groups() {
            group.robots.crawl_delay = group.robots.crawl_delay.max(Some(delay));
        }
    }

    fn open_groups(&mut self) -> impl Iterator<Item = &mut Group> {
        [&mut self.own, &mut self.everyone].into_iter().filter(|group| group.is_open)
    }

    fn finish(self) -> Robots {
        let mut robots = if self.own.is_named { self.own.robots } else { self.everyone.robots };
        robots.rules.sort_by_key(|rule| (std::cmp::Reverse(rule.pattern.octets()), !rule.allows));
        robots
    }
}

impl Group {
    fn open(&mut self) {
        self.is_named = true;
        self.is_open = true;
    }
}

fn whole_lines(bytes: &[u8]) -> &[u8] {
    if bytes.len() <= MAX_SIZE {
        return bytes;
    }
    let is_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let end = bytes[..MAX_SIZE].iter().rposition(is_end).unwrap_or(0);
    &bytes[..end]
}

/// Lines end in CR, LF or both.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    bytes.split(|byte| matches!(byte, b'\r' | b'\n'))
}

/// The key and the value of a line that has both.
fn directive(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = line.split(|byte| *byte == b'#').next()?.trim_ascii();
    let (key, value) = match line.iter().position(|byte| *byte == b':') {
        Some(colon) => (&line[..colon], &line[colon + 1..]),
        None => {
            let space = line.iter().position(u8::is_ascii_whitespace)?;
            let value = line[space..].trim_ascii();
            if value.iter().any(u8::is_ascii_whitespace) {
                return None;
            }
            (&line[..space], value)
        }
    };
    Some((key.trim_ascii(), value.trim_ascii()))
}

/// Seconds in decimal notation, as `10` or `0.5`.
fn seconds(value: &[u8]) -> Option<Duration> {
    let is_decimal = value.first().is_some_and(u8::is_ascii_digit)
        && value.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
    if !is_decimal {
        return None;
    }
    let seconds: f64 = std::str::from_utf8(value).ok()?.parse().ok()?;
    Some(Duration::from_secs_f64(seconds.min(LONGEST_CRAWL_DELAY.as_secs_f64())))
}

#[cfg(test)]
mod tests;
