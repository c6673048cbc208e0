use store::catalog::WhenActive::RunBoth;
use store::catalog::{DueRun, RunPhase, Skip, SkippedDueTime, SubscriptionSummary};

use crate::place::{Place, URL, due, minute, request};

#[tokio::test]
async fn a_subscription_without_runs_has_an_empty_summary() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    let summaries = place.catalog.summaries(&[subscription.id, 404]).await.unwrap();
    let empty = SubscriptionSummary { subscription_id: subscription.id, ..SubscriptionSummary::default() };
    assert_eq!(summaries, [empty]);
    assert_eq!(place.catalog.summaries(&[]).await.unwrap(), []);
}

#[tokio::test]
async fn summaries_show_each_subscriptions_own_runs() {
    let place = Place::new().await;
    let busy = place.subscription("opinions").await;
    let idle = place.subscription("orders").await;
    let other = place.subscription("rules").await;

    let changed = place.begun_run(&busy, minute(1), &[URL]).await;
    place.store(changed, URL, 'a', minute(2)).await;
    let unchanged = place.begun_run(&busy, minute(3), &[URL]).await;
    place.store(unchanged, URL, 'a', minute(4)).await;
    let active = place.run(&busy, minute(5)).await;
    let requested = place.lead().request_run(&request(&busy, "now"), minute(6)).await.unwrap().unwrap();
    place.catalog.fail_run(requested.run_id, "NotFound", "404", minute(7)).await.unwrap();
    // Skips are neither the last run nor the last schedule.
    let skipped = |reason, at| {
        let skip = Skip { reason, message: "why".to_owned() };
        DueRun { skip: Some(skip), ..due(&busy, at, RunBoth) }
    };
    place.fire(&[skipped("Suspended", minute(8)), skipped("Overlap", minute(9))], minute(9)).await.unwrap();
    let others_run = place.begun_run(&other, minute(9), &[URL]).await;
    place.store(others_run, URL, 'b', minute(9)).await;

    let mut summaries = place.catalog.summaries(&[other.id, idle.id, busy.id]).await.unwrap();
    summaries.sort_by_key(|summary| summary.subscription_id);
    let [first, second, third] = summaries.as_slice() else { panic!("{summaries:?}") };

    let last_run = first.last_run.as_ref().unwrap();
    assert_eq!(last_run, &place.ended(requested.run_id).await);
    assert_eq!((last_run.phase, last_run.reason.as_deref()), (RunPhase::Failed, Some("NotFound")));
    assert_eq!(first.subscription_id, busy.id);
    assert_eq!(first.last_schedule_time, Some(minute(5)));
    let (reason, message) = ("Overlap".to_owned(), Some("why".to_owned()));
    assert_eq!(first.last_skip, Some(SkippedDueTime { scheduled_for: minute(9), reason, message }));
    assert_eq!(first.last_change_time, Some(minute(2)));
    assert_eq!((first.active_runs, first.versions), (1, 1));
    assert_eq!(first.last_request.as_deref(), Some("now"));
    assert!(place.is_active(active).await);

    let idle = SubscriptionSummary { subscription_id: idle.id, ..SubscriptionSummary::default() };
    assert_eq!(second, &idle);

    assert_eq!(third.last_run, Some(place.ended(others_run).await));
    assert_eq!((third.last_change_time, &third.last_skip), (Some(minute(9)), &None));
    assert_eq!((third.active_runs, third.versions), (0, 1));
}

#[tokio::test]
async fn an_active_run_is_the_last_one_when_it_is_the_latest() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    let run = place.begun_run(&subscription, minute(1), &[URL]).await;
    let summaries = place.catalog.summaries(&[subscription.id]).await.unwrap();
    let last_run = summaries[0].last_run.as_ref().unwrap();
    assert_eq!((last_run.id, last_run.phase), (run, RunPhase::Running));
    assert_eq!((last_run.finished_at, last_run.changed), (None, None));
    assert_eq!(last_run.trace_id, run.simple().to_string());
    assert_eq!(summaries[0].last_schedule_time, Some(minute(1)));
}
