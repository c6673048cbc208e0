#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use url::Url;

use super::*;

mod vectors;

fn url(path: &str) -> Url {
    format!("https://example.org{path}").parse().unwrap()
}

fn permits(file: &[u8], agent: &str, path: &str) -> bool {
    Robots::parse(file, agent).permits(&url(path))
}

#[test]
fn the_public_vectors_of_googles_parser_hold() {
    let mut cases = 0;
    for vector in vectors::GOOGLE {
        for (paths, permitted) in [(vector.permits, true), (vector.forbids, false)] {
            for path in paths {
                let answer = permits(vector.file.as_bytes(), vector.agent, path);
                assert_eq!(answer, permitted, "{} {path} of\n{}", vector.agent, vector.file);
                cases += 1;
            }
        }
    }
    assert_eq!(cases, vectors::GOOGLE_CASES);
}

#[test]
fn the_examples_of_the_rfc_hold() {
    for vector in vectors::RFC {
        for (paths, permitted) in [(vector.permits, true), (vector.forbids, false)] {
            for path in paths {
                let answer = permits(vector.file.as_bytes(), vector.agent, path);
                assert_eq!(answer, permitted, "{} {path} of\n{}", vector.agent, vector.file);
            }
        }
    }
}

/// Section 2.2.2 has the first five; the first column is a rule, the second a URL.
#[test]
fn the_spelling_of_an_octet_makes_no_difference_unless_it_is_reserved() {
    for (rule, path, matches) in [
        ("/foo/bar?baz=quz", "/foo/bar?baz=quz", true),
        ("/foo/bar?baz=https://foo.bar", "/foo/bar?baz=https%3A%2F%2Ffoo.bar", true),
        ("/foo/bar/\u{30c4}", "/foo/bar/%E3%83%84", true),
        ("/foo/bar/%E3%83%84", "/foo/bar/%E3%83%84", true),
        ("/foo/bar/%62%61%7A", "/foo/bar/baz", true),
        ("/foo/bar?baz=https%3a%2f%2ffoo.bar", "/foo/bar?baz=https://foo.bar", true),
        ("/foo/bar/baz", "/foo/bar/%62%61%7A", true),
        ("/foo/bar/%e3%83%84", "/foo/bar/\u{30c4}", true),
        ("/%7Ejoe/", "/~joe/index.html", true),
        ("/a%3cd.html", "/a%3Cd.html", true),
        ("/a b", "/a%20b", true),
        ("/a%20b", "/a b", true),
        ("/it's?q=it's", "/it's?q=it%27s", true),
        // A slash between two segments is not one within a segment.
        ("/a%2fb.html", "/a/b.html", false),
        ("/a/b.html", "/a%2fb.html", false),
        ("/a%2fb.html", "/a%2Fb.html", true),
        ("/list?a=1&b=2", "/list?a=1%26b=2", false),
        // An asterisk and a dollar of a URL are themselves (section 2.2.3).
        ("/path/file-with-a-%2A.html", "/path/file-with-a-*.html", true),
        ("/path/file-with-a-%2A.html", "/path/file-with-a-b.html", false),
        ("/path/foo-%24", "/path/foo-$", true),
        ("/path/foo-%24", "/path/foo-", false),
        ("/price$list", "/price$list", true),
        ("/100%", "/100%", true),
        ("/100%zz", "/100%zz", true),
        // Octets that are no UTF-8.
        ("/%FF%fe", "/%ff%FE", true),
        // Case counts.
        ("/Foo", "/foo", false),
    ] {
        let file = format!("User-agent: *\nDisallow: {rule}");
        assert_eq!(!permits(file.as_bytes(), "Tipstaff", path), matches, "{rule} {path}");
    }
    assert!(!permits(b"User-agent: *\nDisallow: /\xff\xfe", "Tipstaff", "/%FF%FE"), "raw octets");
}

#[test]
fn the_most_octets_win_and_allow_wins_a_tie() {
    for (rules, path, permitted) in [
        ("Disallow: /a\nAllow: /a", "/a", true),
        ("Allow: /a\nDisallow: /a", "/a", true),
        ("Disallow: /a\nAllow: /%61", "/a", true),
        ("Disallow: /%61\nAllow: /", "/a", false),
        ("Allow: /*a\nDisallow: /aa", "/aa", true),
        ("Allow: /*a$\nDisallow: /aa", "/aa", true),
        ("Allow: /a\nDisallow: /*a", "/aa", false),
    ] {
        let file = format!("User-agent: *\n{rules}");
        assert_eq!(permits(file.as_bytes(), "Tipstaff", path), permitted, "{rules}");
    }
}

