//! What the robots.txt of an origin says (RFC 9309), for all workers.

use jiff::Timestamp;
use sqlx::{Row, postgres::PgRow};

use super::{Catalog, CatalogError, failed, sql_time, time};

/// What an origin's robots.txt allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RobotsOutcome {
    /// What its text says.
    Rules(Vec<u8>),
    /// There is none: everything.
    AllowAll,
    /// Nothing until it answers: it never has.
    Unknown,
}

/// The robots.txt of an origin as it was last asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RobotsRecord {
    /// What is in force.
    pub outcome: RobotsOutcome,
    /// When it was asked for.
    pub asked_at: Timestamp,
    /// When it is to be asked for again.
    pub expires_at: Timestamp,
    /// Since when it was asked for in vain.
    pub unreachable_since: Option<Timestamp>,
}

impl Catalog {
    /// What is known of an origin's robots.txt, expired or not.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn robots(&self, origin: &str) -> Result<Option<RobotsRecord>, CatalogError> {
        let row = sqlx::query(
            "select outcome, rules, asked_at, expires_at, unreachable_since from robots where origin = $1",
        )
        .bind(origin)
        .fetch_optional(&self.pool)
        .await
        .map_err(failed("look up a robots.txt"))?;
        row.as_ref().map(record).transpose().map_err(failed("read a robots.txt"))
    }

    /// Notes what came of asking for an origin's robots.txt.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn put_robots(&self, origin: &str, record: &RobotsRecord) -> Result<(), CatalogError> {
        let (outcome, rules) = match &record.outcome {
            RobotsOutcome::Rules(text) => ("Rules", Some(text.as_slice())),
            RobotsOutcome::AllowAll => ("AllowAll", None),
            RobotsOutcome::Unknown => ("Unknown", None),
        };
        sqlx::query(
            "insert into robots (origin, outcome, rules, asked_at, expires_at, unreachable_since)
             values ($1, $2, $3, $4, $5, $6)
             on conflict (origin) do update set outcome = excluded.outcome, rules = excluded.rules,
                 asked_at = excluded.asked_at, expires_at = excluded.expires_at,
                 unreachable_since = excluded.unreachable_since",
        )
        .bind(origin)
        .bind(outcome)
        .bind(rules)
        .bind(sql_time(record.asked_at))
        .bind(sql_time(record.expires_at))
        .bind(record.unreachable_since.map(sql_time))
        .execute(&self.pool)
        .await
        .map_err(failed("note a robots.txt"))?;
        Ok(())
    }
}

fn record(row: &PgRow) -> Result<RobotsRecord, sqlx::Error> {
    // The table's checks say what goes with which outcome.
    let outcome = match (row.try_get::<String, _>("outcome")?.as_str(), row.try_get("rules")?) {
        (_, Some(text)) => RobotsOutcome::Rules(text),
        ("AllowAll", None) => RobotsOutcome::AllowAll,
        (_, None) => RobotsOutcome::Unknown,
    };
    Ok(RobotsRecord {
        outcome,
        asked_at: row.try_get::<jiff_sqlx::Timestamp, _>("asked_at")?.to_jiff(),
        expires_at: row.try_get::<jiff_sqlx::Timestamp, _>("expires_at")?.to_jiff(),
        unreachable_since: time(row.try_get("unreachable_since")?),
    })
}
