//! Consumer loops with handlers that tests make up.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use events::{
    BoxError, Bus, ConsumerLoop, ConsumerLoopOptions, ConsumerMetrics, Event, EventId, GivenUp, Handler,
    HandlerError, LoopError, Payload, PutOff, Registry, Setbacks, SubscriptionScheduled, Topic,
};
use jiff::Timestamp;
use tests::eventually;
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::place::SOON;

pub(crate) const GROUP: &str = "loops";
/// How long a loop that stops waits for its handlers.
pub(crate) const DRAIN: Duration = Duration::from_secs(8);

/// How many events wait in a loop.
pub(crate) const WAITING: usize = 100;

/// An event that was put off so often is given up.
pub(crate) const LAST_ATTEMPT: u32 = 3;

pub(crate) type Outcome = Result<Vec<Event>, HandlerError>;
type Handling = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// A handler that is a function.
struct Act<F>(F);

#[async_trait]
impl<F: Fn(Event) -> Handling + Send + Sync> Handler for Act<F> {
    async fn handle(&self, event: &Event) -> Outcome {
        (self.0)(event.clone()).await
    }
}

/// A member of the group that handles what begins runs.
pub(crate) struct Looping {
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), LoopError>>,
}

/// How a loop is made that is not like the others.
pub(crate) struct Setup {
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) group: &'static str,
    pub(crate) setbacks: Arc<Noted>,
    pub(crate) concurrency: usize,
    pub(crate) drain: Duration,
    pub(crate) crowded_after: Duration,
}

impl Setup {
    pub(crate) fn new(bus: &Arc<dyn Bus>) -> Self {
        Self {
            bus: bus.clone(),
            group: GROUP,
            setbacks: Arc::default(),
            concurrency: 8,
            drain: DRAIN,
            crowded_after: SOON,
        }
    }

    pub(crate) fn start<F, Fut>(self, handle: F) -> Looping
    where
        F: Fn(Event) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Outcome> + Send + 'static,
    {
        let mut registry = Registry::default();
        let handler = Act(move |event| Box::pin(handle(event)) as Handling);
        registry.register(Topic::SubsSchedule, SubscriptionScheduled::JOB_TYPE, Arc::new(handler)).unwrap();
        let consumer_loop = ConsumerLoop {
            bus: self.bus,
            registry: Arc::new(registry),
            setbacks: self.setbacks,
            metrics: ConsumerMetrics::register(&mut prometheus_client::registry::Registry::default(), []),
            options: ConsumerLoopOptions {
                group: self.group.to_owned(),
                concurrency: self.concurrency,
                waiting: WAITING,
                crowded_after: self.crowded_after,
                drain: self.drain,
            },
        };
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(consumer_loop.run(shutdown.clone()));
        Looping { shutdown, task }
    }
}

impl Looping {
    /// Asks for the end, and does not wait for it.
    pub(crate) fn ask_to_stop(&self) {
        self.shutdown.cancel();
    }

    /// A graceful end.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        timeout(SOON, self.task).await.expect("the loop did not end").unwrap().unwrap();
    }

    /// The end of a process that is not asked.
    pub(crate) async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

/// What happened, in order, seen from several tasks.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<EventId>>>);

impl Log {
    pub(crate) fn note(&self, event: &Event) {
        self.0.lock().unwrap().push(event.id);
    }

    pub(crate) fn ids(&self) -> Vec<EventId> {
        self.0.lock().unwrap().clone()
    }

    /// Waits for so many entries; there may be more already.
    pub(crate) async fn reaches(&self, count: usize) -> Vec<EventId> {
        eventually(&format!("entry {count}"), SOON, async || {
            let ids = self.ids();
            if ids.len() < count { Err(ids.len()) } else { Ok(ids) }
        })
        .await
    }
}

/// A setback as the loop reported it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Setback {
    PutOff { id: EventId, reason: &'static str, message: String, retry_at: Option<Timestamp> },
    PutAside { id: EventId },
    GivenUp { id: EventId, reason: &'static str, message: String },
}

/// Notes setbacks, after failing to as often as is asked.
#[derive(Default)]
pub(crate) struct Noted {
    setbacks: Mutex<Vec<Setback>>,
    failures_left: Mutex<usize>,
    attempts: Mutex<usize>,
    /// Whether what is given up goes to the dead letters.
    is_unseen: bool,
    addressees: Mutex<Vec<Option<String>>>,
}

impl Noted {
    pub(crate) fn failing(times: usize) -> Arc<Self> {
        Arc::new(Self { failures_left: Mutex::new(times), ..Self::default() })
    }

    pub(crate) fn unseen() -> Arc<Self> {
        Arc::new(Self { is_unseen: true, ..Self::default() })
    }

    /// Whom the events were for that were put off.
    pub(crate) fn addressees(&self) -> Vec<Option<String>> {
        self.addressees.lock().unwrap().clone()
    }

    pub(crate) async fn reaches(&self, count: usize) -> Vec<Setback> {
        eventually(&format!("setback {count}"), SOON, async || {
            let setbacks = self.setbacks.lock().unwrap().clone();
            if setbacks.len() < count { Err(setbacks) } else { Ok(setbacks) }
        })
        .await
    }

    pub(crate) async fn reaches_attempt(&self, count: usize) {
        eventually(&format!("attempt {count}"), SOON, async || {
            let attempts = self.attempts();
            if attempts < count { Err(attempts) } else { Ok(()) }
        })
        .await;
    }

    pub(crate) fn attempts(&self) -> usize {
        *self.attempts.lock().unwrap()
    }

    fn note(&self, setback: Setback) -> Result<(), BoxError> {
        *self.attempts.lock().unwrap() += 1;
        let mut failures_left = self.failures_left.lock().unwrap();
        if *failures_left > 0 {
            *failures_left -= 1;
            return Err("the catalog is away".into());
        }
        self.setbacks.lock().unwrap().push(setback);
        Ok(())
    }
}

#[async_trait]
impl Setbacks for Noted {
    async fn put_off(
        &self,
        event: &Event,
        reason: &'static str,
        message: &str,
        retry_at: Option<Timestamp>,
    ) -> Result<PutOff, BoxError> {
        self.addressees.lock().unwrap().push(event.addressee.clone());
        self.note(Setback::PutOff { id: event.id, reason, message: message.to_owned(), retry_at })?;
        Ok(if event.attempt < LAST_ATTEMPT { PutOff::Later } else { PutOff::GivenUp })
    }

    async fn put_aside(&self, event: &Event) -> Result<(), BoxError> {
        self.addressees.lock().unwrap().push(event.addressee.clone());
        self.note(Setback::PutAside { id: event.id })
    }

    async fn give_up(&self, event: &Event, reason: &'static str, message: &str) -> Result<GivenUp, BoxError> {
        self.note(Setback::GivenUp { id: event.id, reason, message: message.to_owned() })?;
        Ok(if self.is_unseen { GivenUp::Unseen } else { GivenUp::Seen })
    }

    async fn keep(&self, _: &[&Event]) -> Result<(), BoxError> {
        Err("there is no outbox".into())
    }
}
