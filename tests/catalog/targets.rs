//! How targets take what is sent to them, as the statuses of subscriptions show it.

use jiff::SignedDuration;
use store::catalog::{
    DigestSettings, SubscriptionRecord, TargetFailing, TargetHealth, TargetPlace, TargetSettings,
};

use crate::place::{NOON, Place, minute, subscription_record};

fn webhook(name: &str, url: &str) -> TargetSettings {
    TargetSettings {
        name: name.to_owned(),
        place: TargetPlace::Webhook { url: url.to_owned(), secret: None, previous_secret: None },
        kinds: Vec::new(),
        matches: None,
        digest: DigestSettings::None,
    }
}

/// A subscription that names these targets, and its id.
async fn subscription(place: &Place, name: &str, targets: &[&str]) -> (SubscriptionRecord, i64) {
    let mut record = subscription_record(name, place.source(name).await);
    record.settings.targets = targets.iter().map(|target| webhook(target, "https://example.org/")).collect();
    let row = place.catalog.put_subscription(&record, NOON).await.unwrap();
    (record, row.scheduled.id)
}

/// What a worker writes of a target that took something.
async fn delivered(place: &Place, subscription: i64, name: &str) {
    sqlx::query(
        "insert into targets (subscription_id, name, last_delivered_at, written_at)
         values ($1, $2, timestamptz '2026-03-09 12:01Z', clock_timestamp())
         on conflict (subscription_id, name) do update set written_at = clock_timestamp()",
    )
    .bind(subscription)
    .bind(name)
    .execute(&place.sql)
    .await
    .unwrap();
}

/// What it writes of one that did not.
async fn failed(place: &Place, subscription: i64, name: &str, reason: &str, gone: Option<&TargetSettings>) {
    sqlx::query(
        "insert into targets (subscription_id, name, gone_settings, failing_since, failing_reason, failing_message,
             next_attempt_at, written_at)
         values ($1, $2, $3, timestamptz '2026-03-09 12:02Z', $4, 'why', timestamptz '2026-03-09 12:03Z',
             clock_timestamp())",
    )
    .bind(subscription)
    .bind(name)
    .bind(gone.map(|settings| serde_json::to_string(settings).unwrap()))
    .bind(reason)
    .execute(&place.sql)
    .await
    .unwrap();
}

fn failing(reason: &str, is_gone: bool) -> Option<TargetFailing> {
    Some(TargetFailing {
        since: minute(2),
        reason: reason.to_owned(),
        message: "why".to_owned(),
        next_attempt_at: Some(minute(3)),
        is_gone,
    })
}

#[tokio::test]
async fn only_targets_that_the_settings_name_and_that_were_used_are_shown() {
    let place = Place::new().await;
    let (mut record, id) = subscription(&place, "opinions", &["unused", "takes", "fails", "removed"]).await;
    let (_, other) = subscription(&place, "orders", &["takes"]).await;
    let (_, without) = subscription(&place, "rules", &[]).await;
    delivered(&place, id, "takes").await;
    failed(&place, id, "fails", "HttpStatus", None).await;
    failed(&place, id, "removed", "Timeout", None).await;
    failed(&place, other, "takes", "Timeout", None).await;
    record.generation = 2;
    record.settings.targets.pop();
    place.catalog.put_subscription(&record, minute(5)).await.unwrap();
    let health = |subscription_id, name: &str, failing| TargetHealth {
        subscription_id,
        name: name.to_owned(),
        failing,
    };
    let shown = place.catalog.targets_of(&[id, other, without, 404]).await.unwrap();
    let expected = [
        health(id, "fails", failing("HttpStatus", false)),
        health(id, "takes", None),
        health(other, "takes", failing("Timeout", false)),
    ];
    assert_eq!(shown, expected);
    assert_eq!(place.catalog.targets_of(&[id]).await.unwrap(), expected[..2]);
    assert_eq!(place.catalog.targets_of(&[]).await.unwrap(), []);
    // Settings of an older release name no targets.
    place.execute("update subscriptions set settings = settings - 'targets'").await;
    assert_eq!(place.catalog.targets_of(&[id, other]).await.unwrap(), []);
}

#[tokio::test]
async fn a_target_is_gone_until_its_settings_change() {
    let place = Place::new().await;
    let (mut record, id) = subscription(&place, "opinions", &["clerks", "other"]).await;
    failed(&place, id, "clerks", "TargetGone", Some(&record.settings.targets[0])).await;
    let shown = async || place.catalog.targets_of(&[id]).await.unwrap().remove(0).failing;
    assert_eq!(shown().await, failing("TargetGone", true));
    record.generation = 2;
    record.settings.targets[1].matches = Some("x".to_owned());
    place.catalog.put_subscription(&record, minute(5)).await.unwrap();
    assert_eq!(shown().await, failing("TargetGone", true), "the other one's settings changed");
    record.generation = 3;
    record.settings.targets[0] = webhook("clerks", "https://example.org/new");
    place.catalog.put_subscription(&record, minute(6)).await.unwrap();
    assert_eq!(shown().await, failing("TargetGone", false), "whether it takes the next one is not known yet");
}

#[tokio::test]
async fn news_of_a_target_are_told_whatever_order_transactions_end_in() {
    let place = Place::new().await;
    let (_, id) = subscription(&place, "opinions", &["early", "late", "silent"]).await;
    let told = async |last_read| {
        let (read_at, news) = place.catalog.target_news(last_read).await.unwrap();
        assert!(news.iter().all(|news| news.subscription_id == id));
        (read_at, news.into_iter().map(|news| news.name).collect::<Vec<_>>())
    };
    delivered(&place, id, "late").await;
    place.execute("update targets set written_at = written_at - interval '1 hour'").await;
    let (start, news) = told(None).await;
    assert_eq!(news, [""; 0]);

    // One who writes first and commits last.
    let mut slow = place.sql.begin().await.unwrap();
    sqlx::query("update targets set written_at = clock_timestamp() where name = 'late'")
        .execute(&mut *slow)
        .await
        .unwrap();
    delivered(&place, id, "early").await;
    let (read_at, news) = told(Some(start)).await;
    assert_eq!(news, ["early"]);
    assert!(read_at > start);
    slow.commit().await.unwrap();
    let (read_at, news) = told(Some(read_at)).await;
    assert_eq!(news, ["late", "early"], "what was told already is told again, in the order of writing");

    // What is older than any transaction that has not ended is not told any more.
    place
        .execute("update targets set written_at = written_at - interval '31 seconds' where name = 'early'")
        .await;
    assert_eq!(told(Some(read_at)).await.1, ["late"]);
    assert_eq!(told(Some(start - SignedDuration::from_mins(1))).await.1, ["early", "late"]);
}
