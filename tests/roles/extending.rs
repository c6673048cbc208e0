use std::sync::Arc;

use async_trait::async_trait;
use events::{Event, Handler, HandlerError, Role, Topic};
use tests::eventually;
use worker::{ROUTES, Route};

use crate::{
    catalog_place::SOON,
    phase,
    place::{HTML, Roles, webhook},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_phase_of_ones_own_gets_what_a_role_gets() {
    let mut roles = Roles::new(None).await;
    let url = roles.site.at("/hook");
    roles.change(|record| record.settings.targets.push(webhook("clerks", &url))).await;
    let _working = roles.work_by(&phase::routes());
    for (page, texts) in [("<p>one", vec!["one"]), ("<p>two", vec!["one", "two"])] {
        roles.site.put("/page", HTML, page);
        let (_, event) = roles.due().await;
        roles.publish(&event).await;
        eventually("the text, and a delivery", SOON, async || {
            let (kept, deliveries) =
                (roles.objects("texts"), roles.place.number("select count(*) from deliveries").await);
            if kept == texts && deliveries == texts.len() as i64 { Ok(()) } else { Err((kept, deliveries)) }
        })
        .await;
    }
}

/// It cannot do what it is asked for.
struct Broken;

#[async_trait]
impl Handler for Broken {
    async fn handle(&self, _: &Event) -> Result<Vec<Event>, HandlerError> {
        Err(HandlerError::Permanent { reason: "Broken", source: "it is broken".into() })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_in_a_phase_of_ones_own_fails_no_run_and_is_kept() {
    let roles = Roles::new(None).await;
    let broken = Route::beside("broken", Role::Parse, Topic::CrawlResult, |_| Arc::new(Broken));
    let _working = roles.work_by(&[ROUTES, &[broken]].concat());
    let (run, event) = roles.due().await;
    roles.publish(&event).await;
    let letters = Topic::CrawlResult.dead_letter_name();
    eventually("the run, and a dead letter", SOON, async || {
        let letters = roles.bus.records(&letters).len();
        let ended = roles.place.catalog.ended_runs(&[run]).await.unwrap();
        if letters == 1 && ended.len() == 1 { Ok(()) } else { Err((letters, ended)) }
    })
    .await;
    assert_eq!(roles.place.ended(run).await.reason.as_deref(), Some("Changed"));
}

/// They would have one consumer group, of which each event comes to one.
#[tokio::test]
async fn two_phases_of_one_name_that_take_the_same_events_are_refused() {
    let roles = Roles::new(None).await;
    let of = |name, topic| Route::beside(name, Role::Parse, topic, |_| Arc::new(Broken));
    let texts = of("texts", Topic::CrawlResult);
    let with = |other| roles.pipeline(&[ROUTES, &[texts, other]].concat()).map(drop);
    for fine in [of("links", Topic::CrawlResult), of("texts", Topic::ParseRequest)] {
        with(fine).unwrap();
    }
    let error = with(of("texts", Topic::CrawlResult)).unwrap_err();
    assert_eq!(error.to_string(), "two handlers are registered for the job `parse.content` of crawl.result");
}

/// What the documentation shows is what runs.
#[test]
fn the_documentation_shows_this_phase() {
    let document = include_str!("../../docs/extending.md");
    let phase = include_str!("phase.rs").split_once("\n\n").unwrap().1;
    assert!(document.contains(&format!("```rust\n{phase}```\n")), "docs/extending.md shows another phase");
}
