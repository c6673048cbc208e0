//! Each origin's robots.txt: asked for once a day by all workers together, and parsed once by each.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use events::HandlerError;
use http::HeaderValue;
use jiff::{SignedDuration, Timestamp};
use store::{
    blobs::SpooledBody,
    catalog::{RobotsOutcome, RobotsRecord, SourceSettings},
};
use tokio::io::AsyncReadExt;
use url::Url;

use crate::{
    Tools,
    fetch::{DEFAULT_USER_AGENT, Excess, FetchError, FetchRequest, Fetched, NoGate},
    robots::{
        LONGEST_CACHED, MAX_SIZE, Robots, RobotsAnswer, RobotsState, cached_for, outcome, product_token,
    },
    tools::catalog_failed,
};

use super::slots;

/// How soon a robots.txt that cannot be read is asked for again.
const ASK_AGAIN: Duration = Duration::from_secs(60);
const TIMEOUT: Duration = Duration::from_secs(30);
/// Beyond this number of origins the cache begins anew.
const ORIGINS: usize = 4096;

/// What the rules of an origin are for one product token.
#[derive(Clone)]
pub(super) enum Rules {
    /// As they stand in its robots.txt.
    Text(Arc<Robots>),
    /// It has none.
    None,
    /// They are not known until its robots.txt answers.
    Unknown {
        /// When it is asked for again.
        retry_at: Timestamp,
    },
}

/// By origin and product token, with the time until which they are good.
type ByOrigin = HashMap<(String, String), (Timestamp, Rules)>;

/// The rules of origins, shared by all handlers of a process.
#[derive(Clone, Default)]
pub(super) struct RobotsCache {
    rules: Arc<Mutex<ByOrigin>>,
}

impl RobotsCache {
    /// The rules of an origin, where they need not be asked for.
    pub(super) async fn known(
        &self,
        tools: &Tools,
        origin: &str,
        token: &str,
    ) -> Result<Option<Rules>, HandlerError> {
        let now = tools.clock.now();
        if let Some((good_until, rules)) = self.rules().get(&(origin.to_owned(), token.to_owned()))
            && *good_until > now
        {
            return Ok(Some(rules.clone()));
        }
        let record = tools.catalog.robots(origin).await.map_err(catalog_failed)?;
        Ok(record.filter(|record| record.expires_at > now).map(|record| self.keep(origin, token, record)))
    }

    /// The shortest time between two requests to the host of a URL, by the source and, where they are known, by the host's
    /// own rules.
    pub(super) async fn interval(
        &self,
        tools: &Tools,
        source: &SourceSettings,
        url: &Url,
    ) -> Result<SignedDuration, HandlerError> {
        let own = min_interval(source);
        if !source.obey_robots {
            return Ok(own);
        }
        let token = product_token(source.user_agent.as_deref().unwrap_or(DEFAULT_USER_AGENT));
        Ok(match self.known(tools, &url.origin().ascii_serialization(), token).await? {
            Some(Rules::Text(robots)) => own.max(crawl_delay(&robots)),
            _ => own,
        })
    }

