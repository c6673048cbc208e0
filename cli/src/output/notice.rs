//! The events. Their field names are an interface: `docs/local.md` lists them.

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;
use store::catalog::ObjectKey;
use uuid::Uuid;

/// Something that is told.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Notice {
    /// All parts run.
    Started(Started),
    /// A manifest is wrong.
    Problem {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// All problems that were told are gone.
    ProblemsSolved,
    /// What an object asks for is in force.
    Ready(ObjectVerdict),
    /// What an object asks for is not in force.
    NotReady(ObjectVerdict),
    /// An object is gone from the manifests, and with it from the schedule.
    Deleted(ObjectName),
    /// A run was made.
    RunStarted(RunStart),
    /// A run could not go on, and is tried again.
    RunWaiting(RunWait),
    /// Due times got no run.
    RunSkipped(Skips),
    /// A run ended.
    RunEnded(RunRow),
    /// A target has a delivery.
    Delivered(Delivery),
    /// A target has not taken a delivery.
    NotDelivered(Delivery),
    /// Some events came too fast to be told.
    Missed {
        /// How many.
        count: u64,
    },
    /// The end of `--once`.
    Summary(Summary),
    /// The end was asked for, and what is under way is finished.
    Stopping,
}

/// What it is going to do, and where everything is.
#[derive(Clone, Debug, Serialize)]
pub struct Started {
    /// When it ends: `until_stopped`, `once` or `until_changed`.
    pub goal: &'static str,
    /// The manifests' file or directory.
    pub manifests: String,
    /// Where everything is kept.
    pub data_dir: String,
    /// Where raw bytes are kept.
    pub blob_dir: String,
    /// A shell command that opens the catalog; none where the database is not a private one.
    pub psql_command: Option<String>,
    /// The page of the built-in sample site, where it runs.
    pub sample_site: Option<String>,
    /// Runs that the last process left unfinished, and that go on now.
    pub resumed_runs: usize,
}

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ObjectName {
    /// `Source` or `Subscription`.
    pub kind: &'static str,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

impl fmt::Display for ObjectName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.kind, short_name(&self.namespace, &self.name))
    }
}

/// What reconciling an object found.
#[derive(Clone, Debug, Serialize)]
pub struct ObjectVerdict {
    /// The object.
    #[serde(flatten)]
    pub object: ObjectName,
    /// A CamelCase word for why or why not.
    pub reason: &'static str,
    /// A sentence for a person.
    pub message: String,
    /// When a subscription is due next.
    pub next_due: Option<Timestamp>,
}

/// Which subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SubscriptionName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub subscription: String,
}

/// With `#`, the namespace is always there.
impl fmt::Display for SubscriptionName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if formatter.alternate() {
            return write!(formatter, "{}/{}", self.namespace, self.subscription);
        }
        formatter.write_str(&short_name(&self.namespace, &self.subscription))
    }
}

impl From<&ObjectKey> for SubscriptionName {
    fn from(key: &ObjectKey) -> Self {
        Self { namespace: key.namespace.clone(), subscription: key.name.clone() }
    }
}

/// The namespace that goes without saying is not said.
fn short_name(namespace: &str, name: &str) -> String {
    if namespace == "default" { name.to_owned() } else { format!("{namespace}/{name}") }
}

/// A run that was made.
#[derive(Clone, Debug, Serialize)]
pub struct RunStart {
    /// Its subscription.
    #[serde(flatten)]
    pub subscription: SubscriptionName,
    /// The run.
    pub run_id: Uuid,
    /// What made it: `Schedule`, `Request` or `Backfill`.
    pub trigger: String,
    /// The due time, or when it was asked for.
    pub scheduled_for: Timestamp,
}

/// A run that waits for another attempt.
#[derive(Clone, Debug, Serialize)]
pub struct RunWait {
    /// Its subscription.
    #[serde(flatten)]
    pub subscription: SubscriptionName,
    /// The run.
    pub run_id: Uuid,
    /// A CamelCase word for what happened.
    pub reason: &'static str,
    /// A sentence for a person.
    pub message: String,
    /// When it is tried again.
    pub retry_at: Timestamp,
}

/// A delivery that was tried.
#[derive(Clone, Debug, Serialize)]
pub struct Delivery {
    /// Its subscription.
    #[serde(flatten)]
    pub subscription: SubscriptionName,
    /// The delivery, the same for all attempts.
    pub delivery_id: Uuid,
    /// The target's name.
    pub target: String,
    /// How many changes it carries.
    pub changes: usize,
    /// A CamelCase word for how it went.
    pub reason: &'static str,
    /// The beginning of the answer, or what went wrong.
    pub detail: String,
    /// When it is tried again; none: it is not.
    pub retry_at: Option<Timestamp>,
}

/// Due times of a subscription that got no run, in a row and for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Skips {
    /// The subscription.
    #[serde(flatten)]
    pub subscription: SubscriptionName,
    /// A CamelCase word for why.
    pub reason: &'static str,
    /// A sentence for a person.
    pub message: String,
    /// How many due times.
    pub count: u64,
    /// The first of them.
    pub scheduled_for: Timestamp,
    /// The last of them.
    pub scheduled_through: Timestamp,
}

/// A run that ended, or that `--once` did not make.
#[derive(Clone, Debug, Serialize)]
pub struct RunRow {
    /// Its subscription.
    #[serde(flatten)]
    pub subscription: SubscriptionName,
    /// The run, if there is one.
    pub run_id: Option<Uuid>,
    /// `Succeeded`, `Failed` or `Skipped`.
    pub phase: &'static str,
    /// A CamelCase word for how it ended.
    pub reason: String,
    /// A sentence for a person.
    pub message: Option<String>,
    /// The trace of the run's events.
    pub trace_id: Option<String>,
    /// What it stored.
    pub artifacts: Vec<Document>,
}

/// A document that a run stored.
#[derive(Clone, Debug, Serialize)]
pub struct Document {
    /// Its URL without the query, where secrets may be; the row has all of it.
    pub url: String,
    /// Its length in bytes.
    pub byte_size: i64,
    /// The SHA-256 of its bytes; empty of one that its list names no more, of which there are none.
    pub fetch_hash: String,
    /// Where its bytes are.
    pub blob_uri: String,
    /// Whether it differs from what was stored of it before; true for the first.
    pub changed: bool,
    /// The hash of what was stored of it before; none for the first.
    pub previous_hash: Option<String>,
    /// The version that was made of it, where its text or fields differ.
    pub version: Option<Version>,
}

/// A version of a document.
#[derive(Clone, Debug, Serialize)]
pub struct Version {
    /// Its number, from 1, of its URL in its subscription.
    pub number: i32,
    /// What happened: `Baseline`, `New`, `Changed`, `Removed` or `Returned`.
    pub kind: String,
    /// A unified diff; empty where nothing was there to compare with.
    pub diff: String,
}

impl Document {
    /// Whether it is news, and not just what was there when it was first looked at.
    pub fn is_a_change(&self) -> bool {
        self.changed && self.version.as_ref().is_some_and(|version| version.kind != "Baseline")
    }
}

/// What came of `--once`.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// A row for each subscription.
    pub runs: Vec<RunRow>,
    /// How many runs failed.
    pub failed: usize,
    /// How many problems the manifests have.
    pub problems: usize,
}
