//! The links that a source's `follow` finds on real pages, against those that a scraper written by hand for each page
//! found (`tests/corpus/courts`, beside the end-to-end tests), and what differs between snapshots of one page.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

#[path = "links/corpus.rs"]
mod corpus;
#[path = "links/snapshots.rs"]
mod snapshots;

use std::collections::BTreeSet;

use content::charset::decode;
use url::Url;
use worker::links::page_links;

use corpus::{Page, follow};

/// Pages on which no selector can tell what their scrapers take from the rest; the reasons stand in
/// `courts-follow.yaml`. More is found there, and nothing is missing.
const NOT_EXPRESSIBLE: [&str; 2] = ["nycivct", "va"];

#[test]
fn one_selector_a_court_finds_the_documents_that_its_own_scraper_found() {
    let (pages, follow) = (Page::all(), follow());
    let mut differing = Vec::new();
    for page in &pages {
        let html = decode(&page.bytes(), Some("text/html")).text;
        let found = page_links(&html, &page.base_url, &page.base_url, &follow[&page.family]).unwrap();
        assert_eq!(found.looks_blocked, None, "{}", page.id);
        let found: BTreeSet<Url> = found.links.into_iter().map(|link| link.url).collect();
        let expected = page.documents();
        if found == expected {
            continue;
        }
        differing.push(page.id.as_str());
        let of = |urls: &BTreeSet<Url>, others: &BTreeSet<Url>| -> Vec<String> {
            urls.difference(others).map(Url::to_string).collect()
        };
        assert!(found.is_superset(&expected), "{}: missing {:#?}", page.id, of(&expected, &found));
        println!("{}: not asked for {:#?}", page.id, of(&found, &expected));
    }

    println!(
        "{} of {} pages: the links followed are the expected ones",
        pages.len() - differing.len(),
        pages.len()
    );
    assert_eq!(pages.len(), 58);
    assert_eq!(differing, NOT_EXPRESSIBLE);
}
