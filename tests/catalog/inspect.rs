//! What commands show of the catalog.

use std::fmt::Debug;

use store::catalog::{Page, WhichVersion};
use uuid::Uuid;

use crate::place::{OTHER_URL, Place, URL};

/// Runs by their first digits.
const FIRST: Uuid = Uuid::from_u128(0xa000_0000_0000_5000_8000_0000_0000_0001);
const CHANGED: Uuid = Uuid::from_u128(0xb000_0000_0000_5000_8000_0000_0000_0001);
const SAME: Uuid = Uuid::from_u128(0xb100_0000_0000_5000_8000_0000_0000_0001);
const SKIPPED: Uuid = Uuid::from_u128(0xc000_0000_0000_5000_8000_0000_0000_0001);
const OTHER: Uuid = Uuid::from_u128(0xe000_0000_0000_5000_8000_0000_0000_0001);
const DELIVERED: Uuid = Uuid::from_u128(0xd000_0000_0000_5000_8000_0000_0000_0001);
const COLLECTING: Uuid = Uuid::from_u128(0xd000_0000_0000_5000_8000_0000_0000_0002);

/// Three runs of `slips` that fetched, one due time that was skipped, and a run of `orders` that waits. What the second
/// run saw was delivered to one target and waits in another's digest; later it was extracted again otherwise.
const HISTORY: &str = r#"
insert into runs (id, subscription_id, scheduled_for, trigger, phase, reason, changed, trace_id, created_at, started_at, finished_at)
select run.id::uuid, s.id, run.due::timestamptz, 'Schedule', run.phase, run.reason, run.changed, replace(run.id, '-', ''),
    run.made::timestamptz, run.begun::timestamptz, run.ended::timestamptz
from (values
    ('a0000000-0000-5000-8000-000000000001', 'slips', '2026-03-09 09:00Z', '2026-03-09 09:00Z', '2026-03-09 09:00:01Z', '2026-03-09 09:00:05Z', 'Succeeded', 'Changed', true),
    ('b0000000-0000-5000-8000-000000000001', 'slips', '2026-03-09 10:00Z', '2026-03-09 10:00Z', '2026-03-09 10:00:01Z', '2026-03-09 10:00:05Z', 'Failed', 'HttpStatus', true),
    ('b1000000-0000-5000-8000-000000000001', 'slips', '2026-03-09 10:01Z', '2026-03-09 10:00Z', '2026-03-09 10:01:01Z', '2026-03-09 10:01:05Z', 'Succeeded', 'Unchanged', false),
    ('c0000000-0000-5000-8000-000000000001', 'slips', '2026-03-09 11:00Z', '2026-03-09 11:00Z', null, '2026-03-09 11:00Z', 'Skipped', 'Overlap', null),
    ('e0000000-0000-5000-8000-000000000001', 'orders', '2026-03-09 12:00Z', '2026-03-09 12:00Z', null, null, 'Pending', null, null)
) run (id, subscription, due, made, begun, ended, phase, reason, changed)
join subscriptions s on s.name = run.subscription;

insert into artifacts (source_id, run_id, source_url, final_url, fetch_hash, blob_uri, status, headers, byte_size, fetched_at)
select o.id, found.run::uuid, found.url, found.url, repeat(found.digit, 64), 's3://tipstaff/' || found.digit, 200, '[]', 10, found.at::timestamptz
from (values
    (1, 'slips', 'a0000000-0000-5000-8000-000000000001', 'https://example.org/opinions', '1', '2026-03-09 09:00:02Z'),
    (2, 'slips', 'b0000000-0000-5000-8000-000000000001', 'https://example.org/opinions', '2', '2026-03-09 10:00:02Z'),
    (3, 'orders', 'e0000000-0000-5000-8000-000000000001', 'https://example.org/orders', '3', '2026-03-09 12:00:02Z')
) found (place, source, run, url, digit, at)
join sources o on o.name = found.source order by found.place;

