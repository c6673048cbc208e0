//! A catalog that takes two seconds a statement.

use std::time::Duration;

use stack::Part;
use tests::{Installation, Origin, Proxy, Traffic, corpus, eventually};

use crate::objects::{MB, all_is_done, end_in_bounds, metric_reaches, source, subscription};

const NAMES: [&str; 3] = ["one", "two", "three"];
/// On each way: a question and its answer take two seconds.
const HELD_UP: Duration = Duration::from_secs(1);
const IN_TIME: Duration = Duration::from_secs(180);

#[tokio::test(flavor = "multi_thread")]
async fn with_two_seconds_a_statement_runs_end_once_the_leader_leads_on_and_readiness_tells() {
    let tipstaff = Installation::new("slow-catalog").await;
    let server = tipstaff.stack.service(Part::Postgres).unwrap().address();
    let proxy = Proxy::start(server.into()).await;
    let through_proxy = format!("127.0.0.1:{}", proxy.port());
    let url = tipstaff.database_url().replace(&server.to_string(), &through_proxy);
    assert!(url.contains(&through_proxy), "{url}");
    let environment = [("DATABASE_URL", url)];
    let (operator, worker) = (tipstaff.operator(&environment), tipstaff.worker(&environment));
    let origin = Origin::start(corpus::CA11).await;
    for name in NAMES {
        tipstaff.apply(&(source(name, &origin.at(&format!("/{name}")), "") + &subscription(name))).await;
        tipstaff.condition(&format!("tsub/{name}"), "Ready", "True", Some("Scheduled")).await;
    }
    tipstaff.request(NAMES[0], "before").await;
    tipstaff.ended_runs(NAMES[0], 1).await;
    let before = [operator.peak_memory(), worker.peak_memory()];

    proxy.set(Traffic::Slow(HELD_UP));
    for name in NAMES {
        tipstaff.request(name, "slow").await;
    }
    for process in [&operator, &worker] {
        eventually("the catalog among what is not ready", IN_TIME, async || {
            assert!(process.probe("/livez").await.starts_with("HTTP/1.1 200"));
            let answer = process.probe("/readyz").await;
            if answer.contains("\ncatalog: it does not answer") { Ok(()) } else { Err(answer) }
        })
        .await;
        assert_eq!(process.metric("tipstaff_part_ready{part=\"catalog\"}").await, Some(0.0));
    }
    all_is_asked_for(&tipstaff).await;
    all_is_done(&tipstaff, IN_TIME).await;
    assert_eq!(operator.metric("tipstaff_leader").await, Some(1.0));

    proxy.set(Traffic::Flows);
    for process in [&operator, &worker] {
        metric_reaches(process, "tipstaff_part_ready{part=\"catalog\"}", 1.0, IN_TIME).await;
    }
    for name in NAMES {
        let count = if name == NAMES[0] { 2 } else { 1 };
        let runs = tipstaff.ended_runs(name, count).await;
        assert_eq!(runs.len(), count, "{name}: {runs:?}");
        assert!(runs.iter().all(|run| run.phase == "Succeeded"), "{name}: {runs:?}");
    }
    assert_eq!(tipstaff.count("select count(*) from versions").await, 3);
    assert_eq!(tipstaff.count("select epoch from leadership").await, 1);
    assert_eq!(tipstaff.count("select count(*) from runs where restarts > 0").await, 0);
    end_in_bounds([operator, worker], before, 50 * MB).await;
    tipstaff.remove().await;
}

async fn all_is_asked_for(tipstaff: &Installation) {
    eventually("the runs that were asked for", IN_TIME, async || {
        match tipstaff.count("select count(*) from runs").await {
            4 => Ok(()),
            runs => Err(runs),
        }
    })
    .await;
}
