//! Lists: pages with links to follow, feeds and sitemaps, and the documents that they lead a run to.

use std::collections::HashMap;

use content::{Sign, charset::decode};
use events::{CrawlUrl, Event, HandlerError, VersioningRequest, run_reasons};
use jiff::{SignedDuration, Timestamp};
use store::catalog::{
    CrawlWork, Findings, FollowSettings, FoundCount, FoundDocument, GoneDocument, KeptSlots, KnownDocument,
};
use tokio::{sync::Semaphore, task::spawn_blocking};
use url::Url;

use super::{
    EVENT_SOURCE,
    robots_cache::{RobotsCache, min_interval},
    slots,
};
use crate::{
    Tools,
    bytes::{TooLarge, read_blob},
    links::{Link, LinksError, ListKind, MAX_ENTRIES, choose, feed_links, page_links, sitemap_links},
    tools::{catalog_failed, permanent},
};

/// How many lists a process has in memory at a time: a tree of elements takes many times the bytes of its page.
const AT_A_TIME: usize = 2;
/// The largest page or feed that is read as a list, in bytes.
const LARGEST_PAGE: u64 = 16 * 1024 * 1024;
/// The largest sitemap, in bytes and unpacked (sitemaps.org).
const LARGEST_SITEMAP: u64 = 52_428_800;
/// How many sitemaps of an index are read in one run.
const MOST_SITEMAPS: usize = 1_000;

/// Reads lists.
pub(super) struct Lists {
    permits: Semaphore,
}

/// A list that was brought in.
pub(super) struct FetchedList<'a> {
    pub(super) kind: ListKind,
    pub(super) blob_uri: &'a str,
    pub(super) content_type: Option<&'a str>,
    /// Where it was found in the end.
    pub(super) url: &'a str,
}

/// What a list names.
#[derive(Debug, Default)]
struct Entries {
    links: Vec<Link>,
    /// Further sitemaps, of an index.
    sitemaps: Vec<Link>,
    /// How many elements or entries there are, wanted or not.
    elements: usize,
    /// How many entries it has beyond those that such a list may have: they are not among the links.
    beyond: usize,
    /// What the list was taken for, if it is a page that stands in for it.
    looks_blocked: Option<Sign>,
}

impl Lists {
    pub(super) fn new() -> Self {
        Self { permits: Semaphore::new(AT_A_TIME) }
    }

