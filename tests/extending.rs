//! A service of the user's beside the roles: a worker as a process on the real stack, and the service on loopback.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

#[path = "extending/service.rs"]
mod service;

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};
use service::Service;
use tests::{Installation, KafkaTopic, Origin, Process, eventually};

const SOON: Duration = Duration::from_secs(60);

struct Extended {
    tipstaff: Installation,
    site: Origin,
    _folder: tempfile::TempDir,
    _processes: [Process; 2],
}

impl Extended {
    /// An installation with the route `reader` of what was fetched to the service.
    async fn new(name: &str, service: &Service) -> Self {
        let site = Origin::start("<p>one").await;
        let tipstaff = Installation::new(name).await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("routes.yaml");
        let url = service.url();
        let routes = format!(
            "routes:\n- name: reader\n  topic: crawl.result\n  url: {url}?key=unseen\n  emits: [parse.request]\n  \
             authorizationFromEnv: READER_AUTHORIZATION\n"
        );
        std::fs::write(&file, routes).unwrap();
        let environment = [
            ("TIPSTAFF_HTTP_ROUTES", file.display().to_string()),
            ("READER_AUTHORIZATION", "Bearer of-the-reader".to_owned()),
        ];
        let processes = [tipstaff.operator(&[]), tipstaff.worker(&environment)];
        let manifests = format!(
            "apiVersion: tipstaff.dev/v1alpha1\nkind: Source\nmetadata: {{ name: court }}\n\
             spec: {{ baseURL: '{}', robotsMode: allow }}\n---\n\
             apiVersion: tipstaff.dev/v1alpha1\nkind: Subscription\nmetadata: {{ name: court }}\n\
             spec: {{ sourceRef: {{ name: court }}, schedule: '0 0 29 2 *' }}\n",
            site.url()
        );
        tipstaff.apply(&manifests).await;
        tipstaff.condition("tsub/court", "Ready", "True", Some("Scheduled")).await;
        Self { tipstaff, site, _folder: folder, _processes: processes }
    }

    /// The id of a run, which has succeeded whatever the service does.
    async fn run(&self) -> String {
        self.tipstaff.request("court", "once").await;
        let runs = self.tipstaff.ended_runs("court", 1).await;
        assert_eq!(runs[0].phase, "Succeeded", "{runs:?}");
        runs[0].id.to_string()
    }

    fn topic(&self, name: &str) -> KafkaTopic {
        KafkaTopic::known(&self.tipstaff.stack, format!("{}{name}", self.tipstaff.prefix))
    }
}

