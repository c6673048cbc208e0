//! The parts that Tipstaff works with are killed under its feet, one after the other, and come back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use stack::{Part, Stack};
use tests::{Installation, Origin, corpus};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_while_a_part_is_away_is_done_once_when_it_is_back() {
    let origin = Origin::start(corpus::CA11).await;
    let tipstaff = Installation::on(Stack::all().await.unwrap(), "outages").await;
    let mut operator = tipstaff.operator(&[]);
    let mut worker = tipstaff.worker(&[]);
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
        tipstaff.request("opinions", &format!("while part {number} is away")).await;
        service.start().await.unwrap();
        let runs = tipstaff.ended_runs("opinions", number + 2).await;
        assert_eq!(runs.len(), number + 2, "{part:?}");
        assert!(runs.iter().all(|run| run.phase == "Succeeded"), "{part:?}: {runs:?}");
        assert!(operator.is_running() && worker.is_running(), "{part:?}");
    }
    assert_eq!(tipstaff.count("select count(*) from artifacts").await, 4);
    assert_eq!(tipstaff.count("select count(distinct blob_uri) from artifacts").await, 4);
    assert_eq!(tipstaff.count("select count(*) from outbox").await, 0);
    assert!(worker.terminate().await.success());
    assert!(operator.terminate().await.success());
}
