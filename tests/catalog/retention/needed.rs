//! What is needed stays, whatever the retention says.

use jiff::{SignedDuration, Timestamp};
use store::catalog::{
    DeliveredVersion, DeliveryAttempt, DeliveryOutcome, DigestSettings, Evidence, FetchedDocument, Findings,
    Removed, RequestedRun, Skip, StoredDocument, Trigger, WantedBy, WhenActive,
};
use uuid::Uuid;

use super::{
    DAY, bodies_to_delete, clear, fail, newest, numbers, publish, rows, see, see_unplanned, subscription,
    younger_than,
};
use crate::place::{
    OTHER_URL, Place, URL, compare, document, due, fetched, minute, request, subscription_record,
};

/// The hook takes the delivery that waits.
async fn deliver(place: &Place, now: Timestamp) -> Vec<DeliveredVersion> {
    let delivery: Uuid = sqlx::query_scalar("select id from deliveries").fetch_one(&place.sql).await.unwrap();
    let carried = place.catalog.close_delivery(delivery).await.unwrap();
    let work = place.catalog.delivery_work(delivery).await.unwrap().unwrap();
    let attempt = DeliveryAttempt {
        started_at: now,
        duration: SignedDuration::from_secs(1),
        status: Some(200),
        detail: "",
        reason: "Delivered",
    };
    place.catalog.record_attempt(&work, &attempt, DeliveryOutcome::Delivered, now).await.unwrap();
    publish(place).await;
    carried
}

#[tokio::test]
async fn a_run_under_way_stays_however_old_it_is() {
    let place = Place::new().await;
    let subscription = subscription(&place, "opinions", Some(younger_than(DAY))).await;
    let run = place.begun_run(&subscription, minute(1), &[OTHER_URL]).await;
    publish(&place).await;
    for (number, digit) in (2..).zip("ab".chars()) {
        see(&place, &subscription, number, digit).await.unwrap();
    }
    assert_eq!(clear(&place, minute(0) + 40 * DAY).await.runs, 1);
    assert!(place.is_active(run).await);
}

/// Bytes that differ from each other, and whose text does not.
#[tokio::test]
async fn what_the_next_fetch_is_compared_with_stays() {
    let place = Place::new().await;
    let subscription = subscription(&place, "opinions", Some(younger_than(DAY))).await;
    for (number, digit) in (1..).zip("abbb".chars()) {
        let run = place.begun_run(&subscription, minute(number), &[URL]).await;
        publish(&place).await;
        let evidence = fetched(digit);
        let fetched = document(Evidence::New(&evidence));
        let stored = place.catalog.store_document(run, URL, &fetched, minute(number)).await.unwrap();
        if let StoredDocument::Fetched(artifact) = stored {
            let made = compare(&place.catalog, run, URL, &artifact, "the same", minute(number)).await;
            assert_eq!(made.is_some(), number == 1);
            if let Some(version) = made {
                place.catalog.plan_deliveries(version.id, &[], minute(number)).await.unwrap();
            }
        }
    }
    // The version, the text that was last looked at, and the last fetch.
    assert_eq!(clear(&place, minute(0) + 40 * DAY).await.runs, 1);
    assert_eq!(rows(&place).await, [3, 3, 3, 2]);
    assert_eq!(see(&place, &subscription, 5, 'b').await, None);
    assert_eq!(bodies_to_delete(&place).await, "");
}

/// What it says of its documents is compared with what they said when it was last read.
#[tokio::test]
async fn the_list_that_was_last_read_stays_though_others_have_read_it_since() {
    let place = Place::new().await;
    let source = place.source("court").await;
    let mut few = subscription_record("few", source);
    few.settings.retention = Some(younger_than(DAY));
    let few = place.catalog.put_subscription(&few, minute(0)).await.unwrap().scheduled;
    let all = subscription_record("all", source);
    let all = place.catalog.put_subscription(&all, minute(0)).await.unwrap().scheduled;
    let read = async |subscription, number| {
        let run = place.begun_run(subscription, minute(number), &[URL]).await;
        publish(&place).await;
        let evidence = fetched('a');
        let findings = Findings { limit: 5, ..Findings::default() };
        let list = FetchedDocument { findings: Some(&findings), ..document(Evidence::New(&evidence)) };
        place.catalog.store_document(run, URL, &list, minute(number)).await.unwrap();
        place.ended(run).await;
    };
    for number in 1..4 {
        read(&few, number).await;
    }
    see_unplanned(&place, &few, 4, OTHER_URL, 'b').await.unwrap();
    read(&all, 5).await;
    // The first that read it stays, and the last.
    assert_eq!(clear(&place, minute(0) + 40 * DAY).await.runs, 1);
    let stay = "select count(*) from documents where url = 'https://example.org/opinions'";
    assert_eq!(place.number(stay).await, 3);
}

