//! Deliveries whose events cannot be handled, or come to a machine whose clock differs.

use events::{Bus as _, DeliveryRequest, Event, Payload, VersioningResult};
use jiff::{SignedDuration, Timestamp};
use tests::eventually;
use uuid::Uuid;

use crate::{
    catalog_place::SOON,
    place::{HTML, Roles, webhook},
};

/// A version that two targets want, and the event that tells of it.
async fn made(roles: &mut Roles) -> VersioningResult {
    let hooks = ["/hook/one", "/hook/other"].map(|path| roles.site.at(path));
    roles
        .change(|record| {
            record.settings.targets = vec![webhook("one", &hooks[0]), webhook("other", &hooks[1])];
        })
        .await;
    roles.site.put("/page", HTML, "<p>affirmed");
    let (_, event) = roles.due().await;
    roles.see_through(event).await.remove(0)
}

fn told(made: &VersioningResult) -> Event {
    Event::of_run(made.run_id, "/test", Timestamp::now(), made).unwrap()
}

/// Deliveries by target: how far each is, after how many attempts, and what was last wrong with it.
async fn deliveries(roles: &Roles) -> Vec<(String, String, i32, Option<String>)> {
    sqlx::query_as("select target, phase, attempts, last_error from deliveries order by target")
        .fetch_all(&roles.place.sql)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_whose_targets_cannot_be_found_goes_to_all_and_a_delivery_that_cannot_be_written_is_given_up()
 {
    let mut roles = Roles::new(None).await;
    let made = made(&mut roles).await;
    // What no program reads: the work of an older release, or of somebody's hand.
    roles.place.execute("update versions set change = '{\"kind\": \"unheard of\"}'").await;
    let _working = roles.work();
    publish(&roles, &told(&made)).await;
    let due = eventually("a delivery for each target", SOON, async || {
        let due = roles.outbox().await;
        if due.len() == 2 { Ok(due) } else { Err(due.len()) }
    })
    .await;
    let pending = |target: &str| (target.to_owned(), "Pending".to_owned(), 0, None);
    assert_eq!(deliveries(&roles).await, [pending("one"), pending("other")]);

    for event in &due {
        assert_eq!(event.topic, DeliveryRequest::TOPIC);
        publish(&roles, event).await;
    }
    let given_up = eventually("deliveries that are given up", SOON, async || {
        let deliveries = deliveries(&roles).await;
        if deliveries.iter().all(|(_, phase, ..)| phase == "GivenUp") {
            Ok(deliveries)
        } else {
            Err(deliveries)
        }
    })
    .await;
    assert_eq!(given_up.len(), 2);
    for (target, _, attempts, error) in given_up {
        assert_eq!(attempts, 0, "{target}: nothing was sent");
        assert!(error.as_deref().unwrap().contains("CatalogUnavailable: "), "{error:?}");
    }
    // Whoever is told of it or not, the version stands.
    let run = roles.place.ended(made.run_id).await;
    assert_eq!((run.phase.name(), run.reason.as_deref()), ("Succeeded", Some("Changed")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_a_delivery_that_cannot_be_read_is_a_dead_letter_and_fails_nothing() {
    let mut roles = Roles::new(None).await;
    let made = made(&mut roles).await;
    let mut record = told(&made).to_record();
    record.payload = b"{}".to_vec();
    let _working = roles.work();
    roles.bus.publish(&[record]).await.unwrap();
    eventually("a dead letter", SOON, async || {
        let letters = roles.bus.records("versioning.result.dlq").len();
        if letters == 1 { Ok(()) } else { Err(letters) }
    })
    .await;
    // The version waits for its targets to be found: whoever leads asks again.
    assert_eq!(deliveries(&roles).await, []);
    assert_eq!(roles.place.number("select count(*) from versions where planned_at is null").await, 1);
    assert_eq!(roles.place.ended(made.run_id).await.phase.name(), "Succeeded");
}

async fn publish(roles: &Roles, event: &Event) {
    roles.bus.publish(&[event.to_record()]).await.unwrap();
}

#[tokio::test]
async fn a_delivery_is_made_by_clocks_that_differ_a_little_and_waits_for_those_that_are_behind() {
    let mut roles = Roles::new(None).await;
    let made = made(&mut roles).await;
    let planned = roles.handle(&told(&made)).await.unwrap();
    assert_eq!(planned.len(), 2);
    let due_at: jiff_sqlx::Timestamp = sqlx::query_scalar("select due_at from deliveries limit 1")
        .fetch_one(&roles.place.sql)
        .await
        .unwrap();
    let due_at = due_at.to_jiff();
    let before = roles.site.requests();
    let sent = |roles: &Roles| roles.site.requests() - before;

    // Two minutes behind: as far off as the event of a delivery that was put off since. The leader asks again.
    roles.clock.set(due_at - SignedDuration::from_mins(2));
    assert_eq!(roles.handle(&planned[0]).await.unwrap(), []);
    assert_eq!((sent(&roles), waiting(&roles).await.len()), (0, 0));

    // Ten seconds behind: it waits for its time.
    roles.clock.set(due_at - SignedDuration::from_secs(10));
    assert_eq!(roles.handle(&planned[0]).await.unwrap(), []);
    let DeliveryRequest { delivery_id, .. } = planned[0].payload().unwrap();
    assert_eq!((sent(&roles), waiting(&roles).await), (0, vec![(delivery_id, due_at)]));

    // A second behind: that is no reason to wait.
    roles.clock.set(due_at - SignedDuration::from_secs(1));
    assert_eq!(roles.handle(&planned[0]).await.unwrap(), []);
    assert_eq!(sent(&roles), 1);
    let (_, phase, attempts, _) = deliveries(&roles).await.remove(0);
    assert_eq!((phase.as_str(), attempts), ("Delivered", 1));

    // An hour ahead.
    roles.clock.set(due_at + SignedDuration::from_hours(1));
    assert_eq!(roles.handle(&planned[1]).await.unwrap(), []);
    assert_eq!(sent(&roles), 2);
    // What waited comes after all, and there is nothing more to do.
    assert_eq!(roles.handle(&planned[0]).await.unwrap(), []);
    assert_eq!(sent(&roles), 2);
}

/// Deliveries whose events wait in the outbox, and until when.
async fn waiting(roles: &Roles) -> Vec<(Uuid, Timestamp)> {
    let rows: Vec<(Vec<u8>, jiff_sqlx::Timestamp)> =
        sqlx::query_as("select payload, available_at from outbox where topic = 'delivery.request'")
            .fetch_all(&roles.place.sql)
            .await
            .unwrap();
    let delivery = |payload: &[u8]| serde_json::from_slice::<DeliveryRequest>(payload).unwrap().delivery_id;
    rows.iter().map(|(payload, at)| (delivery(payload), at.to_jiff())).collect()
}
