use store::catalog::RunPhase;
use uuid::Uuid;

use crate::place::{OTHER_URL, Place, URL, minute, source_record, subscription_record};

#[tokio::test]
async fn a_plan_holds_what_is_needed_to_fetch() {
    let place = Place::new().await;
    let source = source_record("scotus");
    let source_id = place.catalog.put_source(&source, minute(0)).await.unwrap().id;
    let record = subscription_record("opinions", source_id);
    let subscription = place.catalog.put_subscription(&record, minute(0)).await.unwrap().scheduled;
    let run = place.run(&subscription, minute(1)).await;
    let plan = place.catalog.run_plan(run).await.unwrap().unwrap();
    assert_eq!(plan.phase, RunPhase::Pending);
    assert_eq!((plan.subscription_id, plan.source_id), (subscription.id, source_id));
    assert_eq!(plan.source, source.settings);
    assert!(place.catalog.run_plan(Uuid::new_v4()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_run_may_be_begun_again_until_it_has_ended() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    let run = place.begun_run(&subscription, minute(1), &[URL]).await;
    assert_eq!(place.catalog.run_plan(run).await.unwrap().unwrap().phase, RunPhase::Running);
    let urls = [URL.to_owned()];
    assert!(!place.catalog.begin_run(run, &urls, minute(2)).await.unwrap().is_empty());
    let started = "select count(*) from runs where started_at = '2026-03-09T12:01:00Z'";
    assert_eq!(place.number(started).await, 1);
    assert_eq!(place.number("select count(*) from documents").await, 1);

    place.catalog.fail_run(run, "Test", "", minute(3)).await.unwrap();
    assert!(place.catalog.begin_run(run, &[OTHER_URL.to_owned()], minute(4)).await.unwrap().is_empty());
    assert_eq!(place.number("select count(*) from documents").await, 1);
    assert_eq!(place.ended(run).await.phase, RunPhase::Failed);
    assert!(place.catalog.begin_run(Uuid::new_v4(), &urls, minute(4)).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_run_begun_again_for_other_documents_does_not_wait_for_the_former_ones() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    let run = place.begun_run(&subscription, minute(1), &[URL]).await;
    // The process ended before it asked for the document, and the source was changed.
    assert!(!place.catalog.begin_run(run, &[OTHER_URL.to_owned()], minute(2)).await.unwrap().is_empty());
    place.store(run, OTHER_URL, 'a', minute(3)).await;
    assert_eq!(place.ended(run).await.phase, RunPhase::Succeeded);
}

#[tokio::test]
async fn a_run_that_fails_as_a_whole_ends_once() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    let run = place.begun_run(&subscription, minute(1), &[URL]).await;
    place.catalog.fail_run(run, "InvalidUrl", "no host", minute(2)).await.unwrap();
    place.catalog.fail_run(run, "Another", "other", minute(3)).await.unwrap();
    let report = place.ended(run).await;
    assert_eq!(report.phase, RunPhase::Failed);
    assert_eq!(report.reason.as_deref(), Some("InvalidUrl"));
    assert_eq!(report.message.as_deref(), Some("no host"));
    assert_eq!((report.finished_at, report.changed), (Some(minute(2)), None));
}

#[tokio::test]
async fn active_and_ended_runs_are_told_apart() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    let [first, second, third] = [
        place.run(&subscription, minute(1)).await,
        place.run(&subscription, minute(2)).await,
        place.run(&subscription, minute(3)).await,
    ];
    place.catalog.fail_run(third, "Test", "", minute(4)).await.unwrap();
    place.catalog.fail_run(first, "Test", "", minute(5)).await.unwrap();
    assert_eq!(place.catalog.active_runs().await.unwrap(), [second]);
    let ended = place.catalog.ended_runs(&[first, second, third, Uuid::new_v4()]).await.unwrap();
    assert_eq!(ended.iter().map(|report| report.id).collect::<Vec<_>>(), [third, first]);
    let report = &ended[0];
    assert_eq!(report.subscription_id, subscription.id);
    assert_eq!(report.subscription, subscription.key);
    assert_eq!((report.scheduled_for, report.created_at), (minute(3), minute(3)));
    assert_eq!(report.trace_id, third.simple().to_string());
    assert_eq!(place.catalog.ended_runs(&[]).await.unwrap(), []);
}

#[tokio::test]
async fn a_failed_document_fails_the_run_when_all_are_done() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    let run = place.begun_run(&subscription, minute(1), &[URL, OTHER_URL]).await;
    place.catalog.fail_document(run, URL, "NotFound", "404", minute(2)).await.unwrap();
    assert!(place.is_active(run).await);
    // A second word on the same document does not count.
    place.catalog.fail_document(run, URL, "Other", "again", minute(3)).await.unwrap();
    assert!(place.is_active(run).await);
    place.store(run, OTHER_URL, 'a', minute(4)).await;
    let report = place.ended(run).await;
    assert_eq!((report.phase, report.reason.as_deref()), (RunPhase::Failed, Some("NotFound")));
    assert_eq!(report.message.as_deref(), Some("404"));
    assert_eq!((report.finished_at, report.changed), (Some(minute(4)), Some(true)));

    place.catalog.fail_document(run, URL, "Late", "", minute(5)).await.unwrap();
    assert_eq!(place.ended(run).await.reason.as_deref(), Some("NotFound"));
    place.catalog.fail_document(Uuid::new_v4(), URL, "Unknown", "", minute(5)).await.unwrap();
}

#[tokio::test]
async fn a_runs_reason_and_message_are_of_the_same_document() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    let run = place.begun_run(&subscription, minute(1), &[URL, OTHER_URL]).await;
    place.catalog.fail_document(run, OTHER_URL, "NotFound", "a: 404", minute(2)).await.unwrap();
    place.catalog.fail_document(run, URL, "TooLarge", "z: 2 GiB", minute(2)).await.unwrap();
    let report = place.ended(run).await;
    assert_eq!(report.reason.as_deref(), Some("TooLarge"));
    assert_eq!(report.message.as_deref(), Some("z: 2 GiB"));
    assert_eq!(report.changed, None);
}
