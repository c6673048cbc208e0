//! A dead letter in the hands of `tipstaff dlq`.

use std::{process::Output, time::Duration};

use events::{Bus, Event, Signal, Topic};
use serde_json::Value;
use tests::{Installation, Origin, corpus, eventually, program};
use tokio::process::Command;

use super::{NEVER_NOW, SUBSCRIPTION, manifests};

/// After so many attempts no worker puts an event off once more.
const ATTEMPTS: u32 = 6;
const SOON: Duration = Duration::from_secs(60);

async fn dlq(tipstaff: &Installation, arguments: &[&str]) -> Output {
    Command::new(program("tipstaff"))
        .env_clear()
        .env("KAFKA_BROKERS", tipstaff.stack.kafka_brokers().unwrap())
        .env("KAFKA_PREFIX", &tipstaff.prefix)
        .arg("dlq")
        .args(arguments)
        .output()
        .await
        .unwrap()
}

async fn printed(tipstaff: &Installation, arguments: &[&str]) -> String {
    let output = dlq(tipstaff, arguments).await;
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What `list` counts of the topic: letters that were not published again, and all.
fn counted(list: &str) -> Vec<&str> {
    let line = list.lines().find(|line| line.starts_with("crawl.request ")).unwrap();
    line.split_whitespace().skip(1).collect()
}

/// The event on its topic once more, from the dead letters: for who had it, and with no attempt counted.
async fn again(tipstaff: &Installation, event: &Event) -> Event {
    let mut consumer = tipstaff.bus().subscribe("look-again", &[event.topic]).await.unwrap();
    let reading = async {
        loop {
            let Signal::Received(received) = consumer.receive(true).await.unwrap() else { continue };
            let came = Event::from_record(&received.record).unwrap();
            if came.id == event.id && came.attempt == 0 && came.addressee.is_some() {
                return came;
            }
        }
    };
    let came = tokio::time::timeout(SOON, reading).await.unwrap();
    consumer.close().await.unwrap();
    came
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_listed_shown_and_published_again() {
    let origin = Origin::start(corpus::CA11).await;
    origin.set(503, "not now");
    let tipstaff = Installation::new("letters").await;
    let operator = tipstaff.operator(&[]);
    let worker = tipstaff.worker(&[]);
    // No event waits for the slot of its host: that would be the same event once more, too.
    let at_once =
        manifests(&origin, NEVER_NOW).replace("kind: html,", "kind: html, politeness: { minInterval: 0s },");
    tipstaff.apply(&at_once).await;
    tipstaff.condition(&format!("tsub/{SUBSCRIPTION}"), "Ready", "True", Some("Scheduled")).await;
    tipstaff.request(SUBSCRIPTION, "now").await;
    let crawl = tipstaff.events_of(Topic::CrawlRequest, 1).await.remove(0);
    // Of all attempts the last, so that nobody waits for those in between.
    let mut last = crawl.clone();
    last.attempt = ATTEMPTS;
    tipstaff.bus().publish(&[last.to_record()]).await.unwrap();
    let run = tipstaff.ended_runs(SUBSCRIPTION, 1).await.remove(0);
    assert_eq!((run.phase.as_str(), run.reason.as_deref()), ("Failed", Some("HttpStatus")));
    let listed = eventually("a dead letter", SOON, async || {
        let list = printed(&tipstaff, &["list", "crawl.request", "-o", "json"]).await;
        if list.is_empty() { Err(list) } else { Ok(list) }
    })
    .await;
    // What happens from here on is done by hand alone.
    worker.terminate().await;
    operator.terminate().await;

    let letter: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(letter["topic"], "crawl.request");
    assert_eq!(letter["job_type"], "crawl.url");
    assert_eq!(letter["put_off"], ATTEMPTS);
    assert_eq!(letter["run_id"], run.id.to_string());
    let place = format!("{}/{}", letter["partition"], letter["offset"]);
    let list = printed(&tipstaff, &["list"]).await;
    assert_eq!(counted(&list), ["1", "1"], "{list}");
    assert!(list.contains(&place) && list.contains(&run.id.to_string()), "{list}");

    let shown = printed(&tipstaff, &["show", "crawl.request", &place]).await;
    let trace_id = run.id.simple().to_string();
    for part in [
        format!("letter   crawl.request {place}\n"),
        "put off  6 times\n".to_owned(),
        format!("run      {}\n", run.id),
        format!("  ce_id: {}\n", crawl.id),
        format!("  traceparent: 00-{trace_id}-"),
    ] {
        assert!(shown.contains(&part), "{part:?} in {shown}");
    }
    let reason = shown.lines().find(|line| line.starts_with("reason ")).unwrap();
    assert!(reason.contains("503"), "{reason}");

    // There is no other.
    let missing = dlq(&tipstaff, &["show", "crawl.request", "0/77"]).await;
    let errors = String::from_utf8(missing.stderr).unwrap();
    assert_eq!(missing.status.code(), Some(1), "{errors}");
    assert!(errors.contains("crawl.request.dlq has no letter at 0/77"), "{errors}");

    let done = printed(&tipstaff, &["redrive", "crawl.request", &place]).await;
    assert_eq!(done, "1 letter published again\n");
    let again = again(&tipstaff, &crawl).await;
    assert_eq!((&again.key, &again.payload), (&crawl.key, &crawl.payload));
    assert_eq!(again.trace_parent, crawl.trace_parent);
    let list = printed(&tipstaff, &["list"]).await;
    assert_eq!(counted(&list), ["0", "1"], "{list}");
    assert_eq!(
        printed(&tipstaff, &["redrive", "crawl.request", "--all"]).await,
        "0 letters published again\n"
    );
    tipstaff.remove().await;
}
