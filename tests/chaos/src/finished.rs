//! An installation on which everything is done: to be checked, as often as one likes.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use sqlx::PgConnection;
use tests::Installation;

use crate::{
    Bucket, Catalog, Failure, Findings, Ledger, Objects, Plan, Received, Record, Report, SeenRuns, Site,
    Topics, Victims, World, Written, bucket,
    check::{check, history},
    faults::Counts,
    report::MOST_HISTORIES,
};

/// The topic of targets of that kind, without the prefix.
pub const TARGET_TOPIC: &str = "changes";

/// What is left when a run of this program is over.
pub struct Finished {
    /// How it was run.
    pub plan: Plan,
    /// What was struck; it works again.
    pub victims: Arc<Victims>,
    /// What was watched.
    pub world: Arc<World>,
    /// The site.
    pub site: Arc<Site>,
    /// The API server's objects.
    pub objects: Objects,
    /// The bucket.
    pub bucket: Bucket,
    /// The topics.
    pub topics: Topics,
    /// What must be found.
    pub ledger: Ledger,
    /// What was seen of runs.
    pub seen: SeenRuns,
    /// When subscriptions were made, in seconds since 1970.
    pub made_at: Vec<i64>,
    /// When they stopped being due.
    pub stopped: Stopped,
    /// Which were waited for in vain.
    pub unserved: Vec<String>,
    /// What was still to be done when it was waited for no longer.
    pub left: Option<String>,
    /// How often what went wrong.
    pub faults: Counts,
    /// See [`Report`].
    pub longest_outage: (Duration, String),
    /// See [`Report`].
    pub quiet_after: Duration,
    /// What was written at rest.
    pub written_at_rest: Vec<String>,
}

/// While the schedules of subscriptions were changed to ones that are not due, in seconds since 1970.
#[derive(Clone, Copy, Debug)]
pub struct Stopped {
    /// Before it, none was changed.
    pub from: i64,
    /// After it, the operator had seen all of them; it looks on for as long as none is known to be left.
    pub until: i64,
}

/// All that can be read.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// The catalog.
    pub catalog: Catalog,
    /// The bucket.
    pub bucket: bucket::Objects,
    /// The topics.
    pub records: Vec<Record>,
    /// What targets of all kinds got.
    pub received: Vec<Received>,
}

impl Finished {
    /// The installation.
    #[must_use]
    pub fn tipstaff(&self) -> &Installation {
        &self.victims.tipstaff
    }

    /// Reads everything, the catalog through this connection.
    pub async fn read(&self, connection: &mut PgConnection) -> Result<State, Failure> {
        let (bucket, records) = (self.bucket.read().await?, self.topics.read().await?);
        let catalog = Catalog::read(connection).await?;
        let mut received = self.victims.receiver.log();
        let of_topic = records.iter().filter(|record| record.topic == TARGET_TOPIC);
        received.extend(of_topic.filter_map(|record| Received::read(record.value.as_bytes(), true)));
        received.extend(bucket.delivered.iter().cloned());
        Ok(State { catalog, bucket, records, received })
    }

    /// What a checker is to look at.
    #[must_use]
    pub fn findings<'a>(&'a self, state: &'a State) -> Findings<'a> {
        Findings {
            world: &self.world,
            site: &self.site,
            ledger: &self.ledger,
            seen: &self.seen,
            made_at: &self.made_at,
            stopped: self.stopped,
            unserved: &self.unserved,
            left: self.left.as_deref(),
            catalog: &state.catalog,
            bucket: &state.bucket,
            records: &state.records,
            received: &state.received,
            written_at_rest: &self.written_at_rest,
        }
    }

    /// Watches for a time what is written, though the operators are started anew and `meanwhile` is done.
    pub async fn watch(
        &self,
        time: Duration,
        meanwhile: impl Future<Output = ()>,
    ) -> Result<Vec<String>, Failure> {
        let pool = &self.tipstaff().pool;
        let (objects, topics, bucket) = (&self.objects, &self.topics, &self.bucket);
        Written { pool, objects, topics, bucket, fleet: &self.victims.fleet }.watch(time, meanwhile).await
    }

    /// Checks all, and reports.
    #[must_use]
    pub fn report(&self, state: &State) -> Report {
        let findings = self.findings(state);
        let violations = check(&findings)
            .into_iter()
            .enumerate()
            .map(|(number, violation)| {
                let is_told = number < MOST_HISTORIES;
                let history = if is_told { history(&findings, &violation) } else { Vec::new() };
                (violation, history)
            })
            .collect();
        let mut runs = BTreeMap::new();
        for run in &state.catalog.runs {
            let end = format!("{} {} {}", run.trigger, run.phase, run.reason.as_deref().unwrap_or("-"));
            *runs.entry(end).or_insert(0) += usize::try_from(run.due_times).unwrap_or(1);
        }
        let taken: Vec<_> = state.received.iter().filter(|received| received.is_taken).collect();
        let mut ids: Vec<_> = taken.iter().map(|received| (&received.id, &received.target)).collect();
        ids.sort();
        ids.dedup();
        Report {
            seed: self.plan.seed,
            faults: self.faults.clone(),
            ended_by_themselves: self.victims.fleet.ended_by_themselves(),
            runs: runs.into_iter().collect(),
            changes: self.ledger.count(),
            deliveries: (taken.len(), taken.len() - ids.len()),
            dead_letters: state.records.iter().filter(|record| record.topic.ends_with(".dlq")).count(),
            blobs: state.bucket.hashes.keys().filter(|uri| uri.ends_with(".bin")).count(),
            restarts: state.catalog.runs.iter().map(|run| i64::from(run.restarts)).sum(),
            longest_outage: self.longest_outage.clone(),
            quiet_after: self.quiet_after,
            violations,
        }
    }

    /// Keeps the logs of all processes, and says where.
    pub fn keep_logs(&self) -> Result<PathBuf, Failure> {
        let folder =
            std::env::temp_dir().join(format!("tipstaff-chaos-{}-{}", self.plan.seed, std::process::id()));
        std::fs::create_dir_all(&folder)?;
        for log in std::fs::read_dir(self.tipstaff().folder())? {
            let path = log?.path();
            if path.extension().is_some_and(|extension| extension == "log")
                && let Some(name) = path.file_name()
            {
                std::fs::copy(&path, folder.join(name))?;
            }
        }
        Ok(folder)
    }
}