#[test]
fn the_file_itself_may_always_be_fetched() {
    let file = b"User-agent: *\nDisallow: /";
    assert!(permits(file, "Tipstaff", "/robots.txt"));
    for path in ["/robots.txt/", "/robots.txt.bak", "/a/robots.txt", "/ROBOTS.TXT"] {
        assert!(!permits(file, "Tipstaff", path), "{path}");
    }
}

#[test]
fn what_is_no_rule_is_passed_over() {
    for file in [
        "",
        "User-agent: *",
        "Disallow: /",
        "User-agent: *\nDisallow:",
        "User-agent: *\nDisallow",
        "User-agent: *\nDisallow: # /",
        "User-agent: *\nDisallow / too many words",
        "User-agent: *\n: /",
        "User-agent: *\nDisallow: page",
        "User-agent: *\nNoindex: /",
        "User-agent: *x\nDisallow: /",
        "User-agent:\nDisallow: /",
        "User-agent: 7\nDisallow: /",
        "<html><body>Disallow: /</body></html>",
    ] {
        assert!(permits(file.as_bytes(), "Tipstaff", "/page"), "{file:?}");
    }
    assert!(permits(b"User-agent: \nDisallow: /", "", "/page"), "nobody has no name");
    assert!(!permits(b"\xef\xbb\xbfUser-agent: *\nDisallow: /", "Tipstaff", "/page"), "a byte order mark");
    assert!(!permits(b"  User-Agent :\t* \n\tDISALLOW\t:/ # all", "Tipstaff", "/page"), "blanks");
}

#[test]
fn all_groups_that_name_a_crawler_are_for_it_and_those_for_all_are_not() {
    let file = b"User-agent: *\nDisallow: /all\nCrawl-delay: 9\n\n\
        User-agent: tipSTAFF/2.0\nUser-agent: Other\nDisallow: /one\nCrawl-delay: 2\n\n\
        User-agent: Other\nDisallow: /other\n\n\
        User-agent: Tipstaff\nDisallow: /two\nCrawl-delay: 1\n";
    let robots = Robots::parse(file, "Tipstaff");
    for (path, permitted) in [("/all", true), ("/one", false), ("/other", true), ("/two", false)] {
        assert_eq!(robots.permits(&url(path)), permitted, "{path}");
    }
    assert_eq!(robots.crawl_delay(), Some(Duration::from_secs(2)));
    assert!(!permits(file, "Tip", "/all") && permits(file, "Tip", "/one"), "a part of a name is no name");
    // Named, and told nothing: nothing is forbidden.
    let named = b"User-agent: *\nDisallow: /\nCrawl-delay: 9\n\nUser-agent: Tipstaff\n";
    assert!(permits(named, "Tipstaff", "/page"));
    assert_eq!(Robots::parse(named, "Tipstaff").crawl_delay(), None);
}

#[test]
fn a_crawl_delay_is_a_number_of_seconds_up_to_a_day() {
    for (value, delay) in [
        ("10", Some(Duration::from_secs(10))),
        ("0.5", Some(Duration::from_millis(500))),
        ("0", Some(Duration::ZERO)),
        ("10 # slow", Some(Duration::from_secs(10))),
        ("86401", Some(LONGEST_CRAWL_DELAY)),
        ("99999999999999999999999999999999999999999", Some(LONGEST_CRAWL_DELAY)),
        ("-1", None),
        ("", None),
        (".5", None),
        ("1.2.3", None),
        ("1e9", None),
        ("inf", None),
        ("NaN", None),
        ("ten", None),
        ("10s", None),
    ] {
        let file = format!("User-agent: *\nCrawl-delay: {value}\nDisallow: /x");
        let robots = Robots::parse(file.as_bytes(), "Tipstaff");
        assert_eq!(robots.crawl_delay(), delay, "{value}");
        assert!(!robots.permits(&url("/x")), "{value} ends no group");
    }
}

