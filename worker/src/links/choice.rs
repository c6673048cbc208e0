use std::collections::HashSet;

use regex::RegexSet;
use store::catalog::FollowSettings;
use url::Url;

use super::{Found, Link, LinksError};

/// Takes of a list's links those that `follow` asks for: for feeds and sitemaps, whose every entry is a link, and where
/// `follow.links` says nothing. `home` is the source's base URL, `list_url` where the list was found in the end.
///
/// # Errors
///
/// [`LinksError::Pattern`].
pub fn choose(
    links: Vec<Link>,
    list_url: &Url,
    home: &Url,
    follow: &FollowSettings,
) -> Result<Found, LinksError> {
    let mut choice = Choice::new(list_url, home, follow)?;
    for link in links {
        choice.offer(Some(link));
    }
    Ok(choice.found)
}

/// Which links are taken, and those taken up to now.
pub(super) struct Choice<'a> {
    include: Option<RegexSet>,
    exclude: RegexSet,
    hosts: Option<[&'a Url; 2]>,
    limit: usize,
    seen: HashSet<Url>,
    pub(super) found: Found,
}

impl<'a> Choice<'a> {
    pub(super) fn new(list_url: &'a Url, home: &'a Url, follow: &FollowSettings) -> Result<Self, LinksError> {
        // The list is fetched anyway.
        let seen = [list_url, home].map(|url| {
            let mut url = url.clone();
            url.set_fragment(None);
            url
        });
        Ok(Self {
            include: match follow.include.as_slice() {
                [] => None,
                patterns => Some(pattern_set("include", patterns)?),
            },
            exclude: pattern_set("exclude", &follow.exclude)?,
            hosts: follow.same_host.then_some([list_url, home]),
            limit: usize::try_from(follow.limit).unwrap_or(usize::MAX),
            seen: seen.into(),
            found: Found::default(),
        })
    }

    /// Takes an element's or entry's link, if it is one to be taken.
    pub(super) fn offer(&mut self, link: Option<Link>) {
        self.found.elements += 1;
        let Some(link) = link else {
            self.found.without_link += 1;
            return;
        };
        if !self.is_wanted(&link.url) || !self.seen.insert(link.url.clone()) {
            return;
        }
        if self.found.links.len() < self.limit {
            self.found.links.push(link);
        } else {
            self.found.left_out_by_limit += 1;
        }
    }

    fn is_wanted(&self, url: &Url) -> bool {
        self.hosts.is_none_or(|hosts| hosts.iter().any(|host| is_same_host(host, url)))
            && self.include.as_ref().is_none_or(|include| include.is_match(url.as_str()))
            && !self.exclude.is_match(url.as_str())
    }
}

/// Whether two URLs have one host and port. Both schemes' default ports count as one: sites link http and https alike.
fn is_same_host(one: &Url, other: &Url) -> bool {
    one.host() == other.host() && one.port() == other.port()
}

fn pattern_set(field: &'static str, patterns: &[String]) -> Result<RegexSet, LinksError> {
    RegexSet::new(patterns).map_err(|source| LinksError::Pattern { field, source })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn follow() -> FollowSettings {
        FollowSettings {
            links: "a[href]".to_owned(),
            include: Vec::new(),
            exclude: Vec::new(),
            same_host: true,
            limit: 100,
        }
    }

    fn chosen(urls: &[&str], follow: &FollowSettings) -> Found {
        let links = urls.iter().map(|text| Link { url: url(text), marker: None }).collect();
        choose(links, &url("https://www.court.example/list"), &url("http://court.example/"), follow).unwrap()
    }

    fn texts(found: &Found) -> Vec<&str> {
        found.links.iter().map(|link| link.url.as_str()).collect()
    }

    #[test]
    fn the_hosts_of_the_base_url_and_of_where_it_led_are_the_sources_own() {
        let urls = [
            "http://court.example/1",
            "https://court.example/2",
            "https://www.court.example/3",
            "https://court.example:8443/4",
            "https://elsewhere.example/5",
            "https://sub.court.example/6",
        ];
        assert_eq!(texts(&chosen(&urls, &follow())), urls[..3]);
        assert_eq!(texts(&chosen(&urls, &FollowSettings { same_host: false, ..follow() })), urls);
    }

    #[test]
    fn exclude_wins_over_include_and_both_match_a_part_of_the_url() {
        let urls = [
            "https://court.example/a.pdf",
            "https://court.example/b.pdf?draft=1",
            "https://court.example/c.html",
        ];
        let settings = |include: &[&str], exclude: &[&str]| FollowSettings {
            include: include.iter().map(ToString::to_string).collect(),
            exclude: exclude.iter().map(ToString::to_string).collect(),
            ..follow()
        };
        assert_eq!(texts(&chosen(&urls, &settings(&[], &[]))), urls);
        assert_eq!(texts(&chosen(&urls, &settings(&[r"\.pdf"], &[]))), urls[..2]);
        assert_eq!(texts(&chosen(&urls, &settings(&[r"\.pdf", "html$"], &["draft="]))), [urls[0], urls[2]]);
        assert_eq!(texts(&chosen(&urls, &settings(&[], &["court"]))), Vec::<&str>::new());
    }

    #[test]
    fn a_url_is_taken_once_and_the_list_itself_never() {
        let urls = [
            "https://court.example/1",
            "https://www.court.example/list",
            "https://court.example/1",
            "http://court.example/",
            "https://court.example/2",
        ];
        let found = chosen(&urls, &follow());
        assert_eq!(texts(&found), ["https://court.example/1", "https://court.example/2"]);
        assert_eq!((found.elements, found.left_out_by_limit), (5, 0));
    }

    #[test]
    fn what_the_limit_leaves_out_is_counted() {
        let urls = [
            "https://court.example/1",
            "https://court.example/2",
            "https://court.example/2",
            "https://court.example/3",
        ];
        let found = chosen(&urls, &FollowSettings { limit: 1, ..follow() });
        assert_eq!((texts(&found), found.left_out_by_limit), (vec![urls[0]], 2));
    }

    #[test]
    fn what_is_not_a_regular_expression_is_named() {
        let settings = FollowSettings { exclude: vec!["(".to_owned()], ..follow() };
        let error =
            choose(Vec::new(), &url("http://a.example/"), &url("http://a.example/"), &settings).unwrap_err();
        assert_eq!(error.reason(), "UnreadableList");
        assert!(error.to_string().contains("follow.exclude"), "{error}");
    }
}
