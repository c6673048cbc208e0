//! robots.txt.

use url::Url;
use worker::robots::{LONGEST_CRAWL_DELAY, MAX_SIZE, Robots, product_token};

use crate::input::parts;

/// A User-Agent, a path, and the file.
pub(crate) fn robots(input: &[u8]) {
    let [user_agent, path, file] = parts(input);
    let user_agent = String::from_utf8_lossy(user_agent);
    let token = product_token(&user_agent);
    assert!(
        user_agent.starts_with(token)
            && token.bytes().all(|byte| byte.is_ascii_alphabetic() || b"-_".contains(&byte))
    );
    let path = String::from_utf8_lossy(path);
    let Ok(url) = Url::parse(&format!("https://example.org/{}", path.trim_start_matches('/'))) else {
        return;
    };
    let robots = Robots::parse(file, token);
    assert!(robots.crawl_delay().is_none_or(|delay| delay <= LONGEST_CRAWL_DELAY));
    assert!(robots.permits(&Url::parse("https://example.org/robots.txt").unwrap()));
    assert_eq!(Robots::parse(file, &token.to_ascii_uppercase()), robots, "names have no case");
    if file.len() + 8 < MAX_SIZE {
        let marked = [b"\xef\xbb\xbf", file].concat();
        if !file.starts_with(b"\xef\xbb\xbf") {
            assert_eq!(Robots::parse(&marked, token), robots, "a byte order mark is none of it");
        }
        let commented = [file, b"\n# end\n"].concat();
        assert_eq!(Robots::parse(&commented, token), robots, "comments say nothing");
    }
    one_rule(file, &url);
}

/// What one rule matches is what the RFC says of `*` and `$`, tried in every way.
fn one_rule(pattern: &[u8], url: &Url) {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/*$-_~".contains(byte);
    // A `$` is special at the end alone, and matches itself nowhere: it would be encoded.
    let pattern = pattern.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let inner = pattern.strip_suffix(b"$").unwrap_or(pattern);
    let path = url.path().as_bytes();
    let is_simple = pattern.len() <= 64
        && path.len() <= 64
        && url.query().is_none()
        && !inner.is_empty()
        && !inner.contains(&b'$')
        && inner.iter().all(is_plain)
        && path.iter().all(|byte| is_plain(byte) && !b"*$".contains(byte));
    if !is_simple || url.path() == "/robots.txt" {
        return;
    }
    let file = [b"User-agent: *\nDisallow: ", pattern].concat();
    let is_anchored = inner.len() < pattern.len();
    assert_eq!(Robots::parse(&file, "x").permits(url), !matches(inner, path, is_anchored), "{url}");
}

fn matches(pattern: &[u8], path: &[u8], is_anchored: bool) -> bool {
    // Which beginnings of the path the pattern up to here can be.
    let mut reached: Vec<bool> = (0..=path.len()).map(|length| length == 0).collect();
    for octet in pattern {
        let mut next = vec![false; path.len() + 1];
        for at in 0..=path.len() {
            match octet {
                b'*' => next[at] = reached[..=at].contains(&true),
                octet => next[at] = at > 0 && reached[at - 1] && path[at - 1] == *octet,
            }
        }
        reached = next;
    }
    if is_anchored { reached[path.len()] } else { reached.contains(&true) }
}
