//! Objects of one kind that are kept as they shall be: applied when they differ, made again when they are gone.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Debug,
    future::ready,
    sync::Arc,
};

use events::error_chain;
use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
    runtime::{
        WatchStreamExt,
        reflector::{self, Store},
        watcher,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{sync::Notify, task::JoinSet};
use tracing::{info, warn};

/// What is kept: Deployments, PodDisruptionBudgets.
pub(super) trait Keepable:
    Resource<DynamicType = ()> + Clone + Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static
{
}

impl<K> Keepable for K where
    K: Resource<DynamicType = ()>
        + Clone
        + Debug
        + PartialEq
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// Objects of a kind as a watch shows them, and what of them was applied.
pub(super) struct Kept<K: Keepable> {
    api: Api<K>,
    store: Store<K>,
    applied: HashMap<String, Applied<K>>,
}

/// What was applied and what the API server made of it. It fills in defaults, so the two cannot be compared; but with each
/// change of an object's spec it counts its generation up.
struct Applied<K> {
    wanted: K,
    uid: Option<String>,
    generation: Option<i64>,
}

/// The API server refused, or did not answer.
#[derive(Debug, thiserror::Error)]
#[error("the {kind} {name} could not be {what}")]
pub(super) struct KeepError {
    kind: String,
    name: String,
    what: &'static str,
    #[source]
    source: Box<kube::Error>,
}

impl<K: Keepable> Kept<K> {
    /// Watches those that the selector selects; `changed` is notified of what happens to them.
    pub(super) fn watch(
        api: Api<K>,
        selector: &str,
        changed: &Arc<Notify>,
        watches: &mut JoinSet<()>,
    ) -> Self {
        let (store, writer) = reflector::store();
        let changed = changed.clone();
        let stream = watcher(api.clone(), watcher::Config::default().labels(selector))
            .default_backoff()
            .modify(|object| object.meta_mut().managed_fields = None)
            .reflect(writer)
            .touched_objects();
        watches.spawn(stream.for_each(move |result| {
            match result {
                Ok(_) => changed.notify_one(),
                Err(error) => {
                    warn!(error = error_chain(&error), kind = %K::kind(&()), "a watch was interrupted");
                }
            }
            ready(())
        }));
        Self { api, store, applied: HashMap::new() }
    }

    /// Waits until the watch has shown all that is there.
    pub(super) async fn listed(&self) {
        // An error means that the watch has ended, and its process with it.
        let _ = self.store.wait_until_ready().await;
    }

    /// All that the watch shows.
    pub(super) fn all(&self) -> Vec<Arc<K>> {
        self.store.state()
    }

    /// The object of this name, if the watch shows one.
    pub(super) fn observed(&self, name: &str) -> Option<Arc<K>> {
        self.store.find(|object| object.name_any() == name)
    }

    /// Whether nothing needs to be applied for the object to be as wanted.
    pub(super) fn stands(&self, wanted: &K) -> bool {
        let name = wanted.name_any();
        let (Some(observed), Some(applied)) = (self.observed(&name), self.applied.get(&name)) else {
            return false;
        };
        let observed = observed.meta();
        if observed.deletion_timestamp.is_some() {
            // It cannot be changed any more; the watch says when it is gone.
            return true;
        }
        applied.wanted == *wanted
            && observed.uid == applied.uid
            && observed.generation <= applied.generation
            && has_metadata_of(observed, wanted.meta())
    }

    /// Applies an object, and takes its fields over from whoever else set them; not so those of an object that is not
    /// the installation's.
    pub(super) async fn apply(&mut self, wanted: K) -> Result<K, KeepError> {
        let name = wanted.name_any();
        let mut parameters = PatchParams::apply(crds::FIELD_MANAGER);
        parameters.force = self.observed(&name).is_some();
        let object = self
            .api
            .patch(&name, &parameters, &Patch::Apply(&wanted))
            .await
            .map_err(|source| failed::<K>(&name, "applied", source))?;
        let (uid, generation) = (object.uid(), object.meta().generation);
        self.applied.insert(name, Applied { wanted, uid, generation });
        Ok(object)
    }

    /// Deletes an object as the watch showed it, and what goes with it.
    pub(super) async fn delete(&mut self, object: &K) -> Result<(), KeepError> {
        let name = object.name_any();
        let mut parameters = DeleteParams::background();
        parameters.preconditions = Some(Preconditions { uid: object.uid(), resource_version: None });
        self.applied.remove(&name);
        match self.api.delete(&name, &parameters).await {
            Ok(_) => info!(kind = %K::kind(&()), name, "deleted: its role is not in the workers file"),
            // Gone, or another one by now.
            Err(kube::Error::Api(refusal)) if matches!(refusal.code, 404 | 409) => {}
            Err(source) => return Err(failed::<K>(&name, "deleted", source)),
        }
        Ok(())
    }
}

/// Others may have added to it.
fn has_metadata_of(observed: &ObjectMeta, wanted: &ObjectMeta) -> bool {
    let has_all = |observed: &Option<BTreeMap<String, String>>, wanted: &Option<BTreeMap<String, String>>| {
        let mut wanted = wanted.iter().flatten();
        wanted.all(|(name, value)| observed.as_ref().and_then(|observed| observed.get(name)) == Some(value))
    };
    let has_owner = |owner| observed.owner_references.iter().flatten().any(|other| other == owner);
    has_all(&observed.labels, &wanted.labels)
        && has_all(&observed.annotations, &wanted.annotations)
        && wanted.owner_references.iter().flatten().all(has_owner)
}

fn failed<K: Keepable>(name: &str, what: &'static str, source: kube::Error) -> KeepError {
    KeepError { kind: K::kind(&()).into_owned(), name: name.to_owned(), what, source: Box::new(source) }
}
