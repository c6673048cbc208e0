//! The `Subscription`: what of a source is watched, when, and who is told.

#![allow(
    clippy::duplicated_attributes,
    reason = "each printer column has a type, and clippy takes the second for a repetition"
)]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    DeliveryTarget, Duration, Selector,
    rules::{Bounds, rules},
};

/// How long versions may be kept: an hour to a hundred years.
pub(crate) const AGE: Bounds = Bounds::seconds(3600, 876_000 * 3600);

/// Said when a schedule has the wrong shape.
pub(crate) const SCHEDULE_SHAPE: &str = "must be five fields (minute, hour, day of month, month, day of week) or one of @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually";

/// Said when a time zone is `Local`.
pub(crate) const LOCAL_TIME_ZONE: &str =
    "must be an IANA time zone such as Europe/Berlin; Local depends on the machine and is refused";

/// Said when `sourceRef` is changed.
pub(crate) const SOURCE_IMMUTABLE: &str =
    "is immutable: versions are a history of one source; create another Subscription instead";

/// Said when a retention keeps by nothing.
pub(crate) const SOME_RETENTION: &str = "must have at least one of versions and age";

/// What of a source is watched, when, and who is told of changes.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "tipstaff.dev",
    version = "v1alpha1",
    kind = "Subscription",
    plural = "subscriptions",
    shortname = "tsub",
    category = "tipstaff",
    namespaced,
    status = "SubscriptionStatus",
    derive = "PartialEq",
    doc = "Subscription watches a Source on a schedule, keeps every version of what it selects there, and delivers what changed.",
    printcolumn(name = "Source", type_ = "string", json_path = ".spec.sourceRef.name", description = "The source that is watched."),
    printcolumn(name = "Schedule", type_ = "string", json_path = ".spec.schedule", description = "When a run is due."),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether the subscription is valid and scheduled."
    ),
    printcolumn(
        name = "Why",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "Why the subscription is ready or not.",
        priority = 1
    ),
    printcolumn(
        name = "Last Run",
        type_ = "string",
        json_path = ".status.lastRun.phase",
        description = "How far the latest run got."
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.lastRun.reason",
        description = "Why the latest run ended as it did."
    ),
    printcolumn(
        name = "Last Schedule",
        type_ = "date",
        json_path = ".status.lastScheduleTime",
        description = "How long ago a run was last due.",
        priority = 1
    ),
    printcolumn(
        name = "Last Skip",
        type_ = "string",
        json_path = ".status.lastSkip.reason",
        description = "Why the latest due time without a run has none.",
        priority = 1
    ),
    printcolumn(
        name = "Delivering",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Delivering\")].status",
        description = "Whether the targets took what was last sent to them.",
        priority = 1
    ),
    // A column of type date shows an age, and a time ahead as <invalid>.
    printcolumn(
        name = "Next",
        type_ = "string",
        json_path = ".status.nextScheduleTime",
        description = "When the next run is due."
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct SubscriptionSpec {
    /// Source that is watched, in the same namespace. It cannot be changed: the versions of a subscription are a
    /// history of one source.
    #[schemars(extend("x-kubernetes-validations" = rules(&[("self == oldSelf", SOURCE_IMMUTABLE)])))]
    pub source_ref: SourceReference,

    /// Jurisdiction the publications belong to, such as `US`, `US-CA` or `EU`: a code of your choice that goes into
    /// events and deliveries unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?$"))]
    pub jurisdiction: Option<String>,

    /// When a run is due: five cron fields (minute, hour, day of month, month, day of week; Sunday is 0 or 7) or one
    /// of `@hourly`, `@daily`, `@weekly`, `@monthly` and `@yearly`. POSIX rules: when both day fields are restricted,
    /// a day that matches either is taken.
    #[schemars(length(min = 1, max = 128), extend("x-kubernetes-validations" = rules(&[(
        "self.matches('^(@(hourly|daily|midnight|weekly|monthly|yearly|annually)|([^ ]+ +){4}[^ ]+)$')",
        SCHEDULE_SHAPE,
    )])))]
    pub schedule: String,

    /// IANA time zone in which the schedule is read, such as `Europe/Berlin`. Defaults to `Etc/UTC`.
    #[serde(default = "default_time_zone")]
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[A-Za-z0-9_+/-]+$"), extend("x-kubernetes-validations" = rules(&[(
        "self.lowerAscii() != 'local'",
        LOCAL_TIME_ZONE,
    )])))]
    pub time_zone: String,

    /// Seconds after its due time within which a run may still start; later it is skipped, and recorded as skipped.
    /// Without it, there is no such limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 31_536_000))]
    pub starting_deadline_seconds: Option<i64>,

    /// What happens when a run is due while another has not ended: `Forbid` skips the new one, `Allow` starts it
    /// beside the other, `Replace` ends the other. Defaults to `Forbid`.
    #[serde(default)]
    pub concurrency_policy: ConcurrencyPolicy,

    /// What happens with due times that passed while nothing could be started: `Latest` runs once for the latest of
    /// them, `All` runs once for each, `None` runs for none. Those without a run are recorded as skipped. Defaults to
    /// `Latest`.
    #[serde(default)]
    pub catch_up: CatchUp,

    /// Seconds over which the starts of subscriptions with the same schedule are spread, from 0 to 3600. Each
    /// subscription has its own fixed delay within them. Defaults to 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 3600))]
    pub jitter_seconds: i32,

    /// Whether the schedule is paused. Runs that have started go on. Defaults to false.
    #[serde(default)]
    pub suspend: bool,

    /// Named values taken out of each document, at most 64. A value is a CSS selector as plain text, or an object
    /// with exactly one of `css`, `xpath` and `jsonPath`. The one named `body` is what is versioned; without it, the
    /// readable text of the document. Names are letters, digits and underscores. With other selectors, stored documents
    /// are extracted again, and their versions begin anew.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub selectors: BTreeMap<String, Selector>,

    /// CSS selectors, at most 64, of elements that are cut out before anything is selected, such as advertisements.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 1024)), extend("x-kubernetes-list-type" = "atomic"))]
    pub remove: Vec<String>,

    /// Regular expressions, at most 64, of text that does not count as a change, such as a date of printing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 1024)), extend("x-kubernetes-list-type" = "atomic"))]
    pub ignore: Vec<String>,

    /// Named targets, at most 16, to which changes are delivered. Without any, versions are only kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map"),
        extend("x-kubernetes-list-map-keys" = ["name"])
    )]
    pub delivery: Vec<DeliveryTarget>,

    /// How many versions are kept, and how long. Without it, all of them for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
}

