//! Deliveries: every version goes to every target that wants it, alone or in a digest, until it is taken or given up.

use events::{DeliveryRequest, Event, VersioningResult};
use jiff::{SignedDuration, Timestamp};
use store::catalog::{
    DeliveryAttempt, DeliveryOutcome, DeliveryWork, DigestSettings, Evidence, LateDeliveries,
    ScheduledSubscription, StoredDocument, WantedBy,
};
use uuid::Uuid;

use crate::place::{Place, URL, compare, document, fetched, minute};

const ALONE: WantedBy<'static> = WantedBy { target: "alone", digest: DigestSettings::None };
const WINDOW: WantedBy<'static> = WantedBy { target: "window", digest: DigestSettings::WindowMs(600_000) };
const RUN: WantedBy<'static> = WantedBy { target: "run", digest: DigestSettings::Run };

/// A version of a run that waits for these documents, of the first of them.
async fn version(place: &Place, run: Uuid, url: &str, digit: char, at: Timestamp) -> i64 {
    let StoredDocument::Fetched(artifact) =
        place.catalog.store_document(run, url, &document(Evidence::New(&fetched(digit))), at).await.unwrap()
    else {
        panic!("nothing to compare")
    };
    compare(&place.catalog, run, url, &artifact, &artifact.fetch_hash, at).await.unwrap().id
}

async fn next_version(place: &Place, subscription: &ScheduledSubscription, number: i64) -> i64 {
    let run = place.begun_run(subscription, minute(number), &[URL]).await;
    let digit = if number % 2 == 0 { 'a' } else { 'b' };
    version(place, run, URL, digit, minute(number)).await
}

fn deliveries(events: &[Event]) -> Vec<Uuid> {
    events.iter().map(|event| event.payload::<DeliveryRequest>().unwrap().delivery_id).collect()
}

/// Deliveries whose events wait in the outbox, and until when.
async fn waiting(place: &Place) -> Vec<(Uuid, Timestamp)> {
    let rows: Vec<(Vec<u8>, jiff_sqlx::Timestamp)> = sqlx::query_as(
        "select payload, available_at from outbox where topic = 'delivery.request' order by available_at, id",
    )
    .fetch_all(&place.sql)
    .await
    .unwrap();
    let delivery = |payload: &[u8]| serde_json::from_slice::<DeliveryRequest>(payload).unwrap().delivery_id;
    rows.iter().map(|(payload, at)| (delivery(payload), at.to_jiff())).collect()
}

async fn work(place: &Place, id: Uuid) -> DeliveryWork {
    place.catalog.delivery_work(id).await.unwrap().unwrap()
}

fn attempt(detail: &str, at: Timestamp) -> DeliveryAttempt<'_> {
    DeliveryAttempt {
        started_at: at,
        duration: SignedDuration::from_millis(12),
        status: Some(503),
        detail,
        reason: "HttpStatus",
    }
}

