//! Versions: each is made once, in order, and only of what differs.

use events::{CrawlUrl, Event, VersioningRequest};
use serde_json::value::RawValue;
use store::catalog::{
    Artifact, ComparedDocument, Evidence, FetchedDocument, Findings, FoundDocument, GoneDocument,
    MadeVersion, NewVersion, ScheduledSubscription, SelectionSettings, StoredDocument, SubscriptionRecord,
};
use uuid::Uuid;

use crate::place::{Place, URL, compare, document, fetched, minute, subscription_record};

/// Fetches a body for a new run.
async fn fetch(
    place: &Place,
    subscription: &ScheduledSubscription,
    number: i64,
    digit: char,
) -> (Uuid, StoredDocument) {
    let run = place.begun_run(subscription, minute(number), &[URL]).await;
    let evidence = fetched(digit);
    let stored =
        place.catalog.store_document(run, URL, &document(Evidence::New(&evidence)), minute(number)).await;
    (run, stored.unwrap())
}

/// Fetches a body whose text is `text` in a new run, and compares it.
async fn see(
    place: &Place,
    subscription: &ScheduledSubscription,
    number: i64,
    digit: char,
    text: &str,
) -> Option<MadeVersion> {
    let (run, stored) = fetch(place, subscription, number, digit).await;
    let StoredDocument::Fetched(artifact) = stored else { panic!("{stored:?}") };
    compare(&place.catalog, run, URL, &artifact, text, minute(number)).await
}

fn kind(made: &Option<MadeVersion>) -> (i32, &str) {
    made.as_ref().map_or((0, ""), |made| (made.number, made.kind.as_str()))
}

async fn reason(place: &Place) -> String {
    place.text_of("select reason from runs where $1 = 0 and trigger = 'Schedule' order by created_at desc, scheduled_for desc limit 1", 0).await
}

#[tokio::test]
async fn a_version_is_made_of_each_text_that_differs_and_of_no_other() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    for (number, digit, text, version, ended) in [
        (1, 'a', "one", (1, "Baseline"), "Changed"),
        // Other bytes, the same text: a page with the time of day in it.
        (2, 'b', "one", (0, ""), "Unchanged"),
        (3, 'c', "two", (2, "Changed"), "Changed"),
        (4, 'a', "one", (3, "Changed"), "Changed"),
    ] {
        let made = see(&place, &subscription, number, digit, text).await;
        assert_eq!(kind(&made), version, "{text} of {digit}");
        assert_eq!(reason(&place).await, ended);
    }
    assert_eq!(place.number("select count(*) from versions where previous is not null").await, 2);
}

#[tokio::test]
async fn the_same_bytes_need_not_be_looked_into_until_they_would_be_read_otherwise() {
    let place = Place::new().await;
    let source = place.source("opinions").await;
    let mut record = subscription_record("opinions", source);
    let subscription = place.catalog.put_subscription(&record, minute(0)).await.unwrap().scheduled;
    see(&place, &subscription, 1, 'a', "one").await;
    let (run, stored) = fetch(&place, &subscription, 2, 'a').await;
    assert!(matches!(&stored, StoredDocument::Finished(artifact) if !artifact.changed), "{stored:?}");
    let ended = place.ended(run).await;
    assert_eq!((ended.reason.as_deref(), ended.changed), (Some("Unchanged"), Some(false)));

    // Parsers of another version.
    let run = place.begun_run(&subscription, minute(3), &[URL]).await;
    let evidence = fetched('a');
    let newer = FetchedDocument { parser_version: 2, ..document(Evidence::New(&evidence)) };
    let stored = place.catalog.store_document(run, URL, &newer, minute(3)).await.unwrap();
    assert!(matches!(stored, StoredDocument::Fetched(_)), "{stored:?}");
    place.catalog.fail_run(run, "Replaced", "", minute(3)).await.unwrap();

    // Other selectors: what is seen under them for the first time is no news.
    record.generation = 2;
    record.settings.selection =
        SelectionSettings { ignore: vec!["x".to_owned()], ..SelectionSettings::default() };
    place.catalog.put_subscription(&record, minute(4)).await.unwrap();
    let subscription = ScheduledSubscription { generation: 2, ..subscription };
    assert_eq!(kind(&see(&place, &subscription, 4, 'a', "other").await), (2, "Baseline"));
    assert_eq!(reason(&place).await, "Unchanged");
    let (_, stored) = fetch(&place, &subscription, 5, 'a').await;
    assert!(matches!(stored, StoredDocument::Finished(_)), "{stored:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_document_that_is_compared_twice_at_the_same_time_is_one_version() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    let processes = [place.catalog.clone(), place.other_process().await];
    for round in 1..=30 {
        // Two runs of the subscription at once, each with another text; and each event comes twice.
        let mut tasks = Vec::new();
        let digits = if round % 2 == 0 { ['a', 'b'] } else { ['c', 'd'] };
        for digit in digits {
            let (run, stored) =
                fetch(&place, &subscription, 2 * round + i64::from(digit == digits[1]), digit).await;
            let StoredDocument::Fetched(artifact) = stored else { panic!("{stored:?}") };
            for catalog in processes.clone() {
                let artifact: Artifact = artifact.clone();
                tasks.push(tokio::spawn(async move {
                    let text = artifact.fetch_hash.clone();
                    compare(&catalog, run, URL, &artifact, &text, minute(round)).await
                }));
            }
        }
        for task in tasks {
            task.await.unwrap();
        }
    }
    let twice =
        "select count(*) from (select number from versions group by number having count(*) > 1) twice";
    assert_eq!(place.number(twice).await, 0);
    let gaps = "select max(number) - count(*) from versions";
    assert_eq!(place.number(gaps).await, 0);
    // In the order in which they were fetched, and none from the same text as the one before.
    let disorder = "select count(*) from (
        select v.text_hash, lag(v.text_hash) over w as before, e.artifact_id, lag(e.artifact_id) over w as earlier
        from versions v join extracts e on e.id = v.extract_id window w as (order by v.number)) v
        where text_hash = before or artifact_id < earlier";
    assert_eq!(place.number(disorder).await, 0);
    assert_eq!(place.number("select count(*) from runs where finished_at is null").await, 0);
    assert_eq!(place.number("select count(distinct run_id) - count(*) from versions").await, 0);
}

