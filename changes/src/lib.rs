//! What changed between two extracts of a document, how it is shown, and what is sent to whom and when.
//!
//! Nothing here reads or writes anything, asks for the time or draws a random number: the same input gives the same
//! output, so that handling an event again does nothing new.

mod answer;
mod cloud_event;
mod compare;
mod delivery;
mod email;
mod fields;
mod html;
mod hunks;
mod lines;
mod object_key;
mod retry;
mod sequence;
mod slack;
mod summary;
mod unified;
mod webhook;
mod when;
mod words;

pub use answer::{Outcome, outcome_of};
pub use cloud_event::{CloudEvent, cloud_event};
pub use compare::{
    ByteCounts, Change, ChangeKind, Extent, Extract, Hunk, Line, LineCounts, LineTag, Omitted, Part,
};
pub use delivery::{
    Artifact, Data, Delivery, Document, DocumentChange, EventType, Source, Subscription, Version,
    delivery_schema,
};
pub use email::{Email, email};
pub use fields::{FieldChange, Fields, fields_of, readable};
pub use html::html;
pub use object_key::object_key;
pub use retry::next_attempt;
pub use slack::slack_message;
pub use unified::{ApplyError, apply, unified};
pub use webhook::{SecretError, SignatureHeaders, SigningSecret, sign};
pub use when::{Wanted, When};
