use jiff::{SignedDuration, Timestamp};
use store::catalog::{RunPhase, StuckPolicy, StuckRuns, Trigger};
use uuid::Uuid;

use crate::place::{OTHER_URL, Place, URL, minute, request};

const POLICY: StuckPolicy =
    StuckPolicy { restart_after: SignedDuration::from_mins(5), give_up_after: SignedDuration::from_mins(60) };

async fn mend(place: &Place, now: Timestamp) -> StuckRuns {
    place.lead().mend_stuck_runs(&POLICY, now).await.unwrap()
}

fn restarted(run: Uuid) -> StuckRuns {
    StuckRuns { restarted: vec![run], given_up: Vec::new() }
}

/// Publishes what is in the outbox to nobody, and says how much it was.
async fn lose_events(place: &Place, now: Timestamp) -> usize {
    let batch = place.catalog.take_outbox(10, now).await.unwrap();
    let count = batch.records.len();
    batch.commit().await.unwrap();
    count
}

#[tokio::test]
async fn a_run_without_progress_gets_its_event_again_ever_later_and_fails_in_the_end() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    let run = place.run(&subscription, minute(1)).await;
    // Its event waits to be published: that is no standstill.
    assert_eq!(mend(&place, minute(30)).await, StuckRuns::default());
    lose_events(&place, minute(1)).await;

    let mut restarts = Vec::new();
    let mut end = None;
    for number in 1..=90 {
        let stuck = mend(&place, minute(number)).await;
        if stuck == restarted(run) {
            restarts.push(number);
            assert_eq!(lose_events(&place, minute(number)).await, 1);
        } else if stuck.given_up == [run] {
            end = Some(number);
            break;
        } else {
            assert_eq!(stuck, StuckRuns::default(), "minute {number}");
        }
    }
    assert_eq!(restarts, [6, 16, 36]);
    assert_eq!(end, Some(61));
    let report = place.ended(run).await;
    assert_eq!((report.phase, report.reason.as_deref()), (RunPhase::Failed, Some("Stuck")));
    assert!(report.message.unwrap().contains("3 times"));
    assert_eq!(mend(&place, minute(200)).await, StuckRuns::default());
}

#[tokio::test]
async fn planning_and_each_finished_document_are_progress() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    let run = place.run(&subscription, minute(1)).await;
    lose_events(&place, minute(1)).await;
    let urls = [URL.to_owned(), OTHER_URL.to_owned()];
    assert_eq!(place.catalog.begin_run(run, &urls, minute(5)).await.unwrap().pending.len(), 2);
    assert_eq!(mend(&place, minute(9)).await, StuckRuns::default());
    place.store(run, URL, 'a', minute(9)).await;
    assert_eq!(mend(&place, minute(13)).await, StuckRuns::default());
    assert_eq!(mend(&place, minute(14)).await, restarted(run));
    // Planned again, it still waits for the other document only.
    assert_eq!(place.catalog.begin_run(run, &urls, minute(13)).await.unwrap().pending, [OTHER_URL]);
    place.catalog.fail_document(run, OTHER_URL, "Test", "it failed", minute(14)).await.unwrap();
    assert_eq!(place.ended(run).await.reason.as_deref(), Some("Test"));
}

#[tokio::test]
async fn a_restart_of_every_kind_of_run_is_its_first_event_again() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    place.run(&subscription, minute(1)).await;
    place.lead().request_run(&request(&subscription, "now"), minute(1)).await.unwrap();
    let mut backfill = request(&subscription, "again");
    backfill.trigger = Trigger::Backfill;
    place.lead().request_run(&backfill, minute(1)).await.unwrap();
    let batch = place.catalog.take_outbox(10, minute(1)).await.unwrap();
    let mut first: Vec<_> = batch.records.iter().map(|record| record.payload.clone()).collect();
    batch.commit().await.unwrap();
    assert_eq!(mend(&place, minute(6)).await.restarted.len(), 3);
    let batch = place.catalog.take_outbox(10, minute(6)).await.unwrap();
    let mut again: Vec<_> = batch.records.iter().map(|record| record.payload.clone()).collect();
    first.sort_unstable();
    again.sort_unstable();
    assert_eq!((first.len(), again), (3, first));
}
