//! Kafka: one broker that is its own controller.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    path::PathBuf,
    time::Duration,
};

use super::Place;
use crate::{Part, StackError, build::Artifact, command, files, health::Health, port, service::Plan};

/// A JVM on a machine that also compiles.
const FORMAT_WITHIN: Duration = Duration::from_secs(60);

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
    let properties = folder.join("server.properties");
    let data = folder.join("data");
    files::write_private(&properties, &server_properties(clients, controller, &data.display().to_string()))?;
    let properties = properties.display().to_string();
    format_data(&properties).await?;

    let arguments = [
        "-Xmx400m",
        "-XX:+UseSerialGC",
        "-cp",
        &class_path()?,
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
        "kafka.Kafka",
        &properties,
    ];
    Ok(Plan {
        part: Part::Kafka,
        address: clients,
        launch: place.launch(Part::Kafka, &java(), arguments.map(str::to_owned).into()),
        health: Health::Kafka,
    })
}

async fn format_data(properties: &str) -> Result<(), StackError> {
    let class_path = class_path()?;
    let cluster = uuid::Uuid::new_v4().simple().to_string();
    let mut arguments = TOOL_OPTIONS.to_vec();
    arguments.extend(["-cp", &class_path, "kafka.tools.StorageTool", "format"]);
    arguments.extend(["--standalone", "-t", &cluster[..22], "-c", properties]);
    command::run(&java(), &arguments, &[], "", FORMAT_WITHIN).await?;
    Ok(())
}

fn server_properties(clients: SocketAddrV4, controller: SocketAddrV4, data: &str) -> String {
    format!(
        "\
process.roles=broker,controller
node.id=1
listeners=CLIENTS://{clients},CONTROLLER://{controller}
advertised.listeners=CLIENTS://{clients},CONTROLLER://{controller}
listener.security.protocol.map=CLIENTS:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=CLIENTS
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers={controller}
log.dirs={data}

# One broker holds everything.
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
