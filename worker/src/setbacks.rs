//! What becomes of events whose handling did not succeed: they wait in the outbox, or fail their document.

mod beside;

use std::sync::Arc;

use async_trait::async_trait;
use events::{
    BoxError, Clock, CrawlUrl, DeliveryRequest, Event, GivenUp, Payload, PutOff, Setbacks, VersioningResult,
    run_reasons,
};
use jiff::{SignedDuration, Timestamp, Unit};
use serde::Deserialize;
use store::catalog::{Catalog, WantedBy};
use uuid::Uuid;

use crate::news::{News, Newsroom, Setback};

pub(crate) use beside::SetbacksBeside;

/// How often an event is put off before it is given up.
const ATTEMPTS: u32 = 6;
const FIRST_BACKOFF: SignedDuration = SignedDuration::from_secs(2);
/// For how long an event is put aside that is one too many of its key: about as long as those need that are kept.
const ASIDE: SignedDuration = SignedDuration::from_mins(1);
/// No server's Retry-After keeps a run longer than this.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_hours(1);

/// Keeps setbacks in the catalog.
pub(crate) struct CatalogSetbacks {
    pub(crate) catalog: Catalog,
    pub(crate) clock: Arc<dyn Clock>,
    /// Whoever shows them.
    pub(crate) news: Newsroom,
}

/// What every payload of a run's events has; those of one document have its URL.
#[derive(Deserialize)]
struct OfRun {
    run_id: Uuid,
    subscription_id: i64,
    #[serde(alias = "source_url")]
    url: Option<String>,
}

#[async_trait]
impl Setbacks for CatalogSetbacks {
    async fn put_off(
        &self,
        event: &Event,
        reason: &'static str,
        message: &str,
        retry_at: Option<Timestamp>,
    ) -> Result<PutOff, BoxError> {
        if event.attempt >= ATTEMPTS && !is_of_delivery(event) {
            let message = format!("given up after {} attempts: {message}", event.attempt + 1);
            self.give_up(event, reason, &message).await?;
            return Ok(PutOff::GivenUp);
        }
        let now = self.clock.now();
        let retry_at = delay(&self.catalog, event, retry_at, now).await?;
        if let Some(crawl) = crawl_url(event)
            && run_reasons::is_of_the_site(reason)
        {
            self.catalog.note_setback(crawl.run_id, &crawl.url, reason, message, retry_at, now).await?;
        }
        if let Ok(OfRun { run_id, subscription_id, .. }) = serde_json::from_slice(&event.payload) {
            let message = message.to_owned();
            if !is_of_delivery(event) {
                let at = retry_at.round(Unit::Second).unwrap_or(retry_at);
                let noted = format!("{message}; it is tried again at {at}");
                self.catalog.note_run_setback(run_id, reason, &noted).await?;
            }
            self.news.tell(News::Setback(Setback { run_id, subscription_id, reason, message, retry_at }));
        }
        Ok(PutOff::Later)
    }

    async fn put_aside(&self, event: &Event) -> Result<(), BoxError> {
        put_aside(&self.catalog, event, self.clock.now()).await
    }

    async fn give_up(&self, event: &Event, reason: &'static str, message: &str) -> Result<GivenUp, BoxError> {
        let now = self.clock.now();
        match serde_json::from_slice(&event.payload) {
            // A version stands whoever is told of it: its run is not failed.
            _ if is_of_delivery(event) => self.give_delivery_up(event, reason, message).await?,
            Ok(OfRun { run_id, url: Some(url), .. }) => {
                self.catalog.fail_document(run_id, &url, reason, message, now).await?;
            }
            Ok(OfRun { run_id, .. }) => self.catalog.fail_run(run_id, reason, message, now).await?,
            Err(_) => return Ok(GivenUp::Unseen),
        }
        Ok(GivenUp::Seen)
    }

    async fn keep(&self, emitted: &[&Event]) -> Result<(), BoxError> {
        Ok(self.catalog.keep(emitted, self.clock.now()).await?)
    }
}

