//! Events that somebody else makes from one of Tipstaff's, and that Tipstaff emits for them.

use jiff::Timestamp;

use crate::{
    CrawlResult, CrawlUrl, DecodeError, DeliveryRequest, Event, ParseRequest, ParseResult, Payload,
    SubscriptionScheduled, Topic, VersioningRequest, VersioningResult,
};

impl Topic {
    /// The type of the topic's events: the job that they ask for.
    pub const fn job_type(self) -> &'static str {
        match self {
            Topic::SubsSchedule => SubscriptionScheduled::JOB_TYPE,
            Topic::CrawlRequest => CrawlUrl::JOB_TYPE,
            Topic::CrawlResult => CrawlResult::JOB_TYPE,
            Topic::ParseRequest => ParseRequest::JOB_TYPE,
            Topic::ParseResult => ParseResult::JOB_TYPE,
            Topic::VersioningRequest => VersioningRequest::JOB_TYPE,
            Topic::VersioningResult => VersioningResult::JOB_TYPE,
            Topic::DeliveryRequest => DeliveryRequest::JOB_TYPE,
        }
    }
}

impl Event {
    /// What [`Event::child`] makes, of a payload that is JSON and whose type the topic tells.
    ///
    /// # Errors
    /// When the payload is not that of the topic's events.
    pub fn child_of_topic(
        &self,
        topic: Topic,
        discriminator: &str,
        source: &str,
        now: Timestamp,
        payload: &[u8],
    ) -> Result<Self, DecodeError> {
        let child = match topic {
            Topic::SubsSchedule => Self::child_read::<SubscriptionScheduled>,
            Topic::CrawlRequest => Self::child_read::<CrawlUrl>,
            Topic::CrawlResult => Self::child_read::<CrawlResult>,
            Topic::ParseRequest => Self::child_read::<ParseRequest>,
            Topic::ParseResult => Self::child_read::<ParseResult>,
            Topic::VersioningRequest => Self::child_read::<VersioningRequest>,
            Topic::VersioningResult => Self::child_read::<VersioningResult>,
            Topic::DeliveryRequest => Self::child_read::<DeliveryRequest>,
        };
        child(self, discriminator, source, now, payload)
    }

    fn child_read<P: Payload>(
        &self,
        discriminator: &str,
        source: &str,
        now: Timestamp,
        payload: &[u8],
    ) -> Result<Self, DecodeError> {
        let unreadable = |source| DecodeError::Payload { job_type: P::JOB_TYPE.to_owned(), source };
        let payload: P = serde_json::from_slice(payload).map_err(unreadable)?;
        self.child(discriminator, source, now, &payload).map_err(unreadable)
    }
}
