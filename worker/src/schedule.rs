//! `subscription.scheduled`: plans what a run has to fetch, or which stored documents are worked on again.

use async_trait::async_trait;
use events::{
    CrawlUrl, Event, Handler, HandlerError, ParseRequest, SubscriptionScheduled, VersioningRequest,
    run_reasons,
};
use store::catalog::{RunPhase, RunPlan, Trigger, WaitingDocument};
use url::Url;

use crate::{
    Tools,
    crawl::host_of,
    parse::parser_version,
    tools::{catalog_failed, permanent},
};

const EVENT_SOURCE: &str = "/tipstaff/worker/schedule";
/// How many documents of a backfill are handed on at a time.
const DOCUMENTS_AT_ONCE: usize = 500;
/// How many artifacts of one that is of all are looked up and handed on at a time.
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
        let begun = self.tools.catalog.begin_run(scheduled.run_id, &[base_url.into()], now).await;
        let begun = begun.map_err(catalog_failed)?;
        let crawls = begun.pending.into_iter().map(|url| {
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
        });
        let fetched =
            begun.fetched.into_iter().map(|document| self.work_again(event, plan, scheduled, document));
        crawls.chain(fetched).collect()
    }

    /// Hands stored documents on, through the outbox: they can be very many. Done again, it emits the same events.
    async fn backfill(
        &self,
        event: &Event,
        scheduled: &SubscriptionScheduled,
        plan: &RunPlan,
    ) -> Result<Vec<Event>, HandlerError> {
        let catalog = &self.tools.catalog;
        if plan.is_of_all {
            // First, so that a run which has ended has handed on all.
            self.backfill_all(event, scheduled, plan).await?;
        }
        let now = self.tools.clock.now();
        let documents = catalog.begin_backfill(scheduled.run_id, now).await.map_err(catalog_failed)?;
        for page in documents.chunks(DOCUMENTS_AT_ONCE) {
            let requests: Result<Vec<Event>, HandlerError> = page
                .iter()
                .map(|document| self.work_again(event, plan, scheduled, document.clone()))
                .collect();
            catalog.hand_over(&requests?, now).await.map_err(catalog_failed)?;
        }
        Ok(Vec::new())
    }

    /// Hands on all that is stored. The runs that brought it in do not wait for it any more: it is read, and no version.
    async fn backfill_all(
        &self,
        event: &Event,
        scheduled: &SubscriptionScheduled,
        plan: &RunPlan,
    ) -> Result<(), HandlerError> {
        let catalog = &self.tools.catalog;
        let mut after = 0;
        loop {
            let page =
                catalog.stored_documents(scheduled.run_id, after, ARTIFACTS_AT_ONCE, parser_version()).await;
            let page = page.map_err(catalog_failed)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.artifact_id;
            let now = self.tools.clock.now();
            let requests: Result<Vec<Event>, serde_json::Error> = page
                .into_iter()
                .map(|stored| {
                    let request = ParseRequest {
                        run_id: stored.run_id,
                        subscription_id: plan.subscription_id,
                        source_id: plan.source_id,
                        artifact_id: stored.artifact_id,
                        source_url: stored.url,
                    };
                    event.child(&stored.artifact_id.to_string(), EVENT_SOURCE, now, &request)
                })
                .collect();
            let requests = requests.map_err(|error| permanent(run_reasons::EVENT_NOT_WRITTEN, error))?;
            catalog.hand_over(&requests, now).await.map_err(catalog_failed)?;
        }
    }

    /// Asks for a document that was fetched to be parsed and compared, or only compared when it is gone.
    fn work_again(
        &self,
        event: &Event,
        plan: &RunPlan,
        scheduled: &SubscriptionScheduled,
        document: WaitingDocument,
    ) -> Result<Event, HandlerError> {
        let WaitingDocument { url, artifact_id } = document;
        let (run_id, subscription_id) = (scheduled.run_id, plan.subscription_id);
        let now = self.tools.clock.now();
        let asked = match artifact_id {
            Some(artifact_id) => {
                let source_id = plan.source_id;
                let request =
                    ParseRequest { run_id, subscription_id, source_id, artifact_id, source_url: url.clone() };
                event.child(&url, EVENT_SOURCE, now, &request)
            }
            None => {
                let request =
                    VersioningRequest { run_id, subscription_id, url: url.clone(), extract_id: None };
                event.child(&url, EVENT_SOURCE, now, &request)
            }
        };
        asked.map_err(|error| permanent(run_reasons::EVENT_NOT_WRITTEN, error))
    }
}
