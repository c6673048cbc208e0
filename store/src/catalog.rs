//! The catalog: sources, subscriptions, runs, documents, artifacts and the outbox, in PostgreSQL.
//!
//! All SQL of Tipstaff stands in this module. Whoever calls gives the time, so that tests control it.
//!
//! A row is found by its uid alone, and asked afterwards whether it is live. Statements are planned when tables are empty: then
//! PostgreSQL takes an index of all live rows for as good as the one of uids, and would go on to read all of them each time.

mod artifacts;
mod backfill;
mod batches;
mod deliveries;
mod documents;
mod extracts;
mod health;
mod hosts;
mod inspect;
mod lead;
mod lists;
mod object_key;
mod outbox;
mod retention;
mod robots;
mod runs;
mod schedule;
mod sending;
mod settings;
mod sources;
mod stuck;
mod subscriptions;
mod summaries;
mod targets;
mod versions;

use std::{cmp::Ordering, sync::Arc, time::Duration};

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use sqlx::{
    PgPool,
    migrate::{MigrateError, Migrator},
    postgres::{PgConnectOptions, PgPoolOptions},
};
use uuid::Uuid;

use artifacts::StoredBlobs;
use batches::{Batches, Company};
use deliveries::{PlanWorkOf, UnwantedVersions};
use documents::{CrawlWorkOf, StoredDocuments};
use extracts::{ParseWorkOf, StoredExtracts};
use hosts::ClaimedSlots;

pub use artifacts::{Artifact, KnownBody, LatestArtifact, NewArtifact};
pub use backfill::StoredOfRun;
pub use deliveries::{PlanWork, WantedBy};
pub use documents::{CrawlWork, Evidence, FetchedDocument, StoredDocument};
pub use extracts::{ExtractFields, Extracted, NewExtract, ParseWork, StoredBytes};
pub use health::{SourceFailing, SourceFigures, SourceHealth, SourceNews};
pub use hosts::{KeptSlots, Slot, SlotRequest};
pub use inspect::{
    ArtifactRow, AttemptRow, DeliveryRow, ExtractRow, Page, RunRow, RunTrace, TracedDelivery, TracedDocument,
    VersionRow, WhichVersion,
};
pub use lead::Lead;
pub use lists::{Findings, FoundCount, FoundDocument, GoneDocument, KnownDocument};
pub use object_key::ObjectKey;
pub use outbox::{OutboxBacklog, OutboxBatch};
pub use retention::{KeepingSubscription, KeepingTime, Removed};
pub use robots::{RobotsOutcome, RobotsRecord};
use runs::BegunRuns;
pub use runs::{BegunRun, RunPhase, RunPlan, RunReport, SetBackRun, Trigger, WaitingDocument};
pub use schedule::{DueRun, Fired, FiredRun, RequestedRun, Skip, SkippedTogether, WhenActive};
pub use sending::{DeliveredVersion, DeliveryAttempt, DeliveryOutcome, DeliveryWork, VersionEvidence};
pub use settings::{
    CatchUp, Concurrency, DigestSettings, FollowSettings, HeaderSetting, HeaderSource, RetentionSettings,
    ScheduledSubscription, SecretKey, SelectionSettings, SelectorQuery, SelectorSettings, SourceSettings,
    SubscriptionSettings, TargetPlace, TargetSettings,
};
pub use sources::{DeletedSource, SourceRecord, SourceRow};
pub use stuck::{LateDeliveries, StuckPolicy, StuckRuns};
pub use subscriptions::{SubscriptionRecord, SubscriptionRow};
pub use summaries::{SkippedDueTime, SubscriptionSummary};
pub use targets::{TargetFailing, TargetHealth, TargetNews};
pub use versions::{
    ComparedDocument, ComparedExtract, ExtractContent, Head, MadeVersion, NewVersion, RunVersion, VersionWork,
};
use versions::{ExtractContents, FinishedDocuments, VersionWorkOf};

/// How long a transaction may wait for this program before the database gives it up, with all that it has locked: a process
/// that stands still must not keep others from taking over.
const IDLE_TRANSACTION: (&str, &str) = ("idle_in_transaction_session_timeout", "15s");

/// PostgreSQL would plan the long statements anew for each set of values, which takes as long as what they do: it takes a plan for
/// few documents to be cheaper than one for any number.
const PLANNED_ONCE: (&str, &str) = ("plan_cache_mode", "force_generic_plan");

/// Joins are written in the order in which keys lead from one table to the next. PostgreSQL would try all others: of what the
/// version role asks, that takes nine milliseconds instead of one, on each connection after each vacuum.
const JOINED_AS_WRITTEN: (&str, &str) = ("join_collapse_limit", "1");

/// Of tables that were empty a minute ago PostgreSQL knows nothing, and would read them whole for one row. A plan is made once, so that
/// until they are analysed a thousand new documents would read millions of rows.
const FOUND_BY_KEY: (&str, &str) = ("enable_seqscan", "off");

