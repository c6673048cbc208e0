//! Quiet: nothing is left to do.

use std::time::Duration;

use sqlx::{PgPool, Row};
use tokio::time::{Instant, sleep};

/// How long nothing must be left before it is called quiet.
const STAYS: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Waits until nothing is left to do, or `give_up`. Returns what is left.
pub async fn wait(pool: &PgPool, give_up: Instant) -> Option<String> {
    let mut quiet_since = None;
    loop {
        let left =
            left(pool).await.unwrap_or_else(|error| Some(format!("the catalog does not answer: {error}")));
        match (&left, quiet_since) {
            (None, None) => quiet_since = Some(Instant::now()),
            (None, Some(since)) if since.elapsed() >= STAYS => return None,
            (None, Some(_)) => {}
            (Some(_), _) => quiet_since = None,
        }
        if left.is_some() && Instant::now() >= give_up {
            return left;
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn left(pool: &PgPool) -> Result<Option<String>, sqlx::Error> {
    let row = sqlx::query(
        "select (select count(*) from runs where finished_at is null) as runs,
             (select count(*) from outbox) as events,
             (select count(*) from deliveries where finished_at is null) as deliveries,
             (select count(*) from versions where planned_at is null) as versions",
    )
    .fetch_one(pool)
    .await?;
    let names = ["runs", "events", "deliveries", "versions"];
    let counts = names.map(|name| row.try_get::<i64, _>(name).map(|count| (name, count)));
    let mut left = Vec::new();
    for count in counts {
        let (name, count) = count?;
        if count > 0 {
            left.push(format!("{count} {name}"));
        }
    }
    Ok((!left.is_empty()).then(|| left.join(", ")))
}
