//! From the operator's start until every Subscription is Ready and a row in the catalog.

use std::time::Duration;

use events::BoxError;
use tests::Process;
use tokio::time::Instant;

use super::{Bench, api_server::Writes, floors::Floors, start_operator, until};
use crate::{
    catalog,
    parts::CpuTimes,
    report::{Measure, Report, Unit},
};

const TARGET_SECONDS: f64 = 60.0;

pub(super) struct FirstSync {
    /// Seconds from the start of the process.
    pub(super) seconds: f64,
    /// Seconds from when the replica led.
    from_leading: f64,
    /// Seconds from the start until all were rows.
    rows: f64,
    writes: Writes,
    cpu: String,
}

pub(super) async fn measure(bench: &Bench) -> Result<(Process, FirstSync), BoxError> {
    let (pool, count) = (&bench.tipstaff.pool, bench.fleet.names.len());
    let writes_before = bench.api_server.writes().await?;
    let started = Instant::now();
    let operator = start_operator(&bench.tipstaff);
    let cpu_before = CpuTimes::now(&bench.tipstaff, "operator", &operator).await;
    until("leadership", Duration::from_secs(60), Duration::from_millis(20), async || {
        Ok(operator.log().contains("leading").then_some(()))
    })
    .await?;
    let leading = Instant::now();
    let rows = async {
        until("the rows", Duration::from_secs(600), Duration::from_millis(200), async || {
            let rows = catalog::count(pool, "select count(*) from subscriptions").await?;
            Ok((rows == i64::try_from(count)?).then(Instant::now))
        })
        .await
    };
    let ready = bench.observer.wait_for("Ready", |seen| seen.ready == count);
    let (rows, ready) = tokio::try_join!(rows, ready)?;
    let cpu = CpuTimes::now(&bench.tipstaff, "operator", &operator).await.since(&cpu_before);
    let end = rows.max(ready.last);
    Ok((
        operator,
        FirstSync {
            seconds: (end - started).as_secs_f64(),
            from_leading: (end - leading).as_secs_f64(),
            rows: (rows - started).as_secs_f64(),
            writes: bench.api_server.writes().await?.since(&writes_before),
            cpu,
        },
    ))
}

impl FirstSync {
    pub(super) fn report(&self, report: &mut Report, count: usize, floors: &Floors) {
        let name = format!("first sync of {count}: all Ready and in the catalog, from the start");
        let floor = floors.status_patches + floors.catalog_rows;
        report.add(Measure::new(name, Unit::Seconds, self.seconds).at_most(TARGET_SECONDS).over_floor(floor));
        report.add(Measure::new("  from leading", Unit::Seconds, self.from_leading));
        let rows = Measure::new("  all in the catalog", Unit::Seconds, self.rows);
        report.add(rows.over_floor(floors.catalog_rows));
        let each = self.writes.of_operator() / count as f64;
        report.add(Measure::new("  writes to the API server for one", Unit::Factor, each).over_floor(1.0));
        report.note(format!("Writes of the first sync: {}.", self.writes));
        report.note(format!("CPU of the first sync: {}.", self.cpu));
    }
}
