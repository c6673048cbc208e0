use jiff::SignedDuration;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};
use store::catalog::FiredRun;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

/// The operator's figures.
#[derive(Clone)]
pub struct OperatorMetrics {
    runs: Counter,
    skipped: Family<ReasonLabels, Counter>,
    lateness: Histogram,
    restarted: Counter,
    relayed: Counter,
    status_writes: Counter,
    reconcile_failures: Counter,
}

impl OperatorMetrics {
    /// Makes the figures and registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            runs: Counter::default(),
            skipped: Family::default(),
            lateness: Histogram::new(exponential_buckets(0.001, 2.0, 16)),
            restarted: Counter::default(),
            relayed: Counter::default(),
            status_writes: Counter::default(),
            reconcile_failures: Counter::default(),
        };
        registry.register("tipstaff_runs_fired", "Runs made for due times", metrics.runs.clone());
        registry.register("tipstaff_runs_skipped", "Due times without a run", metrics.skipped.clone());
        registry.register(
            "tipstaff_beat_lateness_seconds",
            "From a due time to the commit of its run",
            metrics.lateness.clone(),
        );
        registry.register(
            "tipstaff_runs_restarted",
            "Times that the event of a run without progress was sent again",
            metrics.restarted.clone(),
        );
        registry.register(
            "tipstaff_outbox_relayed",
            "Events published from the outbox",
            metrics.relayed.clone(),
        );
        registry.register(
            "tipstaff_status_writes",
            "Writes of an object's status",
            metrics.status_writes.clone(),
        );
        registry.register(
            "tipstaff_reconcile_failures",
            "Reconciliations that failed and are tried again",
            metrics.reconcile_failures.clone(),
        );
        metrics
    }

    /// `lateness`: since the due time and the subscription's own delay after it.
    pub(crate) fn fired(&self, run: &FiredRun, lateness: SignedDuration) {
        match &run.skip {
            None => {
                self.runs.inc();
                self.lateness.observe(lateness.as_secs_f64());
            }
            Some(skip) => {
                let labels = ReasonLabels { reason: skip.reason };
                self.skipped.get_or_create(&labels).inc_by(run.due_times().into());
            }
        }
    }

    pub(crate) fn restarted(&self, count: usize) {
        self.restarted.inc_by(u64::try_from(count).unwrap_or(u64::MAX));
    }

    pub(crate) fn relayed(&self, count: usize) {
        self.relayed.inc_by(u64::try_from(count).unwrap_or(u64::MAX));
    }

    pub(crate) fn status_written(&self) {
        self.status_writes.inc();
    }

    pub(crate) fn reconcile_failed(&self) {
        self.reconcile_failures.inc();
    }
}
