//! `tipstaff trace`: all that a run did, as a tree.

mod run_events;
mod tree;

use std::time::Duration;

use clap::Args;
use service::KafkaClusterArguments;
use store::catalog::RunRow;
use uuid::Uuid;

use self::run_events::Shown;
use super::catalog::CatalogArguments;
use super::show::{self, ReportFormat};

/// How many runs an error names at most.
const MOST_NAMED: u32 = 6;
/// The digits of a whole id.
const DIGITS: usize = 32;

/// Which run, and how to show it.
#[derive(Args)]
pub struct TraceArguments {
    /// The run's id, the beginning of it, or the id of its trace
    #[arg(value_name = "RUN_ID", value_parser = id_range)]
    run: IdRange,
    /// How it is shown
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    output: ReportFormat,
    #[command(flatten)]
    catalog: CatalogArguments,
    /// Kafka's bootstrap servers, host:port, separated by commas: with them the run's events are shown, too
    #[arg(long, env = "KAFKA_BROKERS")]
    kafka_brokers: Option<String>,
    #[command(flatten)]
    kafka: KafkaClusterArguments,
}

/// The ids that begin as was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct IdRange {
    first: Uuid,
    last: Uuid,
}

/// No run, or no single one.
#[derive(Debug, thiserror::Error)]
enum TraceError {
    #[error("the catalog has no run whose id begins so; `tipstaff runs` lists those it has")]
    NoRun,
    #[error("the ids of several runs begin so; say more of it: {}", described(runs))]
    SeveralRuns { runs: Vec<RunRow> },
}

fn described(runs: &[RunRow]) -> String {
    let described: Vec<_> =
        runs.iter().map(|run| format!("{} ({}/{})", run.id, run.namespace, run.subscription)).collect();
    described.join(", ")
}

/// Prints all that a run did. With Kafka's brokers, that are its events, too.
///
/// # Errors
/// When the catalog cannot be read, or does not have one such run.
pub async fn run(arguments: &TraceArguments) -> Result<(), events::BoxError> {
    let catalog = arguments.catalog.connect().await?;
    let IdRange { first, last } = arguments.run;
    let mut runs = catalog.runs_between(first, last, MOST_NAMED).await?;
    let run = match runs.len() {
        0 => return Err(TraceError::NoRun.into()),
        1 => runs.remove(0),
        _ => return Err(TraceError::SeveralRuns { runs }.into()),
    };
    let trace = catalog.trace_run(run).await?;
    let events = match &arguments.kafka_brokers {
        // Nothing is consumed as a member of a group, so nothing is taken away.
        Some(brokers) => {
            Some(run_events::read(&trace, &arguments.kafka.options(brokers, Duration::ZERO)).await)
        }
        None => None,
    };
    let shown = Shown { trace, events };
    let shown = match arguments.output {
        ReportFormat::Json => show::json(&shown)?,
        ReportFormat::Text => tree::render(&shown),
    };
    Ok(show::print(&shown)?)
}

/// Takes a command line argument as the beginning of an id.
fn id_range(text: &str) -> Result<IdRange, String> {
    let digits: String = text.chars().filter(|character| *character != '-').collect();
    let wrong = || "an id has 32 hexadecimal digits, of which some at the beginning will do".to_owned();
    if digits.is_empty() || digits.len() > DIGITS {
        return Err(wrong());
    }
    let filled = |digit: char| -> Result<Uuid, String> {
        let all: String = digits.chars().chain(std::iter::repeat(digit)).take(DIGITS).collect();
        // It takes a sign, too.
        let is_hexadecimal = all.chars().all(|character| character.is_ascii_hexdigit());
        let number = is_hexadecimal.then(|| u128::from_str_radix(&all, 16).ok()).flatten();
        number.map(Uuid::from_u128).ok_or_else(wrong)
    };
    Ok(IdRange { first: filled('0')?, last: filled('f')? })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_beginning_of_an_id_stands_for_all_that_begin_so() {
        for (text, first, last) in [
            ("5b7e1f30", "5b7e1f30-0000-0000-0000-000000000000", "5b7e1f30-ffff-ffff-ffff-ffffffffffff"),
            ("5B7E1F30-1", "5b7e1f30-1000-0000-0000-000000000000", "5b7e1f30-1fff-ffff-ffff-ffffffffffff"),
            (
                "5b7e1f30000050008000000000000001",
                "5b7e1f30-0000-5000-8000-000000000001",
                "5b7e1f30-0000-5000-8000-000000000001",
            ),
        ] {
            let range = id_range(text).unwrap();
            assert_eq!((range.first.to_string().as_str(), range.last.to_string().as_str()), (first, last));
        }
        for wrong in ["", "-", "xyz", "+1", "5b7e1f300000500080000000000000011"] {
            assert!(id_range(wrong).is_err(), "{wrong}");
        }
    }
}
