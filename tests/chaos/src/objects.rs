//! The objects on the API server, as a user writes them.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use kube::{
    Api, Client, Config,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use tests::Installation;
use tokio::time::timeout;

use crate::{Failure, Places, World, world::NEVER_NOW};

/// How long one request may take: the API server is away at times.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
const AT_ONCE: usize = 8;

/// A client with the namespace's sources and subscriptions.
#[derive(Clone)]
pub struct Objects {
    sources: Api<DynamicObject>,
    subscriptions: Api<DynamicObject>,
    events: Api<DynamicObject>,
}

impl Objects {
    /// Connects as the administrator.
    pub async fn connect(tipstaff: &Installation) -> Result<Self, Failure> {
        let kubeconfig = Kubeconfig::read_from(tipstaff.stack.kubeconfig_path()?)?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        let client = Client::try_from(config)?;
        let api = |group: &str, version: &str, kind: &str, plural: &str| {
            let kind = GroupVersionKind::gvk(group, version, kind);
            let resource = ApiResource::from_gvk_with_plural(&kind, plural);
            Api::namespaced_with(client.clone(), &tipstaff.namespace, &resource)
        };
        Ok(Self {
            sources: api("tipstaff.dev", "v1alpha1", "Source", "sources"),
            subscriptions: api("tipstaff.dev", "v1alpha1", "Subscription", "subscriptions"),
            events: api("events.k8s.io", "v1", "Event", "events"),
        })
    }

    /// Makes all objects. Returns when each subscription was made, in seconds since 1970.
    pub async fn create(&self, world: &World, places: &Places) -> Result<Vec<i64>, Failure> {
        let sources = world.sources.iter().map(|source| (&self.sources, world.source_manifest(source)));
        stream::iter(sources)
            .map(|(api, manifest)| create(api, manifest))
            .buffered(AT_ONCE)
            .try_for_each(|_| async { Ok(()) })
            .await?;
        let subscriptions = world
            .subscriptions
            .iter()
            .map(|subscription| (&self.subscriptions, world.subscription_manifest(subscription, places)));
        stream::iter(subscriptions)
            .map(|(api, manifest)| create(api, manifest))
            .buffered(AT_ONCE)
            .try_collect()
            .await
    }

    /// How many subscriptions are ready.
    pub async fn ready(&self) -> Result<usize, Failure> {
        let list = self.subscriptions.list(&ListParams::default()).await?;
        let is_ready = |object: &&DynamicObject| {
            let conditions = object.data["status"]["conditions"].as_array();
            conditions
                .is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"))
        };
        Ok(list.iter().filter(is_ready).count())
    }

    /// How many subscriptions have a spec that the operator has not seen.
    pub async fn unseen(&self) -> Result<usize, Failure> {
        let list = self.subscriptions.list(&ListParams::default()).await?;
        let is_unseen = |object: &&DynamicObject| {
            object.data["status"]["observedGeneration"].as_i64() != object.metadata.generation
        };
        Ok(list.iter().filter(is_unseen).count())
    }

    /// Asks for a run; the same token twice asks once.
    pub async fn request(&self, subscription: &str, token: &str) -> Result<(), Failure> {
        let patch = json!({"metadata": {"annotations": {"tipstaff.dev/requestedAt": token}}});
        self.patch(subscription, &patch).await
    }

    /// Asks for many, as far as the API server answers. Returns those that were taken.
    pub async fn request_all(&self, wanted: &[(String, String)]) -> Vec<bool> {
        stream::iter(wanted)
            .map(|(subscription, token)| async { self.request(subscription, token).await.is_ok() })
            .buffered(AT_ONCE)
            .collect()
            .await
    }

    /// From now on the subscriptions are not due any more.
    pub async fn stop_schedules(&self, names: &[&str]) -> Result<(), Failure> {
        let patch = json!({"spec": {"schedule": NEVER_NOW}});
        stream::iter(names)
            .map(|name| self.patch(name, &patch))
            .buffered(AT_ONCE)
            .try_for_each(|()| async { Ok(()) })
            .await
    }

    /// What all objects of the namespace are, by name and version.
    pub async fn versions(&self) -> Result<Vec<String>, Failure> {
        let mut all = Vec::new();
        for api in [&self.sources, &self.subscriptions, &self.events] {
            for object in api.list(&ListParams::default()).await? {
                let version = object.metadata.resource_version.unwrap_or_default();
                let kind = object.types.map(|types| types.kind).unwrap_or_default();
                all.push(format!("{kind} {} {version}", object.metadata.name.unwrap_or_default()));
            }
        }
        Ok(all)
    }

    /// Writes to an object what is no setting.
    pub async fn label(&self, subscription: &str, value: &str) -> Result<(), Failure> {
        self.patch(subscription, &json!({"metadata": {"labels": {"written": value}}})).await
    }

    async fn patch(&self, subscription: &str, patch: &Value) -> Result<(), Failure> {
        let parameters = PatchParams::default();
        let patch = Patch::Merge(patch);
        timeout(ANSWER_WITHIN, self.subscriptions.patch(subscription, &parameters, &patch)).await??;
        Ok(())
    }
}

async fn create(api: &Api<DynamicObject>, manifest: Value) -> Result<i64, Failure> {
    let object: DynamicObject = serde_json::from_value(manifest)?;
    let made = api.create(&PostParams::default(), &object).await?;
    Ok(made.metadata.creation_timestamp.map_or(0, |time| time.0.as_second()))
}
