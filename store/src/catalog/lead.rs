//! The right to make runs: one operator has it at a time, whatever several of them believe.

use jiff::Timestamp;
use sqlx::{Postgres, Transaction};

use super::{Catalog, CatalogError, failed, sql_time};

/// The right to make runs, under an epoch. Clones share it.
///
/// Every transaction that makes, restarts or ends runs for the clock reads the catalog's epoch and holds it: one of an
/// older epoch fails with [`CatalogError::NoLongerLeading`], and a newer epoch waits for those that have begun.
#[derive(Clone, Debug)]
pub struct Lead {
    catalog: Catalog,
    epoch: i64,
}

impl Catalog {
    /// The epoch of whoever began to lead last.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn epoch(&self) -> Result<i64, CatalogError> {
        sqlx::query_scalar("select epoch from leadership")
            .fetch_one(&self.pool)
            .await
            .map_err(failed("read who leads"))
    }

    /// Begins to lead under an epoch that must be newer than all before. From now on older ones make no runs.
    ///
    /// # Errors
    /// [`CatalogError::NoLongerLeading`] when another leads under this epoch or a newer one.
    pub async fn lead(&self, epoch: i64, holder: &str, now: Timestamp) -> Result<Lead, CatalogError> {
        let taken = sqlx::query("update leadership set epoch = $1, holder = $2, since = $3 where epoch < $1")
            .bind(epoch)
            .bind(holder)
            .bind(sql_time(now))
            .execute(&self.pool)
            .await
            .map_err(failed("begin to lead"))?
            .rows_affected()
            > 0;
        if !taken {
            return Err(CatalogError::NoLongerLeading { own: epoch, newer: self.epoch().await? });
        }
        Ok(Lead { catalog: self.clone(), epoch })
    }
}

impl Lead {
    /// The catalog that runs are made in.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The epoch under which runs are made.
    pub fn epoch(&self) -> i64 {
        self.epoch
    }

    /// A transaction that no newer epoch can overtake: whoever begins to lead waits until it has ended.
    pub(super) async fn begin(&self) -> Result<Transaction<'static, Postgres>, CatalogError> {
        let mut transaction = self.catalog.pool.begin().await.map_err(failed("begin"))?;
        let newest: i64 = sqlx::query_scalar("select epoch from leadership for share")
            .fetch_one(&mut *transaction)
            .await
            .map_err(failed("read who leads"))?;
        if newest > self.epoch {
            return Err(CatalogError::NoLongerLeading { own: self.epoch, newer: newest });
        }
        Ok(transaction)
    }
}
