//! The loop: read the lag, decide, and keep the roles' objects as decided.

use std::{sync::Arc, time::Duration};

use events::{
    BusError, Clock, Role, error_chain,
    kafka::{LagReader, TopicLag},
};
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use kube::{Client, ResourceExt};
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    ScalingMetrics, ScalingOptions,
    configuration::RoleWorkers,
    decide::{History, Reading},
    deployment::{self, STATE_ANNOTATION},
    objects::Objects,
    state::{RoleState, Transition},
};

/// How often the lag is read. A role that sleeps wakes within this and a moment.
const READ_EVERY: Duration = Duration::from_secs(5);
/// How long a reading may take.
const READ_WITHIN: Duration = Duration::from_secs(4);
/// Without a reading for so long, nobody knows what was meanwhile.
const GAP: SignedDuration = SignedDuration::from_secs(20);
/// How long the API server may take for what a round has to write.
const WRITE_WITHIN: Duration = Duration::from_secs(10);

/// Scales the workers of the roles in the workers file.
pub(crate) struct Scaler {
    options: ScalingOptions,
    client: Client,
    namespace: String,
    roles: Vec<ScaledRole>,
    clock: Arc<dyn Clock>,
    metrics: ScalingMetrics,
}

/// A role, its lag and what became of it.
pub(super) struct ScaledRole {
    pub(super) role: Role,
    pub(super) settings: RoleWorkers,
    reader: LagReader,
    history: History,
    /// None before the first decision, where no Deployment was found.
    pub(super) state: Option<RoleState>,
    /// What users are to be told, once it is in force.
    pub(super) news: Option<Transition>,
}

impl Scaler {
    /// Makes the clients that read the lag.
    ///
    /// # Errors
    /// When a property of librdkafka is not one.
    pub(crate) fn new(
        options: ScalingOptions,
        client: Client,
        namespace: &str,
        clock: Arc<dyn Clock>,
        metrics: ScalingMetrics,
    ) -> Result<Self, BusError> {
        let window = SignedDuration::from_secs(options.workers.stabilisation_seconds.into());
        let roles = options.workers.roles.iter().map(|(role, settings)| {
            Ok(ScaledRole {
                role: role.0,
                settings: settings.clone(),
                reader: LagReader::new(&options.kafka, &role.0.group(), role.0.topics())?,
                history: History::new(window, GAP),
                state: None,
                news: None,
            })
        });
        let roles = roles.collect::<Result<_, BusError>>()?;
        Ok(Self { client, namespace: namespace.to_owned(), roles, clock, metrics, options })
    }

    /// Scales until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.scale() => {}
        }
    }

    async fn scale(mut self) {
        // They end with this.
        let mut watches = JoinSet::new();
        let changed = Arc::new(Notify::new());
        let mut objects =
            Objects::watch(self.client.clone(), &self.namespace, &self.options, &changed, &mut watches);
        objects.listed().await;
        self.adopt(&objects);
        let roles: Vec<_> = self.roles.iter().map(|scaled| scaled.role.name()).collect();
        info!(?roles, "scaling workers");

        let mut rounds = interval(READ_EVERY);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = rounds.tick() => self.read_and_decide().await,
                () = changed.notified() => {}
            }
            let bring_about = objects.bring_about(&self.options.workers, &mut self.roles);
            if timeout(WRITE_WITHIN, bring_about).await.is_err() {
                warn!("the API server does not answer; workers are not as they shall be; trying again");
            }
            self.show_ready(&objects);
        }
    }

    /// Goes on from what is there: a new leader changes nothing by beginning.
    fn adopt(&mut self, objects: &Objects) {
        for scaled in &mut self.roles {
            let name = deployment::object_name(&self.options.workers, scaled.role);
            let Some(found) = objects.deployment(&name) else { continue };
            let replicas = found.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or_default();
            let line = found.annotations().get(STATE_ANNOTATION).cloned().unwrap_or_default();
            scaled.state = Some(RoleState { replicas: u32::try_from(replicas).unwrap_or_default(), line });
        }
    }

    async fn read_and_decide(&mut self) {
        let readings = join_all(self.roles.iter().map(|scaled| scaled.reader.read(READ_WITHIN))).await;
        let now = self.clock.now();
        for (scaled, lags) in self.roles.iter_mut().zip(readings) {
            self.metrics.read(scaled.role, lags.as_deref().ok());
            let replicas = scaled.decide(lags, now);
            self.metrics.desired(scaled.role, replicas);
        }
    }

    fn show_ready(&self, objects: &Objects) {
        for scaled in &self.roles {
            let name = deployment::object_name(&self.options.workers, scaled.role);
            let found = objects.deployment(&name);
            let ready = found.and_then(|found| found.status.as_ref()?.ready_replicas).unwrap_or_default();
            self.metrics.ready(scaled.role, ready);
        }
    }
}

impl ScaledRole {
    fn decide(&mut self, lags: Result<Vec<TopicLag>, BusError>, now: Timestamp) -> u32 {
        let (reading, cause) = match &lags {
            Ok(lags) => (total(lags), String::new()),
            Err(error) => (Reading::Unknown, error_chain(error)),
        };
        let current = self.state.as_ref().map_or(0, |state| state.replicas);
        let replicas = self.history.decide(self.settings.bounds(), current, reading, now);
        let (state, transition) =
            RoleState::next(self.state.as_ref(), &self.settings, replicas, reading, &cause);
        let role = self.role.name();
        debug!(role, replicas, ?reading, cause, "decided");
        if self.state.as_ref() != Some(&state) {
            info!(role, state = state.line, "the state of a role changed");
        }
        self.news = transition.or(self.news);
        self.state = Some(state);
        replicas
    }
}

fn total(lags: &[TopicLag]) -> Reading {
    Reading::Lag {
        events: lags.iter().map(|lag| lag.events).sum(),
        partitions: lags.iter().map(|lag| lag.partitions).sum(),
    }
}
