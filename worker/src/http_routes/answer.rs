//! What a service answers: the events that are emitted for it.

use events::Event;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::HttpRoute;

/// A service's answer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// It is not what an answer is.
    #[error("its answer is neither a CloudEvent nor a list of them in JSON")]
    Unreadable(#[source] serde_json::Error),
    /// One of its events may not be emitted by this route, or for this event.
    #[error("it answered an event that it may not emit: {0}")]
    NotToBeEmitted(String),
}

/// An event as it is answered. What else it says is not looked at.
#[derive(Deserialize)]
struct Answered {
    specversion: String,
    r#type: String,
    data: Box<RawValue>,
}

/// What all payloads have.
#[derive(Deserialize, PartialEq)]
struct OfRun {
    run_id: Uuid,
}

/// The events of an answer to `event`: one, several, or none.
///
/// # Errors
/// When it is no answer, or has an event that the route may not emit.
pub fn emitted(
    route: &HttpRoute,
    event: &Event,
    answer: &[u8],
    now: Timestamp,
) -> Result<Vec<Event>, AnswerError> {
    let answered = read(answer).map_err(AnswerError::Unreadable)?;
    let one = |(number, answered)| one(route, event, number, answered, now);
    answered.iter().enumerate().map(one).collect()
}

fn one(
    route: &HttpRoute,
    event: &Event,
    number: usize,
    answered: &Answered,
    now: Timestamp,
) -> Result<Event, AnswerError> {
    if answered.specversion != "1.0" {
        return Err(AnswerError::NotToBeEmitted(format!(
            "its specversion is `{}` and not `1.0`",
            answered.specversion
        )));
    }
    let topic = route.emits.iter().find(|topic| topic.job_type() == answered.r#type);
    let topic = topic.ok_or_else(|| {
        AnswerError::NotToBeEmitted(format!(
            "the route's `emits` has no topic of events of the type `{}`",
            answered.r#type
        ))
    })?;
    let run = |data: &[u8]| serde_json::from_slice::<OfRun>(data).ok();
    let data = answered.data.get().as_bytes();
    if run(data).is_some_and(|of| run(&event.payload) != Some(of)) {
        return Err(AnswerError::NotToBeEmitted(
            "its `run_id` is another than that of the event which was posted".to_owned(),
        ));
    }
    // What a service calls its events may differ when it is asked again.
    let discriminator = format!("{}\n{number}", route.name);
    let source = format!("/tipstaff/route/{}", route.name);
    event
        .child_of_topic(*topic, &discriminator, &source, now, data)
        .map_err(|error| AnswerError::NotToBeEmitted(events::error_chain(&error)))
}

fn read(body: &[u8]) -> Result<Vec<Answered>, serde_json::Error> {
    match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        None => Ok(Vec::new()),
        Some(b'[') => serde_json::from_slice(body),
        Some(_) => Ok(vec![serde_json::from_slice(body)?]),
    }
}
