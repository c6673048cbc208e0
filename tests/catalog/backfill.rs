use store::catalog::{Evidence, Findings, RunPhase, Trigger, WhenActive};

use crate::place::{OTHER_URL, Place, URL, due, fetched, minute, request};

#[tokio::test]
async fn a_backfill_goes_over_all_that_was_stored_before_it_page_by_page() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    let other = place.subscription("orders").await;
    let mut stored = Vec::new();
    for (number, one) in [(1, &subscription), (2, &other), (3, &subscription)] {
        let run = place.begun_run(one, minute(number), &[URL, OTHER_URL]).await;
        for (url, digit) in [(URL, 'a'), (OTHER_URL, 'b')] {
            place.store(run, url, digit, minute(number)).await;
        }
        if one.id == subscription.id {
            stored.extend(place.catalog.run_artifacts(run).await.unwrap());
        }
    }
    let mut asked = request(&subscription, "again");
    asked.trigger = Trigger::Backfill;
    let run = place.lead().request_run(&asked, minute(4)).await.unwrap().unwrap();
    assert_eq!(run.trigger, Trigger::Backfill);
    assert_eq!(place.lead().request_run(&asked, minute(5)).await.unwrap(), None);
    let summary = place.catalog.summaries(&[subscription.id]).await.unwrap().remove(0);
    assert_eq!((summary.last_backfill.as_deref(), summary.last_request), (Some("again"), None));

    // What is stored after the backfill was asked for has been extracted under what is in force by then.
    let later = place.begun_run(&subscription, minute(6), &[URL]).await;
    let mut new = fetched('c');
    new.fetched_at = minute(6);
    place
        .catalog
        .store_document(later, URL, Evidence::New(&new), &Findings::default(), minute(6))
        .await
        .unwrap();

    let (mut last, mut seen) = (0, Vec::new());
    loop {
        let page = place.catalog.artifacts_to_backfill(run.run_id, last, 3).await.unwrap();
        let Some(newest) = page.last() else { break };
        last = newest.id;
        seen.extend(page);
    }
    assert_eq!(seen, stored);
    place.catalog.end_backfill(run.run_id, 4, minute(7)).await.unwrap();
    let ended = place.ended(run.run_id).await;
    assert_eq!((ended.phase, ended.reason.as_deref()), (RunPhase::Succeeded, Some("Backfilled")));
    assert_eq!(place.catalog.artifacts_to_backfill(run.run_id, 0, 3).await.unwrap(), []);
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