    /// The documents that a list leads its run to, each with a slot of its host.
    pub(super) async fn findings(
        &self,
        tools: &Tools,
        robots: &RobotsCache,
        event: &Event,
        crawl: &CrawlUrl,
        work: &CrawlWork,
        list: &FetchedList<'_>,
    ) -> Result<Findings, HandlerError> {
        let invalid = |error: url::ParseError| permanent(run_reasons::INVALID_URL, error);
        let list_url: Url = list.url.parse().map_err(invalid)?;
        let home: Url = work.source.base_url.parse().map_err(invalid)?;
        // Of a feed or sitemap every entry is taken where the source does not say which, wherever it leads.
        let follow = work.source.follow.clone().unwrap_or_else(|| FollowSettings {
            links: String::new(),
            include: Vec::new(),
            exclude: Vec::new(),
            same_host: false,
            limit: 100,
        });
        let limit = usize::try_from(follow.limit).unwrap_or(usize::MAX);
        let entries = self.entries(tools, list, &list_url, home, follow).await?;
        if let Some(sign) = entries.looks_blocked.filter(|sign| counts(*sign, &entries)) {
            return Err(looks_blocked(sign));
        }
        let named = entries.links.len() + entries.sitemaps.len();
        if list.kind == ListKind::Page && entries.elements == 0 {
            let message =
                "follow.links matches nothing on the page: it has changed, or is not the page it should be";
            return Err(permanent(run_reasons::FOLLOW_MATCHED_NOTHING, message));
        }

        let urls: Vec<&str> =
            entries.links.iter().chain(&entries.sitemaps).map(|link| link.url.as_str()).collect();
        let known = tools.catalog.known_documents(crawl.run_id, &urls).await.map_err(catalog_failed)?;
        // A feed tells of what is new, and drops what is old; a sitemap is one of several.
        // Where no link is one to follow, a page may stand in for the list: nothing is said to be gone.
        let gone = if list.kind == ListKind::Page && !entries.links.is_empty() {
            gone_documents(tools, event, crawl, &urls).await?
        } else {
            Vec::new()
        };
        if let Some(sign) = entries.looks_blocked
            && known.is_empty()
            && !gone.is_empty()
        {
            // All that was there is gone, and there is a log-in form.
            return Err(looks_blocked(sign));
        }
        let before = if work.is_base {
            FoundCount::default()
        } else {
            tools.catalog.count_found(crawl.run_id).await.map_err(catalog_failed)?
        };
        let documents = select(entries.links, &known, limit.saturating_sub(before.documents));
        let sitemaps = select(entries.sitemaps, &known, MOST_SITEMAPS.saturating_sub(before.lists));
        let waiting = match documents.left_out + sitemaps.left_out {
            0 if named == 0 && entries.elements > 0 => {
                Some(format!("none of the {} links of {} is one to follow", entries.elements, list.kind))
            }
            0 => None,
            left_out => Some(format!(
                "{left_out} documents that {} names wait for a later run: follow.limit is {limit}",
                list.kind
            )),
        };
        let unread = (entries.beyond > 0).then(|| {
            format!(
                "{} entries of {} beyond the {MAX_ENTRIES} that it may have are not read",
                entries.beyond, list.kind
            )
        });
        let notes: Vec<String> = waiting.into_iter().chain(unread).collect();
        let note = (!notes.is_empty()).then(|| notes.join("; "));
        let is_cut_short = documents.left_out + sitemaps.left_out > 0;
        let misses_some = documents.left_out_new + sitemaps.left_out_new > 0;
        // Sitemaps first: they name what else there is.
        let wanted = sitemaps.links.into_iter().map(|link| (link, true));
        let wanted: Vec<(Link, bool)> =
            wanted.chain(documents.links.into_iter().map(|link| (link, false))).collect();
        let own_interval = robots.interval(tools, &work.source, &list_url).await?;
        let documents = with_slots(tools, event, crawl, work, &list_url, own_interval, wanted).await?;
        Ok(Findings { documents, limit, is_cut_short, misses_some, note, gone })
    }

    async fn entries(
        &self,
        tools: &Tools,
        list: &FetchedList<'_>,
        list_url: &Url,
        home: Url,
        follow: FollowSettings,
    ) -> Result<Entries, HandlerError> {
        // The semaphore is never closed.
        let _permit = self.permits.acquire().await;
        let bytes = read(tools, list).await?;
        let (kind, content_type, list_url) =
            (list.kind, list.content_type.map(str::to_owned), list_url.clone());
        // Reading megabytes of markup takes long enough to keep others waiting.
        let reading =
            spawn_blocking(move || parse(kind, &bytes, content_type.as_deref(), &list_url, &home, &follow));
        let entries = reading.await.map_err(|error| permanent(run_reasons::HANDLER_FAILED, error))?;
        entries.map_err(|error| permanent(error.reason(), error))
    }
}

/// A log-in form on a page that has links to follow may be part of that page.
fn counts(sign: Sign, entries: &Entries) -> bool {
    match sign {
        Sign::LoginForm { is_titled } => is_titled || entries.links.is_empty(),
        _ => true,
    }
}

fn looks_blocked(sign: Sign) -> HandlerError {
    permanent(
        run_reasons::LOOKS_BLOCKED,
        format!("what came looks like {sign}, and not like the list: nothing is taken for gone"),
    )
}

async fn read(tools: &Tools, list: &FetchedList<'_>) -> Result<Vec<u8>, HandlerError> {
    let most = if list.kind == ListKind::Sitemap { LARGEST_SITEMAP } else { LARGEST_PAGE };
    read_blob(tools, list.blob_uri, most).await?.map_err(|TooLarge| {
        let message = format!("{} is larger than {most} bytes, of which no list is read", list.kind);
        permanent(run_reasons::TOO_LARGE, message)
    })
}

