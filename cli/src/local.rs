//! `tipstaff local`: the operator's engine and reconcilers and the workers' pipeline, in one process, over manifest files,
//! on a private PostgreSQL, an in-process bus and a directory of blobs.

mod goal;
mod objects;
mod parts;
mod runs;
pub(crate) mod secrets;
mod session;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use events::SystemClock;
use ipnet::IpNet;
use operator::ReconcileError;
use store::blobs::BlobError;
use store::catalog::CatalogError;
use store::private_postgres::{PrivatePostgres, PrivatePostgresError, PrivatePostgresOptions};
use tokio_util::sync::CancellationToken;
use worker::PipelineError;
use worker::fetch::ClientError;

use crate::manifests::{Manifests, ManifestsError};
use crate::output::{Notice, OutputError, OutputFormat, Printer};
use parts::Parts;
use secrets::ManifestSecrets;
use session::Session;

pub use goal::Goal;

/// The private database that the catalog is kept in.
const DATABASE: &str = "tipstaff";
/// What the private server takes: the catalog's pool, and some psql sessions.
const MAX_CONNECTIONS: u16 = 30;
/// How long a part of the process may take for what is under way when it ends.
const DRAIN: Duration = Duration::from_secs(5);

/// How to run.
#[derive(Clone, Debug)]
pub struct LocalOptions {
    /// A file or a directory of manifests.
    pub manifests: PathBuf,
    /// Where everything is kept; it is created when missing.
    pub data_dir: PathBuf,
    /// A database to use instead of a private one.
    pub database_url: Option<String>,
    /// Address ranges that are closed by default and may be fetched from.
    pub allowed_networks: Vec<IpNet>,
    /// How events are told.
    pub output: OutputFormat,
    /// When to end.
    pub goal: Goal,
    /// The page of the built-in sample site, where it runs, to be told.
    pub sample_site: Option<String>,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The goal was reached.
    Reached,
    /// The goal was not reached: a run failed, a manifest has a problem, or no change came in time.
    Missed,
    /// The end was asked for.
    Stopped,
}