insert into extracts (artifact_id, subscription_id, parser, parser_version, selection_hash, fields, text, text_hash, created_at)
select a.id, s.id, 'html', 1, made.selection, made.fields::jsonb, made.text, repeat(made.digit, 64), made.at::timestamptz
from (values
    (1, '1', 'one', '{}', 'affirmed', 'a', '2026-03-09 09:00:03Z'),
    (2, '2', 'one', '{"title": ["Smith v. Jones"]}', 'reversed', 'b', '2026-03-09 10:00:03Z'),
    (3, '2', 'two', '{}', 'of another selection', 'c', '2026-03-09 11:30Z')
) made (place, artifact, selection, fields, text, digit, at)
join artifacts a on a.fetch_hash = repeat(made.artifact, 64) join subscriptions s on s.name = 'slips' order by made.place;

insert into versions (subscription_id, url, number, extract_id, text_hash, change, created_at, kind, run_id)
select e.subscription_id, 'https://example.org/opinions', made.number, e.id, e.text_hash, made.change::json, e.created_at + interval '1 s', made.kind, made.run::uuid
from (values
    (1, 'a', 'Baseline', 'a0000000-0000-5000-8000-000000000001', '{"kind": "baseline", "lines": {"added": 1, "removed": 0, "changed": 0}, "bytes": {"added": 8, "removed": 0}, "ratio": 1.0}'),
    (2, 'b', 'Changed', 'b0000000-0000-5000-8000-000000000001', '{"kind": "changed", "lines": {"added": 0, "removed": 2, "changed": 1}, "bytes": {"added": 8, "removed": 8}, "ratio": 0.25, "field_changes": [{"name": "docket"}, {"name": "title"}]}')
) made (number, digit, kind, run, change)
join extracts e on e.text_hash = repeat(made.digit, 64) order by made.number;

insert into document_heads (subscription_id, url, artifact_id, fetch_hash, extract_id, version_id, number, selection_hash, parser_version, is_found)
select v.subscription_id, v.url, e.artifact_id, repeat('2', 64), e.id, v.id, v.number, 'one', 1, false
from versions v join extracts e on e.id = v.extract_id where v.number = 2;

insert into documents (run_id, subscription_id, url, phase, changed, reason, message, finished_at, artifact_id, is_base, version_id)
select r.id, r.subscription_id, made.url, made.phase, made.changed, made.reason, made.reason, r.finished_at, a.id, made.is_base, v.id
from (values
    ('a0000000-0000-5000-8000-000000000001', 'https://example.org/opinions', 'Stored', true, null, '1', true, 1),
    ('b0000000-0000-5000-8000-000000000001', 'https://example.org/opinions', 'Stored', true, null, '2', true, 2),
    ('b0000000-0000-5000-8000-000000000001', 'https://example.org/a', 'Failed', null, 'HttpStatus', null, false, null),
    ('b1000000-0000-5000-8000-000000000001', 'https://example.org/opinions', 'Stored', false, null, '2', true, null)
) made (run, url, phase, changed, reason, artifact, is_base, version)
join runs r on r.id = made.run::uuid left join artifacts a on a.fetch_hash = repeat(made.artifact, 64)
left join versions v on v.number = made.version;

insert into deliveries (id, subscription_id, target, phase, begun_by, changes, bytes, attempts, last_error, due_at, created_at, finished_at)
select made.id::uuid, s.id, made.target, made.phase, 'b0000000-0000-5000-8000-000000000001', 1, 100, made.attempts, made.error,
    made.due::timestamptz, '2026-03-09 10:00:05Z', made.finished::timestamptz
from (values
    ('d0000000-0000-5000-8000-000000000001', 'clerks', 'Delivered', 2, 'busy', '2026-03-09 10:00:10Z', '2026-03-09 10:00:11Z'),
    ('d0000000-0000-5000-8000-000000000002', 'sanctions', 'Collecting', 0, null, '2026-03-09 10:15:05Z', null)
) made (id, target, phase, attempts, error, due, finished) join subscriptions s on s.name = 'slips';

insert into delivery_versions (version_id, target, delivery_id)
select v.id, d.target, d.id from versions v cross join deliveries d where v.number = 2;

