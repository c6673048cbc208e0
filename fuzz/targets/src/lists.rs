//! Lists of documents: pages with links, feeds, sitemaps.

use std::collections::HashSet;

use content::{Document, Kind, Selection, extract};
use store::catalog::FollowSettings;
use url::Url;
use worker::links::{Link, choose, feed_links, page_links, sitemap_links, sniffed_list};

use crate::input::{parts, texts};

/// sitemaps.org.
const MOST_ENTRIES: usize = 50_000;
const LONGEST_URL: usize = 8192;
/// How large a sitemap may become here when it is unpacked, in bytes.
const MOST_BYTES: u64 = 1 << 20;

fn home() -> Url {
    Url::parse("https://example.org/a/list?b=1#c").unwrap()
}

/// What holds of all links, wherever they were found.
fn check(links: &[Link]) {
    let urls: HashSet<&str> = links.iter().map(|link| link.url.as_str()).collect();
    assert_eq!(urls.len(), links.len(), "each once");
    for Link { url, .. } in links {
        assert!(matches!(url.scheme(), "http" | "https") && url.has_host(), "{url}");
        assert!(url.fragment().is_none() && url.as_str().len() <= LONGEST_URL, "{url}");
        assert_eq!(Url::parse(url.as_str()).as_ref(), Ok(url), "a URL is written as it is read");
    }
}

/// The page's URL, a CSS selector, a regular expression, and a page.
pub(crate) fn links(input: &[u8]) {
    let [url, selector, include, html] = texts(input);
    let Ok(page) = Url::parse(&url) else { return };
    let (home, limit) = (home(), 3);
    let include: Vec<String> = (!include.is_empty()).then(|| include.into_owned()).into_iter().collect();
    for same_host in [false, true] {
        let follow = FollowSettings {
            links: selector.clone().into_owned(),
            include: include.clone(),
            exclude: Vec::new(),
            same_host,
            limit,
        };
        let Ok(found) = page_links(&html, &page, &home, &follow) else { return };
        check(&found.links);
        assert!(found.links.len() <= limit as usize);
        assert!(found.left_out_by_limit == 0 || found.links.len() == limit as usize);
        assert!(found.links.len() + found.left_out_by_limit + found.without_link <= found.elements);
        for link in &found.links {
            let is_home = [&home, &page]
                .iter()
                .any(|own| own.host() == link.url.host() && own.port() == link.url.port());
            assert!(is_home || !same_host, "{}", link.url);
        }
        // What was chosen is chosen again.
        let again = choose(found.links.clone(), &page, &home, &follow).unwrap();
        assert_eq!(again.links, found.links);
        assert_eq!(page_links(&html, &page, &home, &follow).unwrap(), found);
    }
}

/// A declared content type, and a feed.
pub(crate) fn feed(input: &[u8]) {
    let [declared, bytes] = parts(input);
    let declared = String::from_utf8_lossy(declared);
    let _ = sniffed_list(bytes, Some(&declared));
    if let Ok(found) = feed_links(bytes, Some(&declared), &home()) {
        check(&found.links);
        assert!(found.links.len() + found.without_link <= found.elements);
        assert!(found.links.iter().all(|link| link.marker.is_some()));
        assert_eq!(
            feed_links(bytes, Some(&declared), &home()).unwrap(),
            found,
            "markers stay while a feed does"
        );
    }
    let selection = Selection::new(&[].into(), &[], &[]).unwrap();
    let document = Document { bytes, content_type: Some(&declared), kind: Kind::Feed };
    if let Ok(extraction) = extract(&document, &selection) {
        assert_eq!(extract(&document, &selection).unwrap(), extraction, "equal bytes have equal texts");
    }
}

/// A sitemap, plain or packed.
pub(crate) fn sitemap(input: &[u8]) {
    let Ok(sitemap) = sitemap_links(input, &home(), MOST_BYTES) else { return };
    let all: Vec<Link> = sitemap.entries.iter().chain(&sitemap.sitemaps).cloned().collect();
    check(&all);
    assert!(all.len() <= MOST_ENTRIES);
    assert!(sitemap.entries.is_empty() || sitemap.sitemaps.is_empty(), "pages or sitemaps");
    // Written as sitemaps.org has it, it is read as the same.
    let (root, entry) =
        if sitemap.sitemaps.is_empty() { ("urlset", "url") } else { ("sitemapindex", "sitemap") };
    let mut xml = format!("<{root}>");
    for Link { url, marker } in &all {
        let changed = marker.as_deref().unwrap_or_default();
        // What XML cannot hold, or reads as something else, cannot be written.
        if changed.chars().any(|character| character.is_control() || character.is_whitespace()) {
            return;
        }
        xml += &format!(
            "<{entry}><loc>{}</loc><lastmod>{}</lastmod></{entry}>",
            escaped(url.as_str()),
            escaped(changed)
        );
    }
    xml += &format!("</{root}>");
    let again = sitemap_links(xml.as_bytes(), &home(), MOST_BYTES).unwrap();
    assert_eq!((again.entries, again.sitemaps), (sitemap.entries, sitemap.sitemaps));
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
