use std::collections::HashSet;
use std::io::Read;

use content::charset;
use flate2::read::MultiGzDecoder;
use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesRef, Event};
use url::Url;

use super::{Link, LinksError, resolve};

/// How many entries a sitemap may have (sitemaps.org).
pub const MAX_ENTRIES: usize = 50_000;

/// What a sitemap names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sitemap {
    /// Pages, each URL once, in the sitemap's order.
    pub entries: Vec<Link>,
    /// Further sitemaps, if it is an index of them.
    pub sitemaps: Vec<Link>,
    /// How many entries beyond the 50,000 that the protocol allows were left out.
    pub left_out_by_limit: usize,
}

impl Sitemap {
    fn push(&mut self, entry: Entry, sitemap_url: &Url, kind: Kind, seen: &mut HashSet<Url>) {
        let location = Some(entry.location.trim()).filter(|location| !location.is_empty());
        let Some(url) = location.and_then(|location| resolve(location, sitemap_url)) else { return };
        if !seen.insert(url.clone()) {
            return;
        }
        if seen.len() > MAX_ENTRIES {
            self.left_out_by_limit += 1;
            return;
        }
        let changed = entry.changed.trim();
        let link = Link { url, marker: (!changed.is_empty()).then(|| changed.to_owned()) };
        match kind {
            Kind::Pages => self.entries.push(link),
            Kind::Sitemaps => self.sitemaps.push(link),
        }
    }
}

/// Reads a sitemap as sitemaps.org describes it: `<urlset>`, `<sitemapindex>`, or text with a URL in each line, each of
/// them plain or packed by gzip. A marker is the entry's `lastmod`, as it stands there. `max_bytes` is how large it may
/// be when unpacked.
///
/// # Errors
///
/// [`LinksError::TooLarge`], [`LinksError::Gzip`], [`LinksError::Xml`] and [`LinksError::NotASitemap`].
pub fn sitemap_links(bytes: &[u8], sitemap_url: &Url, max_bytes: u64) -> Result<Sitemap, LinksError> {
    let text = if bytes.starts_with(&[0x1f, 0x8b]) {
        charset::decode(&unpacked(bytes, max_bytes)?, None).text
    } else {
        charset::decode(bytes, None).text
    };
    if text.trim_start().starts_with('<') { xml(&text, sitemap_url) } else { lines(&text, sitemap_url) }
}

fn unpacked(bytes: &[u8], max_bytes: u64) -> Result<Vec<u8>, LinksError> {
    let mut unpacked = Vec::new();
    MultiGzDecoder::new(bytes)
        .take(max_bytes.saturating_add(1))
        .read_to_end(&mut unpacked)
        .map_err(LinksError::Gzip)?;
    // A slice's length fits u64 on every platform there is.
    if unpacked.len() as u64 > max_bytes {
        return Err(LinksError::TooLarge { max_bytes });
    }
    Ok(unpacked)
}

fn lines(text: &str, sitemap_url: &Url) -> Result<Sitemap, LinksError> {
    let (mut sitemap, mut seen) = (Sitemap::default(), HashSet::new());
    for line in text.lines().filter(|line| Url::parse(line.trim()).is_ok()) {
        let entry = Entry { location: line.to_owned(), changed: String::new() };
        sitemap.push(entry, sitemap_url, Kind::Pages, &mut seen);
    }
    if seen.is_empty() {
        return Err(LinksError::NotASitemap { found: "a text without a URL" });
    }
    Ok(sitemap)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Pages,
    Sitemaps,
}

#[derive(Default)]
struct Entry {
    location: String,
    changed: String,
}

#[derive(Clone, Copy)]
enum Field {
    Location,
    Changed,
}

