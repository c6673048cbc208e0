//! The rows of Sources.

use jiff::Timestamp;
use sqlx::{PgConnection, Row, types::Json};
use uuid::Uuid;

use super::{Catalog, CatalogError, ObjectKey, SourceSettings, failed, object_key::key, sql_time};

/// A valid Source as it is to stand in the catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceRecord {
    /// The object.
    pub key: ObjectKey,
    /// `metadata.generation`.
    pub generation: i64,
    /// From the spec.
    pub settings: SourceSettings,
}

/// A Source's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceRow {
    /// The catalog's id, also in the keys of its blobs.
    pub id: i64,
}

/// What became of a Source that was to be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeletedSource {
    /// It is marked as deleted, or was never there.
    Deleted,
    /// Live subscriptions use it: `namespace/name` of the first few, and how many there are.
    InUse {
        /// Some of them, in order.
        examples: Vec<String>,
        /// All of them.
        count: i64,
    },
}

impl Catalog {
    /// Brings a source's row in line with its object. Nothing is written when it already is.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn put_source(&self, record: &SourceRecord, now: Timestamp) -> Result<SourceRow, CatalogError> {
        let unchanged: Option<Option<i64>> = sqlx::query_scalar(
            "select case when generation = $2 and settings = $3 and deleted_at is null then id end
             from sources where uid = $1",
        )
        .bind(record.key.uid)
        .bind(record.generation)
        .bind(Json(&record.settings))
        .fetch_optional(&self.pool)
        .await
        .map_err(failed("look up a source"))?;
        if let Some(Some(id)) = unchanged {
            return Ok(SourceRow { id });
        }
        let mut transaction = self.pool.begin().await.map_err(failed("begin"))?;
        // An object of this name that was made anew has another uid; the old one is gone.
        sqlx::query(
            "update sources set deleted_at = $4 where namespace = $1 and name = $2 and uid <> $3 and deleted_at is null",
        )
        .bind(&record.key.namespace)
        .bind(&record.key.name)
        .bind(record.key.uid)
        .bind(sql_time(now))
        .execute(&mut *transaction)
        .await
        .map_err(failed("retire a source"))?;
        let names_otherwise = names_otherwise(&mut transaction, record).await?;
        let id: i64 = sqlx::query_scalar(
            // One who reads an older state of the object does not overwrite a newer one. What failed may be mended by
            // other settings: with them, the source is tried at its next due time.
            "insert into sources as o (uid, namespace, name, generation, settings, created_at, updated_at)
             values ($1, $2, $3, $4, $5, $6, $6)
             on conflict (uid) do update set
                 generation = greatest(o.generation, excluded.generation),
                 settings = case when excluded.generation >= o.generation then excluded.settings else o.settings end,
                 held_back_until = case when excluded.settings = o.settings then o.held_back_until end,
                 next_try_at = case when excluded.settings = o.settings then o.next_try_at end,
                 updated_at = excluded.updated_at, deleted_at = null
             returning id",
        )
        .bind(record.key.uid)
        .bind(&record.key.namespace)
        .bind(&record.key.name)
        .bind(record.generation)
        .bind(Json(&record.settings))
        .bind(sql_time(now))
        .fetch_one(&mut *transaction)
        .await
        .map_err(failed("write a source"))?;
        if names_otherwise {
            // What a list names under other rules is no news: the next run that reads it to its end is a first one.
            sqlx::query(
                "update subscriptions set list_read_by = null, list_reset_at = $2 where source_id = $1",
            )
            .bind(id)
            .bind(sql_time(now))
            .execute(&mut *transaction)
            .await
            .map_err(failed("begin a source's lists anew"))?;
        }
        transaction.commit().await.map_err(failed("commit a source"))?;
        Ok(SourceRow { id })
    }

    /// The generation of a source whose object does not count its own: its row's while the settings are these, the
    /// next one when they are others.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn source_generation(&self, uid: Uuid, settings: &SourceSettings) -> Result<i64, CatalogError> {
        let generation: Option<i64> = sqlx::query_scalar(
            "select case when settings = $2 then generation else generation + 1 end from sources where uid = $1",
        )
        .bind(uid)
        .bind(Json(settings))
        .fetch_optional(&self.pool)
        .await
        .map_err(failed("look up a source's generation"))?;
        Ok(generation.unwrap_or(1))
    }

    /// All live sources.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn live_sources(&self) -> Result<Vec<ObjectKey>, CatalogError> {
        let rows = sqlx::query("select uid, namespace, name from sources where deleted_at is null")
            .fetch_all(&self.pool)
            .await
            .map_err(failed("list sources"))?;
        rows.iter().map(|row| key(row).map_err(failed("read a source"))).collect()
    }

    /// The id of the live source of an object.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn source_id(&self, namespace: &str, name: &str) -> Result<Option<i64>, CatalogError> {
        sqlx::query_scalar("select id from sources where namespace = $1 and name = $2 and deleted_at is null")
            .bind(namespace)
            .bind(name)
            .fetch_optional(&self.pool)
            .await
            .map_err(failed("look up a source"))
    }

    /// Marks a source as deleted unless subscriptions still use it. Its artifacts stay.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn delete_source(&self, uid: Uuid, now: Timestamp) -> Result<DeletedSource, CatalogError> {
        let mut transaction = self.pool.begin().await.map_err(failed("begin"))?;
        // Subscriptions that come at the same moment wait for this row.
        sqlx::query("select from sources where uid = $1 for update")
            .bind(uid)
            .execute(&mut *transaction)
            .await
            .map_err(failed("lock a source"))?;
        let users = sqlx::query(
            "select s.namespace || '/' || s.name as name, count(*) over () as total
             from subscriptions s join sources o on o.id = s.source_id
             where o.uid = $1 and s.deleted_at is null order by 1 limit 5",
        )
        .bind(uid)
        .fetch_all(&mut *transaction)
        .await
        .map_err(failed("look up a source's subscriptions"))?;
        if let Some(first) = users.first() {
            return Ok(DeletedSource::InUse {
                count: first.get("total"),
                examples: users.iter().map(|row| row.get("name")).collect(),
            });
        }
        sqlx::query("update sources set deleted_at = coalesce(deleted_at, $2) where uid = $1")
            .bind(uid)
            .bind(sql_time(now))
            .execute(&mut *transaction)
            .await
            .map_err(failed("delete a source"))?;
        transaction.commit().await.map_err(failed("commit a deletion"))?;
        Ok(DeletedSource::Deleted)
    }
}

/// Whether the settings to be written lead to other documents than those in force: from another place, of another kind,
/// or by other links. The source's row is locked, before those of its subscriptions.
async fn names_otherwise(connection: &mut PgConnection, record: &SourceRecord) -> Result<bool, CatalogError> {
    let names_otherwise: Option<bool> = sqlx::query_scalar(
        "select (settings -> 'kind', settings -> 'base_url', nullif(settings -> 'follow', 'null'))
             is distinct from ($3 -> 'kind', $3 -> 'base_url', nullif($3 -> 'follow', 'null'))
         from sources where uid = $1 and generation <= $2 for no key update",
    )
    .bind(record.key.uid)
    .bind(record.generation)
    .bind(Json(&record.settings))
    .fetch_optional(connection)
    .await
    .map_err(failed("look up a source's settings"))?;
    Ok(names_otherwise.unwrap_or(false))
}
