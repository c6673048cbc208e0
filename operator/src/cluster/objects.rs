//! How objects are read and written, whatever their state.

use std::{fmt::Debug, marker::PhantomData};

use crds::conditions::{SUCCEEDING, reasons};
use k8s_openapi::{
    NamespaceResourceScope,
    apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    core::{DeserializeGuard, PartialObjectMeta, error_boundary::InvalidObject},
    runtime::{
        controller::Action,
        events::{Event, EventType, Recorder},
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use tracing::warn;

use super::controllers::{Context, ControllerError};
use crate::{
    Verdict,
    status::{news, set_verdict},
};

/// An object as it comes from a watch: one that cannot be parsed disturbs no other.
pub(super) type Guarded<K> = DeserializeGuard<K>;

/// What both kinds are.
pub(super) trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// The kind's name.
    const NAME: &'static str;
    /// The status.
    type Status: Serialize;
    /// The conditions of the status.
    fn conditions(&self) -> &[Condition];
    /// The status of an object of which no more than its conditions can be read.
    fn status_of_conditions(conditions: Vec<Condition>, generation: Option<i64>) -> Self::Status;
}

impl Kind for crds::Source {
    const NAME: &'static str = "Source";
    type Status = crds::SourceStatus;

    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[], |status| &status.conditions)
    }

    fn status_of_conditions(conditions: Vec<Condition>, generation: Option<i64>) -> Self::Status {
        Self::Status { conditions, observed_generation: generation }
    }
}

impl Kind for crds::Subscription {
    const NAME: &'static str = "Subscription";
    type Status = crds::SubscriptionStatus;

    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[], |status| &status.conditions)
    }

    fn status_of_conditions(conditions: Vec<Condition>, generation: Option<i64>) -> Self::Status {
        Self::Status { conditions, observed_generation: generation, ..Self::Status::default() }
    }
}

/// The objects' metadata, which can be read and written also where the rest cannot be parsed.
pub(super) fn metadata_api<K: Kind>(client: &Client, namespace: &str) -> Api<PartialObjectMeta<K>> {
    Api::namespaced(client.clone(), namespace)
}

/// Writes a status over the given version of the object and returns the version that came of it.
///
/// The API server refuses with a conflict when the object has another version by now. That is the only guard against
/// writing to another object of the same name: for a status it does not look at the uid.
pub(super) async fn write_status<K: Kind>(
    client: &Client,
    object: &impl ResourceExt,
    over: Option<&str>,
    status: &impl Serialize,
) -> Result<Option<String>, kube::Error> {
    let namespace = object.namespace().unwrap_or_default();
    let name = object.name_any();
    let patch = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": { "name": name, "resourceVersion": over },
        "status": status,
    });
    let parameters = PatchParams::apply(crds::FIELD_MANAGER).force();
    let written =
        metadata_api::<K>(client, &namespace).patch_status(&name, &parameters, &Patch::Apply(patch)).await?;
    Ok(written.resource_version())
}

/// Publishes an Event for each condition that turned.
pub(super) async fn announce<K: Kind>(
    recorder: &Recorder,
    object: &impl Resource<DynamicType = ()>,
    before: &[Condition],
    after: &[Condition],
) {
    for condition in news(before, after) {
        let event = Event {
            type_: if condition.status == "True" { EventType::Normal } else { EventType::Warning },
            reason: condition.reason.clone(),
            note: Some(shortened(&condition.message)),
            action: if condition.type_ == SUCCEEDING { "Run" } else { "Reconcile" }.to_owned(),
            secondary: None,
        };
        if let Err(error) = recorder.publish(&event, &object.object_ref(&())).await {
            // Events are a courtesy: the condition says the same.
            warn!(%error, kind = %K::kind(&()), "an event was not published");
        }
    }
}

/// The API takes a note of at most 1 kB.
fn shortened(message: &str) -> String {
    const LONGEST: usize = 1024;
    let mut end = message.len().min(LONGEST);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message[..end].to_owned()
}

/// An object's metadata as an object of its own.
pub(super) fn metadata_of<K: Kind>(meta: &ObjectMeta) -> PartialObjectMeta<K> {
    PartialObjectMeta { types: None, metadata: meta.clone(), _phantom: PhantomData }
}

/// Says of an object that cannot be parsed why, once.
pub(super) async fn show_unreadable<K: Kind>(
    meta: &PartialObjectMeta<K>,
    invalid: &InvalidObject,
    context: &Context,
) -> Result<Action, ControllerError> {
    let verdict = Verdict {
        ready: false,
        reason: reasons::UNREADABLE,
        message: format!("The object cannot be read as its kind: {invalid}"),
        catalog_id: None,
        try_again: false,
    };
    let before = stored_conditions(&context.client, meta).await?;
    let mut conditions = before.clone();
    let generation = meta.metadata.generation;
    set_verdict(&mut conditions, &verdict, generation, context.reconciler.engine.clock.now());
    if conditions != before {
        let status = K::status_of_conditions(conditions.clone(), generation);
        let over = meta.resource_version();
        write_status::<K>(&context.client, meta, over.as_deref(), &status).await?;
        context.metrics.status_written(K::NAME);
    }
    announce::<K>(&context.recorder, meta, &before, &conditions).await;
    Ok(Action::await_change())
}

/// The conditions of an object that cannot be parsed as a whole; none where they cannot be either.
async fn stored_conditions<K: Kind>(
    client: &Client,
    meta: &PartialObjectMeta<K>,
) -> Result<Vec<Condition>, kube::Error> {
    let resource = ApiResource::erase::<K>(&());
    let namespace = meta.namespace().unwrap_or_default();
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &resource);
    let object = api.get_status(&meta.name_any()).await?;
    let conditions = object.data.pointer("/status/conditions").cloned().unwrap_or_default();
    Ok(serde_json::from_value(conditions).unwrap_or_default())
}
