//! What follows from other settings: of what is taken out of documents, and of where documents are found.

use store::catalog::{
    FollowSettings, SelectorQuery, SelectorSettings, SourceRecord, SubscriptionRecord, Trigger,
};
use uuid::Uuid;

use crate::place::{NOON, OTHER_URL, Place, URL, minute, source_record, subscription_record};

/// A subscription whose document was compared once.
struct Compared {
    place: Place,
    source: SourceRecord,
    record: SubscriptionRecord,
    id: i64,
}

impl Compared {
    async fn new() -> Self {
        let place = Place::new().await;
        let source = source_record("court");
        let source_id = place.catalog.put_source(&source, NOON).await.unwrap().id;
        let record = subscription_record("opinions", source_id);
        let scheduled = place.catalog.put_subscription(&record, NOON).await.unwrap().scheduled;
        let run = place.begun_run(&scheduled, minute(1), &[URL]).await;
        sqlx::query(
            "with artifact as (
                 insert into artifacts (source_id, run_id, source_url, final_url, fetch_hash, blob_uri, status, headers,
                     byte_size, fetched_at)
                 values ($1, $2, $3, $3, repeat('a', 64), '', 200, '[]', 1, now()) returning *),
             extract as (
                 insert into extracts (artifact_id, subscription_id, parser, parser_version, selection_hash, fields, text,
                     text_hash, created_at)
                 select id, $4, 'html', 1, $5, '{}', '', fetch_hash, now() from artifact returning *),
             version as (
                 insert into versions (subscription_id, url, number, extract_id, text_hash, change, created_at, kind, run_id)
                 select $4, $3, 1, id, text_hash, '{}', now(), 'Baseline', $2 from extract returning *)
             insert into document_heads (subscription_id, url, artifact_id, fetch_hash, extract_id, version_id, number,
                 selection_hash, parser_version, is_found)
             select $4, $3, a.id, a.fetch_hash, e.id, v.id, 1, e.selection_hash, 1, false
             from artifact a, extract e, version v",
        )
        .bind(source_id)
        .bind(run)
        .bind(URL)
        .bind(scheduled.id)
        .bind(record.settings.selection.hash())
        .execute(&place.sql)
        .await
        .unwrap();
        place.catalog.fail_run(run, "Test", "no more is needed", minute(1)).await.unwrap();
        Self { place, source, record, id: scheduled.id }
    }

    /// The next generation of the subscription, with another selection.
    fn select_otherwise(&mut self, css: &str) {
        let query = SelectorQuery::Css(css.to_owned());
        let selector = SelectorSettings { query, attr: None, all: false, optional: false };
        self.record.settings.selection.selectors.insert("body".to_owned(), selector);
        self.record.generation += 1;
    }

    /// Brings the subscription into the catalog; the backfill that was made with it.
    async fn put(&self, at: i64) -> Option<Uuid> {
        let run = self.place.catalog.put_subscription(&self.record, minute(at)).await.unwrap().backfill?;
        assert_eq!((run.subscription_id, run.trigger, run.skip), (self.id, Trigger::Backfill, None));
        assert!(self.place.is_active(run.run_id).await);
        Some(run.run_id)
    }

    async fn backfills(&self) -> i64 {
        self.place.number("select count(*) from runs where trigger = 'Backfill'").await
    }

    async fn first_events(&self) -> i64 {
        self.place
            .number(
                "select count(*) from outbox o join runs r on r.id = o.run_id where r.trigger = 'Backfill'",
            )
            .await
    }

    async fn selection_hash(&self) -> String {
        self.place.text_of("select selection_hash from subscriptions where id = $1", self.id).await
    }
}

