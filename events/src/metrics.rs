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

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Outcome {
    Handled,
    PutOff,
    GivenUp,
    DeadLetter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OutcomeLabels {
    pub(crate) topic: String,
    pub(crate) outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct TopicLabels {
    pub(crate) topic: String,
}

/// The figures of the consumer loops of a process.
#[derive(Clone)]
pub struct ConsumerMetrics {
    pub(crate) events: Family<OutcomeLabels, Counter>,
    pub(crate) seconds: Family<TopicLabels, Histogram, fn() -> Histogram>,
    pub(crate) in_flight: Gauge,
}

impl ConsumerMetrics {
    /// Makes the figures and registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            events: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 4.0, 9))),
            in_flight: Gauge::default(),
        };
        registry.register("tipstaff_events", "Events by what became of them", metrics.events.clone());
        registry.register(
            "tipstaff_event_handling_seconds",
            "Time to handle an event",
            metrics.seconds.clone(),
        );
        registry.register("tipstaff_events_in_flight", "Events being handled", metrics.in_flight.clone());
        metrics
    }
}
