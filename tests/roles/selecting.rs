//! Selectors that change while documents are under way.

use events::{ParseRequest, ParseResult, Payload, VersioningRequest};
use sqlx::Row;
use store::catalog::{RunReport, SelectorQuery, SelectorSettings, SubscriptionRecord};
use tests::eventually;

use crate::{
    catalog_place::SOON,
    place::{HTML, Roles, refused, webhook},
};

fn body(css: &str) -> impl FnOnce(&mut SubscriptionRecord) {
    let query = SelectorQuery::Css(css.to_owned());
    let selector = SelectorSettings { query, attr: None, all: false, optional: false };
    move |record| {
        record.settings.selection.selectors.insert("body".to_owned(), selector);
    }
}

fn page(ruling: &str, hits: u32) -> String {
    format!("<!doctype html><title>Opinions</title><main><p>{ruling}</main><footer>{hits} visitors</footer>")
}

/// The newest version: its text, the text that it was compared with, and what is kept of the difference.
async fn newest(roles: &Roles) -> (String, Option<String>, String) {
    let row = sqlx::query(
        "select e.text, before.text as before, v.change #>> '{hunks}' as hunks
         from versions v join extracts e on e.id = v.extract_id
         left join versions p on p.id = v.previous left join extracts before on before.id = p.extract_id
         order by v.id desc limit 1",
    )
    .fetch_one(&roles.place.sql)
    .await
    .unwrap();
    (row.get("text"), row.get("before"), row.get::<Option<_>, _>("hunks").unwrap_or_default())
}

#[tokio::test]
async fn a_change_that_is_first_seen_under_other_selectors_is_a_change() {
    let mut roles = Roles::new(None).await;
    roles.site.put("/page", HTML, page("affirmed", 1));
    assert_eq!(roles.run().await.0, ["Baseline"]);
    // The backfill that comes of it is not handled yet.
    roles.change(body("main")).await;
    roles.site.put("/page", HTML, page("reversed", 2));
    let (told, run) = roles.run().await;
    assert_eq!(told, ["Baseline", "Changed"], "each has its targets looked for");
    assert_eq!((run.reason.as_deref(), run.changed), (Some("Changed"), Some(true)));
    assert_eq!(roles.versions().await, ["1 Baseline", "2 Baseline", "3 Changed"]);
    let (text, before, hunks) = newest(&roles).await;
    assert_eq!((text.as_str(), before.as_deref()), ("reversed", Some("affirmed")));
    assert!(!hunks.contains("visitors"), "the selectors' difference is none of the page's: {hunks}");
    assert_eq!(roles.run().await.0, Vec::<String>::new());
}

#[tokio::test]
async fn what_only_other_selectors_make_of_a_page_is_no_change() {
    let mut roles = Roles::new(None).await;
    roles.site.put("/page", HTML, page("affirmed", 1));
    roles.run().await;
    roles.change(body("main")).await;
    roles.site.put("/page", HTML, page("affirmed", 2));
    let (told, run) = roles.run().await;
    assert_eq!((told, run.reason.as_deref()), (vec!["Baseline".to_owned()], Some("Unchanged")));
    assert_eq!(roles.versions().await, ["1 Baseline", "2 Baseline"]);
}

#[tokio::test]
async fn a_change_is_seen_after_what_came_in_between_was_refused() {
    let mut roles = Roles::new(None).await;
    roles.site.put("/page", HTML, page("affirmed", 1));
    roles.run().await;
    roles.change(body("main")).await;
    roles.site.put("/page", HTML, "<!doctype html><title>Access denied</title><h1>Access denied</h1>");
    let (run, event) = roles.due().await;
    let parse = roles.handle(&event).await.unwrap().remove(0);
    assert_eq!(refused(roles.handle(&parse).await.unwrap_err()).0, "LooksBlocked");
    roles.place.catalog.fail_run(run, "LooksBlocked", "", jiff::Timestamp::now()).await.unwrap();
    roles.site.put("/page", HTML, page("reversed", 2));
    assert_eq!(roles.run().await.0, ["Baseline", "Changed"]);
    assert_eq!(newest(&roles).await.1.as_deref(), Some("affirmed"));
}

#[tokio::test]
async fn where_new_selectors_match_nothing_of_what_was_there_the_document_begins_anew() {
    let mut roles = Roles::new(None).await;
    roles.site.put("/page", HTML, page("affirmed", 1));
    roles.run().await;
    roles.change(body("article")).await;
    roles.site.put("/page", HTML, "<!doctype html><title>Opinions</title><article>affirmed</article>");
    let (told, run) = roles.run().await;
    assert_eq!((told, run.reason.as_deref()), (vec!["Baseline".to_owned()], Some("Unchanged")));
}

