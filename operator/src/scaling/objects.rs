//! The roles' objects on the API server, kept as decided.

use std::{collections::BTreeMap, sync::Arc};

use events::error_chain;
use k8s_openapi::{
    api::{apps::v1::Deployment, policy::v1::PodDisruptionBudget},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, Client, Resource,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tokio::{sync::Notify, task::JoinSet};
use tracing::{debug, warn};

use super::{
    ScalingOptions,
    configuration::Workers,
    deployment::{self, Place},
    kept::{KeepError, Kept},
    scaler::ScaledRole,
    state::Transition,
};

/// What the API server holds for the roles.
pub(super) struct Objects {
    place: Place,
    /// The name of the Deployment that owns all.
    owner: Option<String>,
    owners: Api<Deployment>,
    deployments: Kept<Deployment>,
    budgets: Kept<PodDisruptionBudget>,
    recorder: Recorder,
}

/// Nothing is applied without the owner.
#[derive(Debug, thiserror::Error)]
enum OwnerError {
    #[error("the Deployment {0}, which owns the workers, could not be read")]
    Unread(String, #[source] Box<kube::Error>),
    #[error(
        "the Deployment {0}, which owns the workers, does not exist or is being deleted: no workers are made; \
         where it is not the operator's own, name that one with --owner-deployment"
    )]
    Gone(String),
}

impl Objects {
    /// Watches what is there; `changed` is notified of what happens to it.
    pub(super) fn watch(
        client: Client,
        namespace: &str,
        options: &ScalingOptions,
        changed: &Arc<Notify>,
        watches: &mut JoinSet<()>,
    ) -> Self {
        let selector = deployment::objects_selector(&options.workers);
        let deployments = Api::namespaced(client.clone(), namespace);
        let budgets = Api::namespaced(client.clone(), namespace);
        Self {
            place: Place {
                namespace: namespace.to_owned(),
                owner: None,
                kafka_prefix: options.kafka.prefix.clone(),
            },
            owner: options.owner.clone(),
            owners: deployments.clone(),
            deployments: Kept::watch(deployments, &selector, changed, watches),
            budgets: Kept::watch(budgets, &selector, changed, watches),
            recorder: Recorder::new(client, Reporter::from(crds::FIELD_MANAGER)),
        }
    }

    /// Waits until all that is there has been seen.
    pub(super) async fn listed(&self) {
        self.deployments.listed().await;
        self.budgets.listed().await;
    }

    /// A Deployment as it is.
    pub(super) fn deployment(&self, name: &str) -> Option<Arc<Deployment>> {
        self.deployments.observed(name)
    }

    /// Applies what is not as it shall be, and deletes what shall not be. Where all is well nothing is asked or written.
    pub(super) async fn bring_about(&mut self, workers: &Workers, roles: &mut [ScaledRole]) {
        if !roles.iter().all(|scaled| self.stands(workers, scaled)) {
            match self.find_owner().await {
                // What is made while the owner is on its way out would be collected and made again.
                Err(error) => log(&error),
                Ok(owner) => {
                    self.place.owner = owner;
                    for scaled in roles {
                        // One role's trouble is not another's.
                        if let Err(error) = self.apply(workers, scaled).await {
                            log(&error);
                        }
                    }
                }
            }
        }
        if let Err(error) = self.remove_unwanted(workers).await {
            log(&error);
        }
    }

    fn stands(&self, workers: &Workers, scaled: &ScaledRole) -> bool {
        let budget = deployment::disruption_budget(workers, scaled.role, &self.place);
        let deployment = self.wanted_deployment(workers, scaled);
        self.budgets.stands(&budget) && deployment.is_none_or(|wanted| self.deployments.stands(&wanted))
    }

    async fn apply(&mut self, workers: &Workers, scaled: &mut ScaledRole) -> Result<(), KeepError> {
        let budget = deployment::disruption_budget(workers, scaled.role, &self.place);
        if !self.budgets.stands(&budget) {
            self.budgets.apply(budget).await?;
        }
        let Some(wanted) = self.wanted_deployment(workers, scaled) else { return Ok(()) };
        if !self.deployments.stands(&wanted) {
            let applied = self.deployments.apply(wanted).await?;
            debug!(role = scaled.role.name(), "a Deployment was applied");
            self.announce(&applied, scaled).await;
        }
        Ok(())
    }

    async fn remove_unwanted(&mut self, workers: &Workers) -> Result<(), KeepError> {
        let is_unwanted = |labels: &Option<BTreeMap<String, String>>| {
            let role = deployment::role_of(labels.as_ref());
            role.is_some_and(|role| workers.role(role).is_none())
        };
        for object in self.deployments.all() {
            if is_unwanted(&object.metadata.labels) {
                self.deployments.delete(&object).await?;
            }
        }
        for object in self.budgets.all() {
            if is_unwanted(&object.metadata.labels) {
                self.budgets.delete(&object).await?;
            }
        }
        Ok(())
    }

    fn wanted_deployment(&self, workers: &Workers, scaled: &ScaledRole) -> Option<Deployment> {
        let state = scaled.state.as_ref()?;
        let ScaledRole { role, settings, .. } = scaled;
        Some(deployment::deployment(workers, *role, settings, &self.place, state.replicas, &state.line))
    }

    async fn find_owner(&self) -> Result<Option<OwnerReference>, OwnerError> {
        let Some(name) = &self.owner else { return Ok(None) };
        let found = self.owners.get_opt(name).await;
        let found = found.map_err(|error| OwnerError::Unread(name.clone(), Box::new(error)))?;
        let living = found.filter(|owner| owner.metadata.deletion_timestamp.is_none());
        let reference = living.and_then(|owner| owner.owner_ref(&()));
        reference.map(Some).ok_or_else(|| OwnerError::Gone(name.clone()))
    }

    async fn announce(&self, applied: &Deployment, scaled: &mut ScaledRole) {
        let (Some(transition), Some(state)) = (scaled.news.take(), &scaled.state) else { return };
        let event = Event {
            type_: match transition {
                Transition::LagUnknown => EventType::Warning,
                _ => EventType::Normal,
            },
            reason: transition.reason().to_owned(),
            note: Some(state.line.clone()),
            action: "Scale".to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, &applied.object_ref(&())).await {
            // Events are a courtesy: the annotation says the same.
            warn!(error = error_chain(&error), "an event was not published");
        }
    }
}

fn log(error: &dyn std::error::Error) {
    warn!(error = error_chain(error), "workers are not as they shall be; trying again");
}
