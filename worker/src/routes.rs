//! `topic -> job type -> handler`. A new phase is one handler and one line here.

use std::sync::Arc;

use events::{CrawlUrl, Handler, Payload, Role, SubscriptionScheduled, Topic};

use crate::{Tools, crawl::Crawl, schedule::Schedule};

/// Who does a job.
pub struct Route {
    /// Where the job's events come from.
    pub topic: Topic,
    /// The events' type.
    pub job_type: &'static str,
    /// Whose consumer group takes them.
    pub role: Role,
    /// Makes the handler.
    pub handler: fn(&Tools) -> Arc<dyn Handler>,
}

/// All jobs.
#[rustfmt::skip]
pub const ROUTES: &[Route] = &[
    Route { topic: Topic::SubsSchedule, job_type: SubscriptionScheduled::JOB_TYPE, role: Role::Schedule, handler: |tools| Arc::new(Schedule::new(tools)) },
    Route { topic: Topic::CrawlRequest, job_type: CrawlUrl::JOB_TYPE, role: Role::Crawl, handler: |tools| Arc::new(Crawl::new(tools)) },
];