#[tokio::test]
async fn a_version_is_planned_once_and_what_is_due_is_told_again() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    let made = next_version(&place, &subscription, 1).await;
    assert!(!place.catalog.plan_work(made).await.unwrap().unwrap().is_planned);
    let due = deliveries(&place.catalog.plan_deliveries(made, &[ALONE, WINDOW], minute(2)).await.unwrap());
    assert_eq!(due.len(), 1);
    assert!(place.catalog.plan_work(made).await.unwrap().unwrap().is_planned);
    // The first answer was lost.
    let again = place.catalog.plan_deliveries(made, &[ALONE, WINDOW], minute(3)).await.unwrap();
    assert_eq!(deliveries(&again), due);
    assert_eq!(place.number("select count(*) from deliveries").await, 2);
    assert_eq!(place.number("select count(*) from delivery_versions").await, 2);
    let delivery = work(&place, due[0]).await;
    assert!(!delivery.is_finished && !delivery.is_collecting && !delivery.is_run_active);
    let versions = place.catalog.close_delivery(due[0]).await.unwrap();
    assert_eq!(versions.len(), 1);
    assert_eq!((versions[0].change.get(), versions[0].version.number), (r#"{"kind":"Baseline"}"#, 1));
    assert_eq!(versions[0].version.fetch_hash, "b".repeat(64));
    assert!(versions[0].previous.is_none());
    assert_eq!(place.catalog.delivery_work(Uuid::new_v4()).await.unwrap().map(|_| ()), None);
}

#[tokio::test]
async fn a_window_gathers_what_is_seen_until_it_ends_and_then_another_begins() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    for number in 1..=3 {
        let made = next_version(&place, &subscription, number).await;
        assert_eq!(place.catalog.plan_deliveries(made, &[WINDOW], minute(number)).await.unwrap(), []);
    }
    let first = waiting(&place).await;
    assert_eq!(first.iter().map(|(_, at)| *at).collect::<Vec<_>>(), [minute(11)]);
    let versions = place.catalog.close_delivery(first[0].0).await.unwrap();
    assert_eq!(versions.iter().map(|version| version.version.number).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(versions[2].previous.as_ref().unwrap().number, 2);
    let made = next_version(&place, &subscription, 12).await;
    place.catalog.plan_deliveries(made, &[WINDOW], minute(12)).await.unwrap();
    let both = waiting(&place).await;
    assert_eq!(both.iter().map(|(_, at)| *at).collect::<Vec<_>>(), [minute(11), minute(22)]);
    assert_ne!(both[0].0, both[1].0);
}

#[tokio::test]
async fn a_digest_of_a_run_waits_for_the_runs_end_and_for_all_of_its_versions() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    let other_url = "https://example.org/orders";
    let run = place.begun_run(&subscription, minute(1), &[URL, other_url]).await;
    let first = version(&place, run, URL, 'a', minute(1)).await;
    place.catalog.plan_deliveries(first, &[RUN], minute(1)).await.unwrap();
    let (id, at) = waiting(&place).await[0];
    assert!(at > minute(1));
    let delivery = work(&place, id).await;
    assert!(delivery.is_collecting && delivery.is_run_active, "the run goes on");
    place.catalog.put_off_delivery(&delivery, minute(2), minute(1)).await.unwrap();
    // The event comes twice, and is put off once.
    place.catalog.put_off_delivery(&delivery, minute(3), minute(1)).await.unwrap();
    assert_eq!(waiting(&place).await.len(), 2);
    assert_eq!(work(&place, id).await.due_at, minute(2));
    let second = version(&place, run, other_url, 'b', minute(2)).await;
    assert!(!place.is_active(run).await);
    assert!(work(&place, id).await.is_run_active, "a version of it is not planned");
    place.catalog.plan_deliveries(second, &[RUN], minute(2)).await.unwrap();
    assert!(!work(&place, id).await.is_run_active);
    assert_eq!(place.catalog.close_delivery(id).await.unwrap().len(), 2);
    assert!(!work(&place, id).await.is_collecting);
}

#[tokio::test]
async fn a_digest_that_is_full_goes_at_once() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    let made = next_version(&place, &subscription, 1).await;
    place.catalog.plan_deliveries(made, &[WINDOW], minute(1)).await.unwrap();
    let full = waiting(&place).await[0].0;
    place.execute("update deliveries set changes = 100").await;
    let made = next_version(&place, &subscription, 2).await;
    let due = place.catalog.plan_deliveries(made, &[WINDOW], minute(2)).await.unwrap();
    assert_eq!(deliveries(&due), [full]);
    assert!(!work(&place, full).await.is_collecting);
    assert_eq!(work(&place, full).await.due_at, minute(2));
    assert_eq!(place.number("select count(*) from deliveries where phase = 'Collecting'").await, 1);
}

