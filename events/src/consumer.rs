//! The consumer loop: what is received waits its turn, is seen through, and only then is its offset stored.

use std::{collections::HashMap, future::pending, sync::Arc, time::Duration};

use tokio::{
    task::{Id, JoinError, JoinSet},
    time::{Instant, sleep_until, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use crate::{
    Bus, BusError, Consumer, ConsumerMetrics, Partition, Received, Registry, Revocation, Setbacks, Signal,
    in_flight::{Lanes, Watermarks},
    job::{Finish, InFlight, Job},
};

/// How long leaving the group may take: with the brokers away it would take as long as their session.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// Bounds of a consumer loop.
#[derive(Clone, Debug)]
pub struct ConsumerLoopOptions {
    /// The consumer group.
    pub group: String,
    /// How many events are handled at the same time.
    pub concurrency: usize,
    /// How many events may wait here behind others of their key.
    pub waiting: usize,
    /// How long no others are received since so many wait, before the newest of the longest queue are put aside: what one key
    /// has too much of is not to hold up all others.
    pub crowded_after: Duration,
    /// How long running handlers get to finish when the process ends.
    pub drain: Duration,
}

/// One member of a consumer group with its handlers.
pub struct ConsumerLoop {
    /// Where events come from and go to.
    pub bus: Arc<dyn Bus>,
    /// Who handles what.
    pub registry: Arc<Registry>,
    /// What becomes of events that could not be handled.
    pub setbacks: Arc<dyn Setbacks>,
    /// Figures.
    pub metrics: ConsumerMetrics,
    /// Bounds.
    pub options: ConsumerLoopOptions,
}

/// The loop ended though nobody asked it to.
#[derive(Debug, thiserror::Error)]
#[error("the consumer loop of group {group} ended")]
pub struct LoopError {
    group: String,
    #[source]
    source: BusError,
}

/// How many events of a key wait on when others of it are put aside.
const KEPT_OF_KEY: usize = 32;

/// What waits for what.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Lane {
    /// Events of one topic and key are handled in order.
    Key(Arc<str>, Option<Vec<u8>>),
    /// Events that are put aside, whatever their key.
    Aside,
}

struct Running {
    lane: Lane,
    partition: Partition,
    offset: i64,
}

impl ConsumerLoop {
    /// Handles events until `shutdown`, then finishes what is running, stores how far it came, and leaves the group.
    ///
    /// # Errors
    /// When the bus can no longer be consumed from.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), LoopError> {
        let group = self.options.group.clone();
        self.consume(shutdown).await.map_err(|source| LoopError { group, source })
    }

    async fn consume(self, shutdown: CancellationToken) -> Result<(), BusError> {
        let consumer = self.bus.subscribe(&self.options.group, &self.registry.topics()).await?;
        let mut state = LoopState {
            concurrency: self.options.concurrency,
            drain: self.options.drain,
            consumer,
            lanes: Lanes::new(),
            watermarks: Watermarks::default(),
            tasks: JoinSet::new(),
            running: HashMap::new(),
            revoking: None,
        };
        let (max_waiting, crowded_after) = (self.options.waiting, self.options.crowded_after);
        let mut full_since = None;
        let job = Arc::new(Job {
            group: self.options.group,
            bus: self.bus,
            registry: self.registry,
            setbacks: self.setbacks,
            metrics: self.metrics,
            shutdown: shutdown.clone(),
        });
        let failure = loop {
            state.start_ready(&job);
            let room = state.lanes.waiting() < max_waiting;
            full_since = if room { None } else { full_since.or_else(|| Some(Instant::now())) };
            let crowded_at = full_since.map(|since| since + crowded_after);
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break None,
                Some(finished) = state.tasks.join_next_with_id() => state.finish(finished),
                () = sleep_until_some(state.revoking.as_ref().map(|(_, deadline)| *deadline)) => state.release_revoked(),
                () = sleep_until_some(crowded_at) => {
                    state.shorten_longest();
                    full_since = None;
                }
                signal = state.consumer.receive(room), if state.revoking.is_none() => match signal {
                    Ok(Signal::Received(received)) => state.accept(*received),
                    Ok(Signal::Revoked(revocation)) => state.revoke(revocation),
                    Err(error) => break Some(error),
                },
            }
        };
        shutdown_drain(&mut state).await;
        let closed = timeout(CLOSE_WITHIN, state.consumer.close()).await.unwrap_or_else(|_| {
            warn!("the last offsets could not be committed in time; their events come again");
            Ok(())
        });
        failure.map_or(closed, Err)
    }
}