#[tokio::test]
async fn what_was_compared_with_what_is_no_longer_the_last_version_is_compared_again() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    see(&place, &subscription, 1, 'a', "one").await;
    let (run, stored) = fetch(&place, &subscription, 2, 'b').await;
    let StoredDocument::Fetched(artifact) = stored else { panic!("{stored:?}") };
    let work = place.catalog.version_work(run, URL, None).await.unwrap().unwrap();
    see(&place, &subscription, 3, 'c', "two").await;
    let new = NewVersion { kind: "Removed", change: RawValue::NULL.to_owned(), is_compared: true };
    let finish = place.catalog.finish_compared(run, URL, &work, Some(new), minute(4));
    assert_eq!(finish.await.unwrap(), ComparedDocument::Outdated);
    assert!(place.is_active(run).await);
    // It was fetched before what is known now: no version.
    assert_eq!(compare(&place.catalog, run, URL, &artifact, "old", minute(5)).await, None);
    assert_eq!(place.ended(run).await.reason.as_deref(), Some("Unchanged"));
    assert_eq!(place.number("select count(*) from versions").await, 2);
}

struct Listed<'a> {
    place: &'a Place,
    subscription: ScheduledSubscription,
    number: i64,
}

impl Listed<'_> {
    /// A run that reads a list which names these documents, and brings them in.
    async fn run(&mut self, named: &[&str], is_cut_short: bool) -> Vec<(String, String)> {
        self.number += 1;
        let (catalog, at) = (&self.place.catalog, minute(self.number));
        let run = self.place.begun_run(&self.subscription, at, &[URL]).await;
        let gone = catalog.gone_from_list(run, named).await.unwrap();
        let crawl = |url: &str| CrawlUrl {
            run_id: run,
            subscription_id: self.subscription.id,
            source_id: 1,
            url: url.to_owned(),
            host: "example.org".to_owned(),
            slot_promised: true,
        };
        let documents = named.iter().map(|url| FoundDocument {
            url: (*url).to_owned(),
            marker: None,
            is_list: false,
            event: Event::of_run(run, "/test", at, &crawl(url)).unwrap(),
            available_at: at,
        });
        let asked = |url: &String| VersioningRequest {
            run_id: run,
            subscription_id: self.subscription.id,
            url: url.clone(),
            extract_id: None,
        };
        let findings = Findings {
            documents: documents.collect(),
            limit: 10,
            is_cut_short,
            misses_some: is_cut_short,
            note: None,
            gone: gone
                .iter()
                .map(|url| GoneDocument {
                    url: url.clone(),
                    event: Event::of_run(run, "/test", at, &asked(url)).unwrap(),
                })
                .collect(),
        };
        let evidence = fetched('f');
        let list = FetchedDocument { findings: Some(&findings), ..document(Evidence::New(&evidence)) };
        let stored = catalog.store_document(run, URL, &list, at).await.unwrap();
        assert!(matches!(stored, StoredDocument::Finished(_)), "a list is not compared: {stored:?}");
        for url in named {
            self.place.store(run, url, 'a', at).await;
        }
        for url in &gone {
            let work = catalog.version_work(run, url, None).await.unwrap().unwrap();
            let new = NewVersion { kind: "Removed", change: RawValue::NULL.to_owned(), is_compared: true };
            catalog.finish_compared(run, url, &work, Some(new), at).await.unwrap();
        }
        assert!(!self.place.is_active(run).await);
        sqlx::query_as("select url, kind from versions where run_id = $1 order by url")
            .bind(run)
            .fetch_all(&self.place.sql)
            .await
            .unwrap()
    }
}

fn made(versions: &[(&str, &str)]) -> Vec<(String, String)> {
    versions.iter().map(|(url, kind)| ((*url).to_owned(), (*kind).to_owned())).collect()
}

