use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use crate::{Topic, run_reasons};

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Outcome {
    Handled,
    PutOff,
    GivenUp,
    DeadLetter,
}

impl Outcome {
    const ALL: [Self; 4] = [Self::Handled, Self::PutOff, Self::GivenUp, Self::DeadLetter];
}

/// The job type of what has none that is known: whatever a stranger writes there is no label.
pub(crate) const UNKNOWN_JOB: &str = "unknown";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OutcomeLabels {
    pub(crate) topic: String,
    pub(crate) job_type: String,
    pub(crate) outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ReasonLabels {
    pub(crate) job_type: String,
    pub(crate) reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct JobLabels {
    pub(crate) job_type: String,
}

/// The figures of the consumer loops of a process. docs/metrics.md lists them.
#[derive(Clone)]
pub struct ConsumerMetrics {
    pub(crate) events: Family<OutcomeLabels, Counter>,
    pub(crate) put_off: Family<ReasonLabels, Counter>,
    pub(crate) seconds: Family<JobLabels, Histogram, fn() -> Histogram>,
    pub(crate) in_flight: Gauge,
}

impl ConsumerMetrics {
    /// Makes the figures and registers them. Those of the `jobs` begin at zero, so that the first increase is seen as
    /// one.
    pub fn register(registry: &mut Registry, jobs: impl IntoIterator<Item = (Topic, &'static str)>) -> Self {
        let metrics = Self {
            events: Family::default(),
            put_off: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 4.0, 9))),
            in_flight: Gauge::default(),
        };
        for (topic, job_type) in jobs {
            drop(metrics.seconds.get_or_create(&JobLabels { job_type: job_type.to_owned() }));
            let reason = run_reasons::CATALOG_UNAVAILABLE;
            drop(metrics.put_off.get_or_create(&ReasonLabels { job_type: job_type.to_owned(), reason }));
            for outcome in Outcome::ALL {
                let (topic, job_type) = (topic.name().to_owned(), job_type.to_owned());
                drop(metrics.events.get_or_create(&OutcomeLabels { topic, job_type, outcome }));
            }
        }
        registry.register("tipstaff_events", "Events by what became of them", metrics.events.clone());
        registry.register(
            "tipstaff_events_put_off",
            "Events that are tried again, by what stood in their way",
            metrics.put_off.clone(),
        );
        registry.register(
            "tipstaff_handler_duration_seconds",
            "Time that a handler took for an event",
            metrics.seconds.clone(),
        );
        registry.register("tipstaff_events_in_flight", "Events being handled", metrics.in_flight.clone());
        metrics
    }
}
