//! `topic -> job type -> handler`. A new phase is one handler and one line here.

use std::sync::Arc;

use events::{
    CrawlResult, CrawlUrl, DeliveryRequest, Handler, ParseRequest, ParseResult, Payload, Role,
    SubscriptionScheduled, Topic, VersioningRequest, VersioningResult,
};

use crate::{
    Tools,
    crawl::Crawl,
    deliver::{Plan, Send},
    parse::Parse,
    schedule::Schedule,
    version::Version,
};

/// Who does a job.
#[derive(Clone, Copy)]
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
    Route { topic: Topic::CrawlResult, job_type: CrawlResult::JOB_TYPE, role: Role::Parse, handler: |tools| Arc::new(Parse::new(tools)) },
    Route { topic: Topic::ParseRequest, job_type: ParseRequest::JOB_TYPE, role: Role::Parse, handler: |tools| Arc::new(Parse::new(tools)) },
    Route { topic: Topic::ParseResult, job_type: ParseResult::JOB_TYPE, role: Role::Version, handler: |tools| Arc::new(Version::new(tools)) },
    Route { topic: Topic::VersioningRequest, job_type: VersioningRequest::JOB_TYPE, role: Role::Version, handler: |tools| Arc::new(Version::new(tools)) },
    Route { topic: Topic::VersioningResult, job_type: VersioningResult::JOB_TYPE, role: Role::Deliver, handler: |tools| Arc::new(Plan::new(tools)) },
    Route { topic: Topic::DeliveryRequest, job_type: DeliveryRequest::JOB_TYPE, role: Role::Deliver, handler: |tools| Arc::new(Send::new(tools)) },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_role_consumes_the_topics_of_its_jobs() {
        for role in Role::ALL {
            let routed: BTreeSet<_> =
                ROUTES.iter().filter(|route| route.role == role).map(|route| route.topic).collect();
            let topics = role.topics().iter().copied().collect();
            assert_eq!(routed, topics, "`Role::topics` of {role}, by which its workers are scaled");
        }
    }
}
