//! The program `chaos`; the library does the work.

use std::{
    io::{self, Write},
    process::ExitCode,
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
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // A second provider is never installed in this process.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match all(&arguments).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Nobody is left to tell when this fails.
            let _ = writeln!(io::stderr(), "chaos: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all promises were kept.
async fn all(arguments: &Arguments) -> Result<bool, Failure> {
    let seed = arguments.seed.unwrap_or_else(|| u64::from(std::process::id()));
    let plan = if arguments.short { Plan::short(seed) } else { Plan::full(seed, arguments.minutes) };
    let finished = run(&plan).await?;
    let state = finished.read(&mut *finished.tipstaff().pool.acquire().await?).await?;
    let report = finished.report(&state);
    write!(io::stdout(), "{report}")?;
    if !report.violations.is_empty() {
        writeln!(io::stdout(), "logs are kept in {}", finished.keep_logs()?.display())?;
    }
    Ok(report.violations.is_empty())
}