fn default_time_zone() -> String {
    "Etc/UTC".to_owned()
}

/// A Source in the same namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceReference {
    /// Name of the Source.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
}

/// What happens when a run is due while another has not ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConcurrencyPolicy {
    /// The new run is skipped.
    #[default]
    Forbid,
    /// Both run.
    Allow,
    /// The running one is ended.
    Replace,
}

/// What happens with due times that passed while nothing could be started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CatchUp {
    /// One run, for the latest of them.
    #[default]
    Latest,
    /// One run for each.
    All,
    /// No run.
    None,
}

/// How many versions are kept, and how long. The newest version of each document is always kept, and so is one that a
/// delivery under way needs. With both fields, a version is kept as long as one of them keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules(&[("has(self.versions) || has(self.age)", SOME_RETENTION)])))]
pub struct Retention {
    /// Number of versions that are kept of each document, from 1 to 1000000; older ones are removed. Without an age,
    /// what was fetched goes when it is from before the oldest version kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub versions: Option<i32>,

    /// Age from which a version is removed, and what was fetched without a change, between 1h and 876000h (a year is
    /// 8760h). The latest fetch of each document is always kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = AGE.rules()))]
    pub age: Option<Duration>,
}

/// What the operator has found out about a subscription.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SubscriptionStatus {
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Conditions of the subscription: Ready (always present), Reconciling and Stalled (when so), Succeeding (the
    /// latest run that ended succeeded), Delivering (the targets took what was last sent to them).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map"),
        extend("x-kubernetes-list-map-keys" = ["type"])
    )]
    pub conditions: Vec<Condition>,

    /// Time at which a run was last due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_schedule_time: Option<Time>,

    /// Time at which the next run is due. Absent while the subscription is suspended or not ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_schedule_time: Option<Time>,

    /// Latest run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<LastRun>,

    /// Latest due time for which no run was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_skip: Option<LastSkip>,

    /// Number of runs that have not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_runs: Option<i64>,

    /// Number of versions that are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub versions: Option<i64>,

    /// Time at which a change was last seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_change_time: Option<Time>,

    /// Value of the annotation tipstaff.dev/requestedAt for which a run was last made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_request_at: Option<String>,
    /// The latest value of the annotation tipstaff.dev/backfillAt that has been handled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_backfill_at: Option<String>,
}

/// The latest run of a subscription.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastRun {
    /// Id of the run in the catalog.
    pub id: String,

    /// How far the run got: `Pending`, `Running`, `Succeeded`, `Failed` or `Skipped`.
    pub phase: RunPhase,

    /// Why the run ended as it did, as one word; while it goes on, what failed and is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,

    /// The same as a sentence, and what else is to be said of the run: how many documents wait for a later one, for instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,

    /// Id under which everything the run did can be found in traces and logs (W3C Trace Context, 32 hex digits).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,

    /// Time at which the run ended. Absent while it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
}

/// A due time for which no run was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastSkip {
    /// Due time.
    pub scheduled_for: Time,

    /// Why no run was made, as one word: `Suspended`, `DeadlineExceeded`, `Overlap`, `Superseded` or `Replaced`.
    pub reason: String,

    /// Why no run was made, as a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// How far a run got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RunPhase {
    /// Due, and not yet taken up by a worker.
    Pending,
    /// Taken up by a worker.
    Running,
    /// Ended: everything was fetched, whether it changed or not.
    Succeeded,
    /// Ended: something failed.
    Failed,
    /// Ended without a fetch.
    Skipped,
}
