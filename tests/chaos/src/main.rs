//! The program `chaos`; the library does the work.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    process::ExitCode,
    time::Instant,
};

use chaos::{Failure, Plan, run};
use clap::Parser;

/// Runs Tipstaff while all its parts fail at random, and checks that it keeps its promises
#[derive(Parser)]
#[command(name = "chaos")]
struct Arguments {
    /// How long there are faults
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// What all choices follow from; another one each time unless given
    #[arg(long)]
    seed: Option<u64>,
    /// The short run that is part of the tests
    #[arg(long)]
    short: bool,
    /// Of a build without a guard: the invariant that must be found broken, and those that may break with it
    #[arg(long, value_delimiter = ',')]
    broken: Vec<u8>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // A second provider is never installed in this process.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let began = Instant::now();
    match all(&arguments, began).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Nobody is left to tell when this fails.
            let _ = writeln!(io::stderr(), "chaos: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all promises were kept; of a build without a guard, whether those were broken that it guards, and no others.
async fn all(arguments: &Arguments, began: Instant) -> Result<bool, Failure> {
    let seed = arguments.seed.unwrap_or_else(|| u64::from(std::process::id()));
    let plan = if arguments.short { Plan::short(seed) } else { Plan::full(seed, arguments.minutes) };
    let finished = run(&plan).await?;
    let state = finished.read(&mut *finished.tipstaff().pool.acquire().await?).await?;
    let report = finished.report(&state);
    write!(io::stdout(), "{report}")?;
    if !report.violations.is_empty() {
        writeln!(io::stdout(), "logs are kept in {}", finished.keep_logs()?.display())?;
    }
    let Some(first) = arguments.broken.first() else { return Ok(report.violations.is_empty()) };
    let mut counts: BTreeMap<u8, usize> = BTreeMap::new();
    for (violation, _) in &report.violations {
        *counts.entry(violation.invariant).or_default() += 1;
    }
    let counted: Vec<String> =
        counts.iter().map(|(invariant, count)| format!("{invariant} ({count} times)")).collect();
    let broken = if counted.is_empty() { "none".to_owned() } else { counted.join(", ") };
    writeln!(io::stdout(), "invariants found broken after {} s: {broken}", began.elapsed().as_secs())?;
    Ok(counts.contains_key(first) && counts.keys().all(|invariant| arguments.broken.contains(invariant)))
}
