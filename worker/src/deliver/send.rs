//! `delivery.send`: sends a delivery to its target, and keeps how that went.

use async_trait::async_trait;
use changes::{Outcome, next_attempt};
use events::{DeliveryRequest, Event, Handler, HandlerError, run_reasons, spans::Span};
use jiff::{SignedDuration, Timestamp};
use opentelemetry::{KeyValue, trace::SpanKind};
use store::catalog::{DeliveryAttempt, DeliveryOutcome, DeliveryWork, TargetSettings};

use super::payload::payload;
use crate::{
    DeliveryTried, News, Tools,
    tools::{catalog_failed, permanent},
};

/// How much earlier than it is due a delivery may be tried: clocks differ.
const EARLY: SignedDuration = SignedDuration::from_secs(2);
/// An event that comes earlier than by this is an old one, of a delivery that was put off since.
const STALE: SignedDuration = SignedDuration::from_mins(1);
/// How soon a run's digest is looked at again while the run goes on.
const RUN_LOOKED_AT_AGAIN: SignedDuration = SignedDuration::from_secs(5);

/// Sends deliveries.
pub(crate) struct Send {
    tools: Tools,
}

impl Send {
    pub(crate) fn new(tools: &Tools) -> Self {
        Self { tools: tools.clone() }
    }
}

#[async_trait]
impl Handler for Send {
    async fn handle(&self, event: &Event) -> Result<Vec<Event>, HandlerError> {
        let request: DeliveryRequest = event.payload()?;
        let catalog = &self.tools.catalog;
        let work = catalog.delivery_work(request.delivery_id).await.map_err(catalog_failed)?;
        let now = self.tools.clock.now();
        let Some(work) = work.filter(|work| !work.is_finished && work.due_at <= later(now, STALE)) else {
            return Ok(Vec::new());
        };
        if work.due_at > later(now, EARLY) {
            // The clock here is behind.
            catalog.delay(event, work.due_at).await.map_err(catalog_failed)?;
            return Ok(Vec::new());
        }
        if let Some(until) =
            work.target_tried_at.filter(|until| work.attempts == 0 && *until > later(now, EARLY))
        {
            // The target fails: one delivery tries it, and the others do not stand in the way of those to others.
            catalog.put_off_delivery(&work, until, now).await.map_err(catalog_failed)?;
            return Ok(Vec::new());
        }
        if work.is_run_active {
            let until = later(now, RUN_LOOKED_AT_AGAIN);
            catalog.put_off_delivery(&work, until, now).await.map_err(catalog_failed)?;
            return Ok(Vec::new());
        }
        match target(&work) {
            Ok(target) => self.send(&work, target).await?,
            Err(why) => catalog.give_delivery_up(work.id, &why, now).await.map_err(catalog_failed)?,
        }
        Ok(Vec::new())
    }
}

/// The target as the subscription has it now, or why nothing is sent to it.
fn target(work: &DeliveryWork) -> Result<&TargetSettings, String> {
    let target = work.settings.targets.iter().find(|target| target.name == work.target);
    let target = target.ok_or("the subscription has no such target any more")?;
    if work.gone_settings.as_ref() == Some(&settings_text(target)) {
        return Err(
            "the target said that it is gone (410): nothing is sent to it until its spec changes".to_owned()
        );
    }
    Ok(target)
}

impl Send {
    async fn send(&self, work: &DeliveryWork, target: &TargetSettings) -> Result<(), HandlerError> {
        let catalog = &self.tools.catalog;
        let versions = catalog.close_delivery(work.id).await.map_err(catalog_failed)?;
        let changes = versions.len();
        let delivery =
            payload(work, versions).map_err(|error| permanent(run_reasons::CATALOG_UNAVAILABLE, error))?;
        let started_at = self.tools.clock.now();
        let span = Span::child("delivery attempt", SpanKind::Client, || {
            vec![
                KeyValue::new("tipstaff.delivery_id", work.id.to_string()),
                KeyValue::new("tipstaff.target", work.target.clone()),
                KeyValue::new("tipstaff.attempt", i64::from(work.attempts)),
            ]
        });
        let sent = span.around(self.tools.sender.send(target, &work.namespace, &delivery, started_at)).await;
        if let Some(status) = sent.status {
            span.set("http.response.status_code", i64::from(status));
        }
        if sent.outcome != Outcome::Delivered {
            span.fail(sent.reason);
        }
        drop(span);
        let now = self.tools.clock.now();
        let attempt = DeliveryAttempt {
            started_at,
            duration: sent.duration,
            status: sent.status,
            detail: &sent.detail,
            reason: sent.reason,
        };
        let settings = settings_text(target);
        let outcome = match sent.outcome {
            Outcome::Delivered => DeliveryOutcome::Delivered,
            Outcome::TargetGone => DeliveryOutcome::TargetGone(&settings),
            Outcome::Retry { not_before } => {
                let (seed, _) = work.id.as_u64_pair();
                let retry_at = next_attempt(work.attempts.saturating_add(1), seed, now, not_before);
                retry_at.map_or(DeliveryOutcome::GivenUp, DeliveryOutcome::Retry)
            }
        };
        tracing::debug!(delivery = %work.id, target = work.target, reason = sent.reason, "a delivery was tried");
        catalog.record_attempt(work, &attempt, outcome, now).await.map_err(catalog_failed)?;
        self.tools.metrics.delivery_tried(outcome, sent.reason);
        self.tools.news.tell(News::Delivery(DeliveryTried {
            delivery_id: work.id,
            subscription_id: work.subscription_id,
            begun_by: work.begun_by,
            target: work.target.clone(),
            changes,
            is_delivered: outcome == DeliveryOutcome::Delivered,
            reason: sent.reason,
            detail: sent.detail,
            retry_at: if let DeliveryOutcome::Retry(at) = outcome { Some(at) } else { None },
        }));
        Ok(())
    }
}

/// By which it is told whether a target that is gone has become another.
fn settings_text(target: &TargetSettings) -> String {
    // Maps with keys other than text are what cannot become JSON: there are none.
    serde_json::to_string(target).unwrap_or_default()
}

fn later(now: Timestamp, by: SignedDuration) -> Timestamp {
    now.checked_add(by).unwrap_or(Timestamp::MAX)
}
