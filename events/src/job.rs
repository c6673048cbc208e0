//! One record, seen through: decoded, routed, run, and what came of it published or kept.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::{JoinError, JoinSet},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info_span, warn};

use crate::{
    BoxError, Bus, ConsumerMetrics, Event, GivenUp, HandlerError, PutOff, Record, Registry, Setbacks, Topic,
    envelope::ADDRESSEE,
    error_chain,
    metrics::{JobLabels, Outcome, OutcomeLabels, ReasonLabels, UNKNOWN_JOB},
    run_reasons,
    spans::Span,
};

/// Why events are put aside.
const CROWDED: &str = "Crowded";

/// Whether a record needs no more care, or must be received again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finish {
    Done,
    Interrupted,
}

/// An event that is being handled, as long as this lives.
pub(crate) struct InFlight<'a>(&'a ConsumerMetrics);

impl<'a> InFlight<'a> {
    pub(crate) fn new(metrics: &'a ConsumerMetrics) -> Self {
        metrics.in_flight.inc();
        Self(metrics)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.dec();
    }
}

/// What is needed to see one record through.
pub(crate) struct Job {
    pub(crate) group: String,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) setbacks: Arc<dyn Setbacks>,
    pub(crate) metrics: ConsumerMetrics,
    pub(crate) shutdown: CancellationToken,
}

impl Job {
    pub(crate) async fn handle(self: &Arc<Self>, record: &Record) -> Finish {
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
    pub(crate) async fn put_aside(&self, record: &Record) -> Finish {
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
