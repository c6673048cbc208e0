//! What stands before each request of a fetch: the rules of the site's robots.txt, and its host's slot.

use std::sync::Mutex;

use async_trait::async_trait;
use events::HandlerError;
use http::HeaderValue;
use jiff::SignedDuration;
use store::catalog::SourceSettings;
use url::Url;

use super::{
    robots_cache::{AskError, RobotsCache, Rules, crawl_delay, min_interval},
    slots,
};
use crate::{
    Tools,
    fetch::{DEFAULT_USER_AGENT, FetchError, Gate, display_url},
    robots::product_token,
};

/// What robots.txt said of a document, as its artifact keeps it.
pub(super) mod decision {
    /// Its rules allow it.
    pub(crate) const ALLOWED: &str = "Allowed";
    /// There is none.
    pub(crate) const NO_RULES: &str = "NoRules";
    /// The source has `robotsMode: allow`: it was not asked for.
    pub(crate) const NOT_ASKED: &str = "NotAsked";
}

/// Judges the requests of one fetch.
pub(super) struct CrawlGate<'a> {
    tools: &'a Tools,
    robots: &'a RobotsCache,
    source: &'a SourceSettings,
    user_agent: Option<&'a HeaderValue>,
    state: Mutex<State>,
}

struct State {
    /// Whether the next slot was promised to this document.
    is_promised: bool,
    /// The host of the request before: a redirect within it is part of the same visit.
    host: Option<String>,
    decision: &'static str,
    /// What went wrong here rather than at the site.
    failure: Option<HandlerError>,
}

impl<'a> CrawlGate<'a> {
    pub(super) fn new(
        tools: &'a Tools,
        robots: &'a RobotsCache,
        source: &'a SourceSettings,
        user_agent: Option<&'a HeaderValue>,
        is_promised: bool,
    ) -> Self {
        let state = State { is_promised, host: None, decision: decision::NOT_ASKED, failure: None };
        Self { tools, robots, source, user_agent, state: Mutex::new(state) }
    }

    /// What robots.txt said of the last URL, and what went wrong here.
    pub(super) fn into_outcome(self) -> (&'static str, Option<HandlerError>) {
        let state = self.state.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        (state.decision, state.failure)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Each field is set as a whole.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Keeps what is no failure of the fetch for the caller, and ends the fetch.
    fn stopped(&self, failure: HandlerError) -> FetchError {
        self.state().failure = Some(failure);
        FetchError::NotJudged
    }

    async fn rules(&self, url: &Url) -> Result<Rules, FetchError> {
        let user_agent = self.user_agent.and_then(|value| value.to_str().ok()).unwrap_or(DEFAULT_USER_AGENT);
        let token = product_token(user_agent);
        let origin = url.origin().ascii_serialization();
        let known = self.robots.known(self.tools, &origin, token).await;
        if let Some(rules) = known.map_err(|failure| self.stopped(failure))? {
            return Ok(rules);
        }
        self.wait(&slots::host_of(url), min_interval(self.source)).await?;
        match self.robots.ask(self.tools, url, token, self.user_agent).await {
            Ok(rules) => Ok(rules),
            Err(AskError::Fetch(error)) => Err(error),
            Err(AskError::Handler(failure)) => Err(self.stopped(failure)),
        }
    }

    async fn wait(&self, host: &str, interval: SignedDuration) -> Result<(), FetchError> {
        let is_promised = std::mem::take(&mut self.state().is_promised);
        match slots::wait_for_slot(self.tools, host, interval, is_promised).await {
            Ok(None) => Ok(()),
            Ok(Some(until)) => Err(FetchError::NotYet { until }),
            Err(failure) => Err(self.stopped(failure)),
        }
    }
}

#[async_trait]
impl Gate for CrawlGate<'_> {
    async fn judge(&self, url: &Url) -> Result<(), FetchError> {
        let mut interval = min_interval(self.source);
        if self.source.obey_robots {
            let decision = match self.rules(url).await? {
                Rules::Text(robots) if !robots.permits(url) => {
                    return Err(FetchError::RobotsDisallowed { url: display_url(url) });
                }
                Rules::Text(robots) => {
                    interval = interval.max(crawl_delay(&robots));
                    decision::ALLOWED
                }
                Rules::None => decision::NO_RULES,
                Rules::Unknown { retry_at } => {
                    let problem = "it does not answer as it should".to_owned();
                    return Err(FetchError::RobotsUnreachable { url: display_url(url), problem, retry_at });
                }
            };
            self.state().decision = decision;
        }
        let host = slots::host_of(url);
        let is_same_visit = self.state().host.as_ref() == Some(&host);
        if !is_same_visit {
            self.wait(&host, interval).await?;
            self.state().host = Some(host);
        }
        Ok(())
    }
}
