//! The two controllers and what they share.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crds::{Source, Subscription};
use events::error_chain;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
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
use tokio::{
    sync::{Notify, mpsc},
    task::JoinSet,
    time::Instant,
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    catalog_figures, news,
    objects::{Guarded, Kind},
    removals::{Removals, may_remove},
    source_controller,
    status_board::StatusBoard,
    status_writer::StatusWriter,
    subscription_controller,
};
use crate::{
    EngineHandle, OperatorMetrics, ReconcileError, Reconciler, backoff::Backoff, metrics::ErrorClass,
};

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
    /// The subscriptions as the watch shows them.
    pub(super) subscriptions: Store<Guarded<Subscription>>,
    /// Tells that a subscription may have gone.
    pub(super) gone: Arc<Notify>,
    backoffs: Mutex<HashMap<String, Backoff>>,
}

/// Reconciling an object did not come to an end.
#[derive(Debug, thiserror::Error)]
pub(super) enum ControllerError {
    #[error(transparent)]
    Reconcile(#[from] ReconcileError),
    #[error("the API server refused")]
    Api(#[source] kube::Error),
    /// The finalizer stays: it is looked at again.
    #[error("the source is still used")]
    InUse,
    /// The watch brings its new state, and with it the next attempt.
    #[error("the object is no longer as it was read")]
    Stale,
    #[error("the finalizer could not be handled")]
    Finalizer(#[source] Box<finalizer::Error<ControllerError>>),
}

impl ControllerError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Reconcile(ReconcileError::Catalog(_)) => ErrorClass::Catalog,
            Self::Reconcile(ReconcileError::Incomplete(_)) => ErrorClass::Object,
            Self::Api(_) | Self::InUse | Self::Stale | Self::Finalizer(_) => ErrorClass::ApiServer,
        }
    }
}

impl From<kube::Error> for ControllerError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(refusal) if matches!(refusal.code, 404 | 409) => Self::Stale,
            other => Self::Api(other),
        }
    }
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

/// Starts both controllers, what removes subscriptions, and the status writer; they end with `stop`.
pub(super) fn start(
    client: Client,
    namespace: Option<&str>,
    engine: EngineHandle,
    metrics: OperatorMetrics,
    stop: &CancellationToken,
) -> JoinSet<()> {
    let (source_changes, changed_sources) = mpsc::unbounded_channel();
    let runs = engine.listen();
    let gone = Arc::new(Notify::new());
    let (sources, _) = watched::<Source>(&client, namespace, |_| {});
    let (subscriptions, store) = watched::<Subscription>(&client, namespace, {
        let gone = gone.clone();
        move |event| {
            if may_remove(event) {
                gone.notify_one();
            }
        }
    });
    let context = Arc::new(Context {
        client: client.clone(),
        reconciler: Reconciler { engine: engine.clone() },
        recorder: Recorder::new(client.clone(), Reporter::from(crds::FIELD_MANAGER)),
        metrics: metrics.clone(),
        board: StatusBoard::default(),
        source_changes,
        subscriptions: store.clone(),
        gone: gone.clone(),
        backoffs: Mutex::default(),
    });
    let mut tasks = JoinSet::new();

    let controller = sources
        .reconcile_on(news::of_sources(engine.catalog.clone()))
        .graceful_shutdown_on(stop.clone().cancelled_owned());
    let reconcile = |object, context: Arc<Context>| {
        measured::<Source>(context.metrics.clone(), source_controller::reconcile(object, context))
    };
    let running = controller.run(reconcile, on_error, context.clone());
    tasks.spawn(running.for_each(|result| async { log_result(result) }));

    let users = store.clone();
    let changed = UnboundedReceiverStream::new(changed_sources)
        .flat_map(move |(namespace, name)| futures::stream::iter(users_of(&users, &namespace, &name)));
    let controller = subscriptions.reconcile_on(changed).graceful_shutdown_on(stop.clone().cancelled_owned());
    let reconcile = |object, context: Arc<Context>| {
        measured::<Subscription>(context.metrics.clone(), subscription_controller::reconcile(object, context))
    };
    let running = controller.run(reconcile, on_error, context.clone());
    tasks.spawn(running.for_each(|result| async { log_result(result) }));

    let board = context.board.clone();
    let telling = news::of_targets(engine.catalog.clone())
        .take_until(stop.clone().cancelled_owned())
        .for_each(move |id| {
            board.catalog_changed(id);
            std::future::ready(())
        });
    tasks.spawn(telling);

    tasks.spawn(catalog_figures::keep(engine.clone(), metrics.clone(), stop.clone()));
    let removals = Removals {
        reconciler: context.reconciler.clone(),
        board: context.board.clone(),
        namespace: namespace.map(str::to_owned),
        store: store.clone(),
        gone,
    };
    tasks.spawn(removals.run(stop.clone()));
    let writer = StatusWriter {
        client,
        engine,
        metrics,
        recorder: context.recorder.clone(),
        board: context.board.clone(),
        store,
        runs,
    };
    tasks.spawn(writer.run(stop.clone()));
    tasks
}

/// A controller that wakes for what the operator reads: spec, annotations, finalizers, deletion; not for status. `seen` is
/// called with each event of the watch once the store knows of it.
fn watched<K: Kind>(
    client: &Client,
    namespace: Option<&str>,
    seen: impl Fn(&watcher::Event<Guarded<K>>) + Send + 'static,
) -> (Controller<Guarded<K>>, Store<Guarded<K>>) {
    let api: Api<Guarded<K>> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let (reader, writer) = reflector::store();
    let stream = watcher(api, watcher::Config::default())
        .default_backoff()
        .modify(|object| forget_unread(object.meta_mut()))
        .reflect(writer)
        .inspect_ok(seen)
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

/// All objects are held in memory: what nobody reads of them is not.
fn forget_unread(meta: &mut ObjectMeta) {
    meta.managed_fields = None;
    if let Some(annotations) = &mut meta.annotations {
        // What kubectl last applied: the whole object once more. When it changes, so does the generation.
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
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

/// Notes how long a reconciliation takes.
async fn measured<K: Kind>(
    metrics: OperatorMetrics,
    reconciling: impl Future<Output = Result<Action, ControllerError>>,
) -> Result<Action, ControllerError> {
    let started = Instant::now();
    let result = reconciling.await;
    metrics.reconciled(K::NAME, started.elapsed());
    result
}

fn on_error<K: Kind>(object: Arc<Guarded<K>>, error: &ControllerError, context: Arc<Context>) -> Action {
    match error {
        ControllerError::InUse => return Action::requeue(Duration::from_secs(1)),
        ControllerError::Stale => return Action::requeue(Duration::from_millis(500)),
        _ => {}
    }
    context.metrics.reconcile_failed(K::NAME, error.class());
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
