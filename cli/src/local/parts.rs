//! What works in the background: the pipeline of all roles, and the engine.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use events::memory::MemoryBus;
use events::{Bus, Clock, Role};
use jiff::SignedDuration;
use operator::{Engine, EngineHandle, EngineOptions, OperatorMetrics};
use prometheus_client::registry::Registry;
use service::Check;
use store::blobs::{self, BlobLocation, Spool};
use store::catalog::{Catalog, CatalogError, StuckPolicy};
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use worker::fetch::{AllowedAddresses, Fetcher, GuardedClient};
use worker::secrets::SecretReader;
use worker::send::Sender;
use worker::{
    Keeper, KeeperOptions, News, Newsroom, Pipeline, PipelineError, PipelineOptions, Tools, WorkerMetrics,
    pdf_reader,
};

use super::secrets::ManifestSecrets;
use super::{DRAIN, LocalError, LocalOptions};

const CONNECTIONS: u32 = 20;
/// How long the database may take to answer the first time.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// As the operator's defaults.
const STUCK: StuckPolicy =
    StuckPolicy { restart_after: SignedDuration::from_mins(5), give_up_after: SignedDuration::from_hours(6) };
/// How many events each role handles at a time.
const CONCURRENCY: usize = 16;

/// The running parts. Dropped, they end at once, as in a crash.
pub(super) struct Parts {
    engine: Engine,
    pipeline: JoinSet<Result<(), PipelineError>>,
    stop: CancellationToken,
    news: Newsroom,
    /// Runs that the last process left unfinished.
    pub(super) resumed_runs: usize,
}

/// Where blobs are kept.
pub(super) fn blob_dir(options: &LocalOptions) -> PathBuf {
    options.data_dir.join("blobs")
}

/// A catalog that another build made is named, with what its user can do.
fn does_not_fit(error: CatalogError, options: &LocalOptions) -> LocalError {
    if !error.is_of_another_schema() {
        return error.into();
    }
    // The URL may hold a password.
    let (place, option) = match &options.database_url {
        Some(_) => ("of the database that was named".to_owned(), "--database-url"),
        None => (format!("in {}", options.data_dir.display()), "--data"),
    };
    LocalError::CatalogDoesNotFit { place, option, source: error }
}

impl Parts {
    /// Brings the catalog up to date and starts everything but the beat.
    pub(super) async fn start(
        options: &LocalOptions,
        database_url: &str,
        secrets: ManifestSecrets,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, LocalError> {
        let catalog =
            Catalog::connect(database_url, CONNECTIONS, CONNECT_WITHIN).await?.asked_by(CONCURRENCY);
        catalog.migrate().await.map_err(|error| does_not_fit(error, options))?;
        // Before more than the schema is written to a catalog whose blobs these are not.
        let blobs =
            blobs::connect(&BlobLocation::Directory(blob_dir(options)), catalog.identity().await?).await?;
        let now = clock.now();
        let lead = catalog.lead(catalog.epoch().await? + 1, "tipstaff local", now).await?;
        // The bus of the last process is gone with all that was on it.
        let resumed_runs = catalog.restart_active_runs(now).await?;
        lead.mend_late_deliveries(SignedDuration::ZERO, now).await?;
        // Nobody asks this process for its figures.
        let mut registry = Registry::default();
        let allowed = AllowedAddresses::with_networks(options.allowed_networks.clone());
        let secrets: Arc<dyn SecretReader> = Arc::new(secrets);
        let bus: Arc<dyn Bus> = Arc::new(MemoryBus::default());
        let client = GuardedClient::new(allowed.clone())?;
        let tools = Tools {
            catalog: catalog.clone(),
            blobs: blobs.clone(),
            fetcher: Fetcher::new(allowed)?,
            spool: Spool::open(options.data_dir.join("spool")).await?,
            pdf_reader: pdf_reader::program().map_err(LocalError::OwnProgram)?,
            sender: Sender::new(client, secrets.clone(), None, bus.clone(), blobs),
            secrets,
            clock: clock.clone(),
            news: Newsroom::default(),
            metrics: WorkerMetrics::register(&mut registry),
        };
        let pipeline_options =
            PipelineOptions { roles: Role::ALL.to_vec(), concurrency: CONCURRENCY, drain: DRAIN };
        let pipeline = Pipeline::new(&pipeline_options, &tools, &bus)?;
        let stop = CancellationToken::new();
        let news = tools.news.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(pipeline.run(stop.clone()));
        let keeping = Keeper::new(&tools, KeeperOptions::default()).run(stop.clone());
        tasks.spawn(async {
            keeping.await;
            Ok(())
        });
        let metrics = OperatorMetrics::register(&mut registry);
        let engine_options =
            EngineOptions { lead, stuck: STUCK, bus, clock, metrics, check: Check::default() };
        let engine = Engine::start_without_beat(engine_options, &stop).await?;
        Ok(Self { engine, pipeline: tasks, stop, news, resumed_runs })
    }

    /// How others reach the engine.
    pub(super) fn engine(&self) -> EngineHandle {
        self.engine.handle()
    }

    /// What happens in the pipeline from now on, for the one who tells of it.
    pub(super) fn listen(&self) -> broadcast::Receiver<News> {
        self.news.listen()
    }

    /// Lets due times fire.
    pub(super) fn start_beat(&mut self) {
        self.engine.start_beat();
    }

    /// Waits until a part ends by itself, and says why.
    pub(super) async fn failed(&mut self) -> LocalError {
        tokio::select! {
            ended = self.engine.ended() => ended.map_or(LocalError::EngineEnded, LocalError::from),
            Some(ended) = self.pipeline.join_next() => match ended {
                Ok(Err(error)) => error.into(),
                Ok(Ok(())) => LocalError::EngineEnded,
                Err(error) => PipelineError::Ended(error).into(),
            },
        }
    }

    /// Ends all parts; handlers finish what is under way.
    pub(super) async fn stop(mut self) {
        self.stop.cancel();
        while self.pipeline.join_next().await.is_some() {}
        self.engine.stopped().await;
    }
}
