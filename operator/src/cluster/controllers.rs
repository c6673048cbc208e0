//! The two controllers and what they share.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crds::{Source, Subscription};
use events::error_chain;
use futures::{StreamExt, TryStreamExt};
use kube::{
    Api, Client, Resource,
    runtime::{
        Controller, WatchStreamExt,
        controller::Action,
        events::{Recorder, Reporter},
        finalizer, predicates,
        reflector::{self, ObjectRef, Store},
        utils::{Predicate, PredicateConfig},
        watcher,
    },
};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    objects::{Guarded, Kind},
    source_controller,
    status_writer::{self, StatusBoard},
    subscription_controller,
};
use crate::{EngineHandle, OperatorMetrics, ReconcileError, Reconciler, backoff::Backoff};

/// How many objects of a kind are reconciled at a time.
const CONCURRENCY: u16 = 16;

/// What both controllers work with.
pub(super) struct Context {
    pub(super) client: Client,
    pub(super) reconciler: Reconciler,
    pub(super) recorder: Recorder,
    pub(super) metrics: OperatorMetrics,
    pub(super) board: StatusBoard,
    /// Tells the subscriptions' controller of sources that changed in the catalog.
    pub(super) source_changes: mpsc::UnboundedSender<(String, String)>,
    backoffs: Mutex<HashMap<String, Backoff>>,
}

/// Reconciling an object did not come to an end.
#[derive(Debug, thiserror::Error)]
pub(super) enum ControllerError {
    #[error(transparent)]
    Reconcile(#[from] ReconcileError),
    #[error("the API server refused")]
    Api(#[from] kube::Error),
    /// The finalizer stays: it is looked at again.
    #[error("the source is still used")]
    InUse,
    /// The watch brings its new state, and with it the next attempt.
    #[error("the object is no longer as it was read")]
    Stale,
    #[error("the finalizer could not be handled")]
    Finalizer(#[source] Box<finalizer::Error<ControllerError>>),
}

impl From<finalizer::Error<ControllerError>> for ControllerError {
    fn from(error: finalizer::Error<ControllerError>) -> Self {
        match error {
            finalizer::Error::ApplyFailed(error) | finalizer::Error::CleanupFailed(error) => error,
            finalizer::Error::AddFinalizer(kube::Error::Api(refusal))
            | finalizer::Error::RemoveFinalizer(kube::Error::Api(refusal))
                if matches!(refusal.code, 404 | 409 | 422) =>
            {
                Self::Stale
            }
            other => Self::Finalizer(Box::new(other)),
        }
    }
}

/// Starts both controllers and the status writer; they end with `stop`.
pub(super) fn start(
    client: Client,
    namespace: Option<&str>,
    engine: EngineHandle,
    metrics: OperatorMetrics,
    stop: &CancellationToken,
) -> JoinSet<()> {
    let (source_changes, changed_sources) = mpsc::unbounded_channel();
    let runs = engine.listen();
    let context = Arc::new(Context {
        client: client.clone(),
        reconciler: Reconciler { engine: engine.clone() },
        recorder: Recorder::new(client.clone(), Reporter::from(crds::FIELD_MANAGER)),
        metrics: metrics.clone(),
        board: StatusBoard::default(),
        source_changes,
        backoffs: Mutex::default(),
    });
    let mut tasks = JoinSet::new();

    let (sources, _) = watched::<Source>(&client, namespace);
    let controller = sources.graceful_shutdown_on(stop.clone().cancelled_owned());
    let running = controller.run(source_controller::reconcile, on_error, context.clone());
    tasks.spawn(running.for_each(|result| async { log_result(result) }));

    let (subscriptions, store) = watched::<Subscription>(&client, namespace);
    let users = store.clone();
    let changed = UnboundedReceiverStream::new(changed_sources)
        .flat_map(move |(namespace, name)| futures::stream::iter(users_of(&users, &namespace, &name)));
    let controller = subscriptions.reconcile_on(changed).graceful_shutdown_on(stop.clone().cancelled_owned());
    let running = controller.run(subscription_controller::reconcile, on_error, context.clone());
    tasks.spawn(running.for_each(|result| async { log_result(result) }));

    let writer =
        status_writer::StatusWriter::new(client, engine, metrics, context.board.clone(), store, runs);
    tasks.spawn(writer.run(stop.clone()));
    tasks
}

/// A controller that wakes for what the operator reads: spec, annotations, finalizers, deletion; not for status.
fn watched<K: Kind>(client: &Client, namespace: Option<&str>) -> (Controller<Guarded<K>>, Store<Guarded<K>>) {
    let api: Api<Guarded<K>> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let (reader, writer) = reflector::store();
    let stream = watcher(api, watcher::Config::default())
        .default_backoff()
        .modify(|object| object.meta_mut().managed_fields = None)
        .reflect(writer)
        .touched_objects()
        .predicate_filter(
            predicates::generation.combine(predicates::annotations).combine(predicates::finalizers),
            PredicateConfig::default(),
        )
        .inspect_err(
            |error| warn!(error = error_chain(error), kind = %K::kind(&()), "a watch was interrupted"),
        );
    let config = kube::runtime::controller::Config::default().concurrency(CONCURRENCY);
    (Controller::for_stream(stream, reader.clone()).with_config(config), reader)
}

/// The subscriptions of a source.
fn users_of(
    store: &Store<Guarded<Subscription>>,
    namespace: &str,
    source: &str,
) -> Vec<ObjectRef<Guarded<Subscription>>> {
    store
        .state()
        .iter()
        .filter(|object| {
            object.0.as_ref().is_ok_and(|subscription| {
                subscription.metadata.namespace.as_deref() == Some(namespace)
                    && subscription.spec.source_ref.name == source
            })
        })
        .map(|object| ObjectRef::from_obj(&**object))
        .collect()
}

impl Context {
    /// It worked: the object's next failure is a first one.
    pub(super) fn succeeded(&self, uid: &str) {
        self.backoffs.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

fn on_error<K: Kind>(object: Arc<Guarded<K>>, error: &ControllerError, context: Arc<Context>) -> Action {
    match error {
        ControllerError::InUse => return Action::requeue(Duration::from_secs(5)),
        ControllerError::Stale => return Action::requeue(Duration::from_millis(500)),
        _ => {}
    }
    context.metrics.reconcile_failed();
    let meta = object.meta();
    warn!(
        kind = %K::kind(&()),
        namespace = meta.namespace,
        name = meta.name,
        error = error_chain(error),
        "an object could not be reconciled; trying again"
    );
    let mut backoffs = context.backoffs.lock().unwrap_or_else(PoisonError::into_inner);
    let backoff = backoffs.entry(meta.uid.clone().unwrap_or_default()).or_insert_with(Backoff::new);
    Action::requeue(backoff.after_failure())
}

fn log_result<T, E: std::error::Error>(result: Result<T, E>) {
    if let Err(error) = result {
        // Failures of a reconciliation were logged with their object; an object that is gone needs none.
        debug!(error = error_chain(&error), "a reconciliation ended early");
    }
}
