use std::collections::HashSet;

use content::charset;
use feed_rs::model::{Entry, FeedType};
use feed_rs::parser;
use sha2::{Digest, Sha256};
use url::Url;

use super::{Found, Link, LinksError, resolve};

/// The entries of a feed: RSS 0.91, 0.92, 1.0 and 2.0, Atom (RFC 4287), JSON Feed 1. References are resolved against
/// `xml:base` or the feed's own URL. If two entries have one URL, the first is taken.
///
/// An entry's marker is when it was updated, if it says so, else a hash of its title, text and date.
///
/// # Errors
///
/// [`LinksError::Feed`].
pub fn feed_links(
    bytes: &[u8],
    declared_content_type: Option<&str>,
    feed_url: &Url,
) -> Result<Found, LinksError> {
    let text = charset::decode(bytes, declared_content_type).text;
    let feed = parser::Builder::new()
        .base_uri(Some(feed_url.as_str()))
        .build()
        .parse(without_declaration(&text).as_bytes())
        .map_err(LinksError::Feed)?;

    let mut found = Found { elements: feed.entries.len(), ..Found::default() };
    let mut seen = HashSet::new();
    for entry in &feed.entries {
        let Some(url) = entry_url(entry, &feed.feed_type, feed_url) else {
            found.without_link += 1;
            continue;
        };
        if seen.insert(url.clone()) {
            found.links.push(Link { url, marker: Some(marker(entry, &feed.feed_type)) });
        }
    }
    Ok(found)
}

/// An XML declaration names the encoding of the bytes, which are UTF-8 by now.
fn without_declaration(text: &str) -> &str {
    let text = text.trim_start();
    text.strip_prefix("<?xml")
        .and_then(|declaration| declaration.split_once("?>"))
        .map_or(text, |(_, document)| document)
}

fn entry_url(entry: &Entry, feed_type: &FeedType, feed_url: &Url) -> Option<Url> {
    // Other relations (self, edit, enclosure, replies) lead elsewhere.
    let link = entry
        .links
        .iter()
        .filter(|link| link.target.is_none() && !link.href.is_empty())
        .find(|link| link.rel.as_deref().is_none_or(|relation| relation == "alternate"));
    if let Some(link) = link {
        return resolve(&link.href, feed_url);
    }
    // An RSS item's guid is its URL unless it says otherwise; an Atom id or JSON Feed id is a name.
    let is_rss = matches!(feed_type, FeedType::RSS0 | FeedType::RSS1 | FeedType::RSS2);
    let guid = Url::parse(&entry.id).ok().filter(|_| is_rss)?;
    resolve(guid.as_str(), feed_url)
}

