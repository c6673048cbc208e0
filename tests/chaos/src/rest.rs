//! Rest: nothing is due and nothing changes; whatever is written all the same is found.

use std::{collections::BTreeMap, time::Duration};

use sqlx::{PgPool, Row};
use tokio::time::sleep;

use crate::{Bucket, Failure, Objects, Topics, topics::Ends};

/// What an idle backend has written, PostgreSQL counts ten seconds later.
const STATISTICS_LAG: Duration = Duration::from_secs(11);

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
}

/// How everything was at one time.
struct Look {
    rows: BTreeMap<String, i64>,
    objects: Vec<String>,
    ends: Ends,
    keys: Vec<String>,
}

impl Written<'_> {
    /// Watches for a time, and returns what was written. Nothing was for as long as PostgreSQL's statistics lag.
    pub async fn watch(&self, time: Duration) -> Result<Vec<String>, Failure> {
        let before = self.look().await?;
        sleep(time + STATISTICS_LAG).await;
        Ok(self.look().await?.since(&before))
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
            keys: self.bucket.keys().await?,
        })
    }
}

impl Look {
    fn since(&self, before: &Self) -> Vec<String> {
        let rows = self.rows.iter().filter_map(|(table, written)| {
            let more = written - before.rows.get(table).copied().unwrap_or_default();
            (more != 0).then(|| format!("{more} rows of the table {table}"))
        });
        let objects = self.objects.iter().filter(|object| !before.objects.contains(object));
        let ends = self.ends.iter().filter_map(|(place, end)| {
            let more = end - before.ends.get(place).copied().unwrap_or_default();
            (more != 0).then(|| format!("{more} records of the topic {}", place.0))
        });
        let keys = self.keys.iter().filter(|key| !before.keys.contains(key));
        rows.chain(objects.map(|object| format!("the object {object}")))
            .chain(ends)
            .chain(keys.map(|key| format!("the object {key} of the bucket")))
            .collect()
    }
}
