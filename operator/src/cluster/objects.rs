//! How objects are read and written, whatever their state.

use std::{fmt::Debug, marker::PhantomData};

use crds::conditions::{DELIVERING, FRESH, REACHABLE, SUCCEEDING, reasons};
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
use serde_json::{Map, Value, json};
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
        Self::Status { conditions, observed_generation: generation, ..Self::Status::default() }
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

/// Writes what differs between two statuses over the given version of the object, and returns the version that came of it.
///
/// The API server refuses with a conflict when the object has another version by now. That is the only guard against
/// writing to another object of the same name: for a status it does not look at the uid.
///
/// Server-side apply costs the API server half as much again. Nobody else writes statuses, so nothing is lost without it.
pub(super) async fn write_status<K: Kind>(
    client: &Client,
    object: &impl ResourceExt,
    over: Option<&str>,
    before: &impl Serialize,
    after: &impl Serialize,
) -> Result<Option<String>, kube::Error> {
    let unwritable = kube::Error::SerdeError;
    let before = serde_json::to_value(before).map_err(unwritable)?;
    let after = serde_json::to_value(after).map_err(unwritable)?;
    let patch = json!({
        "metadata": { "resourceVersion": over },
        "status": merge_patch(&before, after),
    });
    let parameters =
        PatchParams { field_manager: Some(crds::FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let namespace = object.namespace().unwrap_or_default();
    let written = metadata_api::<K>(client, &namespace)
        .patch_status(&object.name_any(), &parameters, &Patch::Merge(patch))
        .await?;
    Ok(written.resource_version())
}

/// The merge patch (RFC 7386) that makes `after` of `before`.
fn merge_patch(before: &Value, after: Value) -> Value {
    match (before, after) {
        (Value::Object(before), Value::Object(mut after)) => {
            let mut patch = Map::new();
            for (name, was) in before {
                match after.remove(name) {
                    None => patch.insert(name.clone(), Value::Null),
                    Some(is) if is != *was => patch.insert(name.clone(), merge_patch(was, is)),
                    Some(_) => None,
                };
            }
            patch.extend(after);
            Value::Object(patch)
        }
        (_, after) => after,
    }
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
            action: match condition.type_.as_str() {
                SUCCEEDING => "Run",
                DELIVERING => "Deliver",
                REACHABLE | FRESH => "Fetch",
                _ => "Reconcile",
            }
            .to_owned(),
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
    let stored = stored_status(&context.client, meta).await?;
    // Those that cannot be read are written anew.
    let before = stored.get("conditions").cloned().unwrap_or_default();
    let before: Vec<Condition> = serde_json::from_value(before).unwrap_or_default();
    let mut conditions = before.clone();
    let generation = meta.metadata.generation;
    set_verdict(&mut conditions, &verdict, generation, context.reconciler.engine.clock.now());
    if conditions != before {
        let status = K::status_of_conditions(conditions.clone(), generation);
        let over = meta.resource_version();
        write_status::<K>(&context.client, meta, over.as_deref(), &stored, &status).await?;
        context.metrics.status_written(K::NAME);
    }
    announce::<K>(&context.recorder, meta, &before, &conditions).await;
    Ok(Action::await_change())
}

/// The status of an object that cannot be parsed as a whole; an empty one where it has none.
async fn stored_status<K: Kind>(client: &Client, meta: &PartialObjectMeta<K>) -> Result<Value, kube::Error> {
    let resource = ApiResource::erase::<K>(&());
    let namespace = meta.namespace().unwrap_or_default();
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &resource);
    let mut object = api.get_status(&meta.name_any()).await?;
    Ok(object.data.get_mut("status").map_or_else(|| json!({}), Value::take))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![any::<bool>().prop_map(Value::from), (0..3_u8).prop_map(Value::from)];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map("[a-c]", inner, 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    /// RFC 7386, section 2.
    fn apply(target: &mut Value, patch: &Value) {
        let Value::Object(patch) = patch else {
            *target = patch.clone();
            return;
        };
        if !target.is_object() {
            *target = json!({});
        }
        let Value::Object(target) = target else { return };
        for (name, value) in patch {
            if value.is_null() {
                target.remove(name);
            } else {
                apply(target.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
    }

    proptest! {
        #[test]
        fn a_merge_patch_makes_the_one_of_the_other(before in values(), after in values()) {
            let mut patched = before.clone();
            apply(&mut patched, &merge_patch(&before, after.clone()));
            prop_assert_eq!(patched, after);
        }
    }

    #[test]
    fn a_merge_patch_has_no_more_than_what_differs() {
        let before = json!({ "same": 1, "gone": 2, "run": { "id": "a", "phase": "Running", "left": 3 } });
        let after = json!({ "same": 1, "new": 4, "run": { "id": "a", "phase": "Succeeded" } });
        let patch = merge_patch(&before, after);
        assert_eq!(patch, json!({ "gone": null, "new": 4, "run": { "phase": "Succeeded", "left": null } }));
    }
}
