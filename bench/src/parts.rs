//! The parts that Tipstaff works with, durable as in production, and what they cost.

use std::collections::BTreeMap;

use stack::{Part, Stack, StackError, StackOptions};
use tests::{Installation, Process};

use crate::system::{cpu_seconds, cpu_seconds_of, cpu_seconds_of_all};

/// Starts parts; `statements` loads what counts SQL statements.
pub(crate) async fn start(parts: &[Part], statements: bool) -> Result<Stack, StackError> {
    let mut arguments = vec![
        // Tests do without fsync; a figure without it would flatter.
        (Part::Etcd, "--unsafe-no-fsync=false"),
        (Part::Postgres, "-c"),
        (Part::Postgres, "fsync=on"),
        // When a row was committed is asked of the server, not of who committed it.
        (Part::Postgres, "-c"),
        (Part::Postgres, "track_commit_timestamp=on"),
        (Part::Postgres, "-c"),
        (Part::Postgres, "shared_buffers=256MB"),
        // When an event was in Kafka is asked of the broker.
        (Part::Kafka, "--override"),
        (Part::Kafka, "log.message.timestamp.type=LogAppendTime"),
    ];
    if statements {
        let load = (Part::Postgres, "shared_preload_libraries=pg_stat_statements");
        let plans = (Part::Postgres, "pg_stat_statements.track_planning=on");
        arguments.extend([(Part::Postgres, "-c"), load, (Part::Postgres, "-c"), plans]);
    }
    let arguments = arguments.into_iter().map(|(part, argument)| (part, argument.to_owned())).collect();
    Stack::start(parts, StackOptions { arguments }).await
}

/// CPU seconds used so far: by a process of Tipstaff, by each part, by the benchmark, and by all that is none of these.
pub(crate) struct CpuTimes(BTreeMap<&'static str, f64>);

impl CpuTimes {
    pub(crate) async fn now(tipstaff: &Installation, name: &'static str, process: &Process) -> Self {
        let mut times = BTreeMap::from([
            (name, cpu_seconds(process.id())),
            ("bench", cpu_seconds_of(std::process::id())),
        ]);
        for service in tipstaff.stack.services() {
            if let Some(id) = service.process_id().await {
                times.insert(service.part().name(), cpu_seconds(id));
            }
        }
        let known: f64 = times.values().sum();
        times.insert("others", cpu_seconds_of_all() - known);
        Self(times)
    }

    /// What was used since, as text.
    pub(crate) fn since(&self, before: &Self) -> String {
        let used = self.0.iter().map(|(name, seconds)| {
            format!("{name} {:.1} s", seconds - before.0.get(name).copied().unwrap_or_default())
        });
        used.collect::<Vec<_>>().join(", ")
    }
}
