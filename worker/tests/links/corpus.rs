//! Pages of courts, each with the documents that a scraper written by hand for it found on it (`tests/corpus/courts`).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde::Deserialize;
use store::catalog::FollowSettings;
use url::Url;

/// A page, as in `index.json`.
#[derive(Deserialize)]
pub(crate) struct Page {
    pub(crate) id: String,
    pub(crate) family: String,
    pub(crate) base_url: Url,
    page: String,
    documents: Vec<Document>,
}

#[derive(Deserialize)]
struct Document {
    url: Url,
    date: String,
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

impl Page {
    pub(crate) fn all() -> Vec<Self> {
        serde_json::from_slice(&read("courts/index.json")).unwrap()
    }

    /// The snapshots of one page, the oldest first: by the newest of their documents and, where these are the same, as the
    /// corpus has them.
    pub(crate) fn snapshots(family: &str) -> Vec<Self> {
        let mut snapshots: Vec<Self> = Self::all().into_iter().filter(|page| page.family == family).collect();
        snapshots.sort_by_key(|page| page.documents.iter().map(|document| document.date.clone()).max());
        snapshots
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        read(&format!("courts/{}", self.page))
    }

    /// The documents that its scraper found.
    pub(crate) fn documents(&self) -> BTreeSet<Url> {
        self.documents.iter().map(|document| document.url.clone()).collect()
    }
}

/// What is followed on the page of each family.
pub(crate) fn follow() -> BTreeMap<String, FollowSettings> {
    let follow = String::from_utf8(read("courts-follow.yaml")).unwrap();
    let follow: BTreeMap<String, Follow> = serde_saphyr::from_str(&follow).unwrap();
    let settings = |Follow { links, include, exclude }| FollowSettings {
        links,
        include,
        exclude,
        same_host: true,
        limit: 10_000,
    };
    follow.into_iter().map(|(family, follow)| (family, settings(follow))).collect()
}

fn read(name: &str) -> Vec<u8> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/corpus");
    fs::read(corpus.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}
