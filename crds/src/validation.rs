//! Full validation: what the schema and its CEL rules say, and what they cannot say.
//!
//! Everything here is pure. All violations of an object are collected, not only the first, so that a user can mend a
//! manifest in one go.

mod checks;
mod schema;
mod source;
mod subscription;
mod target;

use std::fmt;

pub use schema::check_schema;
pub use source::{
    HeaderValue, ValidatedFetch, ValidatedFollow, ValidatedHeader, ValidatedSource, validate_source,
};
pub use subscription::{
    Query, ValidatedRetention, ValidatedSelector, ValidatedSubscription, validate_subscription,
};
pub use target::{Target, ValidatedDigest, ValidatedTarget};

/// One thing that is wrong with an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// Where: a path such as `spec.delivery[0].webhook.url`.
    pub field: String,
    /// What: a phrase that goes on from the field's name, such as "must be …".
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.field, self.message)
    }
}

/// Collects violations while values are taken out of a spec.
#[derive(Debug, Default)]
struct Violations(Vec<Violation>);

impl Violations {
    fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(Violation { field: field.into(), message: message.into() });
    }

    /// The value, or `None` after its error is noted.
    fn take<T, E: fmt::Display>(&mut self, field: impl Into<String>, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.add(field, error.to_string())).ok()
    }

    /// The value, if it is there and nothing was violated.
    fn finish<T>(self, value: Option<T>) -> Result<T, Vec<Violation>> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(self.0),
        }
    }
}
