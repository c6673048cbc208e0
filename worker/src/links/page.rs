use content::{looks_blocked, tree};
use scraper::{ElementRef, Selector};
use store::catalog::FollowSettings;
use url::Url;

use super::choice::Choice;
use super::{Found, Link, LinksError, resolve};

/// The links of an HTML page that `follow` asks for. `home` is the source's base URL, `page_url` where the page was
/// found in the end, after redirects.
///
/// `follow.links` selects elements. An element's link is its `href`, else its `src` (frames, images), else its `data`
/// (objects), else the `href` of the first element in it that has one. It is resolved as browsers do, against the first
/// `<base href>` or `page_url`.
///
/// # Errors
///
/// [`LinksError::Selector`], [`LinksError::Pattern`], [`LinksError::TooDeep`] and [`LinksError::TooMany`].
pub fn page_links(
    html: &str,
    page_url: &Url,
    home: &Url,
    follow: &FollowSettings,
) -> Result<Found, LinksError> {
    let mut choice = Choice::new(page_url, home, follow)?;
    let selector =
        Selector::parse(&follow.links).map_err(|error| LinksError::Selector { reason: error.to_string() })?;
    let page = tree::parse(html)?;
    let base = base_url(page.root_element(), page_url);
    for element in page.select(&selector) {
        let url = reference(element).and_then(|reference| resolve(reference, &base));
        choice.offer(url.map(|url| Link { url, marker: None }));
    }
    Ok(Found { looks_blocked: looks_blocked(html, &page), ..choice.found })
}

fn base_url(page: ElementRef<'_>, page_url: &Url) -> Url {
    page.descendent_elements()
        .filter(|element| element.value().name() == "base")
        .find_map(|element| element.value().attr("href"))
        .and_then(|href| resolve(href, page_url))
        .unwrap_or_else(|| page_url.clone())
}