    /// Asks an origin for its robots.txt. While it cannot be read, what it said before stays in force (RFC 9309, section
    /// 2.4); what that is when it never said anything, [`outcome`] knows.
    ///
    /// # Errors
    /// When its rules were never had and no connection was made: the document's fetch would end alike.
    pub(super) async fn ask(
        &self,
        tools: &Tools,
        url: &Url,
        token: &str,
        user_agent: Option<&HeaderValue>,
    ) -> Result<Rules, AskError> {
        let origin = url.origin().ascii_serialization();
        let before = tools.catalog.robots(&origin).await.map_err(catalog_failed)?;
        let failing_since = before.as_ref().and_then(|before| before.unreachable_since);
        let answer = tools.fetcher.get(&robots_request(url, user_agent), &tools.spool, &NoGate).await;
        let now = tools.clock.now();
        let asked_for_peace = answer.as_ref().err().and_then(slots::asks_for_peace);
        if let Some((host, until)) = &asked_for_peace {
            slots::leave_in_peace(tools, host, *until).await?;
        }
        let mut text = Vec::new();
        let (state, good_for) = match &answer {
            Ok(fetched) => {
                let exchange = fetched.exchange();
                if let Fetched::Body { body, .. } = fetched {
                    text = bytes_of(body).await?;
                }
                let answered = RobotsAnswer::Answered { status: exchange.status, body: &text };
                let cache_control = exchange.headers.iter().find(|(name, _)| name == "cache-control");
                let good_for = cached_for(cache_control.map(|(_, value)| value.as_str()));
                (outcome(answered, token, failing_since, now), good_for)
            }
            Err(error) => (outcome(error.into(), token, failing_since, now), LONGEST_CACHED),
        };
        let (outcome, unreachable_since) = match (state, before) {
            (RobotsState::Rules(_), _) => (RobotsOutcome::Rules(text), None),
            (RobotsState::AllowAll, _) => (RobotsOutcome::AllowAll, failing_since),
            (RobotsState::Unreachable, Some(before)) => (before.outcome, failing_since.or(Some(now))),
            (RobotsState::Unreachable, None) => match answer {
                Err(error) if !is_of_robots_alone(&error) => return Err(error.into()),
                _ => (RobotsOutcome::Unknown, Some(now)),
            },
        };
        let good_for = if unreachable_since.is_some() { ASK_AGAIN } else { good_for };
        let mut expires_at = now.checked_add(good_for).unwrap_or(now);
        if let Some((_, until)) = asked_for_peace {
            let longest = now.checked_add(LONGEST_CACHED).unwrap_or(now);
            expires_at = expires_at.max(until.min(longest));
        }
        let record = RobotsRecord { outcome, asked_at: now, expires_at, unreachable_since };
        tools.catalog.put_robots(&origin, &record).await.map_err(catalog_failed)?;
        Ok(self.keep(&origin, token, record))
    }

    fn keep(&self, origin: &str, token: &str, record: RobotsRecord) -> Rules {
        let rules = match record.outcome {
            RobotsOutcome::Rules(text) => Rules::Text(Arc::new(Robots::parse(&text, token))),
            RobotsOutcome::AllowAll => Rules::None,
            RobotsOutcome::Unknown => Rules::Unknown { retry_at: record.expires_at },
        };
        let mut all = self.rules();
        if all.len() >= ORIGINS {
            all.clear();
        }
        all.insert((origin.to_owned(), token.to_owned()), (record.expires_at, rules.clone()));
        rules
    }

    fn rules(&self) -> std::sync::MutexGuard<'_, ByOrigin> {
        // A map is whole between any two calls.
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn min_interval(source: &SourceSettings) -> SignedDuration {
    SignedDuration::from_millis(i64::try_from(source.min_interval_ms).unwrap_or(i64::MAX))
}

pub(super) fn crawl_delay(robots: &Robots) -> SignedDuration {
    robots.crawl_delay().and_then(|delay| delay.try_into().ok()).unwrap_or(SignedDuration::ZERO)
}

/// A robots.txt could not be asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// No connection was made.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The catalog or the disk failed.
    #[error(transparent)]
    Handler(#[from] HandlerError),
}

fn robots_request(url: &Url, user_agent: Option<&HeaderValue>) -> FetchRequest {
    let mut url = url.clone();
    url.set_path("/robots.txt");
    url.set_query(None);
    url.set_fragment(None);
    FetchRequest {
        url,
        headers: Vec::new(),
        user_agent: user_agent.cloned(),
        timeout: TIMEOUT,
        // One more than is read, by which a last line that is cut off is known.
        max_bytes: MAX_SIZE as u64 + 1,
        excess: Excess::CutOff,
        validators: None,
        validators_for: None,
    }
}

/// Whether the document might come although its robots.txt did not: there is a server, and what it sent was no answer.
fn is_of_robots_alone(error: &FetchError) -> bool {
    matches!(
        error,
        FetchError::Status { .. }
            | FetchError::RequestFailed { .. }
            | FetchError::Timeout { .. }
            | FetchError::HeadersTooLarge { .. }
            | FetchError::BodyTruncated { .. }
            | FetchError::DecompressionFailed { .. }
            | FetchError::UnknownEncoding { .. }
    )
}

async fn bytes_of(body: &SpooledBody) -> Result<Vec<u8>, HandlerError> {
    let failed = |source: events::BoxError| HandlerError::Transient {
        reason: events::run_reasons::SPOOL_FAILED,
        retry_at: None,
        source,
    };
    let mut bytes = Vec::new();
    let mut reader = body.open().await.map_err(|error| failed(error.into()))?;
    reader.read_to_end(&mut bytes).await.map_err(|error| failed(error.into()))?;
    Ok(bytes)
}