#[tokio::test]
async fn what_a_list_names_later_is_new_what_it_names_no_more_is_removed_and_what_it_names_again_returns() {
    let place = Place::new().await;
    let [a, b, c] = ["https://example.org/a", "https://example.org/b", "https://example.org/c"];
    let subscription = place.subscription("list").await;
    let mut list = Listed { place: &place, subscription, number: 0 };
    assert_eq!(list.run(&[a, b], false).await, made(&[(a, "Baseline"), (b, "Baseline")]));
    assert_eq!(list.run(&[a, b], false).await, []);
    assert_eq!(list.run(&[b, c], false).await, made(&[(a, "Removed"), (c, "New")]));
    assert_eq!(list.run(&[b, c], false).await, [], "what is gone is gone once");
    assert_eq!(list.run(&[a, b, c], false).await, made(&[(a, "Returned")]));
    assert_eq!(list.run(&[a, b, c], false).await, []);
}

#[tokio::test]
async fn nothing_is_new_or_gone_before_a_list_was_read_to_its_end() {
    let place = Place::new().await;
    let [a, b] = ["https://example.org/a", "https://example.org/b"];
    let subscription = place.subscription("list").await;
    let mut list = Listed { place: &place, subscription, number: 0 };
    assert_eq!(list.run(&[a], true).await, made(&[(a, "Baseline")]));
    // What had no room in the first run was there all the same; and what is missing may be missing for other rules.
    assert_eq!(list.run(&[b], false).await, made(&[(b, "Baseline")]));
    assert_eq!(list.run(&[b], false).await, []);
    // What comes back was never told to be gone.
    assert_eq!(list.run(&[a, b], false).await, []);
    assert_eq!(list.run(&[b], false).await, made(&[(a, "Removed")]));
}

#[tokio::test]
async fn subscriptions_have_versions_of_their_own() {
    let place = Place::new().await;
    let source = place.source("court").await;
    let mut made = Vec::new();
    for name in ["one", "other"] {
        let record: SubscriptionRecord = subscription_record(name, source);
        let subscription = place.catalog.put_subscription(&record, minute(0)).await.unwrap().scheduled;
        made.push(kind(&see(&place, &subscription, 1, 'a', "text").await).0);
    }
    assert_eq!(made, [1, 1]);
    assert_eq!(place.number("select count(*) from document_heads").await, 2);
}

#[tokio::test]
async fn what_was_selected_under_other_selectors_is_known_not_to_be_current() {
    let place = Place::new().await;
    let source = place.source("opinions").await;
    let mut record = subscription_record("opinions", source);
    let subscription = place.catalog.put_subscription(&record, minute(0)).await.unwrap().scheduled;
    let (run, stored) = fetch(&place, &subscription, 1, 'a').await;
    let StoredDocument::Fetched(artifact) = stored else { panic!("{stored:?}") };
    let extract = store::catalog::NewExtract {
        artifact_id: artifact.id,
        subscription_id: subscription.id,
        parser: "text",
        parser_version: 1,
        selection_hash: SelectionSettings::default().hash(),
        fields: store::catalog::ExtractFields::new(),
        text: "one".to_owned(),
        text_hash: "1".repeat(64),
    };
    let extract = place.catalog.store_extract(extract, minute(1)).await.unwrap();
    let is_current = async || {
        place
            .catalog
            .version_work(run, URL, Some(extract))
            .await
            .unwrap()
            .unwrap()
            .extract
            .unwrap()
            .is_current
    };
    assert!(is_current().await);
    record.generation = 2;
    record.settings.selection =
        SelectionSettings { ignore: vec!["x".to_owned()], ..SelectionSettings::default() };
    place.catalog.put_subscription(&record, minute(2)).await.unwrap();
    assert!(!is_current().await);
}

#[tokio::test]
async fn a_list_that_was_read_under_other_rules_does_not_count_as_read() {
    let place = Place::new().await;
    let record = crate::place::source_record("court");
    let source = place.catalog.put_source(&record, minute(0)).await.unwrap().id;
    let subscription = place
        .catalog
        .put_subscription(&subscription_record("list", source), minute(0))
        .await
        .unwrap()
        .scheduled;
    let run = place.begun_run(&subscription, minute(1), &[URL]).await;
    let mut other = record.clone();
    other.generation = 2;
    other.settings.kind = "feed".to_owned();
    place.catalog.put_source(&other, minute(2)).await.unwrap();
    let (evidence, findings) = (fetched('a'), Findings { limit: 10, ..Findings::default() });
    let list = FetchedDocument { findings: Some(&findings), ..document(Evidence::New(&evidence)) };
    place.catalog.store_document(run, URL, &list, minute(3)).await.unwrap();
    place.ended(run).await;
    assert_eq!(place.number("select count(*) from subscriptions where list_read_by is not null").await, 0);
    let run = place.begun_run(&subscription, minute(4), &[URL]).await;
    place.catalog.store_document(run, URL, &list, minute(4)).await.unwrap();
    assert_eq!(place.number("select count(*) from subscriptions where list_read_by is not null").await, 1);
}
