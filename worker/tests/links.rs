//! The links that a source's `follow` finds on real pages, against those that a scraper written by hand for each page
//! found (`tests/corpus/courts`, beside the end-to-end tests).

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use content::charset::decode;
use serde::Deserialize;
use store::catalog::FollowSettings;
use url::Url;
use worker::links::page_links;

/// A page of the corpus, as in `index.json`.
#[derive(Deserialize)]
struct Page {
    id: String,
    family: String,
    base_url: Url,
    page: String,
    documents: Vec<Document>,
}

#[derive(Deserialize)]
struct Document {
    url: Url,
}

/// What a user writes in a Source's `follow`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Follow {
    links: String,
    #[serde(default)]
    include: Vec<String>,
    #[serde(default)]
    exclude: Vec<String>,
}

/// Pages on which no selector can tell what their scrapers take from the rest; the reasons stand in
/// `courts-follow.yaml`. More is found there, and nothing is missing.
const NOT_EXPRESSIBLE: [&str; 2] = ["nycivct", "va"];

#[test]
fn one_selector_a_court_finds_the_documents_that_its_own_scraper_found() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/corpus");
    let read = |name: &str| fs::read(corpus.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let pages: Vec<Page> = serde_json::from_slice(&read("courts/index.json")).unwrap();
    let follow = String::from_utf8(read("courts-follow.yaml")).unwrap();
    let follow: BTreeMap<String, Follow> = serde_saphyr::from_str(&follow).unwrap();

    let mut differing = Vec::new();
    for page in &pages {
        let Follow { links, include, exclude } = &follow[&page.family];
        let settings = FollowSettings {
            links: links.clone(),
            include: include.clone(),
            exclude: exclude.clone(),
            same_host: true,
            limit: 10_000,
        };
        let html = decode(&read(&format!("courts/{}", page.page)), Some("text/html")).text;
        let found = page_links(&html, &page.base_url, &page.base_url, &settings).unwrap();
        let found: BTreeSet<Url> = found.links.into_iter().map(|link| link.url).collect();
        let expected: BTreeSet<Url> = page.documents.iter().map(|document| document.url.clone()).collect();
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