#[tokio::test]
async fn what_an_open_delivery_needs_stays_until_it_is_finished() {
    let place = Place::new().await;
    let subscription = subscription(&place, "opinions", Some(newest(1))).await;
    see(&place, &subscription, 1, 'a').await.unwrap();
    see(&place, &subscription, 2, 'b').await.unwrap();
    let sent = see_unplanned(&place, &subscription, 3, URL, 'c').await.unwrap();
    see(&place, &subscription, 4, 'd').await.unwrap();
    let now = minute(0) + DAY;
    // Nobody has looked for its targets yet: it is needed, and the one that it was compared with.
    clear(&place, now).await;
    assert_eq!(numbers(&place).await, [2, 3, 4]);
    let wanted = WantedBy { target: "hook", digest: DigestSettings::None };
    place.catalog.plan_deliveries(sent, &[wanted], now).await.unwrap();
    clear(&place, now).await;
    assert_eq!(numbers(&place).await, [2, 3, 4]);

    let carried = deliver(&place, now).await;
    assert_eq!(carried[0].previous.as_ref().unwrap().number, 2);
    let removed = clear(&place, now).await;
    assert_eq!((removed.versions, removed.deliveries, removed.runs), (2, 1, 2));
    assert_eq!(numbers(&place).await, [4]);
    assert_eq!(place.number("select count(*) from delivery_attempts").await, 0);
}

#[tokio::test]
async fn a_delivery_stays_with_its_attempts_as_long_as_one_of_its_versions_does() {
    let place = Place::new().await;
    let subscription = subscription(&place, "opinions", Some(newest(1))).await;
    let hourly = WantedBy { target: "hook", digest: DigestSettings::WindowMs(3_600_000) };
    for (number, digit) in (1..).zip("abc".chars()) {
        let version = see_unplanned(&place, &subscription, number, URL, digit).await.unwrap();
        place.catalog.plan_deliveries(version, &[hourly], minute(number)).await.unwrap();
    }
    let now = minute(0) + DAY;
    assert_eq!(clear(&place, now).await, Removed::default());
    assert_eq!(deliver(&place, now).await.len(), 3);
    let removed = clear(&place, now).await;
    // The first run stays: the delivery was begun by it.
    assert_eq!((removed.versions, removed.deliveries, removed.runs), (2, 0, 1));
    assert_eq!(place.number("select count(*) from delivery_attempts").await, 1);
    let version = see(&place, &subscription, 4, 'd').await;
    assert!(version.is_some());
    let removed = clear(&place, now + DAY).await;
    assert_eq!((removed.versions, removed.deliveries, removed.runs), (1, 1, 2));
    assert_eq!(place.number("select count(*) from delivery_attempts").await, 0);
}

/// One that a list names no more is made by a run that did not fetch it.
#[tokio::test]
async fn the_run_that_made_a_version_stays_without_having_fetched_it() {
    let place = Place::new().await;
    let subscription = subscription(&place, "opinions", Some(younger_than(DAY))).await;
    for number in 1..5 {
        see(&place, &subscription, number, 'a').await;
    }
    place
        .execute("update versions set run_id = (select id from runs order by scheduled_for offset 1 limit 1)")
        .await;
    // The first run has the text, the second the version, the last the last fetch.
    assert_eq!(clear(&place, minute(0) + 40 * DAY).await.runs, 1);
    assert_eq!(rows(&place).await, [3, 3, 3, 1]);
}

#[tokio::test]
async fn a_due_time_that_may_be_looked_at_again_keeps_its_run() {
    let place = Place::new().await;
    let subscription = subscription(&place, "opinions", Some(newest(1))).await;
    for (number, digit) in (1..).zip("abc".chars()) {
        see(&place, &subscription, number, digit).await.unwrap();
    }
    // The clock was ahead.
    sqlx::query("update subscriptions set scheduled_through = $1")
        .bind(jiff_sqlx::ToSqlx::to_sqlx(minute(1)))
        .execute(&place.sql)
        .await
        .unwrap();
    assert_eq!(clear(&place, minute(0) + DAY).await.runs, 1);
    assert_eq!(rows(&place).await[0], 2);
}

