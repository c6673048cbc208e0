//! Subscriptions.

use std::{sync::Arc, time::Duration};

use crds::{Source, Subscription, conditions::reasons};
use kube::{
    Api, Resource, ResourceExt,
    runtime::{controller::Action, reflector::ObjectRef},
};

use super::{
    controllers::{Context, ControllerError},
    objects::{Guarded, metadata_of, show_unreadable},
    removals::is_leaving,
    status_board::Entry,
};
use crate::reconcile::object_uid;

/// How soon to look again for a Source that is not there. Its arrival is noticed at once; this is for what went unseen.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// How soon to look again for a Source that was made at the same time and is not in the catalog yet.
const LOOK_AGAIN_SOON: Duration = Duration::from_secs(1);

pub(super) async fn reconcile(
    object: Arc<Guarded<Subscription>>,
    context: Arc<Context>,
) -> Result<Action, ControllerError> {
    if is_leaving(&object) {
        return Ok(Action::await_change());
    }
    let action = match &object.0 {
        Ok(subscription) => apply(subscription, &context).await?,
        Err(invalid) => {
            show_unreadable(&metadata_of::<Subscription>(object.meta()), invalid, &context).await?
        }
    };
    // It may have gone before it was a row.
    let still = context.subscriptions.get(&ObjectRef::from_obj(&*object));
    if still.is_none_or(|still| still.uid() != object.uid() || is_leaving(&still)) {
        context.gone.notify_one();
    }
    context.succeeded(&object.uid().unwrap_or_default());
    Ok(action)
}

async fn apply(subscription: &Subscription, context: &Context) -> Result<Action, ControllerError> {
    let verdict = context.reconciler.apply_subscription(subscription).await?;
    if verdict.reason == reasons::SOURCE_NOT_FOUND && source_is_new(subscription, context).await? {
        // Both were applied together: nothing is wrong that someone would want to know.
        return Ok(Action::requeue(LOOK_AGAIN_SOON));
    }
    let action = if verdict.try_again { Action::requeue(LOOK_AGAIN) } else { Action::await_change() };
    let object =
        ObjectRef::new(&subscription.name_any()).within(&subscription.namespace().unwrap_or_default());
    let entry = Entry { object, generation: subscription.metadata.generation, verdict };
    context.board.show(object_uid(subscription)?, entry);
    Ok(action)
}

/// Whether the subscription's source is on the API server and its controller has not looked at it yet.
async fn source_is_new(subscription: &Subscription, context: &Context) -> Result<bool, ControllerError> {
    let namespace = subscription.namespace().unwrap_or_default();
    let sources: Api<Guarded<Source>> = Api::namespaced(context.client.clone(), &namespace);
    let found = sources.get_opt(&subscription.spec.source_ref.name).await?;
    Ok(found.and_then(|found| found.0.ok()).is_some_and(|source| {
        let observed = source.status.and_then(|status| status.observed_generation);
        observed != source.metadata.generation && source.metadata.deletion_timestamp.is_none()
    }))
}
