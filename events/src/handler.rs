use std::{collections::HashMap, fmt, str::FromStr, sync::Arc};

use async_trait::async_trait;
use jiff::Timestamp;

use crate::{BoxError, DecodeError, Event, Topic, run_reasons};

/// What a worker does: each role has its consumer group and scales on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Plans what a due subscription has to fetch.
    Schedule,
    /// Fetches and stores.
    Crawl,
    /// Turns stored bytes into text and fields.
    Parse,
    /// Compares with the last version.
    Version,
    /// Tells the targets.
    Deliver,
}

impl Role {
    /// All roles, in the order in which an event passes through them.
    pub const ALL: [Role; 5] = [Role::Schedule, Role::Crawl, Role::Parse, Role::Version, Role::Deliver];

    /// The role's name in configuration, consumer groups and labels.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Schedule => "schedule",
            Role::Crawl => "crawl",
            Role::Parse => "parse",
            Role::Version => "version",
            Role::Deliver => "deliver",
        }
    }

    /// The role's consumer group, before any prefix of the installation.
    pub fn group(self) -> String {
        format!("tipstaff.{self}")
    }

    /// The topics that its group consumes.
    pub const fn topics(self) -> &'static [Topic] {
        match self {
            Role::Schedule => &[Topic::SubsSchedule],
            Role::Crawl => &[Topic::CrawlRequest],
            Role::Parse => &[Topic::CrawlResult, Topic::ParseRequest],
            Role::Version => &[Topic::ParseResult, Topic::VersioningRequest],
            Role::Deliver => &[Topic::VersioningResult, Topic::DeliveryRequest],
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no role.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a role; the roles are schedule, crawl, parse, version and deliver")]
pub struct UnknownRole(String);

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Role::ALL.into_iter().find(|role| role.name() == name).ok_or_else(|| UnknownRole(name.to_owned()))
    }
}

/// Does one type of job.
#[async_trait]
pub trait Handler: Send + Sync {
    /// Handles an event and returns what to emit. The same event may come more than once.
    ///
    /// # Errors
    /// See [`HandlerError`] for what becomes of the event.
    async fn handle(&self, event: &Event) -> Result<Vec<Event>, HandlerError>;
}

/// Why an event was not handled.
#[derive(Debug, thiserror::Error)]
pub enum HandlerError {
    /// It may work later: the event comes back.
    #[error("{reason}")]
    Transient {
        /// A CamelCase word for it, kept if the event is given up.
        reason: &'static str,
        /// When to try again; without it, after a backoff that grows with the attempts.
        retry_at: Option<Timestamp>,
        /// What happened.
        #[source]
        source: BoxError,
    },
    /// It will never work: the run's document fails with the reason.
    #[error("{reason}")]
    Permanent {
        /// A CamelCase word for it.
        reason: &'static str,
        /// What happened.
        #[source]
        source: BoxError,
    },
    /// The event makes no sense: it goes to the dead letters.
    #[error("the event cannot be understood")]
    Poison(#[from] DecodeError),
}

impl HandlerError {
    /// A CamelCase word for it.
    pub fn reason(&self) -> &'static str {
        match self {
            HandlerError::Transient { reason, .. } | HandlerError::Permanent { reason, .. } => reason,
            HandlerError::Poison(_) => run_reasons::HANDLER_FAILED,
        }
    }
}

/// What became of an event that was to be put off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutOff {
    /// It comes again.
    Later,
    /// It was put off often enough: its document has failed.
    GivenUp,
}

/// Whether what was given up can be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenUp {
    /// Its document, its run or its delivery shows it.
    Seen,
    /// Nothing does: it goes to the dead letters.
    Unseen,
}

/// What becomes of an event whose handling did not succeed. Its addressee is the group whose handling that was.
#[async_trait]
pub trait Setbacks: Send + Sync {
    /// Puts the event off until `retry_at` or after a backoff, or gives it up when it was put off often enough.
    ///
    /// # Errors
    /// When that could not be recorded: the caller tries again.
    async fn put_off(
        &self,
        event: &Event,
        reason: &'static str,
        message: &str,
        retry_at: Option<Timestamp>,
    ) -> Result<PutOff, BoxError>;

    /// Has the event come again a while later, since too many wait here for others of their key. It counts as no attempt.
    ///
    /// # Errors
    /// When that could not be recorded: the caller tries again.
    async fn put_aside(&self, event: &Event) -> Result<(), BoxError>;

    /// Records that the event's document failed for good, if it has one.
    ///
    /// # Errors
    /// When that could not be recorded: the caller tries again.
    async fn give_up(&self, event: &Event, reason: &'static str, message: &str) -> Result<GivenUp, BoxError>;

    /// Keeps what a handler emitted and the bus did not take, until the bus takes it.
    ///
    /// # Errors
    /// When that could not be recorded: the caller tries again, first to publish them.
    async fn keep(&self, emitted: &[&Event]) -> Result<(), BoxError>;
}

/// `topic -> job type -> handler`.
#[derive(Default)]
pub struct Registry {
    handlers: HashMap<Topic, HashMap<&'static str, Arc<dyn Handler>>>,
}

/// Two handlers for one job.
#[derive(Debug, thiserror::Error)]
#[error("two handlers are registered for the job `{job_type}` of {topic}")]
pub struct RegistryError {
    topic: Topic,
    job_type: &'static str,
}

impl Registry {
    /// Adds a handler.
    ///
    /// # Errors
    /// When the job of that topic has one already.
    pub fn register(
        &mut self,
        topic: Topic,
        job_type: &'static str,
        handler: Arc<dyn Handler>,
    ) -> Result<(), RegistryError> {
        match self.handlers.entry(topic).or_default().insert(job_type, handler) {
            None => Ok(()),
            Some(_) => Err(RegistryError { topic, job_type }),
        }
    }

    /// The handler of an event's job.
    pub fn find(&self, event: &Event) -> Option<&Arc<dyn Handler>> {
        self.handlers.get(&event.topic)?.get(event.job_type.as_str())
    }

    /// The topics that have handlers.
    pub fn topics(&self) -> Vec<Topic> {
        let mut topics: Vec<_> = self.handlers.keys().copied().collect();
        topics.sort_unstable();
        topics
    }
}
