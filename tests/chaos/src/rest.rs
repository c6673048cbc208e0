//! Rest: nothing is due and nothing changes; whatever is written all the same is found.

use std::{collections::BTreeMap, time::Duration};

use sqlx::{PgPool, Row};
use tokio::time::{Instant, sleep};

use crate::{Bucket, Failure, Fleet, Objects, Topics, fleet::Harm, topics::Ends};

/// What an idle backend has written, PostgreSQL counts ten seconds later.
const STATISTICS_LAG: Duration = Duration::from_secs(11);
/// How long it may take until an operator leads that was started anew.
const LEADS_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Who leads; written once by each who begins to.
const LEADERSHIP: &str = "leadership";

/// All that can be written to.
pub struct Written<'a> {
    /// The catalog.
    pub pool: &'a PgPool,
    /// The API server.
    pub objects: &'a Objects,
    /// Kafka.
    pub topics: &'a Topics,
    /// The object store.
    pub bucket: &'a Bucket,
    /// Tipstaff's processes.
    pub fleet: &'a Fleet,
}

/// How everything was at one time.
struct Look {
    rows: BTreeMap<String, i64>,
    objects: Vec<String>,
    ends: Ends,
    committed: Ends,
    keys: Vec<String>,
}

impl Written<'_> {
    /// Watches for a time, and returns what was written. Nothing was for as long as PostgreSQL's statistics lag.
    ///
    /// Meanwhile the operators are started anew: whoever leads then reads everything, and must find it as it is to be. Whatever
    /// else shall be done under its eyes is `meanwhile`.
    pub async fn watch(
        &self,
        time: Duration,
        meanwhile: impl Future<Output = ()>,
    ) -> Result<Vec<String>, Failure> {
        let before = self.look().await?;
        let (started, ()) = tokio::join!(self.start_operators_anew(), meanwhile);
        started?;
        sleep(time + STATISTICS_LAG).await;
        Ok(self.look().await?.since(&before))
    }

    /// Returns when one of them leads, or none has for long: then nobody is left who could write.
    async fn start_operators_anew(&self) -> Result<(), Failure> {
        let epoch =
            async || sqlx::query_scalar::<_, i64>("select epoch from leadership").fetch_one(self.pool).await;
        let before = epoch().await?;
        for operator in self.fleet.names().filter(|name| name.starts_with("operator")) {
            self.fleet.harm(operator, Harm::Kill(Duration::ZERO)).await;
        }
        let give_up = Instant::now() + LEADS_WITHIN;
        while epoch().await? == before && Instant::now() < give_up {
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    async fn look(&self) -> Result<Look, Failure> {
        let rows = sqlx::query(
            "select relname::text as name, n_tup_ins + n_tup_upd + n_tup_del as written from pg_stat_user_tables",
        )
        .fetch_all(self.pool)
        .await?;
        let rows = rows.iter().map(|row| Ok((row.try_get("name")?, row.try_get("written")?)));
        Ok(Look {
            rows: rows.collect::<Result<_, sqlx::Error>>()?,
            objects: self.objects.versions().await?,
            ends: self.topics.ends().await?,
            committed: self.topics.committed().await?,
            keys: self.bucket.keys().await?,
        })
    }
}

impl Look {
    fn since(&self, before: &Self) -> Vec<String> {
        let tables = self.rows.iter().filter(|(table, _)| *table != LEADERSHIP);
        let rows = tables.filter_map(|(table, written)| {
            let more = written - before.rows.get(table).copied().unwrap_or_default();
            (more != 0).then(|| format!("{more} rows of the table {table}"))
        });
        let objects = self.objects.iter().filter(|object| !before.objects.contains(object));
        let ends = grown(&before.ends, &self.ends)
            .map(|(topic, more)| format!("{more} records of the topic {topic}"));
        let committed = grown(&before.committed, &self.committed)
            .map(|(place, more)| format!("{more} records handled by {place}"));
        let keys = self.keys.iter().filter(|key| !before.keys.contains(key));
        rows.chain(objects.map(|object| format!("the object {object}")))
            .chain(ends)
            .chain(committed)
            .chain(keys.map(|key| format!("the object {key} of the bucket")))
            .collect()
    }
}

/// What has other offsets than before, and by how much.
fn grown<'a>(before: &'a Ends, after: &'a Ends) -> impl Iterator<Item = (&'a str, i64)> {
    after.iter().filter_map(|(place, offset)| {
        let more = offset - before.get(place).copied().unwrap_or_default();
        (more != 0).then_some((place.0.as_str(), more))
    })
}
