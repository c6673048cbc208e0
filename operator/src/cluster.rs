//! The operator on a cluster: leader election, the controllers of both kinds, and the writers of their status.
//!
//! Only the leader works. A replica that is not waits for the lease; one that loses it ends, and starts anew as a
//! follower: nothing of what it knew as leader lives on. The catalog refuses what a former leader still tries.

mod begun_runs;
mod catalog_figures;
mod controllers;
mod lease;
mod news;
mod objects;
mod pacer;
mod removals;
mod source_controller;
mod status_board;
mod status_writer;
mod subscription_controller;

use std::{sync::Arc, time::Duration};

use events::{Bus, BusError, Clock, SystemClock};
use kube::Client;
use prometheus_client::registry::Registry;
use service::Check;
use store::catalog::{Catalog, CatalogError, Lead, StuckPolicy};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    Engine, EngineOptions, OperatorMetrics,
    scaling::{Scaler, ScalingMetrics, ScalingOptions},
};
use lease::{LeaseHolder, LeaseOptions};

/// How the operator works on a cluster.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// The namespace whose objects are reconciled; all without it.
    pub namespace: Option<String>,
    /// Where the lease is.
    pub lease_namespace: String,
    /// The lease's name.
    pub lease_name: String,
    /// Who this replica is: its pod's name.
    pub identity: String,
    /// How long a leader that fell silent keeps the lease.
    pub lease_duration: Duration,
    /// When a run is stuck.
    pub stuck: StuckPolicy,
    /// Which workers are scaled, in the lease's namespace; none without it.
    pub scaling: Option<ScalingOptions>,
}

/// The operator cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// No client for the API server.
    #[error("no way to the API server is configured: neither a kubeconfig nor a service account")]
    Client(#[source] kube::Error),
    /// The catalog failed at the start.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The lag of the workers' groups cannot be read, which is a matter of configuration.
    #[error(transparent)]
    Lag(#[from] BusError),
    /// The lease went to another replica.
    #[error("the lease was lost: another replica leads now")]
    LeaseLost,
    /// A part ended that should have gone on.
    #[error("a part of the operator ended unexpectedly; the log says which")]
    PartEnded,
}

/// The operator, ready to run.
pub struct Operator {
    options: ClusterOptions,
    catalog: Catalog,
    bus: Arc<dyn Bus>,
    client: Client,
    metrics: OperatorMetrics,
    scaling_metrics: ScalingMetrics,
    check: Check,
}

impl Operator {
    /// Makes the client of the API server, from the kubeconfig or the pod's service account, and registers figures.
    ///
    /// # Errors
    /// When neither is there.
    pub async fn new(
        options: ClusterOptions,
        catalog: Catalog,
        bus: Arc<dyn Bus>,
        registry: &mut Registry,
        check: Check,
    ) -> Result<Self, OperatorError> {
        let client = Client::try_default().await.map_err(OperatorError::Client)?;
        let metrics = OperatorMetrics::register(registry);
        let scaling_metrics = ScalingMetrics::register(registry);
        Ok(Self { options, catalog, bus, client, metrics, scaling_metrics, check })
    }

    /// Waits for the lease, then reconciles until `shutdown`.
    ///
    /// # Errors
    /// When a part cannot start, or the lease is lost: the process should end and start again.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), OperatorError> {
        let options = LeaseOptions {
            namespace: self.options.lease_namespace.clone(),
            name: self.options.lease_name.clone(),
            identity: self.options.identity.clone(),
            duration: self.options.lease_duration,
        };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let mut lease = LeaseHolder::new(self.client.clone(), options);
        let lead = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            lead = lease.acquire(&self.catalog, &*clock, &self.check) => lead,
        };
        info!(identity = self.options.identity, epoch = lead.epoch(), "leading");
        let metrics = self.metrics.clone();
        metrics.leads(true);
        let result = self.lead(lead, &mut lease, clock, &shutdown).await;
        metrics.leads(false);
        // Given back only now, when nothing of this replica works any more.
        lease.release().await;
        result
    }

    async fn lead(
        self,
        lead: Lead,
        lease: &mut LeaseHolder,
        clock: Arc<dyn Clock>,
        shutdown: &CancellationToken,
    ) -> Result<(), OperatorError> {
        // The parts end together, whichever ends first.
        let stop = shutdown.child_token();
        let options = EngineOptions {
            lead,
            stuck: self.options.stuck,
            bus: self.bus,
            clock: clock.clone(),
            metrics: self.metrics.clone(),
            check: self.check,
        };
        let scaler = self
            .options
            .scaling
            .map(|scaling| {
                let namespace = &self.options.lease_namespace;
                Scaler::new(scaling, self.client.clone(), namespace, clock.clone(), self.scaling_metrics)
            })
            .transpose()?;
        let mut engine = Engine::start(options, &stop).await?;
        let mut tasks = controllers::start(
            self.client,
            self.options.namespace.as_deref(),
            engine.handle(),
            self.metrics,
            &stop,
        );
        if let Some(scaler) = scaler {
            tasks.spawn(scaler.run(stop.clone()));
        }
        let result = tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            () = lease.keep(&*clock) => {
                warn!("the lease was lost");
                Err(OperatorError::LeaseLost)
            }
            ended = engine.ended() => match ended {
                Some(CatalogError::NoLongerLeading { .. }) => Err(OperatorError::LeaseLost),
                Some(error) => Err(error.into()),
                None => Err(OperatorError::PartEnded),
            },
            _ = tasks.join_next() => Err(OperatorError::PartEnded),
        };
        // A shutdown stops the parts as well, and their end may be seen before it is.
        let result = if stop.is_cancelled() { Ok(()) } else { result };
        stop.cancel();
        let drained = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(Duration::from_secs(5), drained).await.is_err() {
            warn!("the controllers did not end in time");
        }
        engine.stopped().await;
        result
    }
}