fn parse(
    kind: ListKind,
    bytes: &[u8],
    content_type: Option<&str>,
    list_url: &Url,
    home: &Url,
    follow: &FollowSettings,
) -> Result<Entries, LinksError> {
    // The limit is for what has to be fetched, which the catalog knows.
    let every = FollowSettings { limit: u32::MAX, ..follow.clone() };
    let chosen = |links: Vec<Link>, follow: &FollowSettings| choose(links, list_url, home, follow);
    Ok(match kind {
        ListKind::Page => {
            let found = page_links(&decode(bytes, content_type).text, list_url, home, &every)?;
            Entries {
                links: found.links,
                sitemaps: Vec::new(),
                elements: found.elements,
                beyond: 0,
                looks_blocked: found.looks_blocked,
            }
        }
        ListKind::Feed => {
            let found = feed_links(bytes, content_type, list_url)?;
            let links = chosen(found.links, &every)?.links;
            Entries { links, elements: found.elements, ..Entries::default() }
        }
        ListKind::Sitemap => {
            let sitemap = sitemap_links(bytes, list_url, LARGEST_SITEMAP)?;
            let elements = sitemap.entries.len() + sitemap.sitemaps.len();
            // What is to be followed are pages; the way to them leads through all sitemaps.
            let whole = FollowSettings { include: Vec::new(), exclude: Vec::new(), ..every.clone() };
            Entries {
                links: chosen(sitemap.entries, &every)?.links,
                sitemaps: chosen(sitemap.sitemaps, &whole)?.links,
                elements,
                beyond: sitemap.left_out_by_limit,
                looks_blocked: None,
            }
        }
    })
}

/// What is fetched of a list.
#[derive(Debug, PartialEq, Eq)]
struct Selection {
    links: Vec<Link>,
    /// How many more there is no room for.
    left_out: usize,
    /// How many of these the subscription never had.
    left_out_new: usize,
}

/// Of the links of a list those that have to be fetched, as far as there is room: first those that the subscription never
/// had, in the list's order, then those that may have changed, the one that was looked at the longest ago first. What
/// has no room this time is nearer to it the next.
fn select(links: Vec<Link>, known: &HashMap<String, KnownDocument>, room: usize) -> Selection {
    let (mut new, mut again) = (Vec::new(), Vec::new());
    for link in links {
        match known.get(link.url.as_str()) {
            None => new.push(link),
            Some(known) if link.marker.is_some() && link.marker == known.marker => {}
            Some(known) => again.push((known.artifact_id, link)),
        }
    }
    let left_out_new = new.len().saturating_sub(room);
    again.sort_by_key(|(artifact_id, _)| *artifact_id);
    new.extend(again.into_iter().map(|(_, link)| link));
    let left_out = new.len().saturating_sub(room);
    new.truncate(room);
    Selection { links: new, left_out, left_out_new }
}

/// Documents that the page led to before and does not name any more.
async fn gone_documents(
    tools: &Tools,
    event: &Event,
    crawl: &CrawlUrl,
    listed: &[&str],
) -> Result<Vec<GoneDocument>, HandlerError> {
    let gone = tools.catalog.gone_from_list(crawl.run_id, listed).await.map_err(catalog_failed)?;
    let now = tools.clock.now();
    gone.into_iter()
        .map(|url| {
            let request = VersioningRequest {
                run_id: crawl.run_id,
                subscription_id: crawl.subscription_id,
                url: url.clone(),
                extract_id: None,
            };
            let event = event
                .child(&url, EVENT_SOURCE, now, &request)
                .map_err(|error| permanent(run_reasons::EVENT_NOT_WRITTEN, error))?;
            Ok(GoneDocument { url, event })
        })
        .collect()
}