fn marker(entry: &Entry, feed_type: &FeedType) -> String {
    // RSS knows no time of an update; the parser puts the time of publication there, which stays when the text changes.
    let updated = entry.updated.filter(|_| matches!(feed_type, FeedType::Atom | FeedType::JSON));
    if let Some(updated) = updated {
        return updated.to_rfc3339();
    }
    let parts = [
        entry.title.as_ref().map(|title| title.content.clone()),
        entry.summary.as_ref().map(|summary| summary.content.clone()),
        entry.content.as_ref().and_then(|content| content.body.clone()),
        entry.published.map(|published| published.to_rfc3339()),
    ];
    let mut hash = Sha256::new();
    for part in parts {
        let part = part.unwrap_or_default();
        // With its length before it, no text passes for part of its neighbour.
        hash.update(part.len().to_be_bytes());
        hash.update(part.as_bytes());
    }
    hex::encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    const FEED: &str = "https://court.example/feeds/opinions.xml";

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn found(feed: &str) -> Found {
        feed_links(feed.as_bytes(), None, &url(FEED)).unwrap()
    }

    fn urls(found: &Found) -> Vec<&str> {
        found.links.iter().map(|link| link.url.as_str()).collect()
    }

    fn rss(items: &str) -> String {
        format!(
            "<?xml version=\"1.0\"?>\n<rss version=\"2.0\"><channel><title>t</title><link>https://court.example/</link>{items}</channel></rss>"
        )
    }

    fn atom(entries: &str) -> String {
        format!("<feed xmlns=\"http://www.w3.org/2005/Atom\"><title>t</title>{entries}</feed>")
    }

    #[test]
    fn every_kind_of_feed_is_read() {
        let rss1 = "<rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#' xmlns='http://purl.org/rss/1.0/'>
            <channel><title>t</title></channel><item><title>a</title><link>https://court.example/1</link></item></rdf:RDF>";
        let rss0 = "<!DOCTYPE rss PUBLIC '-//Netscape Communications//DTD RSS 0.91//EN' 'http://my.netscape.com/publish/formats/rss-0.91.dtd'>
            <rss version='0.91'><channel><title>t</title><item><title>a</title><link>https://court.example/1</link></item></channel></rss>";
        let json = r#"{"version": "https://jsonfeed.org/version/1.1", "title": "t", "items": [{"id": "1", "url": "https://court.example/1", "content_text": "x"}]}"#;
        for feed in [
            rss1,
            rss0,
            json,
            &rss("<item><link>https://court.example/1</link></item>"),
            &atom("<entry><link href='https://court.example/1'/></entry>"),
        ] {
            assert_eq!(urls(&found(feed)), ["https://court.example/1"], "{feed}");
        }
    }

    #[test]
    fn references_are_resolved_against_the_base_or_the_feed() {
        let cases = [
            (rss("<item><link> ../1.pdf#page=2 </link></item>"), "https://court.example/1.pdf"),
            (rss("<item><link><![CDATA[/a?x=1&y=2]]></link></item>"), "https://court.example/a?x=1&y=2"),
            (rss("<item><link>/a?x=1&amp;y=2</link></item>"), "https://court.example/a?x=1&y=2"),
            (atom("<entry xml:base='https://files.example/x/'><link href='1'/></entry>"), "https://files.example/x/1"),
            (
                "{\"version\": \"https://jsonfeed.org/version/1\", \"title\": \"t\", \"items\": [{\"id\": \"1\", \"url\": \"1\"}]}".to_owned(),
                "https://court.example/feeds/1",
            ),
        ];
        for (feed, expected) in cases {
            assert_eq!(urls(&found(&feed)), [expected], "{feed}");
        }
    }

    #[test]
    fn an_entrys_link_is_the_alternate_or_the_guid_of_an_rss_item() {
        let entries = "<entry><link rel='self' href='/s'/><link rel='enclosure' href='/e'/><link rel='alternate' href='/a'/></entry>
            <entry><id>https://court.example/name</id></entry><entry><link rel='edit' href='/x'/></entry>";
        let atom = found(&atom(entries));
        assert_eq!((urls(&atom), atom.elements, atom.without_link), (vec!["https://court.example/a"], 3, 2));

        let items = "<item><guid>https://court.example/g</guid></item><item><guid>1234</guid></item><item><title>x</title></item>
            <item><link/><title>x</title></item><item><link>mailto:a@b.example</link></item>";
        let rss = found(&rss(items));
        assert_eq!((urls(&rss), rss.elements, rss.without_link), (vec!["https://court.example/g"], 5, 4));
    }

    #[test]
    fn of_two_entries_with_one_url_the_first_is_taken() {
        let feed = atom(
            "<entry><link href='/1'/><updated>2024-02-01T00:00:00Z</updated></entry>
            <entry><link href='/1#x'/><updated>2024-01-01T00:00:00Z</updated></entry>",
        );
        let found = found(&feed);
        assert_eq!(
            found.links,
            [Link {
                url: url("https://court.example/1"),
                marker: Some("2024-02-01T00:00:00+00:00".to_owned())
            }]
        );
    }

    #[test]
    fn a_marker_changes_when_the_entry_does_and_only_then() {
        let marker = |feed: &str| found(feed).links.remove(0).marker.unwrap();
        let item = |title: &str, text: &str, day: u8| {
            marker(&rss(&format!(
                "<item><link>/1</link><title>{title}</title><description>{text}</description><pubDate>Mon, 0{day} Jan 2024 00:00:00 GMT</pubDate></item>"
            )))
        };
        assert_eq!(item("a", "b", 1), item("a", "b", 1));
        assert_eq!(item("a", "b", 1).len(), 64);
        // The date of publication stays when a court corrects a text.
        for other in [item("a", "c", 1), item("c", "b", 1), item("ab", "", 1), item("a", "b", 8)] {
            assert_ne!(item("a", "b", 1), other);
        }

        let entry = |text: &str, updated: &str| {
            marker(&atom(&format!(
                "<entry><link href='/1'/><content>{text}</content><updated>{updated}</updated></entry>"
            )))
        };
        assert_eq!(entry("a", "2024-01-01T12:00:00+01:00"), entry("b", "2024-01-01T11:00:00Z"));
        assert_ne!(entry("a", "2024-01-01T12:00:00Z"), entry("a", "2024-01-01T12:00:01Z"));
    }

    #[test]
    fn a_feed_is_read_in_its_encoding() {
        let feed = |declaration: &str| {
            format!(
                "{declaration}{}",
                rss("<item><link>/für</link></item>").trim_start_matches("<?xml version=\"1.0\"?>\n")
            )
        };
        let latin = |declaration: &str| encoding_rs::WINDOWS_1252.encode(&feed(declaration)).0.into_owned();
        let expected = ["https://court.example/f%C3%BCr"];
        let said = latin("<?xml version='1.0' encoding='iso-8859-1'?>");
        assert_eq!(urls(&feed_links(&said, None, &url(FEED)).unwrap()), expected);
        // The server's word counts more than the document's.
        let declared = Some("application/rss+xml; charset=iso-8859-1");
        let wrong = latin("<?xml version='1.0' encoding='utf-8'?>");
        assert_eq!(urls(&feed_links(&wrong, declared, &url(FEED)).unwrap()), expected);
    }

    #[test]
    fn what_is_no_feed_is_an_error() {
        for text in ["", "{}", "<html></html>", "<rss version='2.0'></rss>", "<feed><entry>", "[1]"] {
            let error = feed_links(text.as_bytes(), None, &url(FEED)).unwrap_err();
            assert_eq!(error.reason(), "UnreadableList", "{text}");
        }
    }

    #[test]
    fn entities_of_the_document_are_not_expanded() {
        let bomb = format!(
            "<!DOCTYPE rss [<!ENTITY a \"{0}\"><!ENTITY b \"&a;&a;&a;&a;\">]>{1}",
            "x".repeat(100),
            rss("<item><link>/1</link><title>&b;</title></item>")
                .trim_start_matches("<?xml version=\"1.0\"?>\n"),
        );
        // Whether such a feed is refused or read without them is the parser's; neither may cost much.
        if let Ok(found) = feed_links(bomb.as_bytes(), None, &url(FEED)) {
            assert_eq!(urls(&found), ["https://court.example/1"]);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
            let _ = feed_links(&bytes, None, &url(FEED));
        }

        #[test]
        fn no_markup_makes_it_panic(
            inner in "(<item>|</item>|<entry>|</entry>|<link>|</link>|<link href='|'/>|<guid>|<updated>|2024|-01|T|:|<content type='|'>|<!\\[CDATA\\[|\\]\\]>|&amp;|&x;|&#0;|&|<!--|x| |\u{e9}|xml:base='){0,60}",
        ) {
            let _ = feed_links(rss(&inner).as_bytes(), None, &url(FEED));
            let _ = feed_links(atom(&inner).as_bytes(), None, &url(FEED));
        }
    }
}
