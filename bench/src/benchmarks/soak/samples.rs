//! What processes, tables and topics take at a moment.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use ::tests::Installation;
use events::BoxError;
use sqlx::{PgPool, Row};
use stack::Part;
use tokio::time::sleep;

use super::Watched;
use crate::{benchmarks::operator::topics::Topics, catalog, system};

/// How often Kafka is asked before it counts as failed.
const ASKED: u32 = 10;

/// Rows of subscriptions that do not keep everything.
const RETAINED: &str = "
    with retained as (select id from subscriptions where settings ? 'retention')
    select (select count(*) from versions where subscription_id in (select id from retained)) as versions,
        (select count(*) from runs where subscription_id in (select id from retained)) as runs,
        (select count(*) from documents where subscription_id in (select id from retained)) as documents,
        (select count(*) from artifacts a join runs r on r.id = a.run_id
            where r.subscription_id in (select id from retained)) as artifacts,
        (select count(*) from deliveries where subscription_id in (select id from retained)) as deliveries,
        (select count(*) from runs where finished_at is null) as active_runs,
        (select count(*) from runs where subscription_id not in (select id from retained)) as kept_runs,
        (select count(*) from outbox) as outbox,
        (select count(*) from removed_blobs where deleted_at is null) as bodies_to_delete,
        (select count(*) from removed_blobs where deleted_at is not null) as deleted_bodies,
        (select count(*) from pg_stat_activity where datname = current_database()) as connections";
/// Columns of it that have to stay as they are.
pub(super) const FLAT: [&str; 9] = [
    "versions",
    "runs",
    "documents",
    "artifacts",
    "deliveries",
    "active_runs",
    "outbox",
    "bodies_to_delete",
    "connections",
];

/// What does not hold evidence: its size depends on how many objects there are, and not on how long they are watched.
const BOUNDED_TABLES: [&str; 7] =
    ["outbox", "document_heads", "hosts", "robots", "sources", "subscriptions", "targets"];

/// A table at a moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Table {
    /// Rows that are gone and take room until they are vacuumed.
    pub(super) dead: f64,
    /// With its indexes, in megabytes; only of those that are bounded.
    pub(super) megabytes: Option<f64>,
}

/// A process at a moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    /// Resident memory, in megabytes.
    pub(super) memory: f64,
    /// Open files and sockets.
    pub(super) handles: f64,
}

/// One look.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    /// In seconds, since it began.
    pub(super) at: f64,
    pub(super) processes: BTreeMap<&'static str, Taken>,
    pub(super) rows: BTreeMap<&'static str, f64>,
    pub(super) tables: BTreeMap<String, Table>,
    /// Where all topics end, added up.
    pub(super) events: f64,
    /// What topics take on the broker's disk, in megabytes.
    pub(super) topic_megabytes: f64,
    /// Deliveries that came.
    pub(super) posted: f64,
}

impl Sample {
    /// Rows that are counted under this name.
    pub(super) fn count(&self, name: &str) -> f64 {
        self.rows.get(name).copied().unwrap_or_default()
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} s: {} events, {} delivered", self.at, self.events, self.posted)?;
        for (name, taken) in &self.processes {
            write!(f, ", {name} {:.0} MB", taken.memory)?;
        }
        for (name, count) in &self.rows {
            write!(f, ", {name} {count}")?;
        }
        Ok(())
    }
}

/// Looks at one installation.
pub(super) struct Sampler {
    pool: PgPool,
    topics: Topics,
    /// Where the broker keeps its topics.
    kafka_data: PathBuf,
    /// What the names of the installation's topics begin with.
    prefix: String,
}

impl Sampler {
    pub(super) fn new(tipstaff: &Installation, topics: Topics) -> Self {
        let kafka_data = tipstaff.stack.data(Part::Kafka);
        Self { pool: tipstaff.pool.clone(), topics, kafka_data, prefix: tipstaff.prefix.clone() }
    }

    pub(super) async fn sample(
        &self,
        processes: &mut [Watched],
        at: Duration,
        posted: u64,
    ) -> Result<Sample, BoxError> {
        let mut taken = BTreeMap::new();
        for (name, process) in processes {
            if !process.is_running() {
                return Err(format!("{name} has ended; its log: {}", process.log()).into());
            }
            let id = process.id().to_string();
            let handles = fs::read_dir(format!("/proc/{id}/fd"))?.count() as f64;
            taken.insert(*name, Taken { memory: system::memory(&id)?.resident, handles });
        }
        let row = sqlx::query(RETAINED).fetch_one(&self.pool).await?;
        let names = FLAT.into_iter().chain(["kept_runs", "deleted_bodies"]);
        let rows = names.map(|name| Ok((name, row.try_get::<i64, _>(name)? as f64)));
        Ok(Sample {
            at: at.as_secs_f64(),
            processes: taken,
            rows: rows.collect::<Result<_, sqlx::Error>>()?,
            tables: self.tables().await?,
            events: self.ends().await? as f64,
            topic_megabytes: segment_bytes(&self.kafka_data, &self.prefix)? as f64 / 1e6,
            posted: posted as f64,
        })
    }

