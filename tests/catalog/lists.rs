//! Documents that lists lead a run to.

use events::{CrawlUrl, Event};
use store::catalog::{Evidence, FetchedDocument, Findings, FoundCount, FoundDocument, RunPhase};
use uuid::Uuid;

use crate::place::{Place, URL, document, fetched, minute};

const SITEMAP: &str = "https://example.org/sitemap.xml";
const OPINION: &str = "https://example.org/opinions/1";
const ORDER: &str = "https://example.org/orders/1";

fn found(run_id: Uuid, url: &str, marker: &str, is_list: bool) -> FoundDocument {
    let payload = CrawlUrl {
        run_id,
        subscription_id: 1,
        source_id: 1,
        url: url.to_owned(),
        host: "example.org".to_owned(),
        slot_promised: true,
    };
    let event = Event::of_run(run_id, "/test", minute(1), &payload).unwrap();
    FoundDocument {
        url: url.to_owned(),
        marker: Some(marker.to_owned()),
        is_list,
        event,
        available_at: minute(2),
    }
}

fn findings(documents: Vec<FoundDocument>, limit: usize) -> Findings {
    Findings { documents, limit, ..Findings::default() }
}

async fn store(place: &Place, run: Uuid, url: &str, digit: char, findings: &Findings) {
    let evidence = fetched(digit);
    let list = FetchedDocument { findings: Some(findings), ..document(Evidence::New(&evidence)) };
    place.catalog.store_document(run, url, &list, minute(2)).await.unwrap();
}

#[tokio::test]
async fn a_run_waits_for_what_lists_lead_it_to_and_each_is_asked_for_at_its_time() {
    let place = Place::new().await;
    let subscription = place.subscription("list").await;
    let run = place.begun_run(&subscription, minute(1), &[URL]).await;
    let documents = vec![found(run, OPINION, "1", false), found(run, ORDER, "1", false)];
    store(
        &place,
        run,
        URL,
        'a',
        &Findings { note: Some("as it should be".to_owned()), ..findings(documents, 5) },
    )
    .await;
    assert!(place.is_active(run).await);
    assert_eq!(place.catalog.count_found(run).await.unwrap(), FoundCount { documents: 2, lists: 0 });
    assert_eq!(
        place.number("select count(*) from outbox where available_at = '2026-03-09 12:02:00Z'").await,
        2
    );
    place.store(run, OPINION, 'b', minute(2)).await;
    assert!(place.is_active(run).await);
    place.store(run, ORDER, 'c', minute(2)).await;
    let ended = place.ended(run).await;
    assert_eq!((ended.phase, ended.message.as_deref()), (RunPhase::Succeeded, Some("as it should be")));
}

#[tokio::test]
async fn no_run_is_led_to_more_documents_than_its_limit_however_many_lists_it_reads() {
    let place = Place::new().await;
    let subscription = place.subscription("limit").await;
    let run = place.begun_run(&subscription, minute(1), &[URL]).await;
    let other_sitemap = "https://example.org/other.xml";
    let lists = vec![found(run, SITEMAP, "1", true), found(run, other_sitemap, "1", true)];
    store(&place, run, URL, 'a', &findings(lists, 1)).await;
    store(&place, run, SITEMAP, 'b', &findings(vec![found(run, OPINION, "1", false)], 1)).await;
    store(&place, run, other_sitemap, 'c', &findings(vec![found(run, ORDER, "1", false)], 1)).await;
    assert_eq!(place.catalog.count_found(run).await.unwrap(), FoundCount { documents: 1, lists: 2 });
    place.store(run, OPINION, 'd', minute(2)).await;
    assert_eq!(place.ended(run).await.phase, RunPhase::Succeeded);
    // The sitemap whose document had no room is read again, whatever is said of it.
    let later = place.begun_run(&subscription, minute(3), &[URL]).await;
    let known =
        place.catalog.known_documents(later, &[SITEMAP, other_sitemap, OPINION, ORDER]).await.unwrap();
    assert_eq!(known[SITEMAP].marker.as_deref(), Some("1"));
    assert_eq!(known[other_sitemap].marker, None);
    assert_eq!(known[OPINION].marker.as_deref(), Some("1"));
    assert!(!known.contains_key(ORDER));
}

#[tokio::test]
async fn a_list_is_read_again_after_a_run_that_did_not_bring_everything_in() {
    let place = Place::new().await;
    let subscription = place.subscription("again").await;
    let run = place.begun_run(&subscription, minute(1), &[URL]).await;
    store(&place, run, URL, 'a', &findings(vec![found(run, SITEMAP, "1", true)], 5)).await;
    let pages = vec![found(run, OPINION, "1", false), found(run, ORDER, "1", false)];
    store(&place, run, SITEMAP, 'b', &findings(pages, 5)).await;
    place.store(run, OPINION, 'c', minute(2)).await;
    place.catalog.fail_document(run, ORDER, "Timeout", "it took too long", minute(2)).await.unwrap();
    assert_eq!(place.ended(run).await.phase, RunPhase::Failed);
    let next = place.begun_run(&subscription, minute(3), &[URL]).await;
    let known = place.catalog.known_documents(next, &[SITEMAP, OPINION, ORDER]).await.unwrap();
    assert_eq!(known[SITEMAP].marker, None);
    assert_eq!(known[OPINION].marker.as_deref(), Some("1"));
    assert!(!known.contains_key(ORDER), "it was not brought in");
    // Another subscription has its own history.
    let other = place.subscription("other").await;
    let run = place.begun_run(&other, minute(3), &[URL]).await;
    assert!(place.catalog.known_documents(run, &[SITEMAP, OPINION]).await.unwrap().is_empty());
}

#[tokio::test]
async fn evidence_of_a_document_that_is_not_finished_by_it_is_kept() {
    let place = Place::new().await;
    let subscription = place.subscription("evidence").await;
    let run = place.begun_run(&subscription, minute(1), &[URL]).await;
    place.catalog.keep_evidence(run, URL, &fetched('a')).await.unwrap();
    let work = place.catalog.crawl_work(run, URL).await.unwrap().unwrap();
    assert!(work.is_pending && work.artifact.is_none());
    assert_eq!(work.latest.unwrap().fetch_hash, fetched('a').fetch_hash);
    assert!(place.is_active(run).await);
}

#[tokio::test]
async fn what_was_fetched_and_not_compared_is_fetched_again_whatever_its_list_says() {
    let place = Place::new().await;
    let subscription = place.subscription("lost").await;
    let run = place.begun_run(&subscription, minute(1), &[URL]).await;
    let pages = vec![found(run, OPINION, "1", false), found(run, ORDER, "1", false)];
    store(&place, run, URL, 'a', &findings(pages, 5)).await;
    place.store(run, OPINION, 'b', minute(2)).await;
    let evidence = fetched('c');
    place.catalog.store_document(run, ORDER, &document(Evidence::New(&evidence)), minute(2)).await.unwrap();
    place.catalog.fail_run(run, "Replaced", "", minute(3)).await.unwrap();
    let next = place.begun_run(&subscription, minute(4), &[URL]).await;
    let known = place.catalog.known_documents(next, &[OPINION, ORDER]).await.unwrap();
    assert_eq!(known[OPINION].marker.as_deref(), Some("1"));
    assert_eq!(known[ORDER].marker, None);
    // An older release compared nothing.
    place.execute("delete from document_heads").await;
    let known = place.catalog.known_documents(next, &[OPINION]).await.unwrap();
    assert_eq!(known[OPINION].marker, None);
}