#[tokio::test]
async fn what_a_status_shows_of_runs_and_what_lists_need_stays() {
    let place = Place::new().await;
    let subscription = subscription(&place, "opinions", Some(younger_than(DAY))).await;
    let mut skipped = due(&subscription, minute(1), WhenActive::RunBoth);
    skipped.skip = Some(Skip { reason: "Suspended", message: "spec.suspend is true".to_owned() });
    place.fire(&[skipped], minute(1)).await.unwrap();
    see(&place, &subscription, 2, 'a').await.unwrap();
    let list = see(&place, &subscription, 3, 'b').await.unwrap();
    see(&place, &subscription, 4, 'a').await.unwrap();
    for number in 5..9 {
        assert_eq!(see(&place, &subscription, number, 'a').await, None);
    }
    // A document that runs do not ask for any more.
    see_unplanned(&place, &subscription, 9, OTHER_URL, 'c').await.unwrap();
    see(&place, &subscription, 10, 'a').await;
    // Of which nothing else is needed: the last that has changed something, the last that was due, and the last.
    let changed = place.begun_run(&subscription, minute(11), &[URL]).await;
    fail(&place, changed, 11).await;
    sqlx::query("update runs set changed = true where id = $1")
        .bind(changed)
        .execute(&place.sql)
        .await
        .unwrap();
    fail(&place, place.begun_run(&subscription, minute(12), &[URL]).await, 12).await;
    let requested = place.lead().request_run(&request(&subscription, "now"), minute(13)).await;
    let requested = requested.unwrap().unwrap().run_id;
    place.catalog.begin_run(requested, &[URL.to_owned()], minute(13)).await.unwrap();
    fail(&place, requested, 13).await;
    sqlx::query(
        "update subscriptions set list_read_by = (select run_id from versions where id = $1) where id = $2",
    )
    .bind(list)
    .bind(subscription.id)
    .execute(&place.sql)
    .await
    .unwrap();
    let before = place.catalog.summaries(&[subscription.id]).await.unwrap();
    clear(&place, minute(0) + 40 * DAY).await;
    let mut after = place.catalog.summaries(&[subscription.id]).await.unwrap();
    assert_eq!(after[0].versions, 2);
    after[0].versions = before[0].versions;
    assert_eq!(after, before);
    assert_eq!(
        place.number("select count(*) from subscriptions s join runs r on r.id = s.list_read_by").await,
        1
    );
    // The skip, the run that read the list, the newest versions' own, the last fetch and those that failed: four quiet ones and
    // the first are gone.
    assert_eq!(rows(&place).await[0], 8);
    // The due times of before do not come back.
    assert_eq!(
        place.fire(&[due(&subscription, minute(2), WhenActive::RunBoth)], minute(14)).await.unwrap(),
        []
    );
}

#[tokio::test]
async fn a_run_with_an_event_that_waits_stays_until_it_is_published() {
    let place = Place::new().await;
    let subscription = subscription(&place, "opinions", Some(newest(1))).await;
    for (number, digit) in (1..).zip("abc".chars()) {
        see(&place, &subscription, number, digit).await.unwrap();
    }
    place
        .execute(
            "insert into outbox (topic, key, headers, payload, available_at, run_id)
             select 'crawl.request', 'example.org', '[]', '', now(), id from runs order by scheduled_for limit 1",
        )
        .await;
    let now = minute(0) + DAY;
    let removed = clear(&place, now).await;
    assert_eq!((removed.versions, removed.runs), (2, 1));
    publish(&place).await;
    assert_eq!(clear(&place, now).await.runs, 1);
}

#[tokio::test]
async fn nothing_goes_while_stored_documents_are_worked_on_again() {
    let place = Place::new().await;
    let subscription = subscription(&place, "opinions", Some(newest(1))).await;
    for (number, digit) in (1..).zip("abc".chars()) {
        see(&place, &subscription, number, digit).await.unwrap();
    }
    let backfill = RequestedRun { trigger: Trigger::Backfill, ..request(&subscription, "all-again") };
    let run = place.lead().request_run(&backfill, minute(5)).await.unwrap().unwrap().run_id;
    assert_eq!(clear(&place, minute(0) + DAY).await, Removed::default());
    sqlx::query("update runs set phase = 'Failed', finished_at = $2 where id = $1")
        .bind(run)
        .bind(jiff_sqlx::ToSqlx::to_sqlx(minute(6)))
        .execute(&place.sql)
        .await
        .unwrap();
    publish(&place).await;
    assert_eq!(clear(&place, minute(0) + DAY).await.versions, 2);
}