/// An event that asks to parse what was fetched again.
fn parse_again(posted: &Value) -> Value {
    let data = &posted["data"];
    let data = json!({
        "run_id": data["run_id"], "subscription_id": data["subscription_id"], "source_id": data["source_id"],
        "artifact_id": data["artifact_id"], "source_url": data["source_url"],
    });
    json!({ "specversion": "1.0", "id": "again", "type": "parse.content", "source": "/reader", "data": data })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_gets_what_the_roles_get_and_what_it_answers_is_emitted() {
    let service = Service::start(|number, posted| match number {
        0 => (StatusCode::SERVICE_UNAVAILABLE, String::new()),
        _ => (StatusCode::OK, parse_again(posted).to_string()),
    })
    .await;
    let extended = Extended::new("extended", &service).await;
    let run = extended.run().await;

    let emitted = extended.topic("parse.request").records(1).await.remove(0);
    let [first, again] = &extended.topic("crawl.result").records(2).await[..] else { panic!("two records") };
    assert_eq!(first.headers.get("addressee"), None);
    assert_eq!(again.headers["addressee"], "tipstaff.route.reader", "the roles do not get it again");
    let [refused, taken] = &service.posted()[..] else { panic!("{:?}", service.posted()) };
    assert_eq!(refused.event, taken.event, "it is posted again as it was");
    assert_eq!(taken.headers["content-type"], "application/cloudevents+json; charset=utf-8");
    assert_eq!(taken.headers["authorization"], "Bearer of-the-reader");
    let event = &taken.event;
    assert_eq!((&event["specversion"], &event["type"]), (&json!("1.0"), &json!("parse.content")));
    assert_eq!(event["source"], "/tipstaff/worker/crawl");
    assert_eq!(event["data"]["run_id"], run.as_str());
    assert_eq!(event["data"]["source_url"], extended.site.url());
    assert_eq!(taken.headers["traceparent"], event["traceparent"].as_str().unwrap());

    let header = |name: &str| emitted.headers[name].as_str();
    assert_eq!((header("ce_type"), header("ce_source")), ("parse.content", "/tipstaff/route/reader"));
    let trace = |parent: &str| parent.split('-').nth(1).unwrap().to_owned();
    assert_eq!(trace(header("traceparent")), trace(event["traceparent"].as_str().unwrap()));
    let data: Value = serde_json::from_slice(&emitted.value).unwrap();
    assert_eq!(data, parse_again(event)["data"]);
    extended.tipstaff.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_service_refuses_or_may_not_emit_is_kept_in_the_dead_letters() {
    for (name, answer, reason) in [
        ("refused", (StatusCode::BAD_REQUEST, String::new()), "HTTP status 400"),
        (
            "moved",
            (StatusCode::TEMPORARY_REDIRECT, String::new()),
            "HTTP status 307 Temporary Redirect; redirects are not followed",
        ),
        (
            "foreign",
            (
                StatusCode::OK,
                json!([{ "specversion": "1.0", "id": "1", "type": "delivery.send", "data": {} }]).to_string(),
            ),
            "no topic of events of the type `delivery.send`",
        ),
        (
            "unreadable",
            (
                StatusCode::OK,
                json!({ "specversion": "1.0", "id": "1", "type": "parse.content", "data": {} }).to_string(),
            ),
            "missing field",
        ),
        (
            "other-run",
            (
                StatusCode::OK,
                json!({
                    "specversion": "1.0", "id": "1", "type": "parse.content",
                    "data": { "run_id": "00000000-0000-0000-0000-000000000001" },
                })
                .to_string(),
            ),
            "`run_id` is another",
        ),
        ("words", (StatusCode::OK, "done".to_owned()), "neither a CloudEvent nor a list"),
    ] {
        let service = Service::start(move |_, _| answer.clone()).await;
        let extended = Extended::new(name, &service).await;
        extended.run().await;
        let letter = extended.topic("crawl.result.dlq").records(1).await.remove(0);
        let said = &letter.headers["dead_letter_reason"];
        assert!(said.contains("route `reader`") && said.contains(reason), "{name}: {said}");
        assert!(!said.contains("unseen"), "{name}: {said}");
        assert_eq!(service.posted().len(), 1, "{name}: it is not tried again");
        extended.tipstaff.remove().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_away_keeps_nothing_from_the_roles() {
    let service = Service::start(|_, _| (StatusCode::BAD_GATEWAY, String::new())).await;
    let extended = Extended::new("away", &service).await;
    extended.run().await;
    eventually("two attempts", SOON, async || {
        let posted = service.posted().len();
        if posted >= 2 { Ok(()) } else { Err(posted) }
    })
    .await;
    extended.tipstaff.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_that_cannot_be_end_the_worker_and_are_told() {
    let tipstaff = Installation::new("bad-routes").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("routes.yaml");
    let route = |more: &str| {
        format!("routes:\n- name: reader\n  topic: crawl.result\n  url: http://reader/\n  {more}\n")
    };
    for (text, reason) in [
        (route("retries: 3"), "retries"),
        (route("authorizationFromEnv: NOT_SET_ANYWHERE"), "the variable NOT_SET_ANYWHERE is not set"),
    ] {
        std::fs::write(&file, text).unwrap();
        let worker = tipstaff.worker(&[("TIPSTAFF_HTTP_ROUTES", file.display().to_string())]);
        let log = worker.log_path().to_owned();
        assert!(!worker.wait().await.success());
        let log = std::fs::read_to_string(log).unwrap();
        assert!(log.contains(reason), "{reason:?} in {log}");
    }
    tipstaff.remove().await;
}
