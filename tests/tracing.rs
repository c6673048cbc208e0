//! The spans that operator and worker export, as a receiver of OTLP sees them, and the events that `tipstaff trace` finds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "tracing/collector.rs"]
mod collector;

use std::{collections::BTreeMap, time::Duration};

use collector::{Collector, Received};
use serde_json::Value;
use tests::{Installation, Origin, Run, eventually, program};
use tokio::{net::TcpListener, process::Command};

const SOON: Duration = Duration::from_secs(60);
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const SECRET: &str = "bird-of-the-query";

fn manifests(site: &Origin, hook: &Origin) -> String {
    format!(
        "apiVersion: tipstaff.dev/v1alpha1\nkind: Source\nmetadata: {{ name: court }}\n\
         spec: {{ baseURL: '{}?key={SECRET}', robotsMode: allow, politeness: {{ minInterval: 0s }} }}\n---\n\
         apiVersion: tipstaff.dev/v1alpha1\nkind: Subscription\nmetadata: {{ name: court }}\n\
         spec: {{ sourceRef: {{ name: court }}, schedule: '0 0 29 2 *', \
         delivery: [{{ name: clerks, webhook: {{ url: '{}?key={SECRET}' }} }}] }}\n",
        site.url(),
        hook.url()
    )
}

/// Two runs, of which the second has a change that is delivered; returns it.
async fn delivered_run(tipstaff: &Installation, site: &Origin, hook: &Origin) -> Run {
    tipstaff.apply(&manifests(site, hook)).await;
    tipstaff.condition("tsub/court", "Ready", "True", Some("Scheduled")).await;
    tipstaff.request("court", "first").await;
    tipstaff.ended_runs("court", 1).await;
    site.set(200, "<p>amended");
    tipstaff.request("court", "second").await;
    let run = tipstaff.ended_runs("court", 2).await.remove(1);
    assert_eq!(run.phase, "Succeeded", "{run:?}");
    let delivered = "select count(*) from deliveries where phase = 'Delivered'";
    eventually("the delivery", SOON, async || match tipstaff.count(delivered).await {
        1 => Ok(()),
        found => Err(found),
    })
    .await;
    run
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_one_tree_of_spans_from_its_due_time_to_the_delivery() {
    let (site, hook) = (Origin::start("<p>one").await, Origin::start("").await);
    let collector = Collector::start().await;
    let tipstaff = Installation::new("tracing").await;
    let environment =
        [(ENDPOINT, collector.url()), ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=laws".to_owned())];
    let operator = tipstaff.operator(&environment);
    let worker = tipstaff.worker(&environment);
    let run = delivered_run(&tipstaff, &site, &hook).await;
    // What is left is sent when a process ends.
    worker.terminate().await;
    operator.terminate().await;

    let spans = collector.trace(run.id.as_bytes());
    let by_id: BTreeMap<_, &Received> =
        spans.iter().map(|received| (received.span.span_id.clone(), received)).collect();
    assert_eq!(by_id.len(), spans.len(), "ids are unique: {spans:#?}");
    let name_of = |received: &Received| received.span.name.clone();
    let path = |name: &str| {
        let mut at = spans.iter().find(|received| received.span.name == name).unwrap_or_else(|| {
            panic!("no span {name} among {:?}", spans.iter().map(name_of).collect::<Vec<_>>())
        });
        let mut names = vec![name_of(at)];
        while !at.span.parent_span_id.is_empty() {
            at = by_id.get(&at.span.parent_span_id).copied().expect("a parent that was exported too");
            names.push(name_of(at));
        }
        names.reverse();
        names
    };
    let crawled = ["subs.schedule send", "subs.schedule process", "crawl.request process"];
    let delivered = [
        &crawled[..],
        &[
            "crawl.result process",
            "parse.result process",
            "versioning.result process",
            "delivery.request process",
            "delivery attempt",
        ],
    ]
    .concat();
    assert_eq!(path("delivery attempt"), delivered);
    for client in ["GET", "blob put"] {
        assert_eq!(path(client), [&crawled[..], &[client]].concat());
    }
    for received in &spans {
        assert_eq!(path(&received.span.name)[0], "subs.schedule send");
        let is_of_operator = received.span.parent_span_id.is_empty();
        let program = if is_of_operator { "tipstaff-operator" } else { "tipstaff-worker" };
        assert_eq!(received.service, program, "{received:#?}");
    }
    let find = |name: &str| spans.iter().find(|received| received.span.name == name).unwrap();
    let handled = find("crawl.request process");
    for (name, value) in [
        ("messaging.system", "kafka"),
        ("messaging.destination.name", "crawl.request"),
        ("tipstaff.job_type", "crawl.url"),
        ("tipstaff.run_id", &run.id.to_string()),
        ("tipstaff.attempt", "0"),
    ] {
        assert_eq!(handled.attribute(name), value, "{name}");
    }
    let get = find("GET");
    assert_eq!(get.attribute("http.response.status_code"), "200");
    assert_eq!(get.attribute("server.address"), "127.0.0.1");
    assert_eq!(find("delivery attempt").attribute("tipstaff.target"), "clerks");
    for (headers, body) in collector.requests() {
        assert_eq!(headers["x-tenant"], "laws");
        assert_eq!(headers["content-type"], "application/x-protobuf");
        assert!(!String::from_utf8_lossy(&body).contains(SECRET));
    }
    tipstaff.remove().await;
}

/// What `tipstaff trace` prints of a run.
async fn trace(tipstaff: &Installation, brokers: Option<&str>, arguments: &[&str]) -> String {
    let mut command = Command::new(program("tipstaff"));
    command.env_clear().env("TIPSTAFF_DATABASE_URL", tipstaff.database_url());
    if let Some(brokers) = brokers {
        command.env("KAFKA_BROKERS", brokers).env("KAFKA_PREFIX", &tipstaff.prefix);
    }
    let output = command.arg("trace").args(arguments).output().await.unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_has_the_events_that_led_to_the_delivery_and_those_of_no_other_run() {
    let (site, hook) = (Origin::start("<p>one").await, Origin::start("").await);
    let tipstaff = Installation::new("traced").await;
    let operator = tipstaff.operator(&[]);
    let worker = tipstaff.worker(&[]);
    let run = delivered_run(&tipstaff, &site, &hook).await;
    let id = run.id.to_string();
    let brokers = tipstaff.stack.kafka_brokers().unwrap();

    let json = trace(&tipstaff, Some(&brokers), &[&id, "-o", "json"]).await;
    let json: Value = serde_json::from_str(&json).unwrap();
    let events = json["events"].as_array().unwrap();
    let topics: Vec<_> = events.iter().map(|event| event["topic"].as_str().unwrap()).collect();
    let expected = [
        "subs.schedule",
        "crawl.request",
        "crawl.result",
        "parse.result",
        "versioning.result",
        "delivery.request",
    ];
    assert_eq!(topics, expected, "{json:#}");
    let url = &json["documents"][0]["url"];
    assert!(events[1..5].iter().all(|event| &event["url"] == url), "{json:#}");
    assert_eq!(events[5]["delivery_id"], json["documents"][0]["deliveries"][0]["id"]);

    let tree = trace(&tipstaff, Some(&brokers), &[&id]).await;
    let lines: Vec<_> = tree.lines().collect();
    let line = |start: &str| {
        lines.iter().position(|line| line.trim_start_matches(['│', '├', '└', '─', ' ']).starts_with(start))
    };
    for (event, below) in events.iter().zip(["run ", "http://", "http://", "http://", "http://", "delivery "])
    {
        let at = line(&format!("event {}", event["id"].as_str().unwrap()));
        assert!(at > line(below), "{event} stands below {below} in\n{tree}");
    }

    // Without brokers there is what the catalog has.
    let without = trace(&tipstaff, None, &[&id]).await;
    assert!(without.contains("delivery ") && !without.contains("event "), "{without}");
    worker.terminate().await;
    operator.terminate().await;
    tipstaff.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_dead_or_never_answers_keeps_nothing_from_being_done() {
    // It takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let of = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
    let (dead, silent_url) = (of(&closed), of(&silent));
    drop(closed);
    let (site, hook) = (Origin::start("<p>one").await, Origin::start("").await);
    let tipstaff = Installation::new("untraced").await;
    let operator = tipstaff.operator(&[(ENDPOINT, dead)]);
    let worker = tipstaff.worker(&[(ENDPOINT, silent_url)]);
    delivered_run(&tipstaff, &site, &hook).await;
    worker.terminate().await;
    operator.terminate().await;
    tipstaff.remove().await;
}
