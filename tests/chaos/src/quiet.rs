//! Quiet: nothing is left to do.

use std::time::Duration;

use sqlx::{PgPool, Row};
use tokio::time::{Instant, sleep};

use crate::{Failure, Objects, Topics};

/// How long nothing must be left before it is called quiet.
const STAYS: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Where there can be something left to do.
pub struct Work<'a> {
    /// The catalog.
    pub pool: &'a PgPool,
    /// The API server.
    pub objects: &'a Objects,
    /// Kafka.
    pub topics: &'a Topics,
}

impl Work<'_> {
    /// Waits until the operator has seen the spec of each subscription, or `give_up`. Returns what is left.
    pub async fn wait_for_specs(&self, give_up: Instant) -> Option<String> {
        none_for(Duration::ZERO, give_up, async || {
            let unseen = self.objects.unseen().await?;
            Ok((unseen > 0).then(|| format!("the operator has not seen {unseen} specs")))
        })
        .await
    }

    /// Waits until nothing is left to do, or `give_up`. Returns what is left.
    pub async fn wait(&self, give_up: Instant) -> Option<String> {
        none_for(STAYS, give_up, async || {
            // Kafka is asked only when the catalog has nothing: it takes longer.
            Ok(match left_in_catalog(self.pool).await? {
                None => self.left_in_topics().await?,
                left => left,
            })
        })
        .await
    }

    /// Where a group has not committed that it has handled its topics to their ends: it may be at work, or have it before it.
    async fn left_in_topics(&self) -> Result<Option<String>, Failure> {
        let behind = self.topics.behind().await?;
        let events: i64 = behind.iter().map(|group| group.events).sum();
        let groups: Vec<&str> = behind.iter().map(|group| group.group.as_str()).collect();
        Ok((events > 0).then(|| format!("{events} events of the groups {}", groups.join(", "))))
    }
}

/// Looks until nothing was left for so long, or `give_up`. Returns what is left.
async fn none_for(
    stays: Duration,
    give_up: Instant,
    look: impl AsyncFn() -> Result<Option<String>, Failure>,
) -> Option<String> {
    let mut none_since = None;
    loop {
        let left = look().await.unwrap_or_else(|error| Some(format!("it cannot be told: {error}")));
        if left.is_some() {
            none_since = None;
            if Instant::now() >= give_up {
                return left;
            }
        } else if none_since.get_or_insert_with(Instant::now).elapsed() >= stays {
            return None;
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn left_in_catalog(pool: &PgPool) -> Result<Option<String>, sqlx::Error> {
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
