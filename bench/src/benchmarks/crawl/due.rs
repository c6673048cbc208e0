//! From a due time to the artifact, with operator and worker as they are released, while little else happens.

use std::time::{Duration, Instant};

use events::BoxError;
use sqlx::Row;
use tests::Installation;
use tokio::time::sleep;
use uuid::Uuid;

use super::patience;
use crate::catalog;
use crate::site::Site;

/// Spread over this, two of them seldom meet.
const JITTER_SECONDS: u32 = 50;

/// Seconds from when each subscription was due, its own delay included, to the commit of its document.
pub(super) async fn measure(
    tipstaff: &Installation,
    site: &Site,
    count: usize,
) -> Result<Vec<f64>, BoxError> {
    catalog::execute(&tipstaff.pool, "update subscriptions set deleted_at = now()").await?;
    let environment = [("RUST_LOG", "info"), ("TIPSTAFF_LEASE_SECONDS", "10"), ("KAFKA_PARTITIONS", "6")]
        .map(|(name, value)| (name, value.to_owned()));
    let operator = tipstaff.operator(&environment);
    let closed = [("RUST_LOG", "info"), ("TIPSTAFF_ALLOW_CIDRS", "127.0.0.0/8"), ("KAFKA_PARTITIONS", "6")]
        .map(|(name, value)| (name, value.to_owned()));
    let worker = tipstaff.worker(&closed);
    let mut manifests = String::new();
    for (number, url) in site.urls(count, count).iter().enumerate() {
        manifests += &format!(
            "---\napiVersion: tipstaff.dev/v1alpha1\nkind: Source\nmetadata: {{ name: due-{number} }}\n\
             spec: {{ baseURL: '{url}', robotsMode: allow }}\n\
             ---\napiVersion: tipstaff.dev/v1alpha1\nkind: Subscription\nmetadata: {{ name: due-{number} }}\n\
             spec: {{ sourceRef: {{ name: due-{number} }}, schedule: '* * * * *', jitterSeconds: {JITTER_SECONDS} }}\n"
        );
    }
    tipstaff.apply(&manifests).await;
    let started = Instant::now();
    // The first ones pay for connections and groups: those of the last minute count.
    let wanted = i64::try_from(count)? * 2;
    let stored = "select count(*) from documents d join subscriptions s on s.id = d.subscription_id
                  where s.deleted_at is null and d.phase = 'Stored'";
    while catalog::count(&tipstaff.pool, stored).await? < wanted {
        patience(&worker, started)?;
        sleep(Duration::from_secs(1)).await;
    }
    let rows = sqlx::query(
        "select distinct on (s.id) s.uid,
             extract(epoch from pg_xact_commit_timestamp(d.xmin) - r.scheduled_for)::float8 as late
         from documents d join runs r on r.id = d.run_id join subscriptions s on s.id = d.subscription_id
         where s.deleted_at is null and d.phase = 'Stored' order by s.id, r.scheduled_for desc",
    )
    .fetch_all(&tipstaff.pool)
    .await?;
    worker.terminate().await;
    operator.terminate().await;
    let late = |row: &sqlx::postgres::PgRow| {
        let uid: Uuid = row.get("uid");
        row.get::<f64, _>("late") - operator::stable_offset(uid, JITTER_SECONDS).as_secs_f64()
    };
    Ok(rows.iter().map(late).collect())
}