#[test]
fn no_more_is_read_than_the_limit_and_no_rule_is_cut() {
    let begin = b"User-agent: *\nDisallow: /first\n".to_vec();
    let filled = |end: &str, size: usize| {
        let mut file = begin.clone();
        file.resize(size - end.len(), b'#');
        file.extend(end.as_bytes());
        file
    };
    let all_of_it = filled("\nDisallow: /last", MAX_SIZE);
    assert!(!permits(&all_of_it, "Tipstaff", "/last"));
    // Cut off after `Disallow: /`, this would forbid everything.
    let mut cut = filled("\nDisallow: /", MAX_SIZE);
    cut.extend(b"last\nDisallow: /behind");
    for (path, permitted) in [("/first", false), ("/last", true), ("/behind", true), ("/page", true)] {
        assert_eq!(permits(&cut, "Tipstaff", path), permitted, "{path}");
    }
    assert!(permits(&vec![b'x'; 2 * MAX_SIZE], "Tipstaff", "/page"));
}

#[test]
fn the_product_token_of_a_user_agent_is_its_first_word() {
    for (user_agent, token) in [
        (crate::fetch::DEFAULT_USER_AGENT, "Tipstaff"),
        ("Registrar", "Registrar"),
        ("Court-Watch_er/2 (x)", "Court-Watch_er"),
        ("MJ12bot", "MJ"),
        ("", ""),
        ("7bot", ""),
        ("\u{e9}t\u{e9}", ""),
        ("a\u{e9}", "a"),
    ] {
        assert_eq!(product_token(user_agent), token);
    }
}

/// Matching by trying every length for every `*` would take longer than anyone lives.
#[test]
fn patterns_made_to_be_slow_are_not() {
    let begun = Instant::now();
    let stars = "*a".repeat(2000);
    let path = format!("/{}", "a".repeat(100_000));
    for (rule, matches) in
        [(format!("/{stars}"), true), (format!("/{stars}b"), false), (format!("/{stars}*b$"), false)]
    {
        let file = format!("User-agent: *\nDisallow: {rule}");
        assert_eq!(!permits(file.as_bytes(), "Tipstaff", &path), matches);
    }
    // Few long parts that nearly match, everywhere.
    let nearly = format!("User-agent: *\nDisallow: /*{}b", "a".repeat(50_000));
    assert!(permits(nearly.as_bytes(), "Tipstaff", &path));
    // As many rules as fit.
    let mut many = "User-agent: *\n".to_owned();
    while many.len() < MAX_SIZE {
        many.push_str("Disallow: /*a*b\n");
    }
    assert!(permits(many.as_bytes(), "Tipstaff", &path[..2000]));
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
}

/// By the definition: a `*` takes any number of octets, a `$` at the end ends the path.
fn matches_by_definition(pattern: &[u8], path: &[u8]) -> bool {
    match pattern.split_first() {
        None => true,
        Some((b'$', [])) => path.is_empty(),
        Some((b'*', rest)) => (0..=path.len()).any(|taken| matches_by_definition(rest, &path[taken..])),
        Some((octet, rest)) => path.first() == Some(octet) && matches_by_definition(rest, &path[1..]),
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_file_and_no_url_upsets_it(
        file in vec(any::<u8>(), 0..600),
        lines in vec("(?i)(user-agent|allow|disallow|crawl-delay|x)[: ]{0,2}[*$/%a-f0-9?é. ]{0,12}[\r\n#]{0,2}", 0..12),
        path in "/[ -~é]{0,40}",
        token in "[a-zA-Z_-]{0,6}",
    ) {
        for file in [file.as_slice(), lines.concat().as_bytes()] {
            let robots = Robots::parse(file, &token);
            robots.permits(&url(&path));
            prop_assert!(robots.crawl_delay().is_none_or(|delay| delay <= LONGEST_CRAWL_DELAY));
            prop_assert!(robots.permits(&url("/robots.txt")));
        }
    }

    #[test]
    fn a_pattern_matches_what_its_definition_says(pattern in "[/*][ab*/]{0,10}[$]?", path in "/[ab/]{0,12}") {
        let file = format!("User-agent: *\nDisallow: {pattern}");
        prop_assert_eq!(
            !permits(file.as_bytes(), "Tipstaff", &path),
            matches_by_definition(pattern.as_bytes(), path.as_bytes())
        );
    }

    #[test]
    fn the_end_of_a_line_makes_no_difference(lines in vec("(User-agent|Allow|Disallow): ?(\\*|Tipstaff|/a|/b|)", 0..8)) {
        let [unix, mac, dos] = ["\n", "\r", "\r\n"].map(|end| lines.join(end));
        let robots = Robots::parse(unix.as_bytes(), "Tipstaff");
        prop_assert_eq!(&robots, &Robots::parse(mac.as_bytes(), "Tipstaff"));
        prop_assert_eq!(&robots, &Robots::parse(dos.as_bytes(), "Tipstaff"));
    }
}
