//! The consumer loop: decode, route, run, publish, and only then store the offset.

use std::{collections::HashMap, future::pending, sync::Arc, time::Duration};

use tokio::{
    task::{Id, JoinError, JoinSet},
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, error, info_span, warn};

use crate::{
    BoxError, Bus, BusError, Consumer, ConsumerMetrics, Event, GivenUp, HandlerError, Partition, PutOff,
    Received, Record, Registry, Revocation, Setbacks, Signal, Topic,
    envelope::ADDRESSEE,
    error_chain,
    in_flight::{Lanes, Watermarks},
    metrics::{JobLabels, Outcome, OutcomeLabels, ReasonLabels, UNKNOWN_JOB},
    run_reasons,
    spans::Span,
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

/// Why events are put aside.
const CROWDED: &str = "Crowded";
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

/// Whether a record needs no more care, or must be received again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Finish {
    Done,
    Interrupted,
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
                job.metrics.in_flight.inc();
                let _in_flight = InFlight(&job.metrics);
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

struct InFlight<'a>(&'a ConsumerMetrics);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.dec();
    }
}

/// What is needed to see one record through.
struct Job {
    group: String,
    bus: Arc<dyn Bus>,
    registry: Arc<Registry>,
    setbacks: Arc<dyn Setbacks>,
    metrics: ConsumerMetrics,
    shutdown: CancellationToken,
}

impl Job {
    async fn handle(self: &Arc<Self>, record: &Record) -> Finish {
        let mut event = match Event::from_record(record) {
            Ok(event) => event,
            Err(error) => return self.dead_letter(record, UNKNOWN_JOB, &error).await,
        };
        if event.addressee.get_or_insert_with(|| self.group.clone()) != &self.group {
            // Another group put it off; this one has had it.
            return Finish::Done;
        }
        let Some(handler) = self.registry.find(&event).cloned() else {
            return self.dead_letter(record, UNKNOWN_JOB, &NoHandler { job_type: event.job_type }).await;
        };
        let span = info_span!("event", id = %event.id, job_type = %event.job_type, trace_id = %event.trace_parent.trace_id);
        let trace = Span::of_handling(&event);
        let started = Instant::now();
        // A task of its own, so that a handler that panics fails its event and not the loop.
        let handling = {
            let event = event.clone();
            let mut tasks = JoinSet::new();
            let handling = async move { handler.handle(&event).await }.instrument(span.clone());
            tasks.spawn(trace.around(handling));
            tasks.join_next().await
        };
        match &handling {
            Some(Ok(Ok(_))) => {}
            Some(Ok(Err(error))) => trace.fail(error.reason()),
            Some(Err(_)) | None => trace.fail(run_reasons::HANDLER_FAILED),
        }
        drop(trace);
        let labels = JobLabels { job_type: event.job_type.clone() };
        self.metrics.seconds.get_or_create(&labels).observe(started.elapsed().as_secs_f64());
        async {
            match handling {
                Some(Ok(Ok(emitted))) => self.publish(record, &event, &emitted).await,
                Some(Ok(Err(error))) => self.set_back(record, &event, error).await,
                Some(Err(join_error)) => self.dead_event(record, &event, &HandlerEnded(join_error)).await,
                None => Finish::Interrupted,
            }
        }
        .instrument(span)
        .await
    }

    /// Has an event come again later: too many of its key wait here.
    async fn put_aside(&self, record: &Record) -> Finish {
        let mut event = match Event::from_record(record) {
            Ok(event) => event,
            Err(error) => return self.dead_letter(record, UNKNOWN_JOB, &error).await,
        };
        if event.addressee.get_or_insert_with(|| self.group.clone()) != &self.group {
            return Finish::Done;
        }
        let put_aside =
            self.until_done("an event was not put aside", || self.setbacks.put_aside(&event)).await;
        if put_aside.is_some() {
            let labels = ReasonLabels { job_type: event.job_type.clone(), reason: CROWDED };
            self.metrics.put_off.get_or_create(&labels).inc();
        }
        self.count(record, &event.job_type, Outcome::PutOff, put_aside)
    }

    async fn publish(&self, record: &Record, event: &Event, emitted: &[Event]) -> Finish {
        let records: Vec<_> = emitted.iter().map(Event::to_record).collect();
        let published = self
            .until_done("events were neither published nor kept", || async {
                let unacknowledged = self.bus.publish_each(&records).await;
                let Some(first) = unacknowledged.first() else { return Ok(()) };
                // Who waits here, for one partition without a leader, does nothing for all others.
                let (error, count) = (error_chain(&first.error), unacknowledged.len());
                warn!(error, count, "events were not published, and wait in the outbox");
                let kept = unacknowledged.iter().filter_map(|record| emitted.get(record.number));
                self.setbacks.keep(&kept.collect::<Vec<_>>()).await
            })
            .await;
        self.count(record, &event.job_type, Outcome::Handled, published)
    }