insert into delivery_attempts (delivery_id, number, started_at, duration_ms, status, detail) values
    ('d0000000-0000-5000-8000-000000000001', 2, '2026-03-09 10:00:10Z', 95, 200, ''),
    ('d0000000-0000-5000-8000-000000000001', 1, '2026-03-09 10:00:05Z', 210, null, 'no answer');
"#;

struct History {
    place: Place,
    slips: i64,
    orders: i64,
}

impl History {
    async fn new() -> Self {
        let place = Place::new().await;
        let slips = place.subscription("slips").await.id;
        let orders = place.subscription("orders").await.id;
        place.execute(HISTORY).await;
        Self { place, slips, orders }
    }
}

fn all<Id>(limit: u32) -> Page<Id> {
    Page { subscription_id: None, before: None, limit }
}

/// Goes through a list page by page and returns what it had on each.
async fn pages<Id: Copy + Debug + PartialEq>(
    list: impl AsyncFn(Page<Id>) -> Vec<Id>,
    limit: u32,
) -> Vec<Vec<Id>> {
    let mut pages = Vec::new();
    let mut before = None;
    loop {
        let page = list(Page { before, ..all(limit) }).await;
        let Some(last) = page.last().copied() else { return pages };
        assert!(pages.len() < 10, "it goes round in circles: {pages:?}");
        pages.push(page);
        before = Some(last);
    }
}

#[tokio::test]
async fn runs_are_listed_newest_first_page_by_page() {
    let History { place, slips, orders } = History::new().await;
    let listed = async |page: Page<Uuid>, with_skipped| {
        let runs = place.catalog.list_runs(page, with_skipped).await.unwrap();
        runs.iter().map(|run| run.id).collect::<Vec<_>>()
    };
    // Two were made at the same time.
    assert_eq!(listed(all(9), true).await, [OTHER, SKIPPED, SAME, CHANGED, FIRST]);
    assert_eq!(listed(all(9), false).await, [OTHER, SAME, CHANGED, FIRST]);
    let through = pages(async |page| listed(page, true).await, 2).await;
    assert_eq!(through, [vec![OTHER, SKIPPED], vec![SAME, CHANGED], vec![FIRST]]);
    let of = |subscription_id| Page { subscription_id: Some(subscription_id), ..all(9) };
    assert_eq!(listed(of(slips), false).await, [SAME, CHANGED, FIRST]);
    assert_eq!(listed(of(orders), true).await, [OTHER]);

    let run = place.catalog.list_runs(of(slips), false).await.unwrap().remove(1);
    assert_eq!((run.namespace.as_str(), run.subscription.as_str()), ("courts", "slips"));
    assert_eq!((run.phase.as_str(), run.reason.as_deref()), ("Failed", Some("HttpStatus")));
    assert_eq!(run.started_at.unwrap().to_string(), "2026-03-09T10:00:01Z");
    assert_eq!(run.finished_at.unwrap().to_string(), "2026-03-09T10:00:05Z");
    assert_eq!((run.changed, run.due_times), (Some(true), 1));
}

