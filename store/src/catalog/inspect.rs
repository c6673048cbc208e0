//! What commands show to people: rows as they are, newest first. Nothing of a run waits for these queries.

mod artifacts;
mod deliveries;
mod runs;
mod trace;
mod versions;

use sqlx::Row;

use super::{Catalog, CatalogError, failed};

pub use artifacts::ArtifactRow;
pub use deliveries::{AttemptRow, DeliveryRow};
pub use runs::RunRow;
pub use trace::{ExtractRow, RunTrace, TracedDelivery, TracedDocument};
pub use versions::{VersionRow, WhichVersion};

/// Which rows of a list are shown.
#[derive(Clone, Copy, Debug)]
pub struct Page<Id> {
    /// Of one subscription, by the catalog's id; none: of all.
    pub subscription_id: Option<i64>,
    /// Only rows that are older than this one.
    pub before: Option<Id>,
    /// How many at most.
    pub limit: u32,
}

impl Catalog {
    /// The catalog's id of the subscription of this name; of those that are deleted, the one that was there last.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn named_subscription(&self, namespace: &str, name: &str) -> Result<Option<i64>, CatalogError> {
        sqlx::query_scalar(
            "select id from subscriptions where namespace = $1 and name = $2
             order by deleted_at desc nulls first limit 1",
        )
        .bind(namespace)
        .bind(name)
        .fetch_optional(&self.pool)
        .await
        .map_err(failed("look up a subscription"))
    }

    /// Namespaces and names of subscriptions that are not deleted, at most so many.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn subscription_names(&self, most: u32) -> Result<Vec<(String, String)>, CatalogError> {
        let rows = sqlx::query(
            "select namespace, name from subscriptions where deleted_at is null order by namespace, name limit $1",
        )
        .bind(i64::from(most))
        .fetch_all(&self.pool)
        .await
        .map_err(failed("list subscriptions"))?;
        rows.iter()
            .map(|row| Ok((row.try_get("namespace")?, row.try_get("name")?)))
            .collect::<Result<_, sqlx::Error>>()
            .map_err(failed("read a subscription"))
    }
}