/// It could not run, or not go on.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The manifests cannot be read or watched at all.
    #[error(transparent)]
    Manifests(#[from] ManifestsError),
    /// The data directory cannot be made.
    #[error("cannot create the data directory {}; name another one with --data", path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The private server cannot be had.
    #[error(transparent)]
    Postgres(#[from] PrivatePostgresError),
    /// The private server ended by itself.
    #[error("the private PostgreSQL ended unexpectedly; its log is {}. Start again to go on", log.display())]
    PostgresEnded {
        /// Its log.
        log: PathBuf,
    },
    /// The catalog that is there cannot be used.
    #[error(
        "this release cannot use the catalog {place}, and leaves it as it is: go on with the release that made it, \
         or name another place with {option}"
    )]
    CatalogDoesNotFit {
        /// Where it is.
        place: String,
        /// What names another one.
        option: &'static str,
        /// What does not fit.
        #[source]
        source: CatalogError,
    },
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// Blobs or the spool cannot be opened.
    #[error(transparent)]
    Blobs(#[from] BlobError),
    /// There is no HTTP client.
    #[error(transparent)]
    Fetcher(#[from] ClientError),
    /// This program's own file is not known.
    #[error("the system does not say where this program is, which is started again to read PDFs")]
    OwnProgram(#[source] io::Error),
    /// The pipeline could not start, or ended by itself.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// A part of the engine ended by itself.
    #[error("beat, relay or run tracking ended unexpectedly; the log says why. Start again to go on")]
    EngineEnded,
    /// An object could not be reconciled.
    #[error(transparent)]
    Reconcile(#[from] ReconcileError),
    /// Nothing can be told.
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// Runs until the goal is reached, until it cannot be any more, or until `shutdown`.
///
/// # Errors
/// When a part cannot start, or ends by itself.
pub async fn run(options: LocalOptions, shutdown: CancellationToken) -> Result<Outcome, LocalError> {
    // Said first, before anything is made for it.
    let manifests = Manifests::load(&options.manifests).await?;
    // Runs that were under way go on at once, and may need them.
    let secrets = ManifestSecrets::default();
    secrets.update(&manifests);
    let options = LocalOptions { data_dir: make_data_dir(&options.data_dir).await?, ..options };
    let (url, postgres) = match &options.database_url {
        Some(url) => (url.clone(), None),
        None => match shutdown.run_until_cancelled(start_postgres(&options.data_dir)).await {
            Some(postgres) => {
                let postgres = postgres?;
                (postgres.url(DATABASE), Some(postgres))
            }
            None => return Ok(Outcome::Stopped),
        },
    };
    let psql_command = postgres.as_ref().map(|postgres| postgres.psql_command(DATABASE));
    let result = tokio::select! {
        biased;
        () = ended(postgres.as_ref()) => match &postgres {
            Some(postgres) => Err(LocalError::PostgresEnded { log: postgres.log_file() }),
            None => Ok(Outcome::Stopped),
        },
        result = work(&options, &url, secrets, psql_command, &shutdown) => result,
    };
    if let Some(postgres) = postgres {
        postgres.stop().await;
    }
    result
}

async fn make_data_dir(path: &Path) -> Result<PathBuf, LocalError> {
    let failed = |source| LocalError::DataDir { path: path.to_owned(), source };
    let absolute = std::path::absolute(path).map_err(failed)?;
    tokio::fs::create_dir_all(&absolute).await.map_err(failed)?;
    Ok(absolute)
}

async fn start_postgres(data_dir: &Path) -> Result<PrivatePostgres, LocalError> {
    let postgres = PrivatePostgres::start(&PrivatePostgresOptions {
        data_dir: data_dir.join("postgres"),
        port: None,
        durable: true,
        max_connections: MAX_CONNECTIONS,
    })
    .await?;
    postgres.create_database_if_missing(DATABASE).await?;
    Ok(postgres)
}

/// Returns when the private server has ended; never where there is none.
async fn ended(postgres: Option<&PrivatePostgres>) {
    match postgres {
        Some(postgres) => postgres.ended().await,
        None => std::future::pending().await,
    }
}

/// Starts the parts, works until the end, and stops them.
async fn work(
    options: &LocalOptions,
    database_url: &str,
    secrets: ManifestSecrets,
    psql_command: Option<String>,
    shutdown: &CancellationToken,
) -> Result<Outcome, LocalError> {
    let clock = Arc::new(SystemClock);
    let printer = Printer::new(options.output, clock.clone());
    let starting = Parts::start(options, database_url, secrets.clone(), clock.clone());
    let Some(parts) = shutdown.run_until_cancelled(starting).await else {
        return Ok(Outcome::Stopped);
    };
    let mut parts = parts?;
    let starting = Session::start(options, psql_command, secrets, &parts, &printer, clock);
    let session = shutdown.run_until_cancelled(starting).await.transpose();
    let mut session = match session {
        Ok(session) => session,
        Err(error) => {
            parts.stop().await;
            return Err(error);
        }
    };
    let result = match &mut session {
        Some(session) => {
            if options.goal != Goal::Once {
                parts.start_beat();
            }
            tokio::select! {
                biased;
                () = shutdown.cancelled() => Ok(Outcome::Stopped),
                error = parts.failed() => Err(error),
                result = session.run() => result,
            }
        }
        None => Ok(Outcome::Stopped),
    };
    let told = match result {
        Ok(Outcome::Stopped) => printer.print(&Notice::Stopping).await,
        _ => Ok(()),
    };
    parts.stop().await;
    told?;
    let outcome = result?;
    if let Some(session) = session
        && outcome != Outcome::Stopped
    {
        session.finish(shutdown).await?;
    }
    Ok(outcome)
}
