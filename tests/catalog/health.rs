use std::time::Duration;

use events::run_reasons;
use jiff::{SignedDuration, Timestamp};
use store::catalog::{
    Evidence, NewArtifact, ScheduledSubscription, SourceFailing, SourceFigures, SourceHealth, SourceRecord,
};
use uuid::Uuid;

use crate::place::{
    NOON, OTHER_URL, Place, URL, document, fetched, minute, see_through, source_record, subscription_record,
};

/// A source with two subscriptions.
struct Watched {
    place: Place,
    source: SourceRecord,
    id: i64,
    one: ScheduledSubscription,
    other: ScheduledSubscription,
}

impl Watched {
    async fn new() -> Self {
        let place = Place::new().await;
        let source = source_record("court");
        let id = place.catalog.put_source(&source, NOON).await.unwrap().id;
        let mut subscriptions = Vec::new();
        for name in ["one", "other"] {
            let record = subscription_record(name, id);
            subscriptions.push(place.catalog.put_subscription(&record, NOON).await.unwrap().scheduled);
        }
        let other = subscriptions.remove(1);
        Self { place, source, id, one: subscriptions.remove(0), other }
    }

    async fn health(&self) -> SourceHealth {
        self.place.catalog.source_health(self.source.key.uid).await.unwrap().unwrap()
    }

    /// Fetches documents in a run, all with one digit, at one time.
    async fn fetch(&self, subscription: &ScheduledSubscription, urls: &[&str], digit: char, at: i64) {
        let run = self.place.begun_run(subscription, minute(at), urls).await;
        for url in urls {
            let evidence = NewArtifact { fetched_at: minute(at), ..fetched(digit) };
            // Stored a while after it was fetched.
            see_through(&self.place.catalog, run, url, &evidence, minute(at + 1)).await;
        }
    }

    /// Fails the document of a new run for good.
    async fn fail(&self, reason: &str, at: i64) {
        let run = self.place.begun_run(&self.one, minute(at), &[URL]).await;
        self.place.catalog.fail_document(run, URL, reason, "it failed", minute(at)).await.unwrap();
    }

    /// Until when a run that is made at a time would be held back, in minutes after noon.
    async fn held_back_until(&self, at: i64) -> Option<i64> {
        let run = self.place.run(&self.other, minute(at)).await;
        let until = self.place.catalog.run_plan(run).await.unwrap().unwrap().held_back_until;
        until.map(|until| until.duration_since(NOON).as_mins())
    }
}

fn times(health: &SourceHealth) -> (Option<Timestamp>, Option<Timestamp>) {
    (health.last_fetch_at, health.last_change_at)
}

#[tokio::test]
async fn a_source_fails_since_its_first_failure_and_until_it_answers() {
    let watched = Watched::new().await;
    let place = &watched.place;
    let new = SourceHealth {
        failing: None,
        last_fetch_at: None,
        last_change_at: None,
        watched_since: NOON,
        cadence: None,
        is_suspended: false,
    };
    assert_eq!(watched.health().await, new);
    assert_eq!(place.catalog.source_health(Uuid::new_v4()).await.unwrap(), None);

    let run = place.begun_run(&watched.one, minute(1), &[URL]).await;
    let setback = place.catalog.note_setback(run, URL, "Timeout", "no answer", minute(2), minute(1));
    setback.await.unwrap();
    let failing = |reason: &str, message: &str, next_try| SourceFailing {
        since: minute(1),
        reason: reason.to_owned(),
        message: message.to_owned(),
        next_try_at: Some(minute(next_try)),
    };
    assert_eq!(watched.health().await.failing, Some(failing("Timeout", "no answer", 2)));
    assert_eq!(watched.held_back_until(2).await, None, "within the run it is tried again");
    place.catalog.fail_document(run, URL, "HttpStatus", "503", minute(3)).await.unwrap();
    assert_eq!(watched.health().await.failing, Some(failing("HttpStatus", "503", 4)));

    // Twice as long each time, an hour at most; what is not the site's fault does not count.
    watched.fail(run_reasons::BLOB_NOT_STORED, 4).await;
    let mut waits = Vec::new();
    for number in 1..=7 {
        watched.fail("HttpStatus", 10 * number).await;
        waits.push(watched.held_back_until(10 * number + 1).await.unwrap() - 10 * number);
    }
    assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60]);
    assert_eq!(watched.health().await.failing, Some(failing("HttpStatus", "it failed", 130)));

    watched.fetch(&watched.one, &[URL], 'a', 80).await;
    let answers = SourceHealth { last_fetch_at: Some(minute(80)), last_change_at: Some(minute(80)), ..new };
    assert_eq!(watched.health().await, answers);
    assert_eq!(watched.held_back_until(82).await, None);
    watched.fail("HttpStatus", 90).await;
    assert_eq!(watched.held_back_until(91).await, Some(91), "the next failure is a first one");
}

