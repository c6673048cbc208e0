use std::{sync::atomic::AtomicU64, time::Duration};

use events::run_reasons;
use jiff::{SignedDuration, Timestamp};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};
use store::catalog::{FiredRun, OutboxBacklog, RunPhase, RunReport, SourceFigures};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

/// How a run ended. The reasons are those of [`run_reasons`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndLabels {
    outcome: &'static str,
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabels {
    kind: &'static str,
    class: ErrorClass,
}

/// Whose fault it is that an object could not be reconciled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, prometheus_client::encoding::EncodeLabelValue)]
pub(crate) enum ErrorClass {
    /// The catalog failed.
    Catalog,
    /// The API server refused, or cannot be reached.
    ApiServer,
    /// The object lacks what every object on an API server has.
    Object,
}

const KINDS: [&str; 2] = ["Source", "Subscription"];
/// Events in the outbox whose time has come, and those that wait for theirs.
const AVAILABLE: StateLabels = StateLabels { state: "Available" };
const DELAYED: StateLabels = StateLabels { state: "Delayed" };

/// The operator's figures. docs/metrics.md lists them.
#[derive(Clone)]
pub struct OperatorMetrics {
    leader: Gauge,
    runs: Counter,
    skipped: Family<ReasonLabels, Counter>,
    ended: Family<EndLabels, Counter>,
    lateness: Histogram,
    restarted: Counter,
    outbox: Family<StateLabels, Gauge>,
    outbox_age: Gauge<f64, AtomicU64>,
    relayed: Counter,
    sources: Gauge,
    sources_failing: Gauge,
    sources_overdue: Gauge,
    reconcile_seconds: Family<KindLabels, Histogram, fn() -> Histogram>,
    reconcile_errors: Family<ErrorLabels, Counter>,
    status_writes: Family<KindLabels, Counter>,
    statuses_waiting: Gauge,
}

