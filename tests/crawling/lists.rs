//! Pages with links to follow, feeds and sitemaps.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use jiff::{SignedDuration, Timestamp};
use tests::{Installation, Origin};

use crate::request::{manifests, names, ready, reason, run};

const HTML: &str = "text/html";
const XML: &str = "application/xml";
/// Nobody waits for a second between two requests, except where that is what is tested.
const AT_ONCE: &str = "robotsMode: allow, politeness: {minInterval: 0s}";

fn page(links: &[&str]) -> String {
    let items: String = links.iter().map(|link| format!("<li><a href='{link}'>an opinion</a>")).collect();
    format!("<!doctype html><title>Opinions</title><ul>{items}</ul><a href='/about'>About</a>")
}

/// A feed whose entries are known by their path and the day on which they were updated.
fn feed(entries: &[(&str, u32)]) -> String {
    let entries: String = entries
        .iter()
        .map(|(path, day)| {
            format!("<entry><id>{path}</id><title>An opinion</title><link href='{path}'/><updated>2026-03-{day:02}T00:00:00Z</updated></entry>")
        })
        .collect();
    format!("<feed xmlns='http://www.w3.org/2005/Atom'><title>Opinions</title>{entries}</feed>")
}

/// A sitemap or an index of them, whose entries are known by their path and the day on which they last changed.
fn sitemap(origin: &Origin, element: &str, entry: &str, entries: &[(&str, u32)]) -> String {
    let entries: String = entries
        .iter()
        .map(|(path, day)| {
            let url = origin.at(path);
            format!("<{entry}><loc>{url}</loc><lastmod>2026-03-{day:02}</lastmod></{entry}>")
        })
        .collect();
    format!(
        "<?xml version='1.0'?><{element} xmlns='http://www.sitemaps.org/schemas/sitemap/0.9'>{entries}</{element}>"
    )
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// What was asked for since `count` requests had come, without regard to the order.
fn asked(origin: &Origin, count: usize) -> Vec<(String, bool)> {
    let mut paths = origin.paths_after(count);
    paths.sort();
    paths
}

fn asked_for(paths: &[(&str, bool)]) -> Vec<(String, bool)> {
    paths.iter().map(|(path, is_conditional)| ((*path).to_owned(), *is_conditional)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn links_of_a_page_are_followed_and_asked_for_again_only_if_they_changed() {
    let origin = Origin::start("<p>not to be asked for").await;
    let elsewhere = Origin::start("<p>another site").await;
    let tipstaff = Installation::new("follow").await;
    let _operator = tipstaff.operator(&[]);
    let _worker = tipstaff.worker(&[]);
    let away = elsewhere.url();
    origin.put("/list", HTML, page(&["/1", "2#top", "/1", &away, "/press/3", "mailto:clerk@court.example"]));
    origin.put("/1", HTML, "<p>one");
    origin.put("/2", HTML, "<p>two");
    let one = names("page", 1);
    let follow = "follow: {links: 'li a', exclude: ['/press/']}";
    tipstaff.apply(&manifests("court", &origin.at("/list"), &format!("{AT_ONCE}, {follow}"), &one)).await;
    ready(&tipstaff, &one).await;

    assert_eq!(reason(&run(&tipstaff, "page-0", 1).await), ("Succeeded", Some("Changed")));
    assert_eq!(asked(&origin, 0), asked_for(&[("/1", false), ("/2", false), ("/list", false)]));
    assert_eq!(reason(&run(&tipstaff, "page-0", 2).await), ("Succeeded", Some("Unchanged")));
    assert_eq!(asked(&origin, 3), asked_for(&[("/1", true), ("/2", true), ("/list", true)]));

    // The list says 304, and its documents are looked at all the same.
    origin.put("/2", HTML, "<p>two, amended");
    assert_eq!(reason(&run(&tipstaff, "page-0", 3).await), ("Succeeded", Some("Changed")));
    origin.put("/list", HTML, page(&["/4", "/2"]));
    origin.put("/4", HTML, "<p>four");
    assert_eq!(reason(&run(&tipstaff, "page-0", 4).await), ("Succeeded", Some("Changed")));
    assert_eq!(asked(&origin, 9), asked_for(&[("/2", true), ("/4", false), ("/list", true)]));
    assert_eq!(elsewhere.requests(), 0);
    // That one is gone is of a document, too.
    assert_eq!(tipstaff.count("select count(*) from documents where phase = 'Stored'").await, 13);
    let versions: Vec<(String, String)> =
        sqlx::query_as("select url, kind from versions order by id").fetch_all(&tipstaff.pool).await.unwrap();
    let mut later = versions.get(2..).unwrap_or_default().to_vec();
    later.sort();
    let version = |path: &str, kind: &str| (origin.at(path), kind.to_owned());
    assert!(versions.iter().take(2).all(|(_, kind)| kind == "Baseline"), "{versions:?}");
    assert_eq!(later, [version("/1", "Removed"), version("/2", "Changed"), version("/4", "New")]);
    tipstaff.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_of_a_list_come_one_after_the_other_at_the_interval_of_the_host() {
    let origin = Origin::start("<p>one of many").await;
    let tipstaff = Installation::new("spread").await;
    let _operator = tipstaff.operator(&[]);
    let _workers = [tipstaff.worker(&[]), tipstaff.worker(&[])];
    origin.set_robots(200, "User-agent: *\nCrawl-delay: 2\n");
    origin.put("/list", HTML, page(&["/1", "/2", "/3"]));
    let one = names("page", 1);
    let more = "politeness: {minInterval: 0s}, follow: {links: li a}";
    tipstaff.apply(&manifests("court", &origin.at("/list"), more, &one)).await;
    ready(&tipstaff, &one).await;
    assert_eq!(reason(&run(&tipstaff, "page-0", 1).await), ("Succeeded", Some("Changed")));
    let seen: Vec<Timestamp> = origin.all_requests().iter().skip(1).map(|request| request.at).collect();
    assert_eq!(seen.len(), 4);
    for pair in seen.windows(2) {
        // A request may be on its way for longer than the one after it.
        assert!(pair[1].duration_since(pair[0]) >= SignedDuration::from_millis(1_500), "{seen:?}");
    }
    tipstaff.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_on_which_the_selector_matches_nothing_fails_the_run_and_is_kept_as_evidence() {
    let origin = Origin::start("<p>an opinion").await;
    let tipstaff = Installation::new("drift").await;
    let _operator = tipstaff.operator(&[]);
    let _worker = tipstaff.worker(&[]);
    let one = names("page", 1);
    let more = format!("{AT_ONCE}, follow: {{links: li a}}");
    origin.put("/list", HTML, page(&["/1"]));
    tipstaff.apply(&manifests("court", &origin.at("/list"), &more, &one)).await;
    ready(&tipstaff, &one).await;
    assert_eq!(reason(&run(&tipstaff, "page-0", 1).await), ("Succeeded", Some("Changed")));
    origin.put("/list", HTML, "<!doctype html><table><tr><td><a href='/1'>an opinion</a></table>");
    for number in [2, 3] {
        let run = run(&tipstaff, "page-0", number).await;
        assert_eq!(reason(&run), ("Failed", Some("FollowMatchedNothing")));
    }
    // The page before, its document, the page that is different, and the page that is still as it was then.
    assert_eq!(tipstaff.count("select count(*) from artifacts").await, 4);
    assert_eq!(tipstaff.count("select count(*) from artifacts where revisit_of is not null").await, 1);
    origin.put("/list", HTML, page(&["/1", "/2"]));
    assert_eq!(reason(&run(&tipstaff, "page-0", 4).await), ("Succeeded", Some("Changed")));
    tipstaff.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_feed_new_and_changed_entries_are_fetched_and_those_that_failed_again() {
    let origin = Origin::start("<p>an opinion").await;
    let tipstaff = Installation::new("feed").await;
    let _operator = tipstaff.operator(&[]);
    let _worker = tipstaff.worker(&[]);
    let one = names("page", 1);
    // The kind is left to the response.
    tipstaff.apply(&manifests("court", &origin.at("/feed"), AT_ONCE, &one)).await;
    ready(&tipstaff, &one).await;
    origin.put("/feed", XML, feed(&[("/1", 1), ("/2", 1)]));
    assert_eq!(reason(&run(&tipstaff, "page-0", 1).await), ("Succeeded", Some("Changed")));
    assert_eq!(asked(&origin, 0), asked_for(&[("/1", false), ("/2", false), ("/feed", false)]));
    assert_eq!(reason(&run(&tipstaff, "page-0", 2).await), ("Succeeded", Some("Unchanged")));
    assert_eq!(asked(&origin, 3), asked_for(&[("/feed", true)]));

    origin.put("/feed", XML, feed(&[("/3", 3), ("/2", 2), ("/1", 1)]));
    // Those that the feed leads to are gone by now.
    origin.set(410, "gone");
    assert_eq!(reason(&run(&tipstaff, "page-0", 3).await), ("Failed", Some("HttpStatus")));
    assert_eq!(asked(&origin, 4), asked_for(&[("/2", false), ("/3", false), ("/feed", true)]));
    origin.set(200, "<p>another opinion");
    assert_eq!(reason(&run(&tipstaff, "page-0", 4).await), ("Succeeded", Some("Changed")));
    assert_eq!(asked(&origin, 7), asked_for(&[("/2", false), ("/3", false), ("/feed", true)]));
    assert_eq!(reason(&run(&tipstaff, "page-0", 5).await), ("Succeeded", Some("Unchanged")));
    assert_eq!(asked(&origin, 10), asked_for(&[("/feed", true)]));

    origin.put("/feed", XML, "<feed xmlns='http://www.w3.org/2005/Atom'><title>cut off");
    assert_eq!(reason(&run(&tipstaff, "page-0", 6).await), ("Failed", Some("UnreadableList")));
    tipstaff.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_sitemaps_leads_to_all_their_pages_a_few_in_each_run() {
    let origin = Origin::start("<p>an opinion").await;
    let tipstaff = Installation::new("sitemap").await;
    let _operator = tipstaff.operator(&[]);
    let _worker = tipstaff.worker(&[]);
    let one = names("page", 1);
    let more = format!("kind: sitemap, {AT_ONCE}, follow: {{include: ['/opinions/'], limit: 2}}");
    tipstaff.apply(&manifests("court", &origin.at("/index"), &more, &one)).await;
    ready(&tipstaff, &one).await;
    let index =
        |first, second| sitemap(&origin, "sitemapindex", "sitemap", &[("/a", first), ("/b.gz", second)]);
    origin.put("/index", XML, index(1, 1));
    let some = sitemap(&origin, "urlset", "url", &[("/opinions/1", 1), ("/opinions/2", 1), ("/news", 1)]);
    origin.put("/a", XML, some);
    let others =
        sitemap(&origin, "urlset", "url", &[("/opinions/3", 1), ("/opinions/4", 1), ("/opinions/5", 1)]);
    origin.put("/b.gz", "application/gzip", gzip(&others));

    let first = run(&tipstaff, "page-0", 1).await;
    assert_eq!(reason(&first), ("Succeeded", Some("Changed")));
    for number in [2, 3] {
        assert_eq!(reason(&run(&tipstaff, "page-0", number).await), ("Succeeded", Some("Changed")));
    }
    let pages: Vec<String> = origin
        .paths_after(0)
        .into_iter()
        .map(|(path, _)| path)
        .filter(|path| path.starts_with("/opinions/"))
        .collect();
    let mut each_once = pages.clone();
    each_once.sort();
    assert_eq!(each_once, ["/opinions/1", "/opinions/2", "/opinions/3", "/opinions/4", "/opinions/5"]);

    // All has been brought in, and the sitemaps have not changed: only the index is asked for.
    let before = origin.requests();
    assert_eq!(reason(&run(&tipstaff, "page-0", 4).await), ("Succeeded", Some("Unchanged")));
    assert_eq!(asked(&origin, before), asked_for(&[("/index", true)]));
    origin.put("/index", XML, index(2, 1));
    let amended = sitemap(&origin, "urlset", "url", &[("/opinions/1", 2), ("/opinions/2", 1)]);
    origin.put("/a", XML, amended);
    let before = origin.requests();
    // It was looked at, and is as it was.
    assert_eq!(reason(&run(&tipstaff, "page-0", 5).await), ("Succeeded", Some("Unchanged")));
    assert_eq!(asked(&origin, before), asked_for(&[("/a", true), ("/index", true), ("/opinions/1", false)]));
    tipstaff.remove().await;
}