#[tokio::test]
async fn only_the_document_of_the_base_url_shows_that_a_source_answers() {
    let watched = Watched::new().await;
    watched.fail("Timeout", 1).await;
    let run = watched.place.begun_run(&watched.one, minute(2), &[URL]).await;
    sqlx::query("insert into documents (run_id, subscription_id, url, phase, is_base) values ($1, $2, $3, 'Pending', false)")
        .bind(run)
        .bind(watched.one.id)
        .bind(OTHER_URL)
        .execute(&watched.place.sql)
        .await
        .unwrap();
    let evidence = NewArtifact { fetched_at: minute(3), ..fetched('a') };
    see_through(&watched.place.catalog, run, OTHER_URL, &evidence, minute(3)).await;
    let health = watched.health().await;
    assert_eq!(health.failing.as_ref().map(|failing| failing.since), Some(minute(1)));
    assert_eq!(times(&health), (Some(minute(3)), Some(minute(3))));
}

#[tokio::test]
async fn a_change_of_the_source_is_what_differs_from_what_it_had() {
    let watched = Watched::new().await;
    let (one, other) = (&watched.one, &watched.other);
    let both = &[URL, OTHER_URL][..];
    for (name, subscription, urls, digit, at, changed) in [
        ("new", one, &[URL][..], 'a', 1, 1),
        ("the same", one, &[URL], 'a', 3, 1),
        ("new to a subscription only", other, &[URL], 'a', 5, 1),
        ("another body", other, &[URL], 'b', 7, 7),
        ("which the other subscription has not seen", one, &[URL], 'b', 9, 7),
        ("another document", one, both, 'b', 11, 11),
        ("as before", one, both, 'b', 13, 11),
    ] {
        watched.fetch(subscription, urls, digit, at).await;
        assert_eq!(times(&watched.health().await), (Some(minute(at)), Some(minute(changed))), "{name}");
    }
    // A run that shares an artifact fetches nothing.
    let run = watched.place.begun_run(other, minute(20), &[URL]).await;
    let latest = watched
        .place
        .number("select max(id) from artifacts where source_url = 'https://example.org/opinions'");
    let latest = Evidence::Known(latest.await);
    watched.place.catalog.store_document(run, URL, &document(latest), minute(21)).await.unwrap();
    assert_eq!(times(&watched.health().await), (Some(minute(13)), Some(minute(11))));
}

#[tokio::test]
async fn other_settings_are_tried_at_the_next_due_time() {
    let watched = Watched::new().await;
    watched.fail("Timeout", 1).await;
    let mut source = watched.source.clone();
    source.generation = 2;
    watched.place.catalog.put_source(&source, minute(1)).await.unwrap();
    assert_eq!(watched.held_back_until(1).await, Some(2), "nothing that matters was changed");
    source.generation = 3;
    source.settings.base_url = OTHER_URL.to_owned();
    watched.place.catalog.put_source(&source, minute(1)).await.unwrap();
    assert_eq!(watched.held_back_until(2).await, None);
    let failing = watched.health().await.failing.unwrap();
    assert_eq!((failing.since, failing.next_try_at), (minute(1), None), "whether they help is not known yet");
}