/// PostgreSQL would compile the statements of retention, whose cost it overrates: that takes seconds, and they take a tenth of one.
const NOT_COMPILED: (&str, &str) = ("jit", "off");

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");

/// A connection pool to the catalog.
#[derive(Clone, Debug)]
pub struct Catalog {
    pool: PgPool,
    company: Company,
    begun_runs: Batches<BegunRuns>,
    crawl_work: Batches<CrawlWorkOf>,
    slots: Batches<ClaimedSlots>,
    stored_blobs: Batches<StoredBlobs>,
    stored: Batches<StoredDocuments>,
    parse_work: Batches<ParseWorkOf>,
    stored_extracts: Batches<StoredExtracts>,
    version_work: Batches<VersionWorkOf>,
    extract_contents: Batches<ExtractContents>,
    finished_documents: Batches<FinishedDocuments>,
    plan_work: Batches<PlanWorkOf>,
    unwanted_versions: Batches<UnwantedVersions>,
}

/// The catalog did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The URL is not one of a PostgreSQL database.
    #[error("the database URL is not valid; it looks like postgres://user:password@host:5432/database")]
    Url(#[source] sqlx::Error),
    /// No connection could be had.
    #[error("the catalog cannot be reached")]
    Connect(#[source] sqlx::Error),
    /// The schema could not be brought up to date.
    #[error("the catalog could not be migrated")]
    Migrate(#[source] MigrateError),
    /// The schema is not the one that this program was built for.
    #[error(
        "the catalog's schema is at version {found}, this program needs version {wanted}: {}",
        if found < wanted { "run `tipstaff-operator migrate` first" } else { "use a newer release of this program" }
    )]
    SchemaVersion {
        /// The newest migration applied; 0 when there is none.
        found: i64,
        /// The newest migration that this program knows.
        wanted: i64,
    },
    /// Another operator has begun to lead since, under a newer epoch: this one makes no more runs.
    #[error(
        "another operator leads under epoch {newer}, this one did under epoch {own}: it makes no more runs"
    )]
    NoLongerLeading {
        /// The epoch of the one who tried.
        own: i64,
        /// The epoch in force.
        newer: i64,
    },
    /// A statement failed.
    #[error("the catalog failed to {action}")]
    Statement {
        /// What was to be done.
        action: &'static str,
        /// What the database says.
        #[source]
        source: sqlx::Error,
    },
    /// A value in the catalog is not what this program writes there.
    #[error("the catalog holds {what} that this program cannot read")]
    Content {
        /// What could not be read, or written.
        what: &'static str,
        /// What is wrong with it.
        #[source]
        source: events::BoxError,
    },
    /// What was asked together with others failed for all.
    #[error(transparent)]
    Together(Arc<CatalogError>),
    /// The program ends.
    #[error("the catalog is not asked any more, since the program ends")]
    Ended,
}

impl CatalogError {
    /// Whether the database refused a statement or a row cannot be read, and not whether the database could be reached.
    fn is_of_a_question(&self) -> bool {
        use sqlx::Error::{ColumnDecode, Database, Decode, Encode};
        matches!(
            self,
            Self::Statement { source: Database(_) | Encode(_) | Decode(_) | ColumnDecode { .. }, .. }
                | Self::Content { .. }
        )
    }

    /// Whether the schema is one that this program has not made, and cannot make its own.
    pub fn is_of_another_schema(&self) -> bool {
        use MigrateError::{Dirty, ExecuteMigration, VersionMismatch, VersionMissing};
        matches!(
            self,
            Self::SchemaVersion { .. }
                | Self::Migrate(ExecuteMigration(..) | VersionMissing(_) | VersionMismatch(_) | Dirty(_))
        )
    }
}

impl Catalog {
    /// Connects, waiting at most `within` for the first connection.
    ///
    /// # Errors
    /// When the URL is malformed or the database cannot be reached.
    pub async fn connect(url: &str, max_connections: u32, within: Duration) -> Result<Self, CatalogError> {
        Self::connected(url, max_connections, within, false).await
    }

    /// Connects as [`Catalog::connect`] does, for whoever finds all rows by their keys: statements are planned once a connection,
    /// their joins in the order in which they are written, and read no table whole.
    ///
    /// # Errors
    /// As [`Catalog::connect`].
    pub async fn connect_by_keys(
        url: &str,
        max_connections: u32,
        within: Duration,
    ) -> Result<Self, CatalogError> {
        Self::connected(url, max_connections, within, true).await
    }