#[tokio::test]
async fn an_attempt_is_kept_and_a_further_one_waits_until_the_target_has_it_or_it_is_given_up() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    let made = next_version(&place, &subscription, 1).await;
    let due = place.catalog.plan_deliveries(made, &[ALONE], minute(1)).await.unwrap();
    let id = deliveries(&due)[0];
    let first = work(&place, id).await;
    let retry = DeliveryOutcome::Retry(minute(5));
    let failed = attempt("busy", minute(1));
    place.catalog.record_attempt(&first, &failed, retry, minute(1)).await.unwrap();
    // The same event, handled twice at the same time, is one attempt.
    place.catalog.record_attempt(&first, &failed, retry, minute(1)).await.unwrap();
    assert_eq!(waiting(&place).await, [(id, minute(5))]);
    let second = work(&place, id).await;
    assert_eq!((second.attempts, second.due_at, second.is_finished), (1, minute(5), false));
    let state = "select concat_ws(' ', failing_reason, failing_message, failing_since, next_attempt_at, last_delivered_at)
        from targets where subscription_id = $1";
    assert_eq!(
        place.text_of(state, subscription.id).await,
        "HttpStatus busy 2026-03-09 12:01:00+00 2026-03-09 12:05:00+00"
    );
    place
        .catalog
        .record_attempt(&second, &attempt("ok", minute(5)), DeliveryOutcome::Delivered, minute(6))
        .await
        .unwrap();
    assert!(work(&place, id).await.is_finished);
    assert_eq!(place.text_of(state, subscription.id).await, "2026-03-09 12:06:00+00");
    assert_eq!(place.number("select count(*) from delivery_attempts").await, 2);

    // One that says it is gone is known by its settings.
    let made = next_version(&place, &subscription, 8).await;
    let due = place.catalog.plan_deliveries(made, &[ALONE], minute(7)).await.unwrap();
    let gone = work(&place, deliveries(&due)[0]).await;
    assert_eq!(gone.gone_settings, None);
    let outcome = DeliveryOutcome::TargetGone("settings");
    place.catalog.record_attempt(&gone, &attempt("gone", minute(7)), outcome, minute(7)).await.unwrap();
    let gone = work(&place, gone.id).await;
    assert_eq!((gone.is_finished, gone.gone_settings.as_deref()), (true, Some("settings")));
    let phases =
        "select string_agg(phase, ' ' order by created_at) from deliveries where subscription_id = $1";
    assert_eq!(place.text_of(phases, subscription.id).await, "Delivered GivenUp");
}

#[tokio::test]
async fn what_was_lost_on_its_way_is_asked_for_again() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    let late = SignedDuration::from_mins(10);
    let made = next_version(&place, &subscription, 1).await;
    place.execute("delete from outbox").await;
    let mend = async |number| place.lead().mend_late_deliveries(late, minute(number)).await.unwrap();
    assert_eq!(mend(10).await, LateDeliveries::default());
    assert_eq!(mend(11).await, LateDeliveries { versions: 1, deliveries: 0 });
    assert_eq!(mend(12).await, LateDeliveries::default(), "it was asked for a minute ago");
    let batch = place.catalog.take_outbox(10, minute(12)).await.unwrap();
    let event = Event::from_record(&batch.records[0]).unwrap();
    assert_eq!(event.payload::<VersioningResult>().unwrap().version_id, made);
    batch.commit().await.unwrap();

    place.catalog.plan_deliveries(made, &[ALONE, WINDOW], minute(12)).await.unwrap();
    assert_eq!(mend(21).await, LateDeliveries::default());
    // Of the one that waits the event waits in the outbox.
    assert_eq!(mend(22).await, LateDeliveries { versions: 0, deliveries: 1 });
    assert_eq!(mend(23).await, LateDeliveries::default());
}

#[tokio::test]
async fn events_of_deliveries_do_not_make_their_run_look_alive() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    let made = next_version(&place, &subscription, 1).await;
    place.catalog.plan_deliveries(made, &[WINDOW], minute(2)).await.unwrap();
    assert_eq!(waiting(&place).await.len(), 1);
    assert_eq!(
        place
            .number("select count(*) from outbox where topic = 'delivery.request' and run_id is not null")
            .await,
        0
    );
}

#[tokio::test]
async fn a_target_that_fails_is_known_to_be_tried_later() {
    let place = Place::new().await;
    let subscription = place.subscription("opinions").await;
    let first = next_version(&place, &subscription, 1).await;
    let due = place.catalog.plan_deliveries(first, &[ALONE], minute(1)).await.unwrap();
    let failing = work(&place, deliveries(&due)[0]).await;
    let failed = attempt("busy", minute(1));
    place
        .catalog
        .record_attempt(&failing, &failed, DeliveryOutcome::Retry(minute(9)), minute(1))
        .await
        .unwrap();
    let second = next_version(&place, &subscription, 2).await;
    let due = place.catalog.plan_deliveries(second, &[ALONE], minute(2)).await.unwrap();
    let other = work(&place, deliveries(&due)[0]).await;
    assert_eq!((other.attempts, other.target_tried_at), (0, Some(minute(9))));
}
