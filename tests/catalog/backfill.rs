use events::{CrawlUrl, Event};
use store::catalog::{
    Evidence, ExtractFields, FetchedDocument, Findings, FoundDocument, NewExtract, RequestedRun, RunPhase,
    StoredOfRun, Trigger, WhenActive,
};

use crate::place::{OTHER_URL, Place, URL, compare, document, due, fetched, minute, request};

#[tokio::test]
async fn a_backfill_goes_over_what_was_last_stored_of_each_document_and_ends_with_the_last() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    let other = place.subscription("orders").await;
    for (number, one, digit) in [(1, &subscription, 'a'), (2, &other, 'b'), (3, &subscription, 'c')] {
        let run = place.begun_run(one, minute(number), &[URL, OTHER_URL]).await;
        for url in [URL, OTHER_URL] {
            place.store(run, url, digit, minute(number)).await;
        }
    }
    let mut asked = request(&subscription, "again");
    asked.trigger = Trigger::Backfill;
    let run = place.lead().request_run(&asked, minute(4)).await.unwrap().unwrap();
    assert_eq!(run.trigger, Trigger::Backfill);
    assert_eq!(place.lead().request_run(&asked, minute(5)).await.unwrap(), None);
    let summary = place.catalog.summaries(&[subscription.id]).await.unwrap().remove(0);
    assert_eq!((summary.last_backfill.as_deref(), summary.last_request), (Some("again"), None));

    let waiting = place.catalog.begin_backfill(run.run_id, minute(5)).await.unwrap();
    let urls: Vec<&str> = waiting.iter().map(|document| document.url.as_str()).collect();
    assert_eq!(urls, [URL, OTHER_URL]);
    // Begun again, after an event was lost, it waits for what it waited for.
    assert_eq!(place.catalog.begin_backfill(run.run_id, minute(5)).await.unwrap(), waiting);
    let stored = place.catalog.run_artifacts(run.run_id).await.unwrap();
    assert_eq!(
        stored.iter().map(|artifact| &*artifact.fetch_hash).collect::<Vec<_>>(),
        [&*"c".repeat(64), &*"c".repeat(64)]
    );
    for artifact in &stored {
        assert!(place.is_active(run.run_id).await);
        let made = compare(
            &place.catalog,
            run.run_id,
            &artifact.source_url,
            artifact,
            &artifact.fetch_hash,
            minute(6),
        )
        .await;
        assert_eq!(made, None, "it was extracted as before");
    }
    let ended = place.ended(run.run_id).await;
    assert_eq!((ended.phase, ended.reason.as_deref()), (RunPhase::Succeeded, Some("Backfilled")));
    assert_eq!(
        (ended.changed, ended.message.as_deref()),
        (Some(false), Some("2 stored documents were extracted again"))
    );
    assert_eq!(place.catalog.begin_backfill(run.run_id, minute(7)).await.unwrap(), []);
}

#[tokio::test]
async fn a_backfill_leaves_lists_alone_and_ends_at_once_when_there_is_nothing_else() {
    let place = Place::new().await;
    let subscription = place.subscription("list").await;
    let run = place.begun_run(&subscription, minute(1), &[URL]).await;
    let crawl = CrawlUrl {
        run_id: run,
        subscription_id: subscription.id,
        source_id: 1,
        url: OTHER_URL.to_owned(),
        host: "example.org".to_owned(),
        slot_promised: true,
    };
    let found = FoundDocument {
        url: OTHER_URL.to_owned(),
        marker: None,
        is_list: false,
        event: Event::of_run(run, "/test", minute(1), &crawl).unwrap(),
        available_at: minute(1),
    };
    let evidence = fetched('a');
    let findings = Findings { documents: vec![found], limit: 5, ..Findings::default() };
    let list = FetchedDocument { findings: Some(&findings), ..document(Evidence::New(&evidence)) };
    place.catalog.store_document(run, URL, &list, minute(1)).await.unwrap();
    place.catalog.fail_document(run, OTHER_URL, "Timeout", "", minute(2)).await.unwrap();
    let mut asked = request(&subscription, "again");
    asked.trigger = Trigger::Backfill;
    let run = place.lead().request_run(&asked, minute(4)).await.unwrap().unwrap().run_id;
    assert_eq!(place.catalog.stored_documents(run, 0, 10, 2).await.unwrap(), []);
    assert_eq!(place.catalog.begin_backfill(run, minute(5)).await.unwrap(), []);
    let ended = place.ended(run).await;
    assert_eq!((ended.phase, ended.reason.as_deref()), (RunPhase::Succeeded, Some("Backfilled")));
}

