//! The phase that docs/extending.md shows.

use std::sync::Arc;

use async_trait::async_trait;
use events::{Event, Handler, HandlerError, Role, Topic, VersioningResult, run_reasons};
use worker::{ROUTES, Route, Tools};

/// Keeps first versions from all targets, whatever these want.
struct Screen {
    tools: Tools,
    plan: Arc<dyn Handler>,
}

const SCREEN: Route = Route {
    topic: Topic::VersioningResult,
    job_type: Topic::VersioningResult.job_type(),
    role: Role::Deliver,
    handler: |tools| Arc::new(Screen { tools: tools.clone(), plan: (plan().handler)(tools) }),
};

#[async_trait]
impl Handler for Screen {
    async fn handle(&self, event: &Event) -> Result<Vec<Event>, HandlerError> {
        let version: VersioningResult = event.payload()?;
        if version.kind != "Baseline" {
            return self.plan.handle(event).await;
        }
        let planned =
            self.tools.catalog.plan_deliveries(version.version_id, &[], self.tools.clock.now()).await;
        planned.map_err(|error| HandlerError::Transient {
            reason: run_reasons::CATALOG_UNAVAILABLE,
            retry_at: None,
            source: error.into(),
        })
    }
}

fn is_plan(route: &Route) -> bool {
    route.topic == SCREEN.topic && route.job_type == SCREEN.job_type
}

/// What the released worker does instead.
fn plan() -> Route {
    *ROUTES.iter().find(|route| is_plan(route)).expect("the table has the job")
}

/// The released table, with this phase in the place of that one. A worker of one's own gives it to `Pipeline::of`.
pub(crate) fn routes() -> Vec<Route> {
    ROUTES.iter().map(|route| if is_plan(route) { SCREEN } else { *route }).collect()
}
