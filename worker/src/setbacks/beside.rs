//! What becomes of events that a phase beside the roles, or a service, did not take. It is nothing to the run: the roles do their
//! work on the same event.

use std::sync::Arc;

use async_trait::async_trait;
use events::{BoxError, Clock, Event, GivenUp, PutOff, Setbacks};
use jiff::Timestamp;
use store::catalog::Catalog;

use super::{ATTEMPTS, delay, put_aside};

/// Puts events off as for a role, and keeps what is given up in the dead letters.
pub(crate) struct SetbacksBeside {
    pub(crate) catalog: Catalog,
    pub(crate) clock: Arc<dyn Clock>,
}

#[async_trait]
impl Setbacks for SetbacksBeside {
    async fn put_off(
        &self,
        event: &Event,
        _reason: &'static str,
        _message: &str,
        retry_at: Option<Timestamp>,
    ) -> Result<PutOff, BoxError> {
        if event.attempt >= ATTEMPTS {
            return Ok(PutOff::GivenUp);
        }
        delay(&self.catalog, event, retry_at, self.clock.now()).await?;
        Ok(PutOff::Later)
    }

    async fn put_aside(&self, event: &Event) -> Result<(), BoxError> {
        put_aside(&self.catalog, event, self.clock.now()).await
    }

    async fn give_up(&self, _: &Event, _: &'static str, _: &str) -> Result<GivenUp, BoxError> {
        Ok(GivenUp::Unseen)
    }

    async fn keep(&self, emitted: &[&Event]) -> Result<(), BoxError> {
        Ok(self.catalog.keep(emitted, self.clock.now()).await?)
    }
}