fn reference(element: ElementRef<'_>) -> Option<&str> {
    ["href", "src", "data"]
        .into_iter()
        .find_map(|name| element.value().attr(name))
        .or_else(|| element.descendent_elements().find_map(|inner| inner.value().attr("href")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    const PAGE: &str = "https://court.example/opinions/list.html?year=2024";

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn follow(links: &str) -> FollowSettings {
        FollowSettings {
            links: links.to_owned(),
            include: Vec::new(),
            exclude: Vec::new(),
            same_host: false,
            limit: 10_000,
        }
    }

    fn found(html: &str, links: &str) -> Found {
        page_links(html, &url(PAGE), &url(PAGE), &follow(links)).unwrap()
    }

    fn links(html: &str, links: &str) -> Vec<String> {
        found(html, links).links.into_iter().map(|link| link.url.into()).collect()
    }

    #[test]
    fn references_are_resolved_as_browsers_do() {
        let cases = [
            ("a.pdf", "https://court.example/opinions/a.pdf"),
            ("/a.pdf", "https://court.example/a.pdf"),
            ("../a.pdf", "https://court.example/a.pdf"),
            ("?page=2", "https://court.example/opinions/list.html?page=2"),
            ("//cdn.example/a", "https://cdn.example/a"),
            (" \n a.pdf\t", "https://court.example/opinions/a.pdf"),
            ("a\n.p\tdf", "https://court.example/opinions/a.pdf"),
            ("my file.pdf", "https://court.example/opinions/my%20file.pdf"),
            ("sub\\a.pdf", "https://court.example/opinions/sub/a.pdf"),
            ("entscheid-für.pdf", "https://court.example/opinions/entscheid-f%C3%BCr.pdf"),
            ("HTTP://Court.Example:80/A", "http://court.example/A"),
            ("https://gericht-für.example/", "https://xn--gericht-fr-ieb.example/"),
            ("a.pdf?x=1&amp;y=2#page=3", "https://court.example/opinions/a.pdf?x=1&y=2"),
        ];
        for (href, expected) in cases {
            assert_eq!(links(&format!("<a href=\"{href}\">x</a>"), "a"), [expected], "{href:?}");
        }
    }

    #[test]
    fn what_is_not_fetched_by_http_is_no_link() {
        let html = "<a href='mailto:a@b.example'></a><a href='javascript:open()'></a><a href='data:text/plain,x'></a>
            <a href='http://'></a><a href='ftp://f.example/x'></a><a name=x></a><a href='/one'></a>";
        let found = found(html, "a");
        assert_eq!((found.links.len(), found.elements, found.without_link), (1, 7, 6));
        let long = format!("<a href='/{}'></a>", "x".repeat(9_000));
        assert_eq!(super::tests::found(&long, "a").without_link, 1);
    }

    #[test]
    fn the_first_base_with_an_href_counts() {
        let cases = [
            ("<base target=_top><base href='/b/'><base href='/c/'>", "https://court.example/b/a"),
            ("<base href='https://files.example/x/y'>", "https://files.example/x/a"),
            ("<base href='javascript:x'>", "https://court.example/opinions/a"),
            ("<base href='http://['>", "https://court.example/opinions/a"),
        ];
        for (base, expected) in cases {
            assert_eq!(links(&format!("<head>{base}</head><a href=a>"), "a"), [expected], "{base}");
        }
    }

    #[test]
    fn an_elements_link_may_be_another_attribute_or_stand_within_it() {
        let html = "<iframe src=/1></iframe><embed src=/2><object data=/3></object><area href=/4>
            <li>text <b><a href=/5>x</a></b><a href=/6>y</a></li><a href=/7 src=/8>z</a><li>nothing</li>";
        let expected =
            ["/1", "/2", "/3", "/4", "/5", "/7"].map(|path| format!("https://court.example{path}"));
        assert_eq!(links(html, "iframe, embed, object, area, li, body > a"), expected);
    }

    #[test]
    fn a_link_is_taken_once_in_the_pages_order_and_the_page_itself_never() {
        let html =
            "<a href=/2>x</a><a href='#top'>y</a><a href=/1>z</a><a href='/2#page=2'>w</a><a href=''>v</a>";
        assert_eq!(links(html, "a"), ["https://court.example/2", "https://court.example/1"]);
    }

    #[test]
    fn a_selector_that_matches_nothing_can_be_told() {
        let found = found("<a href=/1>x</a>", "table a");
        assert_eq!((found.elements, found.links.len()), (0, 0));
    }

    #[test]
    fn a_selector_that_is_none_is_an_error() {
        let error = page_links("", &url(PAGE), &url(PAGE), &follow("a[")).unwrap_err();
        assert_eq!(error.reason(), "UnreadableList");
        assert!(error.to_string().contains("follow.links"), "{error}");
    }

    #[test]
    fn a_page_of_nested_elements_is_refused() {
        let error = page_links(&"<div>".repeat(1_000_000), &url(PAGE), &url(PAGE), &follow("a")).unwrap_err();
        assert_eq!(error.reason(), "TooDeep");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(html in any::<String>(), selector in "(a|\\[href\\]|\\*|:| |>|,|not\\(|\\)){0,12}") {
            let _ = page_links(&html, &url(PAGE), &url(PAGE), &follow(&selector));
        }

        #[test]
        fn no_markup_makes_it_panic(
            html in "(<a href='|'>|<base href=\"|\">|<table>|<tr>|<td>|</b>|<b>|<svg>|<template>|<select>|<!--|-->|<p>|</p>|//|http:|#|\\?|x| |\u{e9}){0,80}",
        ) {
            let found = page_links(&html, &url(PAGE), &url(PAGE), &follow("*")).unwrap();
            let mut seen = std::collections::HashSet::new();
            for link in found.links {
                prop_assert!(link.url.fragment().is_none() && matches!(link.url.scheme(), "http" | "https"));
                prop_assert!(seen.insert(link.url));
            }
        }
    }
}