    async fn connected(
        url: &str,
        max_connections: u32,
        within: Duration,
        plans_once: bool,
    ) -> Result<Self, CatalogError> {
        // The parser takes any scheme.
        if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
            return Err(CatalogError::Url(sqlx::Error::Configuration("another scheme than postgres".into())));
        }
        let options: PgConnectOptions = url.parse().map_err(CatalogError::Url)?;
        let options = options.application_name("tipstaff").options([IDLE_TRANSACTION, NOT_COMPILED]);
        let options = if plans_once {
            options.options([PLANNED_ONCE, JOINED_AS_WRITTEN, FOUND_BY_KEY])
        } else {
            options
        };
        let pool = PgPoolOptions::new()
            .max_connections(max_connections)
            .acquire_timeout(within)
            .connect_with(options)
            .await
            .map_err(CatalogError::Connect)?;
        let company = Company::default();
        Ok(Self {
            begun_runs: Batches::new(&pool, &company),
            crawl_work: Batches::new(&pool, &company),
            slots: Batches::new(&pool, &company),
            stored_blobs: Batches::new(&pool, &company),
            stored: Batches::new(&pool, &company),
            parse_work: Batches::new(&pool, &company),
            stored_extracts: Batches::new(&pool, &company),
            version_work: Batches::new(&pool, &company),
            extract_contents: Batches::new(&pool, &company),
            finished_documents: Batches::new(&pool, &company),
            plan_work: Batches::new(&pool, &company),
            unwanted_versions: Batches::new(&pool, &company),
            company,
            pool,
        })
    }

    /// Says how many ask at the same time. Of 64, which is assumed otherwise, up to 16 wait for each other and share a statement;
    /// where fewer ask, fewer wait.
    #[must_use]
    pub fn asked_by(self, at_a_time: usize) -> Self {
        self.company.asked_by(at_a_time);
        self
    }

    /// Applies the migrations that are missing. Run by one process at a time; others wait.
    ///
    /// # Errors
    /// When a migration fails, or one that was applied differs from the one known here, and
    /// [`CatalogError::SchemaVersion`] when the schema is of a newer release and no longer fits this one.
    pub async fn migrate(&self) -> Result<(), CatalogError> {
        if self.schema_version().await? > known_version() {
            return self.check_schema().await;
        }
        MIGRATIONS.run(&self.pool).await.map_err(CatalogError::Migrate)
    }

    /// Makes sure that this program works with the schema: it is the one that it was built for, or a newer one that
    /// says that it still fits.
    ///
    /// # Errors
    /// [`CatalogError::SchemaVersion`] when it is older, or newer and does not fit.
    pub async fn check_schema(&self) -> Result<(), CatalogError> {
        let found = self.schema_version().await?;
        let wanted = known_version();
        let fits = match found.cmp(&wanted) {
            Ordering::Less => false,
            Ordering::Equal => true,
            Ordering::Greater => self.oldest_program().await? <= wanted,
        };
        if fits { Ok(()) } else { Err(CatalogError::SchemaVersion { found, wanted }) }
    }

    /// What tells this catalog from all others but its copies: it follows from when its schema was made.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn identity(&self) -> Result<Uuid, CatalogError> {
        sqlx::query_scalar("select id from catalog_identity")
            .fetch_one(&self.pool)
            .await
            .map_err(failed("read the catalog's identity"))
    }

    /// The newest migration that was applied; 0 when there is none.
    async fn schema_version(&self) -> Result<i64, CatalogError> {
        let action = "read the schema's version";
        let has_migrations: bool = sqlx::query_scalar("select to_regclass('_sqlx_migrations') is not null")
            .fetch_one(&self.pool)
            .await
            .map_err(failed(action))?;
        if !has_migrations {
            return Ok(0);
        }
        sqlx::query_scalar("select coalesce(max(version), 0) from _sqlx_migrations where success")
            .fetch_one(&self.pool)
            .await
            .map_err(failed(action))
    }

    async fn oldest_program(&self) -> Result<i64, CatalogError> {
        sqlx::query_scalar("select oldest_program from schema_support")
            .fetch_one(&self.pool)
            .await
            .map_err(failed("read which programs the schema fits"))
    }

    /// Asks the database for a sign of life.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn ping(&self) -> Result<(), CatalogError> {
        sqlx::query("select 1").execute(&self.pool).await.map_err(failed("answer"))?;
        Ok(())
    }
}

/// The newest migration that this program knows.
fn known_version() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}

fn failed(action: &'static str) -> impl FnOnce(sqlx::Error) -> CatalogError {
    move |source| CatalogError::Statement { action, source }
}

fn unreadable<E: Into<events::BoxError>>(what: &'static str) -> impl FnOnce(E) -> CatalogError {
    move |source| CatalogError::Content { what, source: source.into() }
}

/// PostgreSQL keeps microseconds: what is computed here and compared there must be cut alike.
fn to_micros(time: Timestamp) -> Timestamp {
    // A timestamp's own microseconds are within the range of timestamps.
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}

fn sql_time(time: Timestamp) -> jiff_sqlx::Timestamp {
    to_micros(time).to_sqlx()
}

fn sql_times(times: impl IntoIterator<Item = Timestamp>) -> Vec<jiff_sqlx::Timestamp> {
    times.into_iter().map(sql_time).collect()
}

fn time(value: Option<jiff_sqlx::Timestamp>) -> Option<Timestamp> {
    value.map(jiff_sqlx::Timestamp::to_jiff)
}
