//! The whole of Tipstaff under a steady load for a long time, on parts of its own: what must not grow, and what may.
//!
//! Sources change all the time, each change is delivered, and most subscriptions keep few versions. Every few seconds it is
//! looked at what processes and tables take. At the end a line is laid through the last two thirds of each: the time
//! before is for filling caches, and for the first versions that go.

mod fleet;
mod samples;
mod site;
mod verdict;

use std::time::{Duration, Instant};

use events::BoxError;
use stack::Part;
use tests::{Installation, Process};
use tokio::time::{MissedTickBehavior, interval};

use crate::{benchmarks::operator::topics::Topics, parts, report::Report};
use samples::Sampler;
use site::Site;

const PARTS: [Part; 5] = [Part::Etcd, Part::KubeApiserver, Part::Kafka, Part::Postgres, Part::Minio];
const ROLES: [&str; 5] = ["schedule", "crawl", "parse", "version", "deliver"];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How long, in minutes
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(3..))]
    minutes: u64,
    /// Subscriptions, each due every minute
    #[arg(long, default_value_t = 300)]
    subscriptions: usize,
    /// Hosts that their sources are spread over
    #[arg(long, default_value_t = 100)]
    hosts: usize,
    /// How many of a hundred subscriptions keep two versions; the others keep all
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u64).range(0..=100))]
    retained_percent: u64,
    /// How often each page changes, in seconds
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..))]
    change_seconds: u64,
    /// How often it is looked, in seconds
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    sample_seconds: u64,
}

pub(crate) async fn run(arguments: &Arguments) -> Result<Report, BoxError> {
    let mut report = Report::new(format!(
        "bench soak: {} Subscriptions, due every minute for {} minutes; pages change every {} s, {} % keep two versions",
        arguments.subscriptions, arguments.minutes, arguments.change_seconds, arguments.retained_percent
    ));
    progress("starting the parts");
    let tipstaff = Installation::on(parts::start(&PARTS, false).await?, "soak").await;
    let site = Site::start(Duration::from_secs(arguments.change_seconds)).await?;
    let mut processes = vec![("operator", tipstaff.operator(&environment("")))];
    for role in ROLES {
        processes.push((role, tipstaff.worker(&environment(role))));
    }
    progress("making subscriptions");
    let retained = arguments.subscriptions * usize::try_from(arguments.retained_percent)? / 100;
    for manifests in fleet::manifests(&site, arguments.subscriptions, arguments.hosts, retained) {
        tipstaff.apply(&manifests).await;
    }

    progress("watching");
    let sampler = Sampler::new(&tipstaff, Topics::of(&tipstaff)?);
    let mut samples = Vec::new();
    let mut looks = interval(Duration::from_secs(arguments.sample_seconds));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let started = Instant::now();
    let mut told = started;
    while started.elapsed() < Duration::from_secs(arguments.minutes * 60) {
        looks.tick().await;
        samples.push(sampler.sample(&mut processes, started.elapsed(), site.posted()).await?);
        if told.elapsed() > Duration::from_secs(60) {
            told = Instant::now();
            progress(&samples.last().map(samples::Sample::to_string).unwrap_or_default());
        }
    }
    let rates = verdict::Rates {
        runs_per_second: arguments.subscriptions as f64 / 60.0,
        kept_runs_per_second: (arguments.subscriptions - retained) as f64 / 60.0,
        has_retention: retained > 0,
    };
    verdict::report(&samples, &rates, &mut report)?;
    report.note(sampler.sizes().await?);
    for (_, process) in processes {
        process.terminate().await;
    }
    Ok(report)
}

/// As they are released, but that what is not kept is looked for often, and gone after a minute.
fn environment(role: &str) -> Vec<(&'static str, String)> {
    [
        ("RUST_LOG", "info"),
        ("TIPSTAFF_ROLES", role),
        ("TIPSTAFF_ALLOW_CIDRS", "127.0.0.0/8"),
        ("TIPSTAFF_RETENTION_SECONDS", "30"),
        ("TIPSTAFF_RETENTION_GRACE_SECONDS", "60"),
        ("TIPSTAFF_LEASE_SECONDS", "10"),
        ("KAFKA_PARTITIONS", "6"),
    ]
    .into_iter()
    .filter(|(name, value)| *name != "TIPSTAFF_ROLES" || !value.is_empty())
    .map(|(name, value)| (name, value.to_owned()))
    .collect()
}

/// What is watched of a process.
type Watched = (&'static str, Process);

/// Says on standard error how far it is.
fn progress(text: &str) {
    use std::io::Write;
    // Progress that cannot be told is no reason to stop.
    let _ = writeln!(std::io::stderr(), "{} bench soak: {text}", jiff::Timestamp::now().strftime("%H:%M:%S"));
}
