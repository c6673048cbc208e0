//! One run: start everything, play the script while faults strike, heal, wait until it is quiet, and watch the rest.

use std::{future::ready, net::SocketAddr, sync::Arc, time::Duration};

use jiff::Timestamp;
use stack::{Part, Stack, StackOptions};
use tests::{Installation, KafkaTopic, Proxy, eventually};
use tokio::time::{Instant, sleep};

use crate::{
    Bucket, Failure, Finished, Fleet, Objects, Places, Plan, Receiver, Script, Site, Topics, Victims, World,
    faults,
    finished::{Stopped, TARGET_TOPIC},
    quiet::Work,
};

const PARTS: [Part; 5] = [Part::Etcd, Part::KubeApiserver, Part::Kafka, Part::Postgres, Part::Minio];
/// Few are left besides those of Tipstaff's processes, six each: soon all are taken.
const CONNECTIONS: &str = "max_connections=100";
/// How long a first sync may take on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(180);
/// How long the API server may take, which has just come back.
const SCHEDULES_WITHIN: Duration = Duration::from_secs(60);
/// What workers note of sources and targets is looked for every five seconds, and a status is written ten seconds late at
/// most; afterwards nothing is left to write.
const STATUS_LATE: Duration = Duration::from_secs(20);

/// Runs to the end.
pub async fn run(plan: &Plan) -> Result<Finished, Failure> {
    let arguments = ["-c", CONNECTIONS].map(|argument| (Part::Postgres, argument.to_owned())).into();
    let stack = Stack::start(&PARTS, StackOptions { arguments }).await?;
    let tipstaff = Arc::new(Installation::on(stack, "chaos").await);
    let s3 = tipstaff.s3();
    let store: SocketAddr = tipstaff.stack.service(Part::Minio)?.address().into();
    let proxy = Proxy::start(store).await;
    let receiver = Receiver::start(plan.seed).await;
    let site = Arc::new(Site::start().await);
    let world = Arc::new(World::new(plan, site.port()));
    let topic = KafkaTopic::create(&tipstaff.stack, format!("{}{TARGET_TOPIC}", tipstaff.prefix)).await;
    let places =
        Places { receiver_port: receiver.port(), topic: topic.name.clone(), bucket: s3.bucket.clone() };
    let objects = Objects::connect(&tipstaff).await?;
    let mut script = Script::new(plan, &world, &site, &objects, &tipstaff.pool);

    let fleet = Fleet::start(&tipstaff, &environment(&proxy));
    let made_at = objects.create(&world, &places).await?;
    let wanted = world.subscriptions.len();
    eventually("subscriptions that are ready", READY_WITHIN, async || {
        let ready = objects.ready().await;
        if ready.as_ref().is_ok_and(|ready| *ready == wanted) { Ok(()) } else { Err(ready) }
    })
    .await;
    eprintln!(
        "chaos: {wanted} subscriptions are ready; faults for {:?}, seed {}",
        plan.faults_for, plan.seed
    );

    let victims = Arc::new(Victims { tipstaff: tipstaff.clone(), fleet, proxy, receiver });
    let until = Instant::now() + plan.faults_for;
    let playing = script.play(until, until + plan.quiet_within);
    let striking = async {
        let counts = faults::strike(&victims, plan, until).await;
        eprintln!("chaos: no more faults");
        (counts, Instant::now())
    };
    let (unserved, (faults, healed)) = tokio::join!(playing, striking);

    let minutely = world.subscriptions.iter().filter(|subscription| subscription.is_minutely);
    let minutely: Vec<&str> = minutely.map(|subscription| subscription.name.as_str()).collect();
    let from = Timestamp::now().as_second();
    eventually("schedules that are due no more", SCHEDULES_WITHIN, async || {
        objects.stop_schedules(&minutely).await.map_err(|error| error.to_string())
    })
    .await;
    let topics = Topics::new(tipstaff.stack.kafka_brokers()?, tipstaff.prefix.clone());
    let work = Work { pool: &tipstaff.pool, objects: &objects, topics: &topics };
    let left = work.wait_for_specs(healed + plan.quiet_within).await;
    let stopped = Stopped { from, until: Timestamp::now().as_second() };
    let left = left.or(work.wait(healed + plan.quiet_within).await);
    // What runs ended as after the script had stopped looking.
    script.seen.look(&tipstaff.pool).await?;
    let quiet_after = healed.elapsed();
    eprintln!("chaos: quiet {quiet_after:.1?} after the last fault");
    sleep(STATUS_LATE).await;

    let mut finished = Finished {
        plan: plan.clone(),
        world,
        site,
        objects,
        bucket: Bucket::new(s3),
        topics,
        ledger: script.ledger,
        seen: script.seen,
        made_at,
        stopped,
        unserved,
        left,
        faults,
        longest_outage: script.longest_outage,
        quiet_after,
        written_at_rest: Vec::new(),
        victims,
    };
    finished.written_at_rest = finished.watch(plan.rest_for, ready(())).await?;
    Ok(finished)
}

/// Of all processes, besides the installation's own.
fn environment(proxy: &Proxy) -> Vec<(&'static str, String)> {
    [
        ("AWS_ENDPOINT_URL", proxy.url()),
        ("TIPSTAFF_ALLOW_CIDRS", "127.0.0.0/8".to_owned()),
        ("TIPSTAFF_DATABASE_CONNECTIONS", "6".to_owned()),
        ("TIPSTAFF_DRAIN_SECONDS", "10".to_owned()),
        // By default it takes minutes until a lost event is missed.
        ("TIPSTAFF_RESTART_AFTER_SECONDS", "30".to_owned()),
        ("KAFKA_PARTITIONS", "4".to_owned()),
        // The shortest that brokers take: partitions of a worker that was killed go to another within seconds.
        ("KAFKA_PROPERTIES", "session.timeout.ms=6000;heartbeat.interval.ms=2000".to_owned()),
        ("RUST_LOG", "info".to_owned()),
    ]
    .into()
}
