//! How the targets of subscriptions take what is sent to them: what the subscriptions' statuses show.

use jiff::Timestamp;
use sqlx::{Row, postgres::PgRow, types::Json};

use super::{Catalog, CatalogError, TargetSettings, failed, health::NEWS_OVERLAP, sql_time, time};

/// How a target takes what is sent to it. One that nothing was sent to has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetHealth {
    /// The catalog's id of its subscription.
    pub subscription_id: i64,
    /// Its name.
    pub name: String,
    /// Set when it did not take what was last sent to it.
    pub failing: Option<TargetFailing>,
}

/// A target that fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetFailing {
    /// Since when.
    pub since: Timestamp,
    /// Why, in one word.
    pub reason: String,
    /// The same as a sentence.
    pub message: String,
    /// When something is sent to it next; none when nothing waits to be.
    pub next_attempt_at: Option<Timestamp>,
    /// Whether it said that it is gone, and its settings are those that it said so of: nothing is sent to it.
    pub is_gone: bool,
}

/// A target of which there is news.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetNews {
    /// The catalog's id of its subscription.
    pub subscription_id: i64,
    /// Its name.
    pub name: String,
    /// When the news were written, by the database's clock.
    pub written_at: Timestamp,
}

impl Catalog {
    /// How the targets of subscriptions are, those that the settings name and that something was sent to, in the order of
    /// their names.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn targets_of(&self, subscription_ids: &[i64]) -> Result<Vec<TargetHealth>, CatalogError> {
        let rows = sqlx::query(
            "select t.subscription_id, t.name, t.failing_since, t.failing_reason, t.failing_message, t.next_attempt_at,
                 t.gone_settings, named.settings
             from targets t join subscriptions s on s.id = t.subscription_id
             cross join lateral jsonb_path_query(s.settings, '$.targets[*]') as named (settings)
             where t.subscription_id = any($1) and named.settings ->> 'name' = t.name
             order by t.subscription_id, t.name",
        )
        .bind(subscription_ids)
        .fetch_all(&self.pool)
        .await
        .map_err(failed("look up targets"))?;
        rows.iter().map(|row| target(row).map_err(failed("read a target"))).collect()
    }

    /// The targets of which news was written since `last_read`, and when this was read, which is for the next call; both by
    /// the database's clock. Some are told again: transactions do not commit in the order in which they write. The first
    /// call, without a time, has those of the last moments only.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn target_news(
        &self,
        last_read: Option<Timestamp>,
    ) -> Result<(Timestamp, Vec<TargetNews>), CatalogError> {
        let rows = sqlx::query(
            "select clock.read_at, t.subscription_id, t.name, t.written_at
             from (values (statement_timestamp())) as clock (read_at)
             left join targets t on t.written_at > coalesce($1, statement_timestamp()) - $2::text::interval
             order by t.written_at",
        )
        .bind(last_read.map(sql_time))
        .bind(NEWS_OVERLAP)
        .fetch_all(&self.pool)
        .await
        .map_err(failed("look for news of targets"))?;
        let read = || -> Result<_, sqlx::Error> {
            let mut read_at = Timestamp::MIN;
            let mut news = Vec::with_capacity(rows.len());
            for row in &rows {
                read_at = row.try_get::<jiff_sqlx::Timestamp, _>("read_at")?.to_jiff();
                if let Some(subscription_id) = row.try_get("subscription_id")? {
                    let written_at = row.try_get::<jiff_sqlx::Timestamp, _>("written_at")?.to_jiff();
                    news.push(TargetNews { subscription_id, name: row.try_get("name")?, written_at });
                }
            }
            Ok((read_at, news))
        };
        read().map_err(failed("read news of targets"))
    }
}

fn target(row: &PgRow) -> Result<TargetHealth, sqlx::Error> {
    let since = time(row.try_get("failing_since")?);
    let reason: Option<String> = row.try_get("failing_reason")?;
    let failing = match since.zip(reason) {
        Some((since, reason)) => Some(TargetFailing {
            since,
            reason,
            message: row.try_get::<Option<String>, _>("failing_message")?.unwrap_or_default(),
            next_attempt_at: time(row.try_get("next_attempt_at")?),
            is_gone: is_gone(
                row.try_get("gone_settings")?,
                &row.try_get::<Json<TargetSettings>, _>("settings")?.0,
            ),
        }),
        None => None,
    };
    Ok(TargetHealth { subscription_id: row.try_get("subscription_id")?, name: row.try_get("name")?, failing })
}

/// Whether a target that said that it is gone is still the one that said so.
fn is_gone(gone_settings: Option<&str>, settings: &TargetSettings) -> bool {
    gone_settings
        .and_then(|gone| serde_json::from_str::<TargetSettings>(gone).ok())
        .is_some_and(|gone| gone == *settings)
}
