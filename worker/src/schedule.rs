//! `subscription.scheduled`: plans what a run has to fetch.

use async_trait::async_trait;
use events::{CrawlUrl, Event, Handler, HandlerError, SubscriptionScheduled, run_reasons};
use store::catalog::RunPhase;
use url::Url;

use crate::{
    Tools,
    tools::{catalog_failed, permanent},
};

const EVENT_SOURCE: &str = "/tipstaff/worker/schedule";

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
        let catalog = &self.tools.catalog;
        let plan = catalog.run_plan(scheduled.run_id).await.map_err(catalog_failed)?;
        let plan =
            plan.ok_or_else(|| permanent(run_reasons::RUN_NOT_FOUND, "the catalog has no such run"))?;
        if !matches!(plan.phase, RunPhase::Pending | RunPhase::Running) {
            return Ok(Vec::new());
        }
        if plan.source.suspend {
            return Err(permanent(run_reasons::SOURCE_SUSPENDED, "spec.suspend of the source is true"));
        }
        let url: Url =
            plan.source.base_url.parse().map_err(|error| permanent(run_reasons::INVALID_URL, error))?;
        let now = self.tools.clock.now();
        let urls = [url.to_string()];
        if !catalog.begin_run(scheduled.run_id, &urls, now).await.map_err(catalog_failed)? {
            return Ok(Vec::new());
        }
        urls.into_iter()
            .map(|address| {
                let crawl = CrawlUrl {
                    run_id: scheduled.run_id,
                    subscription_id: plan.subscription_id,
                    source_id: plan.source_id,
                    host: host_of(&url),
                    url: address,
                };
                event
                    .child(&crawl.url, EVENT_SOURCE, now, &crawl)
                    .map_err(|error| permanent(run_reasons::EVENT_NOT_WRITTEN, error))
            })
            .collect()
    }
}

/// The host of a URL, with its port where that is not the scheme's own.
fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}
