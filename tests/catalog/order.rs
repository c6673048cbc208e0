//! What was fetched first was seen first, whenever its work is done: runs of a subscription overlap.

use jiff::Timestamp;
use store::catalog::{
    Artifact, Catalog, Evidence, MadeVersion, NewArtifact, ScheduledSubscription, StoredDocument,
};
use uuid::Uuid;

use crate::place::{Place, URL, compare, document, fetched, minute};

fn fetched_at(digit: char, at: Timestamp) -> NewArtifact {
    NewArtifact { fetched_at: at, ..fetched(digit) }
}

async fn store(catalog: &Catalog, run: Uuid, evidence: &NewArtifact) -> StoredDocument {
    catalog.store_document(run, URL, &document(Evidence::New(evidence)), minute(9)).await.unwrap()
}

/// A body that differs from what was there.
async fn differing(catalog: &Catalog, run: Uuid, evidence: &NewArtifact) -> Artifact {
    match store(catalog, run, evidence).await {
        StoredDocument::Fetched(artifact) => artifact,
        other => panic!("{other:?}"),
    }
}

/// Compares what was stored of a run, if it has to be: its text is its hash.
async fn finish(catalog: &Catalog, run: Uuid, stored: StoredDocument) -> Option<MadeVersion> {
    match stored {
        StoredDocument::Fetched(artifact) => {
            compare(catalog, run, URL, &artifact, &artifact.fetch_hash, minute(9)).await
        }
        StoredDocument::Finished(_) => None,
        other => panic!("{other:?}"),
    }
}

/// A subscription whose document was `a` at the first minute.
async fn seen_once(place: &Place) -> ScheduledSubscription {
    let subscription = place.subscription("opinions").await;
    let run = place.begun_run(&subscription, minute(1), &[URL]).await;
    place.store(run, URL, 'a', minute(1)).await;
    subscription
}

#[tokio::test]
async fn what_was_fetched_before_the_document_was_seen_as_it_was_is_no_version() {
    let place = Place::new().await;
    let subscription = seen_once(&place).await;
    let early = place.begun_run(&subscription, minute(2), &[URL]).await;
    let late = place.begun_run(&subscription, minute(3), &[URL]).await;
    let artifact = differing(&place.catalog, early, &fetched_at('b', minute(2))).await;
    // Looked at again before that is compared: it is as it was.
    let again = store(&place.catalog, late, &fetched_at('a', minute(3))).await;
    assert!(matches!(again, StoredDocument::Finished(_)), "{again:?}");
    let made = compare(&place.catalog, early, URL, &artifact, "b", minute(9)).await;
    assert_eq!(made, None);
    assert_eq!(place.ended(early).await.reason.as_deref(), Some("Unchanged"));
}

#[tokio::test]
async fn a_fetch_whose_body_comes_late_counts_from_when_it_was_answered() {
    let place = Place::new().await;
    let subscription = seen_once(&place).await;
    for (number, digit, made) in [(4, 'a', 0), (5, 'c', 1)] {
        let slow = place.begun_run(&subscription, minute(2 * number), &[URL]).await;
        let quick = place.begun_run(&subscription, minute(2 * number + 1), &[URL]).await;
        let seen = store(&place.catalog, quick, &fetched_at(digit, minute(2 * number + 1))).await;
        assert_eq!(finish(&place.catalog, quick, seen).await.map_or(0, |_| 1), made);
        // Answered a minute earlier, stored after.
        let artifact = differing(&place.catalog, slow, &fetched_at('b', minute(2 * number))).await;
        assert_eq!(compare(&place.catalog, slow, URL, &artifact, "b", minute(9)).await, None, "{digit}");
        assert_eq!(place.ended(slow).await.reason.as_deref(), Some("Unchanged"));
    }
    // What is as it was, and was answered earlier, takes nothing back either.
    let slow = place.begun_run(&subscription, minute(20), &[URL]).await;
    let newest = "select artifact_id from document_heads";
    let before = place.number(newest).await;
    assert!(matches!(
        store(&place.catalog, slow, &fetched_at('c', minute(10))).await,
        StoredDocument::Finished(_)
    ));
    assert_eq!(place.number(newest).await, before);
}

#[tokio::test]
async fn what_is_as_it_was_before_a_version_that_came_first_is_a_change_back() {
    let place = Place::new().await;
    let subscription = seen_once(&place).await;
    let early = place.begun_run(&subscription, minute(2), &[URL]).await;
    let late = place.begun_run(&subscription, minute(3), &[URL]).await;
    let seen = store(&place.catalog, early, &fetched_at('b', minute(2))).await;
    assert_eq!(finish(&place.catalog, early, seen).await.unwrap().kind, "Changed");
    let seen = store(&place.catalog, late, &fetched_at('a', minute(3))).await;
    assert_eq!(finish(&place.catalog, late, seen).await.unwrap().kind, "Changed");
}

/// Whoever is faster: the last version is what was fetched last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_comparison_and_a_look_that_finds_nothing_at_the_same_moment_leave_what_was_seen_last() {
    let place = Place::new().await;
    let subscription = seen_once(&place).await;
    let other = place.other_process().await;
    for round in 1..=60 {
        let at = 2 * round;
        let early = place.begun_run(&subscription, minute(at), &[URL]).await;
        let late = place.begun_run(&subscription, minute(at + 1), &[URL]).await;
        let artifact = differing(&place.catalog, early, &fetched_at('b', minute(at))).await;
        let comparing = {
            let catalog = other.clone();
            tokio::spawn(async move {
                compare(&catalog, early, URL, &artifact, &artifact.fetch_hash, minute(at)).await
            })
        };
        let looking = {
            let catalog = place.catalog.clone();
            tokio::spawn(async move {
                let seen = store(&catalog, late, &fetched_at('a', minute(at + 1))).await;
                finish(&catalog, late, seen).await
            })
        };
        let (made, back) = (comparing.await.unwrap(), looking.await.unwrap());
        assert_eq!(made.is_some(), back.is_some(), "round {round}: {made:?}, {back:?}");
        let last = "select left(a.fetch_hash, 1) from versions v join extracts e on e.id = v.extract_id
             join artifacts a on a.id = e.artifact_id where $1 = 0 order by v.id desc limit 1";
        assert_eq!(place.text_of(last, 0).await, "a", "round {round}");
        assert!(!place.is_active(early).await && !place.is_active(late).await);
    }
}
