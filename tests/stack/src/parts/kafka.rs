//! Kafka: one broker that is its own controller, and another where it is asked for.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    path::PathBuf,
    time::Duration,
};

use super::Place;
use crate::{Part, StackError, build::Artifact, command, files, health::Health, port, service::Plan};

/// A JVM on a machine that also compiles.
const FORMAT_WITHIN: Duration = Duration::from_secs(60);

/// In the first broker's folder: the cluster's id and its controller's address.
const CLUSTER: &str = "cluster";

struct Cluster {
    id: String,
    controller: String,
}

/// The Java that runs Kafka: of `JAVA_HOME` if that is set, else of `PATH`.
pub(crate) fn java() -> PathBuf {
    std::env::var_os("JAVA_HOME")
        .filter(|home| !home.is_empty())
        .map(|home| PathBuf::from(home).join("bin/java"))
        .or_else(|| files::on_path("java"))
        // Not found: running it says so.
        .unwrap_or_else(|| "java".into())
}

/// The class path of the broker and its tools.
pub(crate) fn class_path() -> Result<String, StackError> {
    Ok(format!("{}/*", Artifact::Kafka.path()?.display()))
}

/// What every short-lived JVM starts faster with.
pub(crate) const TOOL_OPTIONS: [&str; 4] = [
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xmx256m",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
];

pub(crate) async fn kafka(place: &Place) -> Result<Plan, StackError> {
    let folder = place.new_folder(Part::Kafka)?;
    let (clients, controller) = (port::free(place.address)?, port::free(Ipv4Addr::LOCALHOST)?);
    let id = uuid::Uuid::new_v4().simple().to_string()[..22].to_owned();
    let cluster = Cluster { id, controller: controller.to_string() };
    files::write_private(&folder.join(CLUSTER), &format!("{} {}", cluster.id, cluster.controller))?;
    let node = format!(
        "\
process.roles=broker,controller
node.id=1
listeners=CLIENTS://{clients},CONTROLLER://{controller}
advertised.listeners=CLIENTS://{clients},CONTROLLER://{controller}
"
    );
    broker(place, Part::Kafka, clients, &node, &cluster, "--standalone").await
}

/// A broker of the cluster that [`kafka`] has made.
pub(crate) async fn second_broker(place: &Place) -> Result<Plan, StackError> {
    place.new_folder(Part::SecondBroker)?;
    let path = place.data.join(Part::Kafka.name()).join(CLUSTER);
    let known = std::fs::read_to_string(&path).map_err(StackError::file("read", &path))?;
    let (id, controller) = known.split_once(' ').unwrap_or_default();
    let cluster = Cluster { id: id.to_owned(), controller: controller.to_owned() };
    let clients = port::free(place.address)?;
    let node = format!(
        "\
process.roles=broker
node.id=2
listeners=CLIENTS://{clients}
advertised.listeners=CLIENTS://{clients}
"
    );
    broker(place, Part::SecondBroker, clients, &node, &cluster, "--no-initial-controllers").await
}

/// `node` are the properties that no other broker has; `voters` says which controllers the cluster begins with.
async fn broker(
    place: &Place,
    part: Part,
    clients: SocketAddrV4,
    node: &str,
    cluster: &Cluster,
    voters: &str,
) -> Result<Plan, StackError> {
    let folder = place.data.join(part.name());
    let properties = folder.join("server.properties");
    let data = folder.join("data");
    let shared = shared_properties(&cluster.controller, &data.display().to_string());
    files::write_private(&properties, &format!("{node}{shared}"))?;
    let properties = properties.display().to_string();
    let class_path = class_path()?;
    let mut format = TOOL_OPTIONS.to_vec();
    format.extend(["-cp", &class_path, "kafka.tools.StorageTool", "format"]);
    format.extend([voters, "-t", &cluster.id, "-c", &properties]);
    command::run(&java(), &format, &[], "", FORMAT_WITHIN).await?;

    let arguments = [
        "-Xmx400m",
        "-XX:+UseSerialGC",
        "-cp",
        &class_path,
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
        "kafka.Kafka",
        &properties,
    ];
    Ok(Plan {
        part,
        address: clients,
        launch: place.launch(part, &java(), arguments.map(str::to_owned).into()),
        health: Health::Kafka,
    })
}

fn shared_properties(controller: &str, data: &str) -> String {
    format!(
        "\
listener.security.protocol.map=CLIENTS:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=CLIENTS
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers={controller}
log.dirs={data}

# One broker holds all that is not given to another on purpose.
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1

# Topics are made on purpose, with the partitions that they are meant to have.
auto.create.topics.enable=false

# Quick: groups form at once, and their coordinators have few files to open.
group.initial.rebalance.delay.ms=0
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
share.coordinator.state.topic.num.partitions=4
log.cleaner.dedupe.buffer.size=8388608
# A killed broker is let in again when the controller has given its earlier life up.
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=400
"
    )
}
