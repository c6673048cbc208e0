//! What is parsed and compared together, by several processes.

use futures::future::join_all;
use serde_json::value::RawValue;
use store::catalog::{
    Artifact, Catalog, ComparedDocument, Evidence, ExtractFields, MadeVersion, NewExtract, NewVersion,
    ScheduledSubscription, SelectionSettings, StoredDocument,
};
use tests::eventually;
use uuid::Uuid;

use crate::place::{OTHER_URL, Place, SOON, URL, compare, document, fetched, minute};

/// A document that was fetched and waits to be compared.
#[derive(Clone)]
struct Fetched {
    run: Uuid,
    url: &'static str,
    artifact: Artifact,
}

/// Fetches both documents of each subscription in a run of its own.
async fn fetch(place: &Place, subscriptions: &[ScheduledSubscription], at: i64, digit: char) -> Vec<Fetched> {
    let mut all = Vec::new();
    for subscription in subscriptions {
        let run = place.begun_run(subscription, minute(at), &[URL, OTHER_URL]).await;
        for url in [URL, OTHER_URL] {
            let evidence = fetched(digit);
            let new = document(Evidence::New(&evidence));
            let stored = place.catalog.store_document(run, url, &new, minute(at)).await.unwrap();
            let StoredDocument::Fetched(artifact) = stored else { panic!("{url}: {stored:?}") };
            all.push(Fetched { run, url, artifact });
        }
    }
    all
}

async fn subscriptions(place: &Place, count: usize) -> Vec<ScheduledSubscription> {
    let mut all = Vec::new();
    for number in 0..count {
        all.push(place.subscription(&format!("subscription-{number}")).await);
    }
    all
}

/// Compares them at the same time, each with a text that its artifact's hash tells from others.
async fn compare_all<'a>(
    catalog: &Catalog,
    documents: impl Iterator<Item = &'a Fetched>,
    at: i64,
) -> Vec<Option<MadeVersion>> {
    let compared = documents.map(|fetched| {
        compare(
            catalog,
            fetched.run,
            fetched.url,
            &fetched.artifact,
            &fetched.artifact.fetch_hash,
            minute(at),
        )
    });
    join_all(compared).await
}

/// Of those that made a version, which.
fn kinds(made: &[Option<MadeVersion>]) -> Vec<(i32, &str)> {
    made.iter().flatten().map(|made| (made.number, made.kind.as_str())).collect()
}