    /// Where all topics end. On a busy machine Kafka's metadata may be late for a moment.
    async fn ends(&self) -> Result<i64, BoxError> {
        for _ in 1..ASKED {
            if let Ok(ends) = self.topics.ends().await {
                return Ok(ends);
            }
            sleep(Duration::from_secs(1)).await;
        }
        self.topics.ends().await
    }

    async fn tables(&self) -> Result<BTreeMap<String, Table>, BoxError> {
        let rows = sqlx::query(
            "select relname::text, n_dead_tup, pg_total_relation_size(relid) as bytes from pg_stat_user_tables",
        )
        .fetch_all(&self.pool)
        .await?;
        let mut tables = BTreeMap::new();
        for row in &rows {
            let name: String = row.try_get("relname")?;
            let bytes: i64 = row.try_get("bytes")?;
            let megabytes = BOUNDED_TABLES.contains(&name.as_str()).then_some(bytes as f64 / 1e6);
            let dead = row.try_get::<i64, _>("n_dead_tup")? as f64;
            tables.insert(name, Table { dead, megabytes });
        }
        Ok(tables)
    }

    /// How large tables are, as text.
    pub(super) async fn sizes(&self) -> Result<String, BoxError> {
        // Rows that are gone take no part in what a row takes.
        catalog::execute(&self.pool, "vacuum analyze").await?;
        let rows = sqlx::query(
            "select c.relname::text as name, c.reltuples::bigint as count, pg_table_size(c.oid) as bytes,
                 pg_indexes_size(c.oid) as index_bytes
             from pg_class c join pg_stat_user_tables t on t.relid = c.oid
             where c.reltuples > 0 order by pg_total_relation_size(c.oid) desc",
        )
        .fetch_all(&self.pool)
        .await?;
        let mut text =
            "Tables at the end: rows, and bytes a row, of the table and of its indexes:\n".to_owned();
        for row in &rows {
            let (count, bytes, index_bytes): (i64, i64, i64) =
                (row.try_get("count")?, row.try_get("bytes")?, row.try_get("index_bytes")?);
            let name: String = row.try_get("name")?;
            text.push_str(&format!("\n- {name}: {count}, {} and {}", bytes / count, index_bytes / count));
        }
        Ok(text)
    }
}

/// How many bytes the segments take of those partitions below a folder whose names begin with the prefix.
fn segment_bytes(folder: &Path, prefix: &str) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if !path.is_dir() {
            continue;
        }
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if !name.starts_with(prefix) {
            bytes += segment_bytes(&path, prefix)?;
            continue;
        }
        for file in fs::read_dir(path)? {
            let file = file?.path();
            if file.extension().is_some_and(|extension| extension == "log") {
                bytes += fs::metadata(file)?.len();
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use std::{collections::BTreeMap, time::Duration};

    use ::tests::KafkaTopic;
    use events::{
        Bus, Record,
        kafka::{KafkaBus, KafkaOptions},
    };
    use stack::{Part, Stack};
    use uuid::Uuid;

    use super::segment_bytes;

    /// A record of 32,000 hexadecimal digits, of which compression takes away half.
    fn record(topic: &KafkaTopic) -> Record {
        let digits = (0..1_000).map(|_| Uuid::new_v4().simple().to_string());
        Record {
            topic: topic.name.clone(),
            key: None,
            headers: Vec::new(),
            payload: digits.collect::<String>().into_bytes(),
        }
    }

    #[tokio::test]
    async fn what_topics_take_is_read_from_the_brokers_folder() {
        let stack = Stack::shared().await.unwrap();
        let bus = KafkaBus::new(KafkaOptions {
            brokers: stack.kafka_brokers().unwrap(),
            prefix: String::new(),
            properties: BTreeMap::new(),
            partitions: 1,
            replication: 1,
            revoke: Duration::from_secs(1),
        })
        .unwrap();
        let prefix = format!("segments-{}.", Uuid::new_v4().simple());
        let mut topics = Vec::new();
        for name in [format!("{prefix}one"), format!("{prefix}two"), format!("not-{prefix}one")] {
            topics.push(KafkaTopic::create(&stack, name).await);
        }
        let mut taken = Vec::new();
        for topic in &topics {
            bus.publish_unprefixed(&record(topic)).await.unwrap();
            taken.push(segment_bytes(&stack.data(Part::Kafka), &prefix).unwrap());
        }
        for topic in topics {
            topic.remove().await;
        }
        // Two of three are the installation's.
        let [one, two, others] = taken[..] else { panic!("{taken:?}") };
        assert!((15_000..33_000).contains(&one), "{taken:?}");
        assert!(two.abs_diff(2 * one) < one / 10, "{taken:?}");
        assert_eq!(two, others);
    }
}
