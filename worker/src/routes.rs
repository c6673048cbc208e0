//! `topic -> job type -> handler`. A new phase is one handler and one line here.

use std::sync::Arc;

use events::{Handler, Role, Topic};

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
    /// Where the job's events come from; it has them of one type.
    pub topic: Topic,
    /// Whose workers do it.
    pub role: Role,
    /// The name of a phase that does it beside what the role does with the same events: they come to both. None: it is the
    /// role's own work.
    pub beside: Option<&'static str>,
    /// Makes the handler.
    pub handler: fn(&Tools) -> Arc<dyn Handler>,
}

impl Route {
    /// A job of a role, with the events of a topic.
    pub const fn of(role: Role, topic: Topic, handler: fn(&Tools) -> Arc<dyn Handler>) -> Self {
        Self { topic, role, beside: None, handler }
    }

    /// A phase beside what a role does with the events of a topic. It has a consumer group of its own; what fails there fails
    /// no run, and is kept in the dead letters. `name` tells it from others, in lower-case letters, digits and hyphens.
    pub const fn beside(
        name: &'static str,
        role: Role,
        topic: Topic,
        handler: fn(&Tools) -> Arc<dyn Handler>,
    ) -> Self {
        Self { topic, role, beside: Some(name), handler }
    }

    /// The consumer group that takes the events, before any prefix of the installation.
    pub fn group(&self) -> String {
        self.beside.map_or_else(|| self.role.group(), |name| format!("tipstaff.phase.{name}"))
    }
}

/// All jobs.
#[rustfmt::skip]
pub const ROUTES: &[Route] = &[
    Route::of(Role::Schedule, Topic::SubsSchedule, |tools| Arc::new(Schedule::new(tools))),
    Route::of(Role::Crawl, Topic::CrawlRequest, |tools| Arc::new(Crawl::new(tools))),
    Route::of(Role::Parse, Topic::CrawlResult, |tools| Arc::new(Parse::new(tools))),
    Route::of(Role::Parse, Topic::ParseRequest, |tools| Arc::new(Parse::new(tools))),
    Route::of(Role::Version, Topic::ParseResult, |tools| Arc::new(Version::new(tools))),
    Route::of(Role::Version, Topic::VersioningRequest, |tools| Arc::new(Version::new(tools))),
    Route::of(Role::Deliver, Topic::VersioningResult, |tools| Arc::new(Plan::new(tools))),
    Route::of(Role::Deliver, Topic::DeliveryRequest, |tools| Arc::new(Send::new(tools))),
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