async fn shutdown_drain(state: &mut LoopState) {
    let deadline = Instant::now() + state.drain;
    while !state.tasks.is_empty() {
        match timeout_at(deadline, state.tasks.join_next_with_id()).await {
            Ok(Some(finished)) => state.finish(finished),
            Ok(None) => break,
            Err(_) => {
                warn!(
                    unfinished = state.tasks.len(),
                    "handlers did not finish in time; their events come again"
                );
                break;
            }
        }
    }
    state.tasks.shutdown().await;
    // Nothing runs any more that the bus would have to wait for.
    state.revoking = None;
}

struct LoopState {
    concurrency: usize,
    drain: Duration,
    consumer: Box<dyn Consumer>,
    lanes: Lanes<Lane, Received>,
    watermarks: Watermarks,
    tasks: JoinSet<Finish>,
    running: HashMap<Id, Running>,
    revoking: Option<(Revocation, Instant)>,
}

impl LoopState {
    fn accept(&mut self, received: Received) {
        self.watermarks.begin(&received.partition, received.offset);
        let lane = Lane::Key(received.partition.topic.clone(), received.record.key.clone());
        self.lanes.push(lane, received);
    }

    /// Too many wait: the newest of the key that has the most make room.
    fn shorten_longest(&mut self) {
        let aside = self.lanes.shorten_longest(KEPT_OF_KEY, |lane| *lane != Lane::Aside);
        if let Some(first) = aside.first() {
            debug!(partition = %first.partition, count = aside.len(), "events of one key are put aside");
        }
        aside.into_iter().for_each(|received| self.lanes.push(Lane::Aside, received));
    }

    fn start_ready(&mut self, job: &Arc<Job>) {
        while self.tasks.len() < self.concurrency
            && let Some((lane, received)) = self.lanes.take()
        {
            let (partition, offset) = (received.partition.clone(), received.offset);
            let (job, is_aside) = (job.clone(), lane == Lane::Aside);
            let task = self.tasks.spawn(async move {
                let _in_flight = InFlight::new(&job.metrics);
                if is_aside {
                    job.put_aside(&received.record).await
                } else {
                    job.handle(&received.record).await
                }
            });
            self.running.insert(task.id(), Running { lane, partition, offset });
        }
    }

    fn finish(&mut self, finished: Result<(Id, Finish), JoinError>) {
        let (id, finish) = finished.unwrap_or_else(|error| {
            // `Job::handle` catches what handlers do; whatever still ends a task leaves the event to be received again.
            error!(%error, "an event's task ended early");
            (error.id(), Finish::Interrupted)
        });
        let Some(Running { lane, partition, offset }) = self.running.remove(&id) else { return };
        self.lanes.finish(&lane);
        if finish == Finish::Done
            && let Some(next) = self.watermarks.finish(&partition, offset)
            && let Err(error) = self.consumer.store(&partition, next)
        {
            debug!(%partition, next, error = &error as &dyn std::error::Error, "an offset was not stored");
        }
        if self.revoking.as_ref().is_some_and(|(revocation, _)| !self.is_running(&revocation.partitions)) {
            self.release_revoked();
        }
    }

    fn is_running(&self, partitions: &[Partition]) -> bool {
        self.running.values().any(|running| partitions.contains(&running.partition))
    }

    /// Drops what waits of the partitions and gives what runs until the deadline.
    fn revoke(&mut self, revocation: Revocation) {
        self.lanes.retain(|received| !revocation.partitions.contains(&received.partition));
        let is_running = self.is_running(&revocation.partitions);
        let deadline = Instant::from_std(revocation.release_by);
        self.revoking = Some((revocation, deadline));
        if !is_running {
            self.release_revoked();
        }
    }

    fn release_revoked(&mut self) {
        if let Some((revocation, _)) = self.revoking.take() {
            for partition in &revocation.partitions {
                self.watermarks.forget(partition);
            }
        }
    }
}

async fn sleep_until_some(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}
