//! The custom resources of Tipstaff: [`Source`] (where something is published) and [`Subscription`] (what is watched
//! there, when, and who is told), in group `tipstaff.dev`, version `v1alpha1`, namespaced.
//!
//! The Rust types are the one place where a field is declared: schema, defaults, limits and CEL rules of the CRDs are
//! generated from them (`cargo run -p crds --bin crdgen`), and the texts of `kubectl explain` are their doc comments.
//!
//! Validation is layered. The API server enforces the schema and its CEL rules. [`validate_source`] and
//! [`validate_subscription`] repeat those rules, for manifests that never meet an API server and for objects stored
//! before a rule existed, and add what a schema cannot say: cron expressions, time zones, selectors (as the parsers of
//! documents compile them), regular expressions. What they return holds parsed values, so that no later code reads the
//! raw spec.
//!
//! Unknown fields are ignored when an object is read: an operator older than the CRDs must keep working when a new
//! field arrives with a default that the API server writes into every object. Typing errors are refused where
//! objects are written: by the API server (strict field validation, kubectl's default) and, for local manifests, by
//! [`check_schema`]. Only the object form of a selector, whose fields no schema prunes, refuses unknown fields.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod conditions;
mod delivery;
mod destination;
mod duration;
mod rules;
mod schedule;
mod selector;
mod source;
mod subscription;
mod validation;

pub use delivery::{
    DeliveryTarget, Digest, EmailTarget, KafkaTarget, S3Target, SecretKeyReference, SlackTarget,
    WantedChange, WebhookTarget, When,
};
pub use duration::{Duration, InvalidDuration};
pub use schedule::{InvalidSchedule, Schedule};
pub use selector::{Selector, SelectorObject};
pub use source::{
    Expect, Fetch, Follow, Header, HeaderValueSource, Politeness, RobotsMode, Source, SourceKind, SourceSpec,
    SourceStatus,
};
pub use subscription::{
    CatchUp, ConcurrencyPolicy, LastRun, LastSkip, Retention, RunPhase, SourceReference, Subscription,
    SubscriptionSpec, SubscriptionStatus,
};
pub use validation::{
    HeaderValue, Query, Target, ValidatedDigest, ValidatedFetch, ValidatedFollow, ValidatedHeader,
    ValidatedRetention, ValidatedSelector, ValidatedSource, ValidatedSubscription, ValidatedTarget,
    Violation, check_schema, validate_source, validate_subscription,
};

/// The API group of both kinds.
pub const GROUP: &str = "tipstaff.dev";

/// The API version of both kinds.
pub const VERSION: &str = "v1alpha1";

/// The annotation that asks for a run now: set it on a Subscription to any value it did not have before. The value is
/// copied to `status.lastHandledRequestAt` when it has been handled.
pub const REQUESTED_AT_ANNOTATION: &str = "tipstaff.dev/requestedAt";

/// The annotation that asks for what is stored of a Subscription's documents to be extracted again, without fetching
/// anything: the latest of each or, where the value begins with [`BACKFILL_ALL`], all of it. Set it to any value it did not
/// have before. The value is copied to `status.lastHandledBackfillAt` when it has been handled.
pub const BACKFILL_AT_ANNOTATION: &str = "tipstaff.dev/backfillAt";

/// What a value of [`BACKFILL_AT_ANNOTATION`] begins with that asks for all that is stored.
pub const BACKFILL_ALL: &str = "all-";

/// The finalizer with which the operator keeps a Source as long as Subscriptions use it.
pub const FINALIZER: &str = "tipstaff.dev/catalog";

/// The field manager under which the operator writes to the API server.
pub const FIELD_MANAGER: &str = "tipstaff-operator";