impl CatalogSetbacks {
    /// What cannot be told to a target is seen to be given up. A version whose targets cannot be found goes to all of them.
    async fn give_delivery_up(&self, event: &Event, reason: &str, message: &str) -> Result<(), BoxError> {
        let now = self.clock.now();
        tracing::warn!(job_type = event.job_type, reason, message, "an event of a delivery was given up");
        if let Ok(request) = event.payload::<DeliveryRequest>() {
            self.catalog.give_delivery_up(request.delivery_id, &format!("{reason}: {message}"), now).await?;
        } else if let Ok(version) = event.payload::<VersioningResult>()
            && let Some(work) = self.catalog.plan_work(version.version_id).await?
        {
            let all =
                work.targets.iter().map(|target| WantedBy { target: &target.name, digest: target.digest });
            let due = self.catalog.plan_deliveries(version.version_id, &all.collect::<Vec<_>>(), now).await?;
            self.catalog.hand_over(&due, now).await?;
        }
        Ok(())
    }
}

/// Lets an event wait in the outbox for another attempt, until `retry_at` or for a backoff. Returns until when.
async fn delay(
    catalog: &Catalog,
    event: &Event,
    retry_at: Option<Timestamp>,
    now: Timestamp,
) -> Result<Timestamp, BoxError> {
    let wait = match retry_at {
        Some(time) => time.duration_since(now).clamp(SignedDuration::ZERO, LONGEST_WAIT),
        None => backoff(event),
    };
    let mut later = event.clone();
    later.attempt += 1;
    let retry_at = now.checked_add(wait)?;
    catalog.delay(&later, retry_at).await?;
    Ok(retry_at)
}

/// Lets an event wait in the outbox for a while, as no attempt.
async fn put_aside(catalog: &Catalog, event: &Event, now: Timestamp) -> Result<(), BoxError> {
    Ok(catalog.delay(event, now.checked_add(ASIDE)?).await?)
}

/// Deliveries have their own schedule of attempts. What fails on the way to them is the catalog, which is waited for.
fn is_of_delivery(event: &Event) -> bool {
    [VersioningResult::JOB_TYPE, DeliveryRequest::JOB_TYPE].contains(&event.job_type.as_str())
}

fn crawl_url(event: &Event) -> Option<CrawlUrl> {
    if event.job_type == CrawlUrl::JOB_TYPE { event.payload().ok() } else { None }
}

/// Doubles with each attempt. The jitter, up to half of it, follows from the event's id: the same event is predictable,
/// many events spread.
fn backoff(event: &Event) -> SignedDuration {
    let base = FIRST_BACKOFF.saturating_mul(1_i32 << event.attempt.min(10));
    let (_, low) = event.id.as_u64_pair();
    let permille = i32::try_from(low % 500).unwrap_or_default();
    base.saturating_add(base.saturating_mul(permille) / 1000)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use events::SubscriptionScheduled;

    use super::*;

    #[test]
    fn the_backoff_doubles_and_spreads_by_at_most_half() {
        let run_id = Uuid::from_u128(5);
        let payload = SubscriptionScheduled {
            run_id,
            subscription_id: 1,
            scheduled_for: Timestamp::UNIX_EPOCH,
            trigger: "Schedule".into(),
        };
        let mut event = Event::of_run(run_id, "/test", Timestamp::UNIX_EPOCH, &payload).unwrap();
        for (attempt, base) in [(0, 2), (1, 4), (2, 8), (5, 64)] {
            event.attempt = attempt;
            for id in [0_u128, 499, 123_456_789] {
                event.id = Uuid::from_u128(id);
                let wait = backoff(&event);
                assert!(wait >= SignedDuration::from_secs(base), "{attempt}: {wait}");
                assert!(wait <= SignedDuration::from_millis(base * 1500), "{attempt}: {wait}");
            }
        }
    }
}