#[tokio::test]
async fn artifacts_are_those_that_documents_refer_to() {
    let History { place, slips, orders } = History::new().await;
    let listed = async |page: Page<i64>| {
        let artifacts = place.catalog.list_artifacts(page).await.unwrap();
        artifacts.iter().map(|artifact| artifact.fetch_hash[..1].to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(listed(all(9)).await, ["3", "2", "1"]);
    let of = |subscription_id| Page { subscription_id: Some(subscription_id), ..all(9) };
    // Two documents refer to the second.
    assert_eq!(listed(of(slips)).await, ["2", "1"]);
    assert!(listed(of(orders)).await.is_empty());
    let first = place.catalog.list_artifacts(all(1)).await.unwrap().remove(0);
    assert_eq!((first.source.as_str(), first.source_url.as_str()), ("orders", OTHER_URL));
    let ids = async |page| {
        let artifacts = place.catalog.list_artifacts(page).await.unwrap();
        artifacts.iter().map(|artifact| artifact.id).collect::<Vec<_>>()
    };
    assert_eq!(pages(&ids, 2).await.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
}

#[tokio::test]
async fn versions_are_listed_and_found_by_their_numbers() {
    let History { place, slips, orders } = History::new().await;
    let catalog = &place.catalog;
    let versions = catalog.list_versions(all(9)).await.unwrap();
    assert_eq!(versions.iter().map(|version| version.number).collect::<Vec<_>>(), [2, 1]);
    let changed = &versions[0];
    assert_eq!((changed.kind.as_str(), changed.url.as_str(), changed.run_id), ("Changed", URL, CHANGED));
    assert_eq!((changed.lines_added, changed.lines_removed, changed.lines_changed), (0, 2, 1));
    assert!((changed.ratio - 0.25).abs() < f64::EPSILON);
    assert_eq!(changed.changed_fields, ["docket", "title"]);
    assert_eq!((versions[1].lines_added, versions[1].changed_fields.len()), (1, 0));
    let none = Page { subscription_id: Some(orders), ..all(9) };
    assert!(catalog.list_versions(none).await.unwrap().is_empty());
    let older = Page { before: Some(changed.id), ..all(9) };
    assert_eq!(catalog.list_versions(older).await.unwrap(), versions[1..]);

    for (which, expected) in [
        (WhichVersion::Last, Some(2)),
        (WhichVersion::Before(2), Some(1)),
        (WhichVersion::Before(9), Some(2)),
        (WhichVersion::Before(1), None),
        (WhichVersion::Number(1), Some(1)),
        (WhichVersion::Number(3), None),
    ] {
        let found = catalog.find_version(slips, URL, which).await.unwrap();
        assert_eq!(found.map(|version| version.number), expected, "{which:?}");
    }
    assert_eq!(catalog.find_version(slips, OTHER_URL, WhichVersion::Last).await.unwrap(), None);
    assert_eq!(catalog.find_version(orders, URL, WhichVersion::Last).await.unwrap(), None);
    assert_eq!(catalog.versioned_urls(slips, 9).await.unwrap(), [URL]);
    assert!(catalog.versioned_urls(orders, 9).await.unwrap().is_empty());
    let text = &catalog.extract_contents(&[changed.extract_id]).await.unwrap()[&changed.extract_id];
    assert_eq!(text.text, "reversed");
}

#[tokio::test]
async fn a_delivery_says_when_it_is_tried_next_until_it_is_finished() {
    let History { place, slips, orders } = History::new().await;
    let deliveries = place.catalog.list_deliveries(all(9)).await.unwrap();
    assert_eq!(deliveries.iter().map(|delivery| delivery.id).collect::<Vec<_>>(), [COLLECTING, DELIVERED]);
    let (collecting, delivered) = (&deliveries[0], &deliveries[1]);
    assert_eq!(collecting.next_attempt_at.unwrap().to_string(), "2026-03-09T10:15:05Z");
    assert_eq!((delivered.next_attempt_at, delivered.attempts), (None, 2));
    assert_eq!(delivered.last_error.as_deref(), Some("busy"));
    let ids = async |page| {
        let deliveries = place.catalog.list_deliveries(page).await.unwrap();
        deliveries.iter().map(|delivery| delivery.id).collect::<Vec<_>>()
    };
    // Both were made at the same time.
    assert_eq!(pages(&ids, 1).await, [[COLLECTING], [DELIVERED]]);
    let of = |subscription_id| Page { subscription_id: Some(subscription_id), ..all(9) };
    assert_eq!(ids(of(slips)).await.len(), 2);
    assert!(ids(of(orders)).await.is_empty());
}

#[tokio::test]
async fn a_trace_has_all_that_came_of_a_run() {
    let History { place, .. } = History::new().await;
    let catalog = &place.catalog;
    let run = catalog.runs_between(CHANGED, CHANGED, 2).await.unwrap().remove(0);
    let trace = catalog.trace_run(run).await.unwrap();
    assert_eq!(trace.run.id, CHANGED);
    // The base comes first.
    let urls: Vec<_> = trace.documents.iter().map(|document| document.url.as_str()).collect();
    assert_eq!(urls, [URL, "https://example.org/a"]);
    let (base, failed) = (&trace.documents[0], &trace.documents[1]);
    assert_eq!(base.artifact.as_ref().unwrap().fetch_hash, "2".repeat(64));
    let extract = base.extract.as_ref().unwrap();
    assert_eq!((extract.text_hash.clone(), extract.text_bytes), ("b".repeat(64), 8));
    assert_eq!(extract.fields, ["title"]);
    assert_eq!(base.version.as_ref().unwrap().number, 2);
    let told: Vec<_> = base.deliveries.iter().map(|traced| traced.delivery.target.as_str()).collect();
    assert_eq!(told, ["clerks", "sanctions"]);
    let tries = &base.deliveries[0].tries;
    assert_eq!(
        tries.iter().map(|attempt| (attempt.number, attempt.status)).collect::<Vec<_>>(),
        [(1, None), (2, Some(200))]
    );
    assert_eq!((tries[0].detail.as_str(), tries[0].duration_ms), ("no answer", 210));
    assert!(base.deliveries[1].tries.is_empty());
    assert_eq!((failed.phase.as_str(), failed.reason.as_deref()), ("Failed", Some("HttpStatus")));
    assert!(failed.artifact.is_none() && failed.extract.is_none() && failed.version.is_none());

    // What was extracted after the run had ended is not of it.
    let same = catalog.runs_between(SAME, SAME, 2).await.unwrap().remove(0);
    let same = catalog.trace_run(same).await.unwrap().documents.remove(0);
    assert_eq!(same.extract.unwrap().text_hash, "b".repeat(64));
    assert!(same.version.is_none() && same.deliveries.is_empty());

    // A run without documents.
    let other = catalog.runs_between(OTHER, OTHER, 2).await.unwrap().remove(0);
    assert!(catalog.trace_run(other).await.unwrap().documents.is_empty());
}

#[tokio::test]
async fn runs_are_found_by_how_their_ids_begin() {
    let History { place, .. } = History::new().await;
    let between = async |first: u128, last: u128, most| {
        let runs =
            place.catalog.runs_between(Uuid::from_u128(first), Uuid::from_u128(last), most).await.unwrap();
        runs.iter().map(|run| run.id).collect::<Vec<_>>()
    };
    let (b, b_last) = (0xb << 124, (0xc << 124) - 1);
    assert_eq!(between(b, b_last, 9).await, [CHANGED, SAME]);
    assert_eq!(between(b, b_last, 1).await, [CHANGED]);
    assert!(between(0xf << 124, u128::MAX, 9).await.is_empty());
}

#[tokio::test]
async fn subscriptions_are_found_by_name_deleted_ones_too() {
    let History { place, slips, orders } = History::new().await;
    let catalog = &place.catalog;
    let named = async |name| catalog.named_subscription("courts", name).await.unwrap();
    assert_eq!(named("slips").await, Some(slips));
    assert_eq!(named("nothing").await, None);
    assert_eq!(catalog.named_subscription("elsewhere", "slips").await.unwrap(), None);
    let names = catalog.subscription_names(9).await.unwrap();
    assert_eq!(
        names,
        [("courts".to_owned(), "orders".to_owned()), ("courts".to_owned(), "slips".to_owned())]
    );
    assert_eq!(catalog.subscription_names(1).await.unwrap().len(), 1);

    place.execute("update subscriptions set deleted_at = now() where name = 'orders'").await;
    assert_eq!(named("orders").await, Some(orders));
    assert_eq!(catalog.subscription_names(9).await.unwrap().len(), 1);
    // Made again under its name, it is another one.
    place
        .execute(
            "insert into subscriptions (uid, namespace, name, source_id, generation, settings, scheduled_through, created_at, updated_at)
             select gen_random_uuid(), namespace, name, source_id, generation, settings, scheduled_through, created_at, updated_at
             from subscriptions where name = 'orders'",
        )
        .await;
    let again = named("orders").await.unwrap();
    assert_ne!(again, orders);
}