#[tokio::test]
async fn another_selection_makes_one_backfill() {
    let mut compared = Compared::new().await;
    assert_eq!(compared.selection_hash().await, compared.record.settings.selection.hash());
    compared.record.generation = 2;
    compared.record.settings.jitter_seconds = 30;
    assert_eq!(compared.put(2).await, None, "the selection is the same");

    compared.select_otherwise("main");
    let first = compared.put(3).await.unwrap();
    assert_eq!(compared.selection_hash().await, compared.record.settings.selection.hash());
    assert_eq!(compared.put(4).await, None, "it was made already");
    let other = compared.place.other_process().await;
    assert_eq!(other.put_subscription(&compared.record, minute(4)).await.unwrap().backfill, None);
    assert_eq!((compared.backfills().await, compared.first_events().await), (1, 1));

    // Within the same moment, and while the first one is active.
    compared.select_otherwise("article");
    let second = compared.put(3).await.unwrap();
    assert_ne!(first, second);
    assert_eq!((compared.backfills().await, compared.first_events().await), (2, 2));
    // What the annotation asked for is another matter.
    let summary = compared.place.catalog.summaries(&[compared.id]).await.unwrap().remove(0);
    assert_eq!(summary.last_backfill, None);

    // Another operator believes in an older state.
    let newest = compared.record.clone();
    compared.select_otherwise("h1");
    compared.record.generation = newest.generation - 1;
    assert_eq!(compared.put(5).await, None);
    assert_eq!(compared.selection_hash().await, newest.settings.selection.hash());
}

#[tokio::test]
async fn a_selection_is_written_with_its_backfill_or_not_at_all() {
    let mut compared = Compared::new().await;
    let before = compared.selection_hash().await;
    compared.select_otherwise("main");
    compared.place.execute("alter table outbox rename to away").await;
    compared.place.catalog.put_subscription(&compared.record, minute(2)).await.unwrap_err();
    compared.place.execute("alter table away rename to outbox").await;
    assert_eq!((compared.selection_hash().await, compared.backfills().await), (before, 0));
    assert!(compared.put(3).await.is_some());
    assert_eq!((compared.backfills().await, compared.first_events().await), (1, 1));
}

#[tokio::test]
async fn without_a_document_that_was_compared_there_is_nothing_to_extract_again() {
    let mut compared = Compared::new().await;
    compared.place.execute("delete from document_heads").await;
    compared.select_otherwise("main");
    assert_eq!(compared.put(2).await, None);
    assert_eq!(compared.selection_hash().await, compared.record.settings.selection.hash());
}

#[tokio::test]
async fn what_an_older_release_wrote_gets_its_hash() {
    let compared = Compared::new().await;
    compared.place.execute("update subscriptions set selection_hash = null").await;
    compared.place.execute("delete from document_heads").await;
    assert_eq!(compared.put(2).await, None);
    assert_eq!(compared.selection_hash().await, compared.record.settings.selection.hash());
}

#[tokio::test]
async fn a_source_that_names_other_documents_has_its_lists_read_anew() {
    let mut compared = Compared::new().await;
    let follow = |links: &str| FollowSettings {
        links: links.to_owned(),
        include: Vec::new(),
        exclude: Vec::new(),
        same_host: true,
        limit: 10,
    };
    let read = "update subscriptions set list_read_by = (select id from runs limit 1)";
    type Edit<'a> = &'a dyn Fn(&mut SourceRecord);
    let changes: [(&str, Edit<'_>, bool); 6] = [
        ("nothing", &|_| {}, true),
        ("how it is fetched", &|source| source.settings.timeout_ms = 5, true),
        ("its kind", &|source| source.settings.kind = "feed".to_owned(), false),
        ("its address", &|source| source.settings.base_url = OTHER_URL.to_owned(), false),
        ("its links", &|source| source.settings.follow = Some(follow("a")), false),
        ("some of its links", &|source| source.settings.follow = Some(follow("main a")), false),
    ];
    let is_read = "select count(*) from subscriptions where list_read_by is not null";
    for (name, change, stays) in changes {
        compared.place.execute(read).await;
        compared.source.generation += 1;
        change(&mut compared.source);
        compared.place.catalog.put_source(&compared.source, minute(2)).await.unwrap();
        assert_eq!(compared.place.number(is_read).await, i64::from(stays), "{name}");
    }
    // Settings of an older release do not speak of links.
    compared.place.execute(read).await;
    compared.source.settings.follow = None;
    compared.place.catalog.put_source(&compared.source, minute(3)).await.unwrap();
    compared.place.execute("update sources set settings = settings - 'follow'").await;
    compared.place.execute(read).await;
    compared.source.generation += 1;
    compared.place.catalog.put_source(&compared.source, minute(4)).await.unwrap();
    assert_eq!(compared.place.number(is_read).await, 1);
    // Another operator believes in an older state.
    compared.source.generation = 1;
    compared.source.settings.kind = "pdf".to_owned();
    compared.place.catalog.put_source(&compared.source, minute(5)).await.unwrap();
    assert_eq!(compared.place.number(is_read).await, 1);
}
