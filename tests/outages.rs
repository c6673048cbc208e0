//! The parts that Tipstaff works with are killed under its feet, one after the other, and come back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use stack::{Part, Stack, StackOptions};
use tests::{Installation, Origin, Process, corpus, eventually};

/// How long something may take on a busy machine.
const SOON: Duration = Duration::from_secs(90);

/// Waits until a process says that it is ready, or that a part is away; it must live all the time.
async fn readiness(process: &Process, away: Option<&str>) {
    eventually(&format!("readiness with {away:?} away"), SOON, async || {
        assert!(process.probe("/livez").await.starts_with("HTTP/1.1 200"));
        let answer = process.probe("/readyz").await;
        let is_so = match away {
            None => answer.starts_with("HTTP/1.1 200"),
            Some(part) => answer.starts_with("HTTP/1.1 503") && answer.contains(&format!("\n{part}: ")),
        };
        if is_so { Ok(()) } else { Err(answer) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_while_a_part_is_away_is_done_once_when_it_is_back() {
    let origin = Origin::start(corpus::CA11).await;
    let tipstaff = Installation::on(Stack::all().await.unwrap(), "outages").await;
    let mut operator = tipstaff.operator(&[]);
    // What a process needs may come a while after it.
    let store = tipstaff.stack.service(Part::Minio).unwrap();
    store.kill().await.unwrap();
    let mut worker = tipstaff.worker(&[]);
    eventually("that it waits", SOON, async || match worker.log() {
        log if log.contains("the object store is not there yet") => Ok(()),
        log => Err(log),
    })
    .await;
    store.start().await.unwrap();
    readiness(&worker, None).await;
    assert!(worker.is_running());
    tipstaff
        .apply(&format!(
            "apiVersion: tipstaff.dev/v1alpha1\nkind: Source\nmetadata: {{ name: court }}\n\
             spec: {{ kind: html, baseURL: \"{}\" }}\n---\n\
             apiVersion: tipstaff.dev/v1alpha1\nkind: Subscription\nmetadata: {{ name: opinions }}\n\
             spec: {{ sourceRef: {{ name: court }}, schedule: \"0 0 29 2 *\" }}\n",
            origin.url()
        ))
        .await;
    tipstaff.condition("tsub/opinions", "Ready", "True", Some("Scheduled")).await;
    tipstaff.request("opinions", "all is well").await;
    tipstaff.ended_runs("opinions", 1).await;

    for (number, part) in [Part::Kafka, Part::Minio, Part::Postgres].into_iter().enumerate() {
        // Another page each time, so that there are bytes to store.
        origin.set(200, &format!("{}<!-- {number} -->", corpus::CA11));
        let service = tipstaff.stack.service(part).unwrap();
        service.kill().await.unwrap();
        let shown_as = match part {
            Part::Kafka => Some("bus"),
            Part::Postgres => Some("catalog"),
            _ => None,
        };
        for process in [&operator, &worker] {
            readiness(process, shown_as).await;
        }
        tipstaff.request("opinions", &format!("while part {number} is away")).await;
        service.start().await.unwrap();
        let runs = tipstaff.ended_runs("opinions", number + 2).await;
        for process in [&operator, &worker] {
            readiness(process, None).await;
        }
        assert_eq!(runs.len(), number + 2, "{part:?}");
        assert!(runs.iter().all(|run| run.phase == "Succeeded"), "{part:?}: {runs:?}");
        assert!(operator.is_running() && worker.is_running(), "{part:?}");
    }
    assert_eq!(tipstaff.count("select count(*) from artifacts").await, 4);
    assert_eq!(tipstaff.count("select count(distinct blob_uri) from artifacts").await, 4);
    assert_eq!(tipstaff.count("select count(*) from outbox").await, 0);
    worker.terminate().await;
    operator.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_api_server_due_times_are_met_and_afterwards_only_what_differs_is_written() {
    let parts = [Part::Etcd, Part::KubeApiserver, Part::Postgres, Part::Kafka];
    let stack = Stack::start(&parts, StackOptions::default()).await.unwrap();
    let tipstaff = Installation::on(stack, "headless").await;
    let mut operator = tipstaff.operator(&[]);
    let subscription = |name: &str, schedule: &str| {
        format!(
            "---\napiVersion: tipstaff.dev/v1alpha1\nkind: Subscription\nmetadata: {{ name: {name} }}\n\
             spec: {{ sourceRef: {{ name: court }}, schedule: \"{schedule}\", concurrencyPolicy: Allow }}\n"
        )
    };
    let mut manifests = "apiVersion: tipstaff.dev/v1alpha1\nkind: Source\nmetadata: { name: court }\n\
         spec: { kind: html, baseURL: \"http://127.0.0.1:9/\" }\n"
        .to_owned();
    manifests.push_str(&subscription("opinions", "* * * * *"));
    for number in 0..10 {
        manifests.push_str(&subscription(&format!("quiet-{number}"), "0 0 29 2 *"));
    }
    tipstaff.apply(&manifests).await;
    for name in ["opinions", "quiet-0", "quiet-9"] {
        tipstaff.condition(&format!("tsub/{name}"), "Ready", "True", Some("Scheduled")).await;
    }
    let versions = async || {
        let list = tipstaff
            .kubectl(
                &[
                    "get",
                    "tsub",
                    "-o",
                    "jsonpath={range .items[*]}{.metadata.name}={.metadata.resourceVersion} {end}",
                ],
                "",
            )
            .await
            .unwrap();
        list.split_whitespace()
            .filter(|entry| entry.starts_with("quiet"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let before = versions().await;

    tipstaff.stack.service(Part::KubeApiserver).unwrap().kill().await.unwrap();
    let made = tipstaff.count("select count(*) from runs").await;
    eventually("runs without the API server", SOON + SOON, async || {
        let runs = tipstaff.count("select count(*) from runs").await;
        if runs >= made + 2 { Ok(()) } else { Err(runs) }
    })
    .await;
    assert!(operator.is_running());
    readiness(&operator, None).await;

    tipstaff.stack.service(Part::KubeApiserver).unwrap().start().await.unwrap();
    eventually("the runs in the status", SOON, async || {
        let status = tipstaff.object("tsub/opinions").await["status"].clone();
        let active = tipstaff.count("select count(*) from runs where finished_at is null").await;
        if status["activeRuns"] == active { Ok(()) } else { Err(status) }
    })
    .await;
    // It still leads, under its first epoch, and has written nothing of what had not changed.
    assert_eq!(tipstaff.count("select epoch from leadership").await, 1);
    assert_eq!(versions().await, before);
    operator.terminate().await;
}
