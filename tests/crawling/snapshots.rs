//! Successive snapshots of real pages (`tests/corpus/courts`), followed by what a user writes for them: the versions made are
//! the documents that came and went, and nothing else.

use std::{collections::BTreeSet, fs, path::Path};

use serde::Deserialize;
use tests::{Installation, Origin};

use crate::request::{manifests, names, ready, reason, run};

/// The family, where its page is on its site, and how many snapshots there are of it.
const FAMILIES: [(&str, &str, usize); 4] =
    [("iowa", "/", 4), ("ca2_p", "/", 3), ("ca3_p", "/", 2), ("cit", "/SlipOpinions/", 2)];

#[derive(Deserialize)]
struct Snapshot {
    family: String,
    base_url: String,
    page: String,
    documents: Vec<Document>,
}

#[derive(Deserialize)]
struct Document {
    url: String,
    date: String,
}

impl Snapshot {
    /// Of one page, the oldest first: by the newest of their documents and, where these are the same, as the corpus has them.
    fn of(family: &str) -> Vec<Self> {
        let all: Vec<Self> = serde_json::from_slice(&corpus("courts/index.json")).unwrap();
        let mut snapshots: Vec<Self> = all.into_iter().filter(|page| page.family == family).collect();
        snapshots.sort_by_key(|page| page.documents.iter().map(|document| document.date.clone()).max());
        snapshots
    }

    /// `https://court.example` of its site.
    fn site(&self) -> &str {
        let host = self.base_url.find("//").unwrap() + 2;
        &self.base_url[..host + self.base_url[host..].find('/').unwrap()]
    }

    /// The page as it was served, but that links to its own site lead to `origin`.
    fn served_by(&self, origin: &Origin) -> String {
        let page = String::from_utf8_lossy(&corpus(&format!("courts/{}", self.page))).into_owned();
        page.replace(self.site(), origin.at("").as_str())
    }

    /// The documents that a scraper written by hand found on it, as `origin` has them.
    fn documents(&self, origin: &Origin) -> BTreeSet<String> {
        let of_origin = |document: &Document| origin.at(document.url.strip_prefix(self.site()).unwrap());
        self.documents.iter().map(of_origin).collect()
    }
}

fn corpus(name: &str) -> Vec<u8> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    fs::read(corpus.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// What a user writes in `follow` for a family's page, with room for all that it names.
fn follow(family: &str) -> String {
    let text = String::from_utf8(corpus("courts-follow.yaml")).unwrap();
    let all: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
    let mut follow = all[family].clone();
    follow["limit"] = 1_000.into();
    format!("robotsMode: allow, politeness: {{minInterval: 0s}}, follow: {follow}")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_versions_of_followed_pages_are_the_documents_that_came_and_went() {
    let tipstaff = Installation::new("snapshots").await;
    let _operator = tipstaff.operator(&[]);
    let _worker = tipstaff.worker(&[]);
    for (family, path, count) in FAMILIES {
        let snapshots = Snapshot::of(family);
        assert_eq!(snapshots.len(), count, "{family}");
        let origin = Origin::start("<p>a document that stays as it is").await;
        let name = family.replace('_', "-");
        let subscription = names(&name, 1);
        origin.put(path, "text/html", snapshots[0].served_by(&origin));
        tipstaff.apply(&manifests(&name, &origin.at(path), &follow(family), &subscription)).await;
        ready(&tipstaff, &subscription).await;
        let (mut before, mut ever) = (BTreeSet::new(), BTreeSet::new());
        for (number, snapshot) in snapshots.iter().enumerate() {
            origin.put(path, "text/html", snapshot.served_by(&origin));
            let run = run(&tipstaff, &subscription[0], number + 1).await;
            assert_eq!(reason(&run), ("Succeeded", Some("Changed")), "{}", snapshot.page);
            let after = snapshot.documents(&origin);
            let came = |url: &String| match number {
                0 => "Baseline",
                _ if ever.contains(url) => "Returned",
                _ => "New",
            };
            let expected: BTreeSet<(String, String)> = after
                .difference(&before)
                .map(|url| (url.clone(), came(url).to_owned()))
                .chain(before.difference(&after).map(|url| (url.clone(), "Removed".to_owned())))
                .collect();
            let versions: Vec<(String, String)> =
                sqlx::query_as("select url, kind from versions where run_id = $1")
                    .bind(run.id)
                    .fetch_all(&tipstaff.pool)
                    .await
                    .unwrap();
            assert_eq!(versions.len(), expected.len(), "{}: each once", snapshot.page);
            assert_eq!(BTreeSet::from_iter(versions), expected, "{}", snapshot.page);
            ever.extend(after.iter().cloned());
            before = after;
        }
        // The last snapshot again: nothing came and nothing went.
        let run = run(&tipstaff, &subscription[0], count + 1).await;
        assert_eq!(reason(&run), ("Succeeded", Some("Unchanged")), "{family}");
    }
    tipstaff.remove().await;
}
