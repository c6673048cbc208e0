//! Sources.

use std::sync::Arc;

use crds::{FINALIZER, Source};
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
use crate::{SourceDeletion, Verdict, reconcile::object_uid, status::source_status};

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
    if verdict.ready {
        // Only the subscriptions' controller listens, and it ends with this one.
        let _ = context.source_changes.send((source.namespace().unwrap_or_default(), source.name_any()));
    }
    show(source, &verdict, context).await?;
    Ok(Action::await_change())
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

async fn show(source: &Source, verdict: &Verdict, context: &Context) -> Result<(), ControllerError> {
    let before = source.status.as_ref();
    let now = context.reconciler.engine.clock.now();
    let status = source_status(before, verdict, source.metadata.generation, now);
    if before != Some(&status) {
        let over = source.resource_version();
        write_status::<Source>(&context.client, source, over.as_deref(), &before, &status).await?;
        context.metrics.status_written(Source::NAME);
    }
    announce::<Source>(&context.recorder, source, source.conditions(), &status.conditions).await;
    Ok(())
}