#[tokio::test]
async fn what_is_compared_together_makes_each_its_own_version_and_ends_its_own_run() {
    let place = Place::new().await;
    let subscriptions = subscriptions(&place, 12).await;
    for (at, digit, expected) in [(1, 'a', (1, "Baseline")), (2, 'b', (2, "Changed"))] {
        let documents = fetch(&place, &subscriptions, at, digit).await;
        let made = compare_all(&place.catalog, documents.iter(), at).await;
        assert_eq!(kinds(&made), vec![expected; documents.len()]);
        for (document, made) in documents.iter().zip(&made) {
            let ended = place.ended(document.run).await;
            assert_eq!((ended.reason.as_deref(), ended.changed), (Some("Changed"), Some(true)));
            let of_document: i64 =
                sqlx::query_scalar("select version_id from documents where run_id = $1 and url = $2")
                    .bind(document.run)
                    .bind(document.url)
                    .fetch_one(&place.sql)
                    .await
                    .unwrap();
            assert_eq!(made.as_ref().map(|made| made.id), Some(of_document));
        }
    }

    // Of half of them the text is another, with changed and unchanged ones in one statement.
    let documents = fetch(&place, &subscriptions, 3, 'c').await;
    let compared = documents.iter().enumerate().map(|(number, fetched)| {
        let text = if number % 4 < 2 { "c".repeat(64) } else { "b".repeat(64) };
        let (catalog, at) = (&place.catalog, minute(3));
        async move { compare(catalog, fetched.run, fetched.url, &fetched.artifact, &text, at).await }
    });
    let made = join_all(compared).await;
    for (number, (document, made)) in documents.iter().zip(&made).enumerate() {
        let is_changed = number % 4 < 2;
        assert_eq!(made.is_some(), is_changed, "document {number}");
        let ended = place.ended(document.run).await;
        let reason = if is_changed { "Changed" } else { "Unchanged" };
        assert_eq!((ended.reason.as_deref(), ended.changed), (Some(reason), Some(is_changed)));
    }
    // What is known is the newest artifact of each, whether its text was another or not.
    let behind = "select count(*) from document_heads h where artifact_id <> (
        select max(d.artifact_id) from documents d where d.subscription_id = h.subscription_id and d.url = h.url)";
    assert_eq!(place.number(behind).await, 0);
    assert_eq!(place.number("select count(*) from document_heads").await, 24);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_that_compare_the_same_documents_in_other_orders_make_each_version_once() {
    let place = Place::new().await;
    let subscriptions = subscriptions(&place, 20).await;
    let other = place.other_process().await;
    for (at, digit) in [(1, 'a'), (2, 'b'), (3, 'c')] {
        let documents = fetch(&place, &subscriptions, at, digit).await;
        let (one, other) = tokio::join!(
            compare_all(&place.catalog, documents.iter(), at),
            compare_all(&other, documents.iter().rev(), at)
        );
        assert_eq!(kinds(&one).len() + kinds(&other).len(), documents.len());
        assert_eq!(place.number("select count(*) from runs where finished_at is null").await, 0);
    }
    assert_eq!(place.number("select count(*) from versions").await, 3 * 40);
    assert_eq!(place.number("select max(number)::bigint from versions").await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_overlapping_runs_that_find_documents_for_the_first_time_each_number_is_taken_once() {
    let place = Place::new().await;
    let subscriptions = subscriptions(&place, 20).await;
    let other = place.other_process().await;
    let earlier = fetch(&place, &subscriptions, 1, 'a').await;
    let later = fetch(&place, &subscriptions, 2, 'b').await;
    tokio::join!(compare_all(&place.catalog, earlier.iter(), 3), compare_all(&other, later.iter().rev(), 3));
    assert_eq!(place.number("select count(*) from runs where finished_at is null").await, 0);
    // Where the later one was faster, the earlier is no version.
    let wrong = "select count(*) from (
        select max(number) - count(*) as gaps, count(*) as count from versions group by subscription_id, url) v
        where gaps <> 0 or count > 2";
    assert_eq!(place.number(wrong).await, 0);
    let newest = "select count(*) from document_heads where fetch_hash = repeat('b', 64)";
    assert_eq!(place.number(newest).await, 40);
}

/// First versions have no heads yet that could be locked in one order.
#[tokio::test(flavor = "multi_thread")]
async fn first_versions_that_two_processes_make_in_other_orders_meet_no_deadlock() {
    // Which documents share a statement is decided by the moment: once would not do.
    for _ in 0..4 {
        let place = Place::new().await;
        let subscriptions = subscriptions(&place, 20).await;
        let other = place.other_process().await;
        let earlier = fetch(&place, &subscriptions, 1, 'a').await;
        let later = fetch(&place, &subscriptions, 2, 'b').await;
        // A third has made a version in the middle, and takes it back when both have come to it, each from its side.
        let middle = &earlier[20];
        let text = extract(&middle.artifact, subscriptions[10].id);
        let text = place.catalog.store_extract(text, minute(2)).await.unwrap();
        let run = place.begun_run(&subscriptions[10], minute(3), &[URL]).await;
        let mut third = place.sql.begin().await.unwrap();
        sqlx::query(
            "insert into versions (subscription_id, url, number, extract_id, text_hash, change, kind, run_id, created_at)
             select subscription_id, $2, 1, id, text_hash, 'null', 'Baseline', $3, created_at from extracts where id = $1",
        )
        .bind(text)
        .bind(middle.url)
        .bind(run)
        .execute(&mut *third)
        .await
        .unwrap();
        let taken_back = async {
            let waiting = "select count(*) from pg_stat_activity where datname = current_database()
                and wait_event_type = 'Lock'";
            eventually("two that wait", SOON, async || match place.number(waiting).await {
                few @ (0 | 1) => Err(few),
                _ => Ok(()),
            })
            .await;
            third.rollback().await.unwrap();
        };
        let one = compare_all(&place.catalog, earlier.iter(), 3);
        tokio::join!(one, compare_all(&other, later.iter().rev(), 3), taken_back);
        // One that deadlocks is tried again, and would go unseen.
        let deadlocks = "select deadlocks from pg_stat_database where datname = current_database()";
        assert_eq!(place.counted(deadlocks).await, 0);
    }
}

#[tokio::test]
async fn a_version_that_cannot_be_made_fails_alone() {
    let place = Place::new().await;
    let subscriptions = subscriptions(&place, 4).await;
    let documents = fetch(&place, &subscriptions, 1, 'a').await;
    let finish = documents.iter().enumerate().map(|(number, fetched)| {
        let (place, extract) = (&place, extract(&fetched.artifact, subscriptions[number / 2].id));
        async move {
            let id = place.catalog.store_extract(extract, minute(1)).await.unwrap();
            let work = place.catalog.version_work(fetched.run, fetched.url, Some(id)).await;
            // The catalog knows no such kind.
            let kind = if number == 3 { "Rewritten" } else { "Baseline" };
            let new = NewVersion { kind, change: RawValue::NULL.to_owned(), is_compared: false };
            let work = work.unwrap().unwrap();
            place.catalog.finish_compared(fetched.run, fetched.url, &work, Some(new), minute(1)).await
        }
    });
    for (number, finished) in join_all(finish).await.iter().enumerate() {
        let is_made = matches!(finished, Ok(ComparedDocument::Finished(Some(_))));
        assert_eq!(is_made, number != 3, "document {number}: {finished:?}");
    }
    assert!(place.is_active(documents[3].run).await);
    assert_eq!(place.number("select count(*) from runs where finished_at is null").await, 1);
}

#[tokio::test]
async fn what_another_release_wrote_and_this_one_cannot_read_fails_alone() {
    let place = Place::new().await;
    let subscriptions = subscriptions(&place, 4).await;
    let documents = fetch(&place, &subscriptions, 1, 'a').await;
    sqlx::query("update subscriptions set settings = '{}' where id = $1")
        .bind(subscriptions[1].id)
        .execute(&place.sql)
        .await
        .unwrap();
    let asked = documents
        .iter()
        .map(|fetched| place.catalog.parse_work(fetched.run, fetched.url, fetched.artifact.id, 1));
    for (number, work) in join_all(asked).await.iter().enumerate() {
        assert_eq!(work.is_ok(), number / 2 != 1, "document {number}: {work:?}");
    }
}

fn extract(artifact: &Artifact, subscription_id: i64) -> NewExtract {
    NewExtract {
        artifact_id: artifact.id,
        subscription_id,
        parser: "text",
        parser_version: 1,
        selection_hash: SelectionSettings::default().hash(),
        fields: ExtractFields::from([("docket".to_owned(), vec![artifact.id.to_string()])]),
        text: format!("text of {}", artifact.id),
        text_hash: "1".repeat(64),
    }
}

#[tokio::test]
async fn texts_that_are_kept_and_asked_for_together_are_each_their_own() {
    let place = Place::new().await;
    let subscriptions = subscriptions(&place, 6).await;
    let documents = fetch(&place, &subscriptions, 1, 'a').await;
    let subscription_of = |number: usize| subscriptions[number / 2].id;
    let keep = documents.iter().enumerate().map(|(number, fetched)| {
        let mut extract = extract(&fetched.artifact, subscription_of(number));
        if number == 5 {
            // PostgreSQL has no such text.
            extract.text.push('\0');
        }
        place.catalog.store_extract(extract, minute(1))
    });
    let kept = join_all(keep).await;
    for (number, kept) in kept.iter().enumerate() {
        assert_eq!(kept.is_ok(), number != 5, "text {number}: {kept:?}");
    }
    // Kept again, they are the same.
    let again = documents
        .iter()
        .enumerate()
        .filter(|(number, _)| *number != 5)
        .map(|(number, fetched)| extract(&fetched.artifact, subscription_of(number)))
        .map(|extract| place.catalog.store_extract(extract, minute(2)));
    let ids: Vec<i64> = kept.iter().filter_map(|kept| kept.as_ref().ok().copied()).collect();
    let again: Vec<i64> = join_all(again).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(again, ids);

    // Each asks for a text of its own and for one that another asks for, too.
    let asked: Vec<[i64; 2]> = ids.iter().map(|id| [*id, ids[0]]).collect();
    let contents = join_all(asked.iter().map(|ids| place.catalog.extract_contents(ids))).await;
    let artifacts = documents.iter().enumerate().filter(|(number, _)| *number != 5);
    for (((_, fetched), id), contents) in artifacts.zip(&ids).zip(contents) {
        let contents = contents.unwrap();
        assert_eq!(contents[id].text, format!("text of {}", fetched.artifact.id));
        assert_eq!(contents[id].fields["docket"], [fetched.artifact.id.to_string()]);
        assert_eq!(contents[&ids[0]].text, format!("text of {}", documents[0].artifact.id));
    }
}