#[tokio::test]
async fn a_backfill_of_all_goes_over_what_is_stored_and_is_not_read_yet_as_it_would_be() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    let other = place.subscription("orders").await;
    let mut stored = Vec::new();
    for (number, url, digit) in
        [(1, URL, 'a'), (2, OTHER_URL, 'b'), (3, URL, 'c'), (4, URL, 'c'), (5, URL, 'a'), (6, OTHER_URL, 'd')]
    {
        let run = place.begun_run(&subscription, minute(number), &[url]).await;
        place.store(run, url, digit, minute(number)).await;
        let artifact = place.catalog.run_artifacts(run).await.unwrap().remove(0);
        // Bytes that are as they were need not be read once more; those that came back do.
        if number != 4 {
            stored.push(StoredOfRun { artifact_id: artifact.id, run_id: run, url: url.to_owned() });
        }
    }
    let run = place.begun_run(&other, minute(7), &[URL]).await;
    place.store(run, URL, 'e', minute(7)).await;
    let waiting = place.begun_run(&subscription, minute(8), &[URL]).await;
    let evidence = fetched('f');
    place.catalog.store_document(waiting, URL, &document(Evidence::New(&evidence)), minute(8)).await.unwrap();

    let latest = RequestedRun { trigger: Trigger::Backfill, ..request(&subscription, "again") };
    let of_all = RequestedRun { token: "all-1".to_owned(), is_of_all: true, ..latest.clone() };
    let latest = place.lead().request_run(&latest, minute(9)).await.unwrap().unwrap().run_id;
    let run = place.lead().request_run(&of_all, minute(9)).await.unwrap().unwrap().run_id;
    assert_eq!(
        place.lead().request_run(&of_all, minute(10)).await.unwrap(),
        None,
        "it was asked for already"
    );
    for (run, is_of_all) in [(latest, false), (run, true)] {
        assert_eq!(place.catalog.run_plan(run).await.unwrap().unwrap().is_of_all, is_of_all);
    }
    let pages = async |parser_version: i32| {
        let (mut pages, mut after) = (Vec::new(), 0);
        loop {
            let page = place.catalog.stored_documents(run, after, 2, parser_version).await.unwrap();
            let Some(last) = page.last() else { return pages };
            after = last.artifact_id;
            pages.push(page);
        }
    };
    assert_eq!(pages(1).await, Vec::<Vec<StoredOfRun>>::new(), "all was read as it would be");
    let expected: Vec<_> = stored.chunks(2).map(<[StoredOfRun]>::to_vec).collect();
    assert_eq!(pages(2).await, expected);

    // What was read meanwhile is not asked for again.
    let extract = NewExtract {
        artifact_id: stored[0].artifact_id,
        subscription_id: subscription.id,
        parser: "text",
        parser_version: 2,
        selection_hash: subscription.settings.selection.hash(),
        fields: ExtractFields::new(),
        text: String::new(),
        text_hash: "0".repeat(64),
    };
    place.catalog.store_extract(extract, minute(11)).await.unwrap();
    assert_eq!(pages(2).await.concat(), stored[1..]);
}

#[tokio::test]
async fn a_backfill_stands_in_no_runs_way() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    let mut asked = request(&subscription, "again");
    asked.trigger = Trigger::Backfill;
    let backfill = place.lead().request_run(&asked, minute(1)).await.unwrap().unwrap().run_id;
    let fired = place.fire(&[due(&subscription, minute(2), WhenActive::Skip)], minute(2)).await.unwrap();
    assert_eq!(fired[0].skip, None);
    place.fire(&[due(&subscription, minute(3), WhenActive::Replace)], minute(3)).await.unwrap();
    assert!(place.is_active(backfill).await);
    assert!(!place.is_active(fired[0].run_id).await);
}
