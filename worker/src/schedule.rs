//! `subscription.scheduled`: plans what a run has to fetch, or which stored artifacts are worked on again.

use async_trait::async_trait;
use events::{CrawlUrl, Event, Handler, HandlerError, ParseRequest, SubscriptionScheduled, run_reasons};
use store::catalog::{RunPhase, RunPlan, Trigger};
use url::Url;

use crate::{
    Tools,
    crawl::host_of,
    tools::{catalog_failed, permanent},
};

const EVENT_SOURCE: &str = "/tipstaff/worker/schedule";
/// How many artifacts of a backfill are handed on at a time.
const ARTIFACTS_AT_ONCE: i64 = 500;

/// Reads the subscription and its source, and asks for each URL once.
pub(crate) struct Schedule {
    tools: Tools,
}

impl Schedule {
    pub(crate) fn new(tools: &Tools) -> Self {
        Self { tools: tools.clone() }
    }
}

#[async_trait]
impl Handler for Schedule {
    async fn handle(&self, event: &Event) -> Result<Vec<Event>, HandlerError> {
        let scheduled: SubscriptionScheduled = event.payload()?;
        let plan = self.tools.catalog.run_plan(scheduled.run_id).await.map_err(catalog_failed)?;
        let plan =
            plan.ok_or_else(|| permanent(run_reasons::RUN_NOT_FOUND, "the catalog has no such run"))?;
        if !matches!(plan.phase, RunPhase::Pending | RunPhase::Running) {
            return Ok(Vec::new());
        }
        if scheduled.trigger == Trigger::Backfill.to_string() {
            return self.backfill(event, &scheduled, &plan).await;
        }
        self.plan(event, &scheduled, &plan).await
    }
}

impl Schedule {
    /// Asks for what the run waits for. A run that is planned again, since it got no further, asks again.
    async fn plan(
        &self,
        event: &Event,
        scheduled: &SubscriptionScheduled,
        plan: &RunPlan,
    ) -> Result<Vec<Event>, HandlerError> {
        if plan.source.suspend {
            return Err(permanent(run_reasons::SOURCE_SUSPENDED, "spec.suspend of the source is true"));
        }
        let now = self.tools.clock.now();
        if let Some(until) = plan.held_back_until.filter(|until| *until > now)
            && scheduled.trigger == Trigger::Schedule.to_string()
        {
            let message = format!("the source fails, and is not asked by schedule before {until:.0}");
            let skipped =
                self.tools.catalog.skip_run(scheduled.run_id, run_reasons::SOURCE_FAILING, &message, now);
            skipped.await.map_err(catalog_failed)?;
            return Ok(Vec::new());
        }
        let base_url: Url =
            plan.source.base_url.parse().map_err(|error| permanent(run_reasons::INVALID_URL, error))?;
        let pending = self.tools.catalog.begin_run(scheduled.run_id, &[base_url.into()], now).await;
        pending
            .map_err(catalog_failed)?
            .into_iter()
            .map(|url| {
                let host = host_of(&url.parse().map_err(|error| permanent(run_reasons::INVALID_URL, error))?);
                let crawl = CrawlUrl {
                    run_id: scheduled.run_id,
                    subscription_id: plan.subscription_id,
                    source_id: plan.source_id,
                    host,
                    url,
                    slot_promised: false,
                };
                event
                    .child(&crawl.url, EVENT_SOURCE, now, &crawl)
                    .map_err(|error| permanent(run_reasons::EVENT_NOT_WRITTEN, error))
            })
            .collect()
    }

    /// Hands the stored artifacts on, through the outbox: they can be very many. Done again, it emits the same events.
    async fn backfill(
        &self,
        event: &Event,
        scheduled: &SubscriptionScheduled,
        plan: &RunPlan,
    ) -> Result<Vec<Event>, HandlerError> {
        let catalog = &self.tools.catalog;
        let (mut last_id, mut count) = (0, 0);
        loop {
            let page = catalog.artifacts_to_backfill(scheduled.run_id, last_id, ARTIFACTS_AT_ONCE).await;
            let page = page.map_err(catalog_failed)?;
            let now = self.tools.clock.now();
            let Some(last) = page.last() else {
                catalog.end_backfill(scheduled.run_id, count, now).await.map_err(catalog_failed)?;
                return Ok(Vec::new());
            };
            last_id = last.id;
            count += u64::try_from(page.len()).unwrap_or_default();
            let requests: Result<Vec<Event>, HandlerError> = page
                .into_iter()
                .map(|artifact| {
                    let request = ParseRequest {
                        run_id: scheduled.run_id,
                        subscription_id: plan.subscription_id,
                        source_id: plan.source_id,
                        artifact_id: artifact.id,
                        source_url: artifact.source_url,
                    };
                    event
                        .child(&artifact.id.to_string(), EVENT_SOURCE, now, &request)
                        .map_err(|error| permanent(run_reasons::EVENT_NOT_WRITTEN, error))
                })
                .collect();
            catalog.hand_over(&requests?, now).await.map_err(catalog_failed)?;
        }
    }
}
