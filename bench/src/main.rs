//! Benchmarks of Tipstaff's parts. Each prints one table: what was measured, the target, and the floor, which is what
//! the same work takes in the same run without Tipstaff.
//!
//! A benchmark is a module of [`benchmarks`] with its arguments and a function that returns a [`report::Report`].

mod benchmarks;
mod catalog;
mod parts;
mod report;
mod site;
mod statements;
mod statistics;
mod system;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use benchmarks::{beat, content, crawl, local, operator, scale, soak};
use clap::{Parser, Subcommand};
use events::{BoxError, error_chain};
use report::Report;

#[global_allocator]
static ALLOCATOR: service::Allocator = service::Allocator;

#[derive(Parser)]
#[command(name = "bench", about = "Measures Tipstaff against its targets and against floors of the same run")]
struct Arguments {
    /// Exit with 1 when a target is missed
    #[arg(long, global = true)]
    check: bool,
    #[command(subcommand)]
    which: Which,
}

#[derive(Subcommand)]
enum Which {
    /// All, with their defaults, and at the end one table of what has a target or a floor
    All,
    #[command(flatten)]
    One(Benchmark),
}

#[derive(Subcommand)]
enum Benchmark {
    /// The operator on a real API server, PostgreSQL and Kafka: first sync, rest, and runs that are due at once
    Operator(operator::Arguments),
    /// The crawl role on a real Kafka, PostgreSQL and MinIO: documents that are new, and such that are as they were
    Crawl(crawl::Arguments),
    /// The embedded default: how long it takes from the start of `tipstaff local` to the first document
    Local(local::Arguments),
    /// Parsing and comparing alone, in memory: pages of courts, and texts that differ in several ways
    Content(content::Arguments),
    /// The beat's plan alone, in memory: what a subscription takes, and what a due time costs
    Beat(beat::Arguments),
    /// Everything under a steady load for a long time: what grows that must not
    Soak(soak::Arguments),
    /// A day of a million subscriptions, simulated: when they are due, and how long they wait for their hosts
    Scale(scale::Arguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // A second provider is never installed in this process.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match run(&arguments).await {
        Ok(are_met) if are_met || !arguments.check => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            // Nobody is left to tell when this fails.
            let _ = writeln!(io::stderr(), "bench: {}", error_chain(&*error));
            ExitCode::FAILURE
        }
    }
}

/// The order in which all are run: the short ones first.
const ALL: [&str; 6] = ["beat", "content", "scale", "local", "crawl", "operator"];

/// Whether all targets were met.
async fn run(arguments: &Arguments) -> Result<bool, BoxError> {
    let reports = match &arguments.which {
        Which::One(benchmark) => vec![measure(benchmark).await?],
        Which::All => {
            let mut reports = Vec::new();
            for name in ALL {
                if let Which::One(benchmark) = Arguments::try_parse_from(["bench", name])?.which {
                    reports.push(measure(&benchmark).await?);
                }
            }
            write!(io::stdout(), "{}", Report::summary(&reports))?;
            reports
        }
    };
    Ok(reports.iter().all(Report::are_targets_met))
}

/// Runs a benchmark and prints its table.
async fn measure(benchmark: &Benchmark) -> Result<Report, BoxError> {
    let report = match benchmark {
        Benchmark::Operator(arguments) => operator::run(arguments).await?,
        Benchmark::Crawl(arguments) => crawl::run(arguments).await?,
        Benchmark::Local(arguments) => local::run(arguments).await?,
        Benchmark::Content(arguments) => content::run(arguments)?,
        Benchmark::Beat(arguments) => beat::run(arguments)?,
        Benchmark::Soak(arguments) => soak::run(arguments).await?,
        Benchmark::Scale(arguments) => scale::run(arguments)?,
    };
    write!(io::stdout(), "{report}")?;
    Ok(report)
}
