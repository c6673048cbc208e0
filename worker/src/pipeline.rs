//! The consumer loops of a process.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use events::{Bus, ConsumerLoop, ConsumerLoopOptions, LoopError, Registry, RegistryError, Role, Setbacks};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{
    ROUTES, Route, Tools,
    http_routes::{HttpHandler, HttpRoute, HttpRouteError},
    setbacks::{CatalogSetbacks, SetbacksBeside},
};

/// How many events may wait in a loop behind others of their key.
const WAITING: usize = 1_000;
/// As long as so many do, and no others come in, the others have waited long enough.
const CROWDED_AFTER: Duration = Duration::from_secs(5);

/// Which roles a process has and how much it does at a time.
#[derive(Clone, Debug)]
pub struct PipelineOptions {
    /// The roles.
    pub roles: Vec<Role>,
    /// How many events each role handles at a time.
    pub concurrency: usize,
    /// How long running handlers get to finish.
    pub drain: Duration,
}

/// The loops could not start, or one ended.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The table of routes contradicts itself.
    #[error(transparent)]
    Routes(#[from] RegistryError),
    /// A route to a service of the user's cannot be used.
    #[error(transparent)]
    HttpRoute(#[from] HttpRouteError),
    /// None of the roles has a job.
    #[error("none of the roles has a job yet; roles with jobs are {0}")]
    NoJobs(String),
    /// A loop ended.
    #[error(transparent)]
    Loop(#[from] LoopError),
    /// A loop panicked.
    #[error("a consumer loop ended early")]
    Ended(#[source] tokio::task::JoinError),
}

/// The consumer loops of some roles.
pub struct Pipeline {
    loops: Vec<ConsumerLoop>,
}

impl Pipeline {
    /// Looks up the handlers of the roles.
    ///
    /// # Errors
    /// When the routes contradict themselves, or the roles have no jobs.
    pub fn new(options: &PipelineOptions, tools: &Tools, bus: &Arc<dyn Bus>) -> Result<Self, PipelineError> {
        Self::of(ROUTES, options, tools, bus)
    }

    /// Looks up the handlers of the roles in a table of one's own.
    ///
    /// # Errors
    /// When the routes contradict themselves, or the roles have no jobs.
    pub fn of(
        routes: &[Route],
        options: &PipelineOptions,
        tools: &Tools,
        bus: &Arc<dyn Bus>,
    ) -> Result<Self, PipelineError> {
        let of_roles: Arc<dyn Setbacks> = Arc::new(CatalogSetbacks {
            catalog: tools.catalog.clone(),
            clock: tools.clock.clone(),
            news: tools.news.clone(),
        });
        // A consumer group has one registry, and so one handler of a job.
        let mut groups: BTreeMap<String, (Registry, Arc<dyn Setbacks>)> = BTreeMap::new();
        for route in routes.iter().filter(|route| options.roles.contains(&route.role)) {
            let (registry, _) = groups.entry(route.group()).or_insert_with(|| {
                let setbacks = match route.beside {
                    None => of_roles.clone(),
                    Some(_) => setbacks_beside(tools),
                };
                (Registry::default(), setbacks)
            });
            registry.register(route.topic, route.topic.job_type(), (route.handler)(tools))?;
        }
        let loops: Vec<_> = groups
            .into_iter()
            .map(|(group, (registry, setbacks))| {
                consumer_loop(group, registry, setbacks, options, tools, bus)
            })
            .collect();
        if loops.is_empty() {
            let mut with_jobs: Vec<_> = routes.iter().map(|route| route.role.name()).collect();
            with_jobs.sort_unstable();
            with_jobs.dedup();
            return Err(PipelineError::NoJobs(with_jobs.join(", ")));
        }
        Ok(Self { loops })
    }

    /// Adds the routes to services of the user's whose topics the process's roles take. Each has a loop and a group of its own:
    /// whatever becomes of an event there, the roles have it too.
    ///
    /// # Errors
    /// When a route contradicts itself, or its client cannot be made.
    pub fn with_http_routes(
        mut self,
        routes: &[HttpRoute],
        options: &PipelineOptions,
        tools: &Tools,
        bus: &Arc<dyn Bus>,
    ) -> Result<Self, PipelineError> {
        let is_here = |topic| options.roles.iter().any(|role| role.topics().contains(&topic));
        for route in routes.iter().filter(|route| is_here(route.topic)) {
            let handler = Arc::new(HttpHandler::new(route, tools.clock.clone())?);
            info!(route = route.name, topic = route.topic.name(), "events go to a service of the user's too");
            let mut registry = Registry::default();
            registry.register(route.topic, route.topic.job_type(), handler)?;
            self.loops.push(consumer_loop(
                route.group(),
                registry,
                setbacks_beside(tools),
                options,
                tools,
                bus,
            ));
        }
        Ok(self)
    }

    /// Handles events until `shutdown`. When one loop ends early, all do.
    ///
    /// # Errors
    /// When a loop ends before the shutdown.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), PipelineError> {
        let stop = shutdown.child_token();
        let mut tasks = JoinSet::new();
        for consumer_loop in self.loops {
            tasks.spawn(consumer_loop.run(stop.clone()));
        }
        let mut outcome = Ok(());
        while let Some(ended) = tasks.join_next().await {
            let ended =
                ended.map_err(PipelineError::Ended).and_then(|result| result.map_err(PipelineError::Loop));
            stop.cancel();
            outcome = outcome.and(ended);
        }
        outcome
    }
}

/// What becomes of events that cannot be handled beside what a role does with them.
fn setbacks_beside(tools: &Tools) -> Arc<dyn Setbacks> {
    Arc::new(SetbacksBeside { catalog: tools.catalog.clone(), clock: tools.clock.clone() })
}

fn consumer_loop(
    group: String,
    registry: Registry,
    setbacks: Arc<dyn Setbacks>,
    options: &PipelineOptions,
    tools: &Tools,
    bus: &Arc<dyn Bus>,
) -> ConsumerLoop {
    ConsumerLoop {
        bus: bus.clone(),
        registry: Arc::new(registry),
        setbacks,
        metrics: tools.metrics.consumer.clone(),
        options: ConsumerLoopOptions {
            group,
            concurrency: options.concurrency,
            waiting: WAITING,
            crowded_after: CROWDED_AFTER,
            drain: options.drain,
        },
    }
}
