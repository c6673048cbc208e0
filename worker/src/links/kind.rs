use std::fmt;

use content::charset;

/// What a list is, which says how its links are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListKind {
    /// An HTML page, for [`super::page_links`].
    Page,
    /// A feed, for [`super::feed_links`].
    Feed,
    /// A sitemap, for [`super::sitemap_links`].
    Sitemap,
}

/// How much of a document is looked at, in bytes.
const HEAD_BYTES: usize = 4096;

impl ListKind {
    /// As the catalog has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Page => "Page",
            Self::Feed => "Feed",
            Self::Sitemap => "Sitemap",
        }
    }

    /// The kind of a name that the catalog has.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Page, Self::Feed, Self::Sitemap].into_iter().find(|kind| kind.name() == name)
    }
}

/// As in a sentence: "the feed".
impl fmt::Display for ListKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Page => "the page",
            Self::Feed => "the feed",
            Self::Sitemap => "the sitemap",
        })
    }
}

/// Which list a source's base URL is, if it is one. `kind` is the source's: html, feed, sitemap, json, text, pdf or auto.
/// For auto, what the bytes speak for decides ([`sniffed_list`]). A page is a list only if the source says which links to
/// follow.
pub fn list_kind(kind: &str, sniffed: Option<ListKind>, has_follow: bool) -> Option<ListKind> {
    match kind {
        "feed" => Some(ListKind::Feed),
        "sitemap" => Some(ListKind::Sitemap),
        "html" => Some(ListKind::Page),
        "auto" => sniffed,
        _ => None,
    }
    .filter(|kind| *kind != ListKind::Page || has_follow)
}

/// Which list the first bytes of a document (`head`, of which 4096 are looked at) and its declared content type speak for.
pub fn sniffed_list(head: &[u8], content_type: Option<&str>) -> Option<ListKind> {
    let media_type =
        content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match media_type.as_str() {
        "application/rss+xml" | "application/atom+xml" | "application/feed+json" => {
            return Some(ListKind::Feed);
        }
        _ => {}
    }
    let head = charset::decode(head.get(..HEAD_BYTES).unwrap_or(head), content_type).text;
    if head.trim_start().starts_with('{') {
        return head.contains("https://jsonfeed.org/version/").then_some(ListKind::Feed);
    }
    match root_name(&head) {
        Some("rss" | "feed") => Some(ListKind::Feed),
        // Much else is written in RDF.
        Some("RDF") => head.contains("http://purl.org/rss/1.0/").then_some(ListKind::Feed),
        Some("urlset" | "sitemapindex") => Some(ListKind::Sitemap),
        Some(name) if name.eq_ignore_ascii_case("html") => Some(ListKind::Page),
        _ => matches!(media_type.as_str(), "text/html" | "application/xhtml+xml").then_some(ListKind::Page),
    }
}

/// The local name of the first element, behind a declaration, comments and a document type.
fn root_name(text: &str) -> Option<&str> {
    let mut rest = text.trim_start();
    loop {
        let (end, length) = if rest.starts_with("<!--") {
            (rest.find("-->")?, 3)
        } else if rest.starts_with("<?") {
            (rest.find("?>")?, 2)
        } else if rest.starts_with("<!") {
            (document_type_end(rest)?, 1)
        } else {
            break;
        };
        rest = rest.get(end + length..)?.trim_start();
    }
    let name = rest
        .strip_prefix('<')?
        .split(|character: char| character.is_whitespace() || matches!(character, '>' | '/'))
        .next()?;
    name.rsplit(':').next().filter(|name| !name.is_empty())
}

