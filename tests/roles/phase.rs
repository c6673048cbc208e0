//! The phase that docs/extending.md shows.

use std::sync::Arc;

use async_trait::async_trait;
use events::{BoxError, Event, Handler, HandlerError, Role, Topic, VersioningResult, run_reasons};
use worker::{ROUTES, Route, Tools};

/// Keeps the text of each version as an object of its own, for those who search them.
struct Texts {
    tools: Tools,
}

/// The released table, and this phase. A worker of one's own gives it to `Pipeline::of`.
pub(crate) fn routes() -> Vec<Route> {
    let texts = Route::beside("texts", Role::Deliver, Topic::VersioningResult, |tools| {
        Arc::new(Texts { tools: tools.clone() })
    });
    [ROUTES, &[texts]].concat()
}

#[async_trait]
impl Handler for Texts {
    async fn handle(&self, event: &Event) -> Result<Vec<Event>, HandlerError> {
        let version: VersioningResult = event.payload()?;
        self.keep(&version).await.map_err(|source| HandlerError::Transient {
            reason: run_reasons::HANDLER_FAILED,
            retry_at: None,
            source,
        })?;
        Ok(Vec::new())
    }
}

impl Texts {
    /// Done again, it stores the same under the same key.
    async fn keep(&self, version: &VersioningResult) -> Result<(), BoxError> {
        let Tools { catalog, blobs, .. } = &self.tools;
        let work = catalog.plan_work(version.version_id).await?.ok_or("retention removed the version")?;
        let mut texts = catalog.extract_contents(&[work.extract_id]).await?;
        let text = texts.remove(&work.extract_id).ok_or("retention removed the text")?.text;
        let key = format!("{}/{}.txt", version.subscription_id, version.version_id);
        blobs.put_object("texts", &key, "text/plain; charset=utf-8", text.into()).await?;
        Ok(())
    }
}
