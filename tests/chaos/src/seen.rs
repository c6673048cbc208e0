//! The runs as they were seen while they went on: what has ended stays as it is.

use std::{collections::HashMap, time::Duration};

use sqlx::{PgPool, Row};
use tokio::time::{Instant, timeout};

use crate::Failure;

/// A worker that stood still commits times that have passed.
const COMMITTED_LATE: Duration = Duration::from_secs(150);
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A run as it was last seen. Times are microseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenRun {
    /// Whose.
    pub subscription: String,
    /// What made it.
    pub trigger: String,
    /// When it was due.
    pub scheduled_for: i64,
    /// How far it was.
    pub phase: String,
    /// Why it ended so.
    pub reason: Option<String>,
    /// When it ended.
    pub finished_at: Option<i64>,
}

/// All runs that were seen, but those that were skipped.
#[derive(Debug)]
pub struct SeenRuns {
    runs: HashMap<String, SeenRun>,
    by_subscription: HashMap<String, Vec<String>>,
    looked_at: Instant,
    /// What ended twice.
    pub ended_again: Vec<String>,
}

impl Default for SeenRuns {
    fn default() -> Self {
        Self {
            runs: HashMap::new(),
            by_subscription: HashMap::new(),
            looked_at: Instant::now(),
            ended_again: Vec::new(),
        }
    }
}

impl SeenRuns {
    /// Looks at runs that are active, or have ended since the last look.
    pub async fn look(&mut self, pool: &PgPool) -> Result<(), Failure> {
        let now = Instant::now();
        let since = (now - self.looked_at) + COMMITTED_LATE;
        let reading = sqlx::query(
            "select r.id::text as id, s.name, r.trigger, r.phase, r.reason,
                 (extract(epoch from r.scheduled_for) * 1000000)::bigint as scheduled_for,
                 (extract(epoch from r.finished_at) * 1000000)::bigint as finished_at
             from runs r join subscriptions s on s.id = r.subscription_id
             where r.phase <> 'Skipped'
                 and (r.finished_at is null or r.finished_at > now() - make_interval(secs => $1))",
        )
        .bind(since.as_secs_f64())
        .fetch_all(pool);
        for row in timeout(ANSWER_WITHIN, reading).await?? {
            let run = SeenRun {
                subscription: row.try_get("name")?,
                trigger: row.try_get("trigger")?,
                scheduled_for: row.try_get("scheduled_for")?,
                phase: row.try_get("phase")?,
                reason: row.try_get("reason")?,
                finished_at: row.try_get("finished_at")?,
            };
            self.see(row.try_get("id")?, run);
        }
        self.looked_at = now;
        Ok(())
    }

    fn see(&mut self, id: String, run: SeenRun) {
        match self.runs.get(&id) {
            Some(before) if before.finished_at.is_some() && *before != run => {
                self.ended_again.push(format!("run {id} was {before:?} and is {run:?}"));
            }
            Some(_) => {}
            None => self.by_subscription.entry(run.subscription.clone()).or_default().push(id.clone()),
        }
        self.runs.insert(id, run);
    }

    /// The runs of a subscription that were due after a time.
    pub fn since(&self, subscription: &str, time: i64) -> impl Iterator<Item = &SeenRun> {
        let ids = self.by_subscription.get(subscription).into_iter().flatten();
        ids.filter_map(|id| self.runs.get(id)).filter(move |run| run.scheduled_for > time)
    }

    /// How each run that has ended was seen to end, by its id.
    pub fn ended(&self) -> impl Iterator<Item = (&String, &SeenRun)> {
        self.runs.iter().filter(|(_, run)| run.finished_at.is_some())
    }
}