impl OperatorMetrics {
    /// Makes the figures and registers them. Those whose labels are known begin at zero, so that the first increase
    /// is seen as one.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            leader: Gauge::default(),
            runs: Counter::default(),
            skipped: Family::default(),
            ended: Family::default(),
            lateness: Histogram::new(exponential_buckets(0.001, 2.0, 16)),
            restarted: Counter::default(),
            outbox: Family::default(),
            outbox_age: Gauge::default(),
            relayed: Counter::default(),
            sources: Gauge::default(),
            sources_failing: Gauge::default(),
            sources_overdue: Gauge::default(),
            reconcile_seconds: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.001, 4.0, 8))
            }),
            reconcile_errors: Family::default(),
            status_writes: Family::default(),
            statuses_waiting: Gauge::default(),
        };
        metrics.begin_at_zero();
        metrics.register_runs(registry);
        metrics.register_outbox(registry);
        metrics.register_sources(registry);
        metrics.register_objects(registry);
        metrics
    }

    fn begin_at_zero(&self) {
        for reason in [
            run_reasons::SUSPENDED,
            run_reasons::DEADLINE_EXCEEDED,
            run_reasons::SUPERSEDED,
            run_reasons::OVERLAP,
        ] {
            drop(self.skipped.get_or_create(&ReasonLabels { reason }));
        }
        for reason in [run_reasons::CHANGED, run_reasons::UNCHANGED, run_reasons::BACKFILLED] {
            let outcome = RunPhase::Succeeded.name();
            drop(self.ended.get_or_create(&EndLabels { outcome, reason: reason.to_owned() }));
        }
        drop(self.outbox.get_or_create(&AVAILABLE));
        drop(self.outbox.get_or_create(&DELAYED));
        for kind in KINDS {
            drop(self.reconcile_seconds.get_or_create(&KindLabels { kind }));
            drop(self.status_writes.get_or_create(&KindLabels { kind }));
            for class in [ErrorClass::Catalog, ErrorClass::ApiServer, ErrorClass::Object] {
                drop(self.reconcile_errors.get_or_create(&ErrorLabels { kind, class }));
            }
        }
    }

    fn register_runs(&self, registry: &mut Registry) {
        registry.register("tipstaff_leader", "Whether this replica leads", self.leader.clone());
        registry.register("tipstaff_runs_fired", "Runs made for due times", self.runs.clone());
        registry.register("tipstaff_runs_skipped", "Due times without a run", self.skipped.clone());
        registry.register("tipstaff_runs_ended", "Runs that ended", self.ended.clone());
        registry.register(
            "tipstaff_beat_lateness_seconds",
            "From when a due time was to fire, the subscription's jitter included, to the commit of its run",
            self.lateness.clone(),
        );
        registry.register(
            "tipstaff_runs_restarted",
            "Times that the event of a run without progress was sent again",
            self.restarted.clone(),
        );
    }

    fn register_outbox(&self, registry: &mut Registry) {
        registry.register(
            "tipstaff_outbox_events",
            "Events in the outbox, counted up to 100000",
            self.outbox.clone(),
        );
        registry.register(
            "tipstaff_outbox_oldest_age_seconds",
            "For how long the oldest available event has waited to be published",
            self.outbox_age.clone(),
        );
        registry.register(
            "tipstaff_outbox_relayed",
            "Events published from the outbox",
            self.relayed.clone(),
        );
    }

    fn register_sources(&self, registry: &mut Registry) {
        registry.register("tipstaff_sources", "Sources in the catalog", self.sources.clone());
        registry.register(
            "tipstaff_sources_failing",
            "Sources that do not answer, suspended ones left out",
            self.sources_failing.clone(),
        );
        registry.register(
            "tipstaff_sources_overdue",
            "Sources that have not changed for longer than expected, suspended ones left out",
            self.sources_overdue.clone(),
        );
    }

    fn register_objects(&self, registry: &mut Registry) {
        registry.register(
            "tipstaff_reconcile_duration_seconds",
            "Time to reconcile an object",
            self.reconcile_seconds.clone(),
        );
        registry.register(
            "tipstaff_reconcile_errors",
            "Reconciliations that failed and are tried again",
            self.reconcile_errors.clone(),
        );
        registry.register(
            "tipstaff_status_writes",
            "Writes of an object's status",
            self.status_writes.clone(),
        );
        registry.register(
            "tipstaff_statuses_waiting",
            "Subscriptions whose status may have changed and waits to be written",
            self.statuses_waiting.clone(),
        );
    }

    pub(crate) fn leads(&self, leads: bool) {
        self.leader.set(leads.into());
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

    pub(crate) fn ended(&self, run: &RunReport) {
        let labels = EndLabels { outcome: run.phase.name(), reason: run.reason.clone().unwrap_or_default() };
        self.ended.get_or_create(&labels).inc();
    }

    pub(crate) fn relayed(&self, count: usize) {
        self.relayed.inc_by(u64::try_from(count).unwrap_or(u64::MAX));
    }

    pub(crate) fn outbox(&self, backlog: &OutboxBacklog, now: Timestamp) {
        self.outbox.get_or_create(&AVAILABLE).set(backlog.available);
        self.outbox.get_or_create(&DELAYED).set(backlog.delayed);
        let age = backlog.oldest.map_or(0.0, |oldest| now.duration_since(oldest).as_secs_f64());
        self.outbox_age.set(age);
    }

    pub(crate) fn sources(&self, figures: &SourceFigures) {
        self.sources.set(figures.count);
        self.sources_failing.set(figures.failing);
        self.sources_overdue.set(figures.overdue);
    }

    pub(crate) fn reconciled(&self, kind: &'static str, took: Duration) {
        self.reconcile_seconds.get_or_create(&KindLabels { kind }).observe(took.as_secs_f64());
    }

    pub(crate) fn reconcile_failed(&self, kind: &'static str, class: ErrorClass) {
        self.reconcile_errors.get_or_create(&ErrorLabels { kind, class }).inc();
    }

    pub(crate) fn status_written(&self, kind: &'static str) {
        self.status_writes.get_or_create(&KindLabels { kind }).inc();
    }

    pub(crate) fn statuses_waiting(&self, count: usize) {
        self.statuses_waiting.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
