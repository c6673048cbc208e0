//! Partitions without a leader: the broker that alone has them is away.

use std::{net::Ipv4Addr, time::Duration};

use events::Topic;
use flate2::Crc;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
};
use sqlx::Row;
use stack::{Part, Stack, StackOptions};
use tests::{Installation, Origin, corpus, eventually};

use crate::objects::{MB, all_is_done, end_in_bounds, metric_reaches, source, subscription};

const RUNS: usize = 40;
/// Fewer events at a time than there are runs whose partition is away.
const CONCURRENCY: usize = 4;
const SOON: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_a_partition_without_a_leader_waits_and_the_rest_goes_on() {
    let parts = [Part::Kafka, Part::SecondBroker];
    let kafka = Stack::start(&parts, StackOptions::default()).await.unwrap();
    let tipstaff = Installation::new("no-leader").await;
    let admin = admin(&kafka);
    make_topics(&admin, &tipstaff.prefix).await;
    kafka.service(Part::SecondBroker).unwrap().kill().await.unwrap();
    // Until it is noticed, a new topic may be given to it.
    eventually("the second broker's absence", SOON, async || {
        let metadata = admin.inner().fetch_metadata(None, Duration::from_secs(5)).unwrap();
        if metadata.brokers().len() == 1 { Ok(()) } else { Err(metadata.brokers().len()) }
    })
    .await;

    let brokers = ("KAFKA_BROKERS", kafka.kafka_brokers().unwrap());
    let operator = tipstaff.operator(std::slice::from_ref(&brokers));
    let concurrency = ("TIPSTAFF_CONCURRENCY", CONCURRENCY.to_string());
    let networks = ("TIPSTAFF_ALLOW_CIDRS", "127.0.0.0/8".to_owned());
    let worker = tipstaff.worker(&[brokers, concurrency, networks]);
    let origin = Origin::start_on(Ipv4Addr::UNSPECIFIED, corpus::CA11).await;
    // Every address of loopback is a host of its own, and so a key of requests.
    let port = origin.host().rsplit(':').next().unwrap().to_owned();
    let names: Vec<String> = (0..RUNS).map(|number| format!("court-{number}")).collect();
    let manifests = names.iter().zip(1..).map(|(name, number)| {
        source(name, &format!("http://127.3.0.{number}:{port}/"), "") + &subscription(name)
    });
    tipstaff.apply(&manifests.collect::<String>()).await;
    for name in &names {
        tipstaff.condition(&format!("tsub/{name}"), "Ready", "True", Some("Scheduled")).await;
    }
    let before = [operator.peak_memory(), worker.peak_memory()];
    tipstaff.kubectl(&["annotate", "tsub", "--all", "tipstaff.dev/requestedAt=1"], "").await.unwrap();

    let outbox = eventually("what Kafka does not take among what is not ready", SOON, async || {
        let answer = operator.probe("/readyz").await;
        if answer.contains("\noutbox: ") { Ok(answer) } else { Err(answer) }
    })
    .await;
    assert!(outbox.contains("crawl."), "it names no topic: {outbox}");
    assert_eq!(operator.metric("tipstaff_part_ready{part=\"outbox\"}").await, Some(0.0));
    // All that a partition with a leader has goes on to its end.
    eventually("the end of the rest", SOON + SOON, async || {
        let unfinished = sqlx::query(
            "select topic, key from runs r left join outbox o on o.run_id = r.id where r.finished_at is null",
        );
        let unfinished = unfinished.fetch_all(&tipstaff.pool).await.unwrap();
        let others: Vec<(Option<String>, Option<String>)> = unfinished
            .iter()
            .map(|row| (row.get("topic"), row.get("key")))
            .filter(|(topic, key): &(Option<String>, Option<String>)| {
                !is_without_leader(topic.as_deref(), key.as_deref())
            })
            .collect();
        if others.is_empty() { Ok(()) } else { Err(others) }
    })
    .await;
    let ended = tipstaff.count("select count(*) from runs where phase = 'Succeeded'").await;
    let held = tipstaff.count("select count(*) from runs where finished_at is null").await;
    assert!(held > CONCURRENCY as i64 && ended > 0, "{ended} ended, {held} are held");
    assert_eq!(ended + held, RUNS as i64);

    kafka.service(Part::SecondBroker).unwrap().start().await.unwrap();
    all_is_done(&tipstaff, SOON).await;
    metric_reaches(&operator, "tipstaff_part_ready{part=\"outbox\"}", 1.0, SOON).await;
    let runs = RUNS as i64;
    assert_eq!(tipstaff.count("select count(*) from runs").await, runs);
    assert_eq!(tipstaff.count("select count(*) from runs where reason = 'Changed'").await, runs);
    assert_eq!(tipstaff.count("select count(*) from versions").await, runs);
    assert_eq!(tipstaff.count("select count(*) from artifacts").await, runs);
    end_in_bounds([operator, worker], before, 50 * MB).await;
    tipstaff.remove().await;
}

fn admin(kafka: &Stack) -> AdminClient<DefaultClientContext> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka.kafka_brokers().unwrap()).create().unwrap()
}

/// Tipstaff's topics on the first broker, but for one partition of what is to be fetched and one of what was.
async fn make_topics(admin: &AdminClient<DefaultClientContext>, prefix: &str) {
    let names: Vec<(String, bool)> = Topic::ALL
        .into_iter()
        .flat_map(|topic| {
            let is_split = matches!(topic, Topic::CrawlRequest | Topic::CrawlResult);
            [(topic.name().to_owned(), is_split), (topic.dead_letter_name(), false)]
        })
        .map(|(name, is_split)| (format!("{prefix}{name}"), is_split))
        .collect();
    let topics: Vec<NewTopic<'_>> = names
        .iter()
        .map(|(name, is_split)| {
            let replicas: &[&[i32]] = if *is_split { &[&[1], &[2]] } else { &[&[1], &[1]] };
            NewTopic::new(name, 2, TopicReplication::Variable(replicas))
        })
        .collect();
    for made in admin.create_topics(&topics, &AdminOptions::new()).await.unwrap() {
        made.unwrap();
    }
}

/// Where librdkafka puts a key: of two partitions the second is the other broker's.
fn is_without_leader(topic: Option<&str>, key: Option<&str>) -> bool {
    let mut crc = Crc::new();
    crc.update(key.unwrap_or_default().as_bytes());
    matches!(topic, Some("crawl.request" | "crawl.result")) && crc.sum() % 2 == 1
}
