//! Many runs are due at the same moment, and there is one worker.

use std::{net::Ipv4Addr, time::Duration};

use crds::{Source, Subscription};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use kube::{
    Api, Client,
    api::PostParams,
    config::{Config, KubeConfigOptions, Kubeconfig},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tests::{Installation, Origin, eventually};

use crate::objects::{MB, all_is_done, assert_grew_less};

/// What a test has time for; `TIPSTAFF_TEST_DUE=10000` takes more.
const DUE: usize = 2_000;
const SOURCES: usize = 200;
/// Requests to the API server on their way at a time.
const AT_A_TIME: usize = 32;
/// What takes little time to parse.
const PAGE: &str = "<main><h1>Opinions of the term</h1><p>None so far.</p></main>";
const SOON: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_due_at_once_is_run_once_each_by_one_worker_in_bounded_memory() {
    let due = std::env::var("TIPSTAFF_TEST_DUE").map_or(DUE, |count| count.parse().unwrap());
    let tipstaff = Installation::new("due-at-once").await;
    let worker = tipstaff.worker(&[("TIPSTAFF_ALLOW_CIDRS", "127.0.0.0/8".to_owned())]);
    let operator = tipstaff.operator(&[]);
    let origin = Origin::start_on(Ipv4Addr::UNSPECIFIED, PAGE).await;
    let port = origin.host().rsplit(':').next().unwrap().to_owned();
    let client = client(&tipstaff).await;
    let sources: Api<Source> = Api::namespaced(client.clone(), &tipstaff.namespace);
    let subscriptions: Api<Subscription> = Api::namespaced(client, &tipstaff.namespace);
    create_all(&sources, (0..SOURCES).map(|number| source(number, &port))).await;
    // The first full minute when all of them are there, fifty a second at worst.
    let made = SignedDuration::from_secs(60 + i64::try_from(due / 50).unwrap());
    let moment = Timestamp::now().checked_add(made).unwrap().to_zoned(TimeZone::UTC);
    let moment = moment.with().second(0).subsec_nanosecond(0).build().unwrap();
    let schedule = format!("{} {} * * *", moment.minute(), moment.hour());
    create_all(&subscriptions, (0..due).map(|number| subscription(number, &schedule))).await;
    assert!(Timestamp::now() < moment.timestamp(), "making the objects took too long");
    let known = async || tipstaff.count("select count(*) from subscriptions").await;
    eventually("all subscriptions", SOON, async || match usize::try_from(known().await).unwrap() {
        count if count == due => Ok(()),
        count => Err(count),
    })
    .await;
    let before = [operator.peak_memory(), worker.peak_memory()];

    eventually("the due time", Duration::from_secs(180), async || {
        let runs = tipstaff.count("select count(*) from runs").await;
        if runs > 0 { Ok(()) } else { Err(runs) }
    })
    .await;
    eventually("a backlog", SOON, async || {
        let active = tipstaff.count("select count(*) from runs where finished_at is null").await;
        if active > 100 { Ok(()) } else { Err(active) }
    })
    .await;
    all_is_done(&tipstaff, Duration::from_secs(10 + due as u64 / 10)).await;

    let due = i64::try_from(due).unwrap();
    assert_eq!(tipstaff.count("select count(*) from runs").await, due);
    assert_eq!(tipstaff.count("select count(distinct subscription_id) from runs").await, due);
    assert_eq!(
        tipstaff.count("select count(*) from runs where reason = 'Changed' and restarts = 0").await,
        due
    );
    assert_eq!(tipstaff.count("select count(*) from versions").await, due);
    // Those of a source share its fetch: the events of a host are handled one after the other, and what was asked for since
    // they were due is good for all of them.
    let asked = due.min(SOURCES as i64);
    assert_eq!(tipstaff.count("select count(*) from artifacts").await, asked);
    assert_eq!(
        worker.metric("tipstaff_fetches_total{outcome=\"Fetched\"}").await,
        Some(asked as f64),
        "fetches"
    );
    let lateness = operator.metric("tipstaff_beat_lateness_seconds_count").await;
    assert_eq!(lateness, Some(due as f64));
    let ended = "tipstaff_runs_ended_total{outcome=\"Succeeded\",reason=\"Changed\"}";
    eventually("the runs among the operator's metrics", SOON, async || match operator.metric(ended).await {
        Some(count) if count == due as f64 => Ok(()),
        count => Err(count),
    })
    .await;
    for (process, before) in [&operator, &worker].into_iter().zip(before) {
        assert_grew_less(process, before, 100 * MB);
    }
    worker.terminate().await;
    operator.terminate().await;
    tipstaff.remove().await;
}

/// One without a limit of its own.
async fn client(tipstaff: &Installation) -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let kubeconfig = Kubeconfig::read_from(tipstaff.stack.kubeconfig_path().unwrap()).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

async fn create_all<K>(api: &Api<K>, objects: impl Iterator<Item = Value>)
where
    K: Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    let parameters = PostParams::default();
    stream::iter(objects)
        .map(|object| async {
            let object: K = serde_json::from_value(object).unwrap();
            api.create(&parameters, &object).await
        })
        .buffer_unordered(AT_A_TIME)
        .try_for_each(|_| async { Ok(()) })
        .await
        .unwrap();
}

/// Every address of loopback is a host of its own.
fn source(number: usize, port: &str) -> Value {
    json!({
        "apiVersion": "tipstaff.dev/v1alpha1",
        "kind": "Source",
        "metadata": {"name": format!("source-{number}")},
        "spec": {
            "kind": "html",
            "baseURL": format!("http://127.2.0.{}:{port}/opinions", number + 1),
            "politeness": {"minInterval": "50ms"},
        },
    })
}

fn subscription(number: usize, schedule: &str) -> Value {
    json!({
        "apiVersion": "tipstaff.dev/v1alpha1",
        "kind": "Subscription",
        "metadata": {"name": format!("subscription-{number}")},
        "spec": {
            "sourceRef": {"name": format!("source-{}", number % SOURCES)},
            "schedule": schedule,
            "timeZone": "Etc/UTC",
            "selectors": {"body": "h1"},
        },
    })
}
