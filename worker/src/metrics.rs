use changes::ChangeKind;
use events::{ConsumerMetrics, run_reasons};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use store::catalog::{DeliveryOutcome, Removed};

use crate::{
    ROUTES,
    fetch::{FetchError, Fetched},
};

/// `Fetched`, `NotModified`, or the reason of a [`FetchError`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

const FETCHED: OutcomeLabels = OutcomeLabels { outcome: "Fetched" };
const NOT_MODIFIED: OutcomeLabels = OutcomeLabels { outcome: "NotModified" };

/// The worker's figures. docs/metrics.md lists them.
#[derive(Clone)]
pub struct WorkerMetrics {
    pub(crate) consumer: ConsumerMetrics,
    fetches: Family<OutcomeLabels, Counter>,
    fetched_bytes: Counter,
    put_off: Counter,
    versions: Family<VersionLabels, Counter>,
    delivery_attempts: Family<AttemptLabels, Counter>,
    removed: Family<KindLabels, Counter>,
}

/// What happened to a document: `Baseline`, `New`, `Changed`, `Removed` or `Returned`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VersionLabels {
    kind: String,
}

/// What became of a delivery that was tried, and why.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    outcome: &'static str,
    reason: &'static str,
}

const DELIVERED: &str = "Delivered";

/// What was removed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

impl WorkerMetrics {
    /// Makes the figures and registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let jobs = ROUTES.iter().map(|route| (route.topic, route.topic.job_type()));
        let metrics = Self {
            consumer: ConsumerMetrics::register(registry, jobs),
            fetches: Family::default(),
            fetched_bytes: Counter::default(),
            put_off: Counter::default(),
            versions: Family::default(),
            delivery_attempts: Family::default(),
            removed: Family::default(),
        };
        for kind in ChangeKind::ALL {
            drop(metrics.versions.get_or_create(&VersionLabels { kind: kind.name().to_owned() }));
        }
        let delivered = AttemptLabels { outcome: DELIVERED, reason: run_reasons::DELIVERED };
        drop(metrics.delivery_attempts.get_or_create(&delivered));
        metrics.removed(&Removed::default());
        metrics.bodies_removed(0);
        drop(metrics.fetches.get_or_create(&FETCHED));
        registry.register("tipstaff_fetches", "Fetches by how they ended", metrics.fetches.clone());
        registry.register(
            "tipstaff_fetched_bytes",
            "Bytes of bodies that were fetched, after decompression",
            metrics.fetched_bytes.clone(),
        );
        registry.register(
            "tipstaff_fetches_put_off",
            "Fetches that had to wait for a slot of their host",
            metrics.put_off.clone(),
        );
        registry.register("tipstaff_versions", "Versions that were made", metrics.versions.clone());
        registry.register(
            "tipstaff_delivery_attempts",
            "Deliveries that were tried, by what became of them",
            metrics.delivery_attempts.clone(),
        );
        registry.register(
            "tipstaff_retention_removed",
            "What subscriptions do not keep and was removed",
            metrics.removed.clone(),
        );
        metrics
    }

    pub(crate) fn removed(&self, removed: &Removed) {
        let Removed { versions, deliveries, runs, artifacts } = *removed;
        for (kind, count) in
            [("Version", versions), ("Delivery", deliveries), ("Run", runs), ("Artifact", artifacts)]
        {
            self.removed.get_or_create(&KindLabels { kind }).inc_by(count);
        }
    }

    pub(crate) fn bodies_removed(&self, count: u64) {
        self.removed.get_or_create(&KindLabels { kind: "Body" }).inc_by(count);
    }

    pub(crate) fn version_made(&self, kind: &str) {
        self.versions.get_or_create(&VersionLabels { kind: kind.to_owned() }).inc();
    }

    pub(crate) fn delivery_tried(&self, outcome: DeliveryOutcome<'_>, reason: &'static str) {
        let outcome = match outcome {
            DeliveryOutcome::Delivered => DELIVERED,
            DeliveryOutcome::Retry(_) => "Retry",
            DeliveryOutcome::GivenUp => "GivenUp",
            DeliveryOutcome::TargetGone(_) => "TargetGone",
        };
        self.delivery_attempts.get_or_create(&AttemptLabels { outcome, reason }).inc();
    }

    pub(crate) fn put_off(&self) {
        self.put_off.inc();
    }

    pub(crate) fn fetched(&self, result: &Result<Fetched, FetchError>) {
        let labels = match result {
            Ok(Fetched::Body { body, .. }) => {
                self.fetched_bytes.inc_by(body.byte_size);
                FETCHED
            }
            Ok(Fetched::NotModified { .. }) => NOT_MODIFIED,
            // Nothing was asked of the site.
            Err(FetchError::NotYet { .. } | FetchError::NotJudged) => return,
            Err(error) => OutcomeLabels { outcome: error.reason() },
        };
        self.fetches.get_or_create(&labels).inc();
    }
}