/// Where a document type ends, which may hold declarations in brackets.
fn document_type_end(text: &str) -> Option<usize> {
    let end = text.find('>')?;
    match text.find('[') {
        Some(bracket) if bracket < end => {
            let closed = text.find(']')?;
            Some(closed + text.get(closed..)?.find('>')?)
        }
        _ => Some(end),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_kind_that_is_named_is_believed_and_a_page_is_a_list_only_with_links_to_follow() {
        for (kind, sniffed, has_follow, expected) in [
            ("feed", None, false, Some(ListKind::Feed)),
            ("sitemap", Some(ListKind::Page), true, Some(ListKind::Sitemap)),
            ("html", Some(ListKind::Feed), true, Some(ListKind::Page)),
            ("html", Some(ListKind::Feed), false, None),
            ("auto", Some(ListKind::Feed), false, Some(ListKind::Feed)),
            ("auto", Some(ListKind::Page), false, None),
            ("auto", Some(ListKind::Page), true, Some(ListKind::Page)),
            ("auto", None, true, None),
            ("json", Some(ListKind::Feed), true, None),
            ("text", Some(ListKind::Page), true, None),
            ("pdf", Some(ListKind::Page), true, None),
        ] {
            assert_eq!(list_kind(kind, sniffed, has_follow), expected, "{kind} {sniffed:?} {has_follow}");
        }
        for kind in [ListKind::Page, ListKind::Feed, ListKind::Sitemap] {
            assert_eq!(ListKind::named(kind.name()), Some(kind));
        }
    }

    #[test]
    fn the_content_type_and_the_root_say_what_list_it_is() {
        let cases: [(&str, Option<&str>, Option<ListKind>); 23] = [
            ("", Some("application/rss+xml; charset=utf-8"), Some(ListKind::Feed)),
            ("", Some("Application/Atom+XML"), Some(ListKind::Feed)),
            ("", Some("application/feed+json"), Some(ListKind::Feed)),
            ("<rss version='2.0'>", Some("text/html"), Some(ListKind::Feed)),
            ("\u{feff}<?xml version='1.0'?>\n<!-- a > b -->\n<rss>", Some("text/xml"), Some(ListKind::Feed)),
            ("<feed xmlns='http://www.w3.org/2005/Atom'>", Some("application/xml"), Some(ListKind::Feed)),
            ("<atom:feed>", None, Some(ListKind::Feed)),
            ("<rdf:RDF xmlns='http://purl.org/rss/1.0/'>", None, Some(ListKind::Feed)),
            ("<rdf:RDF xmlns='http://xmlns.com/foaf/0.1/'>", Some("application/rdf+xml"), None),
            (
                "{\"version\": \"https://jsonfeed.org/version/1.1\"}",
                Some("application/json"),
                Some(ListKind::Feed),
            ),
            ("{\"version\": 1}", Some("application/json"), None),
            ("<urlset>", Some("text/xml"), Some(ListKind::Sitemap)),
            ("<?xml-stylesheet href='x'?><sitemapindex xmlns='x'>", None, Some(ListKind::Sitemap)),
            ("<!DOCTYPE rss [<!ENTITY a '>'>]><rss>", None, Some(ListKind::Feed)),
            ("<!doctype html><title>x</title>", Some("text/html; charset=utf-8"), Some(ListKind::Page)),
            (
                "<!DOCTYPE html PUBLIC '-//W3C//DTD XHTML 1.0 Strict//EN' 'x'><HTML>",
                None,
                Some(ListKind::Page),
            ),
            ("<p>a fragment", Some("text/html"), Some(ListKind::Page)),
            ("no markup", Some("text/html"), Some(ListKind::Page)),
            ("<p>a fragment", None, None),
            ("%PDF-1.7", Some("application/pdf"), None),
            ("<svg xmlns='x'>", Some("image/svg+xml"), None),
            ("", None, None),
            ("<!--", Some("text/plain"), None),
        ];
        for (head, content_type, expected) in cases {
            assert_eq!(sniffed_list(head.as_bytes(), content_type), expected, "{head} {content_type:?}");
        }
    }

    proptest! {
        #[test]
        fn no_head_makes_it_panic(head in "(<!--|-->|<\\?|\\?>|<!|\\[|\\]|>|<|:|rss|html|\\{|\u{e9}| ){0,40}") {
            sniffed_list(head.as_bytes(), None);
        }
    }
}
