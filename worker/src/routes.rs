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