/// Elements are known by their local names and their depth: root, entry, field. Prefixes and namespaces vary; what
/// extensions nest deeper (images, videos) has names that mean something else.
fn xml(text: &str, sitemap_url: &Url) -> Result<Sitemap, LinksError> {
    let mut reader = Reader::from_str(text);
    reader.config_mut().allow_dangling_amp = true;
    reader.config_mut().expand_empty_elements = true;
    let (mut sitemap, mut seen) = (Sitemap::default(), HashSet::new());
    let (mut depth, mut kind, mut entry, mut field) = (0_usize, None, None::<Entry>, None);
    loop {
        match reader.read_event().map_err(LinksError::Xml)? {
            Event::Start(element) => {
                depth += 1;
                let name = element.local_name();
                match (depth, name.as_ref(), kind) {
                    (1, name, _) => kind = Some(root(name)?),
                    (2, "url", Some(Kind::Pages)) | (2, "sitemap", Some(Kind::Sitemaps)) => {
                        entry = Some(Entry::default())
                    }
                    (3, "loc", _) => field = Some(Field::Location),
                    (3, "lastmod", _) => field = Some(Field::Changed),
                    _ => {}
                }
            }
            Event::End(_) => {
                if depth == 3 {
                    field = None;
                }
                if let (2, Some(kind), Some(entry)) = (depth, kind, entry.take_if(|_| depth == 2)) {
                    sitemap.push(entry, sitemap_url, kind, &mut seen);
                }
                depth = depth.saturating_sub(1);
            }
            Event::Text(text) => append(&mut entry, field, &text.xml10_content()),
            Event::CData(text) => append(&mut entry, field, &text.xml10_content()),
            Event::GeneralRef(reference) => append(&mut entry, field, &resolved(&reference)?),
            Event::Eof if depth == 0 && kind.is_some() => return Ok(sitemap),
            Event::Eof => return Err(LinksError::NotASitemap { found: "XML that ends too early" }),
            _ => {}
        }
    }
}

fn root(name: &str) -> Result<Kind, LinksError> {
    match name {
        "urlset" => Ok(Kind::Pages),
        "sitemapindex" => Ok(Kind::Sitemaps),
        "rss" | "feed" | "RDF" => Err(LinksError::NotASitemap { found: "a feed" }),
        _ => Err(LinksError::NotASitemap { found: "another kind of XML or HTML" }),
    }
}

fn append(entry: &mut Option<Entry>, field: Option<Field>, text: &str) {
    match (entry, field) {
        (Some(entry), Some(Field::Location)) => entry.location.push_str(text),
        (Some(entry), Some(Field::Changed)) => entry.changed.push_str(text),
        _ => {}
    }
}