/// Keeps a slot of its host for each document, so that none of their events has to come to learn that it is too early.
async fn with_slots(
    tools: &Tools,
    event: &Event,
    crawl: &CrawlUrl,
    work: &CrawlWork,
    list_url: &Url,
    own_interval: SignedDuration,
    wanted: Vec<(Link, bool)>,
) -> Result<Vec<FoundDocument>, HandlerError> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let own_host = slots::host_of(list_url);
    let interval = |host: &str| if host == own_host { own_interval } else { min_interval(&work.source) };
    let mut counts: HashMap<String, usize> = HashMap::new();
    for (link, _) in &wanted {
        *counts.entry(slots::host_of(&link.url)).or_default() += 1;
    }
    let kept: Vec<KeptSlots<'_>> = counts
        .iter()
        .map(|(host, count)| KeptSlots { host, count: *count, interval: interval(host) })
        .collect();
    let now = tools.clock.now();
    let mut next: HashMap<String, Timestamp> =
        tools.catalog.keep_slots(&kept, now).await.map_err(catalog_failed)?;
    wanted
        .into_iter()
        .map(|(link, is_list)| {
            let host = slots::host_of(&link.url);
            let slot = next.entry(host.clone()).or_insert(now);
            let available_at = slot.checked_sub(slots::ON_ITS_WAY).unwrap_or(now);
            *slot = slot.checked_add(interval(&host)).unwrap_or(*slot);
            let url: String = link.url.into();
            let asked = CrawlUrl { url: url.clone(), host, slot_promised: true, ..crawl.clone() };
            let event = event
                .child(&url, EVENT_SOURCE, now, &asked)
                .map_err(|error| permanent(run_reasons::EVENT_NOT_WRITTEN, error))?;
            Ok(FoundDocument { url, marker: link.marker, is_list, event, available_at })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn link(path: &str, marker: Option<&str>) -> Link {
        let url = Url::parse("https://court.example/").unwrap().join(path).unwrap();
        Link { url, marker: marker.map(str::to_owned) }
    }

    fn known(all: &[(&str, Option<&str>, i64)]) -> HashMap<String, KnownDocument> {
        all.iter()
            .map(|(path, marker, artifact_id)| {
                let known = KnownDocument { marker: marker.map(str::to_owned), artifact_id: *artifact_id };
                (link(path, None).url.into(), known)
            })
            .collect()
    }

    fn paths(selection: &Selection) -> Vec<&str> {
        selection.links.iter().map(|link| link.url.path()).collect()
    }

    #[test]
    fn what_is_new_comes_first_then_what_may_have_changed_and_what_has_not_does_not_come() {
        let links = vec![
            link("late", Some("2")),
            link("same", Some("1")),
            link("early", Some("2")),
            link("unmarked", None),
            link("new", Some("1")),
            link("newer", None),
        ];
        let known = known(&[
            ("late", Some("1"), 30),
            ("same", Some("1"), 10),
            ("early", Some("1"), 20),
            // Without a marker only fetching tells.
            ("unmarked", None, 25),
        ]);
        let all = select(links.clone(), &known, 10);
        assert_eq!(paths(&all), ["/new", "/newer", "/early", "/unmarked", "/late"]);
        assert_eq!(all.left_out, 0);
        let some = select(links, &known, 3);
        assert_eq!(paths(&some), ["/new", "/newer", "/early"]);
        assert_eq!((some.left_out, some.left_out_new), (2, 0));
    }

    #[test]
    fn with_room_for_few_each_document_has_its_turn() {
        let links: Vec<Link> = ["a", "b", "c", "d", "e"].iter().map(|path| link(path, None)).collect();
        let (mut known, mut seen) = (HashMap::new(), Vec::new());
        for run in 0..5 {
            for (number, link) in select(links.clone(), &known, 2).links.into_iter().enumerate() {
                seen.push(link.url.path().to_owned());
                let artifact_id = run * 10 + i64::try_from(number).unwrap();
                known.insert(link.url.into(), KnownDocument { marker: None, artifact_id });
            }
        }
        assert_eq!(seen, ["/a", "/b", "/c", "/d", "/e", "/a", "/b", "/c", "/d", "/e"]);
    }

    #[test]
    fn an_index_leads_to_its_sitemaps_whatever_pages_are_wanted() {
        let index = b"<sitemapindex><sitemap><loc>https://court.example/s1.xml.gz</loc><lastmod>2026-01-01</lastmod></sitemap></sitemapindex>";
        let pages = b"<urlset><url><loc>https://court.example/opinions/1</loc></url><url><loc>https://court.example/news/1</loc></url></urlset>";
        let home = Url::parse("https://court.example/sitemap.xml").unwrap();
        let follow = FollowSettings {
            links: "a[href]".to_owned(),
            include: vec!["/opinions/".to_owned()],
            exclude: Vec::new(),
            same_host: true,
            limit: 1,
        };
        let read = |bytes| parse(ListKind::Sitemap, bytes, None, &home, &home, &follow).unwrap();
        let entries = read(index);
        assert_eq!(entries.sitemaps, [link("s1.xml.gz", Some("2026-01-01"))]);
        assert!(entries.links.is_empty());
        let entries = read(pages);
        assert_eq!(entries.links, [link("opinions/1", None)]);
        assert_eq!(entries.elements, 2);
    }
}