#[tokio::test]
async fn what_was_selected_under_selectors_that_changed_since_is_parsed_again_and_then_compared() {
    let mut roles = Roles::new(None).await;
    roles.site.put("/page", HTML, page("affirmed", 1));
    let (run, event) = roles.due().await;
    let parse = roles.handle(&event).await.unwrap().remove(0);
    let [parsed] = &roles.handle(&parse).await.unwrap()[..] else { panic!("one event was to come") };
    assert_eq!(parsed.topic, ParseResult::TOPIC);
    roles.change(body("main")).await;

    let [again] = &roles.handle(parsed).await.unwrap()[..] else { panic!("one event was to come") };
    let request: ParseRequest = again.payload().unwrap();
    assert_eq!((again.topic, request.run_id), (ParseRequest::TOPIC, run));
    assert_eq!(roles.versions().await, Vec::<String>::new());
    assert!(roles.place.is_active(run).await, "the run waits for it");

    let [compared] = &roles.handle(again).await.unwrap()[..] else { panic!("one event was to come") };
    assert_eq!(compared.topic, VersioningRequest::TOPIC);
    let told = roles.see_through(compared.clone()).await;
    assert_eq!(told.iter().map(|made| made.kind.as_str()).collect::<Vec<_>>(), ["Baseline"]);
    assert_eq!(newest(&roles).await.0, "affirmed", "without the footer");
    assert_eq!(roles.place.ended(run).await.reason.as_deref(), Some("Changed"));
    // The first event comes once more: nothing is told twice but the same.
    let twice = roles.handle(parsed).await.unwrap();
    assert_eq!(roles.versions().await, ["1 Baseline"]);
    assert!(twice.iter().all(|event| event.job_type == "delivery.plan"), "{twice:?}");
}

/// A run of the page by the consumer loops of all roles, when all of it is done.
async fn worked(roles: &Roles) -> RunReport {
    let (run, event) = roles.due().await;
    roles.publish(&event).await;
    eventually("the end of the run, and targets looked for", SOON, async || {
        // In this order: a run ends with its version.
        let is_active = roles.place.is_active(run).await;
        let unplanned = roles.place.number("select count(*) from versions where planned_at is null").await;
        if is_active || unplanned > 0 { Err((is_active, unplanned)) } else { Ok(()) }
    })
    .await;
    roles.place.ended(run).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selector_that_matches_nothing_fails_the_run_and_what_was_there_before_stays() {
    let with_judge = "<main><p>affirmed</main><b>Judge Roe</b>";
    // What was there before and what comes; why that fails.
    for (before, page, reason, message) in [
        (
            None,
            "<article>affirmed</article>",
            "SelectorMatchedNothing",
            "the selectors body, judge match nothing on",
        ),
        (
            None,
            "<main>affirmed</main>",
            "SelectorMatchedNothing",
            "the selectors judge match nothing on the page",
        ),
        (
            Some(with_judge),
            "<article>reversed</article>",
            "SelectorDrift",
            "the selectors body, judge match nothing where",
        ),
        (
            Some(with_judge),
            "<main>reversed</main>",
            "SelectorDrift",
            "the selectors judge match nothing where they used to",
        ),
        (
            Some(with_judge),
            "<p>Closed today.<b>Judge Roe</b>",
            "SelectorDrift",
            "the selectors body match nothing where",
        ),
    ] {
        let mut roles = Roles::new(None).await;
        let hook = roles.site.at("/hook");
        roles.change(body("main")).await;
        roles
            .change(|record| {
                let query = SelectorQuery::Css("b".to_owned());
                let judge = SelectorSettings { query, attr: None, all: false, optional: false };
                record.settings.selection.selectors.insert("judge".to_owned(), judge);
                record.settings.targets.push(webhook("clerks", &hook));
            })
            .await;
        let _working = roles.work();
        let set =
            |page: &str| roles.site.put("/page", HTML, format!("<!doctype html><title>Court</title>{page}"));
        if let Some(before) = before {
            set(before);
            assert_eq!(worked(&roles).await.reason.as_deref(), Some("Changed"), "{page}");
        }
        let kept = async || {
            let deliveries = roles.place.number("select count(*) from deliveries").await;
            (roles.versions().await, deliveries, roles.place.number("select count(*) from extracts").await)
        };
        let before_it = kept().await;

        set(page);
        let run = worked(&roles).await;
        assert_eq!((run.phase.name(), run.reason.as_deref()), ("Failed", Some(reason)), "{page}");
        let said = run.message.unwrap_or_default();
        assert!(said.contains(message), "{page}: {said}");
        assert_eq!(kept().await, before_it, "{page}: nothing of it is kept, and nobody is told");

        // What comes then is compared with what was last good.
        set("<main><p>remanded</main><b>Judge Roe</b>");
        assert_eq!(worked(&roles).await.reason.as_deref(), Some("Changed"), "{page}");
        let known = before.map(|_| "affirmed");
        let (text, compared_with, _) = newest(&roles).await;
        assert_eq!((text.as_str(), compared_with.as_deref()), ("remanded", known), "{page}");
        assert_eq!(kept().await.1, before_it.1 + 1, "{page}");
    }
}
