//! Sources.

use std::{sync::Arc, time::Duration};

use crds::{
    FINALIZER, Source,
    conditions::{READY, is_true},
};
use kube::{
    Resource, ResourceExt,
    core::PartialObjectMeta,
    runtime::{
        controller::Action,
        finalizer::{Event, finalizer},
    },
};

use super::{
    controllers::{Context, ControllerError},
    objects::{Guarded, Kind, announce, metadata_api, metadata_of, show_unreadable, write_status},
};
use crate::{
    ReconcileError, SourceDeletion, Verdict,
    reconcile::object_uid,
    status::{can_wait, overdue_in, source_status},
};

/// The longest that a source is left unseen which becomes overdue at a known time: timers do not reach far.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

pub(super) async fn reconcile(
    object: Arc<Guarded<Source>>,
    context: Arc<Context>,
) -> Result<Action, ControllerError> {
    let meta = metadata_of::<Source>(object.meta());
    if let Err(invalid) = &object.0
        && object.meta().deletion_timestamp.is_none()
    {
        return show_unreadable(&meta, invalid, &context).await;
    }
    let api = metadata_api::<Source>(&context.client, &meta.namespace().unwrap_or_default());
    let action = finalizer(&api, FINALIZER, Arc::new(meta), |event| async {
        match event {
            Event::Apply(_) => match &object.0 {
                Ok(source) => apply(source, &context).await,
                Err(_) => Ok(Action::await_change()),
            },
            Event::Cleanup(meta) => clean_up(&meta, object.0.as_ref().ok(), &context).await,
        }
    })
    .await?;
    context.succeeded(&object.uid().unwrap_or_default());
    Ok(action)
}

async fn apply(source: &Source, context: &Context) -> Result<Action, ControllerError> {
    let verdict = context.reconciler.apply_source(source).await?;
    if verdict.ready && !is_known_as_ready(source) {
        // Only the subscriptions' controller listens, and it ends with this one.
        let _ = context.source_changes.send((source.namespace().unwrap_or_default(), source.name_any()));
    }
    show(source, &verdict, context).await
}

/// Whether its subscriptions have nothing new to learn from the spec. News of its health are of no interest to them.
fn is_known_as_ready(source: &Source) -> bool {
    source.status.as_ref().is_some_and(|status| {
        status.observed_generation == source.metadata.generation && is_true(&status.conditions, READY)
    })
}

async fn clean_up(
    meta: &PartialObjectMeta<Source>,
    source: Option<&Source>,
    context: &Context,
) -> Result<Action, ControllerError> {
    match context.reconciler.delete_source(object_uid(meta)?).await? {
        SourceDeletion::Deleted => Ok(Action::await_change()),
        SourceDeletion::InUse(verdict) => {
            if let Some(source) = source {
                show(source, &verdict, context).await?;
            }
            Err(ControllerError::InUse)
        }
    }
}

/// Shows a verdict and how the source answers, and tells when to look again.
async fn show(source: &Source, verdict: &Verdict, context: &Context) -> Result<Action, ControllerError> {
    let engine = &context.reconciler.engine;
    let health = engine.catalog.source_health(object_uid(source)?).await.map_err(ReconcileError::from)?;
    let before = source.status.as_ref();
    let now = engine.clock.now();
    let status = source_status(before, verdict, source.metadata.generation, health.as_ref(), now);
    let wait = before.and_then(|before| can_wait(before, &status, now));
    if wait.is_none() && before != Some(&status) {
        let over = source.resource_version();
        write_status::<Source>(&context.client, source, over.as_deref(), &before, &status).await?;
        context.metrics.status_written(Source::NAME);
        announce::<Source>(&context.recorder, source, source.conditions(), &status.conditions).await;
    }
    let overdue = health.as_ref().and_then(|health| overdue_in(health, now));
    let next_look = wait.into_iter().chain(overdue).min();
    Ok(next_look.map_or_else(Action::await_change, |wait| Action::requeue(wait.min(LONGEST_WAIT))))
}