#[tokio::test]
async fn what_is_expected_is_read_from_the_settings_in_force() {
    let watched = Watched::new().await;
    let mut source = watched.source.clone();
    source.generation = 2;
    source.settings.cadence_ms = Some(3_600_000);
    source.settings.suspend = true;
    watched.place.catalog.put_source(&source, minute(1)).await.unwrap();
    let health = watched.health().await;
    assert_eq!((health.cadence, health.is_suspended), (Some(Duration::from_secs(3600)), true));
    assert_eq!(health.watched_since, NOON);
    // Those of an older release have none.
    watched.place.execute("update sources set settings = settings - 'cadence_ms'").await;
    assert_eq!(watched.health().await.cadence, None);
}

#[tokio::test]
async fn news_of_a_source_are_told_whatever_order_transactions_end_in() {
    let watched = Watched::new().await;
    let place = &watched.place;
    let told = async |last_read| {
        let (read_at, news) = place.catalog.source_news(last_read).await.unwrap();
        (read_at, news.into_iter().map(|news| news.name).collect::<Vec<_>>())
    };
    place.source("silent").await;
    let late = place.source("late").await;
    let (start, news) = told(None).await;
    assert_eq!(news, [""; 0]);
    watched.fetch(&watched.one, &[URL], 'a', 1).await;

    // One who writes first and commits last.
    let mut slow = place.sql.begin().await.unwrap();
    sqlx::query("update sources set health_written_at = clock_timestamp() where id = $1")
        .bind(late)
        .execute(&mut *slow)
        .await
        .unwrap();
    let (read_at, news) = told(Some(start)).await;
    assert_eq!(news, ["court"]);
    assert!(read_at > start);
    slow.commit().await.unwrap();
    let (read_at, news) = told(Some(read_at)).await;
    assert_eq!(
        news,
        ["court", "late"],
        "those that were told already are told again, in the order of writing"
    );

    // What is older than any transaction that has not ended is not told any more.
    let old = "update sources set health_written_at = health_written_at - interval '31 seconds' where name = 'court'";
    place.execute(old).await;
    assert_eq!(told(Some(read_at)).await.1, ["late"]);
    assert_eq!(told(None).await.1, ["late"], "whoever begins to look has seen everything else");
    assert_eq!(told(Some(start - SignedDuration::from_mins(1))).await.1, ["court", "late"]);
    place.execute("update sources set deleted_at = now() where name = 'late'").await;
    assert_eq!(told(Some(read_at)).await.1, [""; 0]);
    assert_eq!(watched.id, place.number("select id from sources where name = 'court'").await);
}

#[tokio::test]
async fn sources_that_want_to_be_looked_at_are_counted() {
    let watched = Watched::new().await;
    let place = &watched.place;
    let figures = async |at| place.catalog.source_figures(minute(at)).await.unwrap();
    assert_eq!(figures(1).await, SourceFigures { count: 1, failing: 0, overdue: 0 });
    watched.fail("Timeout", 1).await;
    let mut source = source_record("expected");
    source.settings.cadence_ms = Some(60_000);
    place.catalog.put_source(&source, minute(2)).await.unwrap();
    assert_eq!(figures(2).await, SourceFigures { count: 2, failing: 1, overdue: 0 });
    assert_eq!(figures(3).await, SourceFigures { count: 2, failing: 1, overdue: 1 });
    place
        .execute(
            "update sources set last_change_at = timestamptz '2026-03-09 12:03Z' where name = 'expected'",
        )
        .await;
    assert_eq!(figures(3).await.overdue, 0);
    assert_eq!(figures(4).await.overdue, 1);
    place.execute("update sources set settings = settings || '{\"suspend\": true}'").await;
    assert_eq!(figures(4).await, SourceFigures { count: 2, failing: 0, overdue: 0 });
    place.execute("update sources set deleted_at = now()").await;
    assert_eq!(figures(4).await.count, 0);
}
