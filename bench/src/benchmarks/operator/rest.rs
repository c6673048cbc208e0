//! Rest: nothing is due, nothing changes, and whatever is written all the same is counted.

use std::time::Duration;

use events::BoxError;
use tests::Process;
use tokio::time::sleep;

use super::{Bench, STATISTICS_LAG, api_server::Writes};
use crate::{
    catalog,
    parts::CpuTimes,
    report::{Measure, Report, Unit},
    system::{Memory, memory},
};

const MOST_MEGABYTES: f64 = 150.0;

pub(super) struct Rest {
    seconds: f64,
    writes: Writes,
    /// Of Subscriptions, seen by a watch.
    seen_writes: usize,
    rows_written: i64,
    transactions: i64,
    events: i64,
    memory: Memory,
    cpu: String,
}

pub(super) async fn measure(bench: &Bench, operator: &Process, duration: Duration) -> Result<Rest, BoxError> {
    // What the server itself would do later about the rows that were just written.
    catalog::execute(&bench.tipstaff.pool, "vacuum analyze").await?;
    sleep(STATISTICS_LAG).await;
    let look = async || {
        let pool = &bench.tipstaff.pool;
        let rows = catalog::count(pool, catalog::ROWS_WRITTEN).await?;
        let transactions = catalog::count(pool, catalog::TRANSACTIONS).await?;
        Ok::<_, BoxError>((bench.api_server.writes().await?, rows, transactions, bench.topics.ends().await?))
    };
    let cpu_before = CpuTimes::now(&bench.tipstaff, "operator", operator).await;
    let seen_before = bench.observer.seen().writes;
    let (writes_before, rows_before, transactions_before, ends_before) = look().await?;
    sleep(duration).await;
    let (writes, rows, transactions, ends) = look().await?;
    Ok(Rest {
        seconds: duration.as_secs_f64(),
        writes: writes.since(&writes_before),
        seen_writes: bench.observer.seen().writes - seen_before,
        rows_written: rows - rows_before,
        transactions: transactions - transactions_before,
        events: ends - ends_before,
        memory: memory(&operator.id().to_string())?,
        cpu: CpuTimes::now(&bench.tipstaff, "operator", operator).await.since(&cpu_before),
    })
}

impl Rest {
    pub(super) fn report(&self, report: &mut Report, synced: Memory, fired: Memory) {
        let memory = |name: &str, megabytes| Measure::new(name, Unit::Megabytes, megabytes);
        report.add(memory("memory (RSS) just after the first sync", synced.resident));
        report.add(memory("memory (RSS) at rest", self.memory.resident).at_most(MOST_MEGABYTES));
        report.add(memory("memory (RSS) after all runs", fired.resident));
        report.add(memory("memory (RSS), the most ever", fired.peak));
        let count = |name: String, value: f64| Measure::new(name, Unit::Count, value).at_most(0.0);
        let seconds = self.seconds;
        let to_api_server = self.writes.of_operator().max(self.seen_writes as f64);
        report.add(count(format!("writes to the API server in {seconds:.0} s of rest"), to_api_server));
        report.add(count(format!("rows written in {seconds:.0} s of rest"), self.rows_written as f64));
        report.add(count(format!("events in {seconds:.0} s of rest"), self.events as f64));
        let renewals = Measure::new(
            "renewals of leases meanwhile, the API server's own among them",
            Unit::Count,
            self.writes.lease_renewals(),
        );
        report.add(renewals);
        let transactions = self.transactions as f64;
        report.add(Measure::new("writing transactions of PostgreSQL meanwhile", Unit::Count, transactions));
        report.note(format!("All writes that the API server served at rest: {}.", self.writes));
        report.note(format!("CPU at rest: {}.", self.cpu));
    }
}
