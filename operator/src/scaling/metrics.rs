use events::{Role, kafka::TopicLag};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RoleLabels {
    role: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TopicLabels {
    role: &'static str,
    topic: &'static str,
}

/// The figures of scaling.
#[derive(Clone, Default)]
pub struct ScalingMetrics {
    lag: Family<TopicLabels, Gauge>,
    lag_known: Family<RoleLabels, Gauge>,
    desired: Family<RoleLabels, Gauge>,
    ready: Family<RoleLabels, Gauge>,
}

impl ScalingMetrics {
    /// Makes the figures and registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "tipstaff_role_lag",
            "Events of a topic that its role has not handled; absent while unknown",
            metrics.lag.clone(),
        );
        registry.register(
            "tipstaff_role_lag_known",
            "1 when a role's lag could be read the last time, else 0",
            metrics.lag_known.clone(),
        );
        registry.register(
            "tipstaff_role_replicas_desired",
            "Workers that a role shall have",
            metrics.desired.clone(),
        );
        registry.register(
            "tipstaff_role_replicas_ready",
            "Workers of a role that are ready",
            metrics.ready.clone(),
        );
        metrics
    }

    /// Shows what a reading brought; a lag that is not known any more is not shown any more.
    pub(super) fn read(&self, role: Role, lags: Option<&[TopicLag]>) {
        self.lag_known.get_or_create(&labels(role)).set(lags.is_some().into());
        for topic in role.topics() {
            let labels = TopicLabels { role: role.name(), topic: topic.name() };
            let lag = lags.and_then(|lags| lags.iter().find(|lag| lag.topic == *topic));
            match lag {
                Some(lag) => {
                    self.lag.get_or_create(&labels).set(i64::try_from(lag.events).unwrap_or(i64::MAX));
                }
                None => {
                    self.lag.remove(&labels);
                }
            }
        }
    }

    pub(super) fn desired(&self, role: Role, replicas: u32) {
        self.desired.get_or_create(&labels(role)).set(replicas.into());
    }

    pub(super) fn ready(&self, role: Role, replicas: i32) {
        self.ready.get_or_create(&labels(role)).set(replicas.into());
    }
}

fn labels(role: Role) -> RoleLabels {
    RoleLabels { role: role.name() }
}
