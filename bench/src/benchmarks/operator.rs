//! The operator on a real API server, PostgreSQL and Kafka, all started for this and durable as in production.
//!
//! One run, in this order: objects are made; the operator starts and brings them into the catalog (first sync); nothing
//! happens (rest); all are due in the same second, some times over; a part of them is due over a minute (spread). Then,
//! with the operator gone, the floors: the same work by bare clients on the same parts.

mod api_server;
mod firing;
mod first_sync;
mod fleet;
mod floors;
mod observer;
mod rest;
pub(super) mod topics;

use std::time::Duration;

use events::BoxError;

use stack::Part;
use tests::{Installation, Process};
use tokio::time::sleep;

use crate::{parts, report::Report, statements::Statements};
use api_server::ApiServer;
use firing::{SameSecond, Spread};
use fleet::Fleet;
use observer::Observer;
use topics::Topics;

const PARTS: [Part; 4] = [Part::Etcd, Part::KubeApiserver, Part::Kafka, Part::Postgres];
/// As long as the statistics of PostgreSQL may lag behind.
const STATISTICS_LAG: Duration = Duration::from_secs(12);

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Subscriptions
    #[arg(long, default_value_t = 10_000)]
    subscriptions: usize,
    /// Sources that they share
    #[arg(long, default_value_t = 100)]
    sources: usize,
    /// How long nothing is due while writes are counted
    #[arg(long, default_value_t = 300)]
    rest_seconds: u64,
    /// How often all are due in the same second
    #[arg(long, default_value_t = 3)]
    repeats: usize,
    /// How many of them are due over a minute
    #[arg(long, default_value_t = 1_000)]
    spread: usize,
    /// Also show which SQL statements took most time; costs a little of it
    #[arg(long)]
    statements: bool,
}

/// What the phases share.
struct Bench {
    tipstaff: Installation,
    api_server: ApiServer,
    topics: Topics,
    fleet: Fleet,
    observer: Observer,
}

pub(crate) async fn run(arguments: &Arguments) -> Result<Report, BoxError> {
    let count = arguments.subscriptions;
    let mut report = Report::new(format!(
        "bench operator: {count} Subscriptions of {} Sources on a real API server, PostgreSQL and Kafka",
        arguments.sources
    ));
    let tipstaff = Installation::on(parts::start(&PARTS, arguments.statements).await?, "bench").await;
    let api_server = ApiServer::connect(&tipstaff.stack).await?;
    let topics = Topics::of(&tipstaff)?;
    progress(&format!("making {count} Subscriptions"));
    let fleet = Fleet::create(&api_server, &tipstaff.namespace, count, arguments.sources).await?;
    let observer = Observer::start(&api_server, &tipstaff.namespace, count).await?;
    let statements = Statements::new(&tipstaff.pool, arguments.statements).await?;
    let bench = Bench { tipstaff, api_server, topics, fleet, observer };

    progress("first sync");
    statements.reset().await?;
    let (operator, first_sync) = first_sync::measure(&bench).await?;
    bench.observer.settled().await?;
    statements.note("first sync", &mut report).await?;
    let memory_synced = crate::system::memory(&operator.id().to_string())?;
    sleep(STATISTICS_LAG).await;

    progress(&format!("rest, {} s", arguments.rest_seconds));
    let rest = rest::measure(&bench, &operator, Duration::from_secs(arguments.rest_seconds)).await?;
    let same_second = firing::same_second(&bench, &statements, &first_sync, arguments.repeats).await?;
    statements.note("last firing and what followed", &mut report).await?;
    let spread = firing::spread(&bench, &first_sync, arguments.spread.min(count)).await?;
    let memory_fired = crate::system::memory(&operator.id().to_string())?;

    progress("floors, without the operator");
    operator.terminate().await;
    let floors = floors::measure(&bench, &same_second).await?;

    first_sync.report(&mut report, count, &floors);
    rest.report(&mut report, memory_synced, memory_fired);
    SameSecond::report(&same_second, &mut report, &floors);
    Spread::report(&spread, &mut report, &floors);
    Ok(report)
}

/// Says on standard error how far it is: a run takes a while.
fn progress(text: &str) {
    use std::io::Write;
    // Progress that cannot be told is no reason to stop.
    let _ =
        writeln!(std::io::stderr(), "{} bench operator: {text}", jiff::Timestamp::now().strftime("%H:%M:%S"));
}

/// Starts the operator as it is released: its defaults, no debug log.
fn start_operator(tipstaff: &Installation) -> Process {
    let environment = [("RUST_LOG", "info"), ("TIPSTAFF_LEASE_SECONDS", "10"), ("KAFKA_PARTITIONS", "6")];
    tipstaff.operator(&environment.map(|(name, value)| (name, value.to_owned())))
}

/// Asks until something is there.
async fn until<T>(
    what: &str,
    within: Duration,
    every: Duration,
    mut look: impl AsyncFnMut() -> Result<Option<T>, BoxError>,
) -> Result<T, BoxError> {
    let deadline = tokio::time::Instant::now() + within;
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(format!("{what} did not come within {} s", within.as_secs()).into());
        }
        sleep(every).await;
    }
}