/// The five predefined entities and characters by number; any other entity stays as it is written, so that a document
/// cannot blow itself up.
fn resolved(reference: &BytesRef<'_>) -> Result<String, LinksError> {
    if let Some(character) = reference.resolve_char_ref().map_err(LinksError::Xml)? {
        return Ok(character.to_string());
    }
    let name = reference.xml10_content();
    Ok(resolve_predefined_entity(&name).map_or_else(|| format!("&{name};"), str::to_owned))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use super::*;

    const SITEMAP: &str = "https://court.example/sitemap.xml";
    const MAX_BYTES: u64 = 1 << 20;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn read(bytes: impl AsRef<[u8]>) -> Result<Sitemap, LinksError> {
        sitemap_links(bytes.as_ref(), &url(SITEMAP), MAX_BYTES)
    }

    fn link(location: &str, marker: Option<&str>) -> Link {
        Link { url: url(location), marker: marker.map(str::to_owned) }
    }

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    const PAGES: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
        <urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9" xmlns:image="http://www.google.com/schemas/sitemap-image/1.1">
          <url><loc> https://court.example/1?a=1&amp;b=2 </loc><lastmod>
            2024-05-01 </lastmod><changefreq>daily</changefreq></url>
          <url><lastmod/><loc><![CDATA[https://court.example/2]]></loc>
            <image:image><image:loc>https://court.example/image.png</image:loc></image:image></url>
          <url><loc>https://court.example/1?a=1&#38;b=2</loc></url>
          <url><loc>ftp://court.example/3</loc></url>
          <url></url>
        </urlset>"#;

    #[test]
    fn the_pages_of_a_urlset_are_entries() {
        let expected = Sitemap {
            entries: vec![
                link("https://court.example/1?a=1&b=2", Some("2024-05-01")),
                link("https://court.example/2", None),
            ],
            ..Sitemap::default()
        };
        assert_eq!(read(PAGES).unwrap(), expected);
        assert_eq!(read(packed(PAGES.as_bytes())).unwrap(), expected);
        let utf_16: Vec<u8> = format!("\u{feff}{PAGES}").encode_utf16().flat_map(u16::to_be_bytes).collect();
        assert_eq!(read(utf_16).unwrap(), expected);
    }

    #[test]
    fn the_sitemaps_of_an_index_are_sitemaps() {
        let index = "<s:sitemapindex xmlns:s='http://www.sitemaps.org/schemas/sitemap/0.9'>
            <s:sitemap><s:loc>https://court.example/a.xml.gz</s:loc><s:lastmod>2024-05-01T12:00:00Z</s:lastmod></s:sitemap>
            <s:sitemap><s:loc>/b.xml</s:loc></s:sitemap><s:url><s:loc>/c</s:loc></s:url></s:sitemapindex>";
        let found = read(index).unwrap();
        assert_eq!(
            found.sitemaps,
            [
                link("https://court.example/a.xml.gz", Some("2024-05-01T12:00:00Z")),
                link("https://court.example/b.xml", None),
            ]
        );
        assert!(found.entries.is_empty());
    }

    #[test]
    fn the_lines_of_a_text_are_entries() {
        let text = "\u{feff}https://court.example/1\r\n\n  https://court.example/2#x \nhttps://court.example/1\nnonsense\nmailto:a@b.example\n";
        let found = read(text).unwrap();
        assert_eq!(
            found.entries,
            [link("https://court.example/1", None), link("https://court.example/2", None)]
        );
        assert_eq!(read(packed(text.as_bytes())).unwrap(), found);
    }

    #[test]
    fn an_ampersand_that_is_not_escaped_and_an_unknown_entity_stay() {
        let text = "<!DOCTYPE urlset [<!ENTITY b 'boom'>]>
            <urlset><url><loc>https://court.example/?a=1&b=2</loc></url><url><loc>https://court.example/?&b;&lt;</loc></url></urlset>";
        let found = read(text).unwrap();
        assert_eq!(
            found.entries,
            [link("https://court.example/?a=1&b=2", None), link("https://court.example/?&b;%3C", None)]
        );
    }

    #[test]
    fn more_than_50000_entries_are_left_out_and_counted() {
        let urls: String =
            (0..MAX_ENTRIES + 7).map(|number| format!("<url><loc>/{number}</loc></url>")).collect();
        let found = read(format!("<urlset>{urls}</urlset>")).unwrap();
        assert_eq!((found.entries.len(), found.left_out_by_limit), (MAX_ENTRIES, 7));
    }

    #[test]
    fn a_bomb_is_stopped() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        for _ in 0..64 {
            encoder.write_all(&vec![0; 1 << 20]).unwrap();
        }
        let error = read(encoder.finish().unwrap()).unwrap_err();
        assert_eq!(error.reason(), "TooLarge");
    }

    #[test]
    fn as_much_as_is_allowed_is_unpacked() {
        let bytes = packed(PAGES.as_bytes());
        let length = PAGES.len() as u64;
        assert!(sitemap_links(&bytes, &url(SITEMAP), length).is_ok());
        assert!(
            matches!(sitemap_links(&bytes, &url(SITEMAP), length - 1), Err(LinksError::TooLarge { max_bytes }) if max_bytes == length - 1)
        );
    }

    #[test]
    fn what_is_no_sitemap_is_an_error() {
        let damaged = packed(PAGES.as_bytes());
        let cases: [&[u8]; 9] = [
            b"",
            b"just text",
            b"<html><body></body></html>",
            b"<rss version='2.0'></rss>",
            b"<urlset><url>",
            b"<urlset><url><loc>https://court.example/1</loc></url>",
            b"<urlset></url></urlset>",
            b"<!-- only a comment -->",
            &damaged[..damaged.len() / 2],
        ];
        for bytes in cases {
            let error = read(bytes).unwrap_err();
            assert_eq!(error.reason(), "UnreadableList", "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2048), is_packed in any::<bool>()) {
            let bytes = if is_packed { [vec![0x1f, 0x8b, 8], bytes].concat() } else { bytes };
            let _ = read(bytes);
        }

        #[test]
        fn no_markup_makes_it_panic(
            inner in "(<url>|</url>|<sitemap>|</sitemap>|<loc>|</loc>|<loc/>|<lastmod>|</lastmod>|https://|x|/|&|&amp;|&#1;|&#x110000;|&x;|<!\\[CDATA\\[|\\]\\]>|<!--|-->|<\\?|\\?>| ){0,60}",
        ) {
            let _ = read(format!("<urlset>{inner}</urlset>"));
            let _ = read(format!("<sitemapindex>{inner}"));
        }
    }
}