    async fn set_back(&self, record: &Record, event: &Event, error: HandlerError) -> Finish {
        match error {
            HandlerError::Transient { reason, retry_at, source } => {
                let message = error_chain(source.as_ref());
                debug!(reason, message, "an event is put off");
                let put_off = self
                    .until_done("an event was not put off", || {
                        self.setbacks.put_off(event, reason, &message, retry_at)
                    })
                    .await;
                if put_off == Some(PutOff::GivenUp) {
                    return self.dead_letter(record, &event.job_type, source.as_ref()).await;
                }
                if put_off.is_some() {
                    let labels = ReasonLabels { job_type: event.job_type.clone(), reason };
                    self.metrics.put_off.get_or_create(&labels).inc();
                }
                self.count(record, &event.job_type, Outcome::PutOff, put_off)
            }
            HandlerError::Permanent { reason, source } => {
                let message = error_chain(source.as_ref());
                debug!(reason, message, "an event is given up");
                let given_up = self
                    .until_done("a failure was not recorded", || {
                        self.setbacks.give_up(event, reason, &message)
                    })
                    .await;
                if given_up == Some(GivenUp::Unseen) {
                    return self.dead_letter(record, &event.job_type, source.as_ref()).await;
                }
                self.count(record, &event.job_type, Outcome::GivenUp, given_up)
            }
            HandlerError::Poison(error) => self.dead_event(record, event, &error).await,
        }
    }

    /// An event that goes to the dead letters fails its document too: nobody else would end its run.
    async fn dead_event(
        &self,
        record: &Record,
        event: &Event,
        error: &(dyn std::error::Error + Sync),
    ) -> Finish {
        let message = error_chain(error);
        let give_up = || self.setbacks.give_up(event, run_reasons::HANDLER_FAILED, &message);
        match self.until_done("a failure was not recorded", give_up).await {
            Some(_) => self.dead_letter(record, &event.job_type, error).await,
            None => Finish::Interrupted,
        }
    }

    /// Publishes the record as it came to its topic's dead letters, with the reason in its headers, and whose it is: revived,
    /// it comes to this group alone. How often it was put off, and its trace, stand in those that it came with.
    async fn dead_letter(
        &self,
        record: &Record,
        job_type: &str,
        error: &(dyn std::error::Error + Sync),
    ) -> Finish {
        let message = error_chain(error);
        warn!(
            topic = record.topic,
            reason = message,
            "a message cannot be handled and goes to the dead letters"
        );
        let mut letter = record.clone();
        letter.topic = record
            .topic
            .parse::<Topic>()
            .map_or_else(|_| format!("{}.dlq", record.topic), Topic::dead_letter_name);
        if letter.header(ADDRESSEE).is_none() {
            letter.headers.push((ADDRESSEE.to_owned(), self.group.clone().into_bytes()));
        }
        letter.headers.push(("dead_letter_reason".to_owned(), message.into_bytes()));
        let letters = [letter];
        let published =
            self.until_done("a dead letter was not published", || self.bus.publish(&letters)).await;
        self.count(record, job_type, Outcome::DeadLetter, published)
    }

    fn count<T>(&self, record: &Record, job_type: &str, outcome: Outcome, done: Option<T>) -> Finish {
        if done.is_some() {
            let (topic, job_type) = (record.topic.clone(), job_type.to_owned());
            let labels = OutcomeLabels { topic, job_type, outcome };
            self.metrics.events.get_or_create(&labels).inc();
            return Finish::Done;
        }
        Finish::Interrupted
    }

    /// Repeats a step until it succeeds: going on without it would lose the event. Only a shutdown interrupts it,
    /// and then the record is received again.
    async fn until_done<F, Fut, T, E>(&self, failure: &'static str, step: F) -> Option<T>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, E>>,
        E: Into<BoxError>,
    {
        let mut backoff = Duration::from_millis(100);
        loop {
            let error = match step().await {
                Ok(done) => return Some(done),
                Err(error) => error,
            };
            let error: BoxError = error.into();
            warn!(error = error_chain(error.as_ref()), "{failure}; trying again");
            tokio::select! {
                () = self.shutdown.cancelled() => return None,
                () = sleep(backoff) => backoff = (backoff * 2).min(Duration::from_secs(5)),
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("no handler is registered for the job `{job_type}`")]
struct NoHandler {
    job_type: String,
}

#[derive(Debug, thiserror::Error)]
#[error("the handler ended early")]
struct HandlerEnded(#[source] JoinError);
