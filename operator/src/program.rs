//! The program `tipstaff-operator`: its flags and its start-up.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use crate::{
    cluster::{ClusterOptions, Operator},
    scaling::{ScalingOptions, Workers},
};
use clap::{Parser, Subcommand};
use events::{Bus, error_chain, kafka::KafkaBus};
use jiff::SignedDuration;
use prometheus_client::registry::Registry;
use service::{
    Check, DatabaseArguments, HealthServer, KafkaArguments, LogFormat, SpanExport, init_logging,
    shutdown_on_signal, watch_bus,
};
use store::catalog::StuckPolicy;
use tokio_util::sync::CancellationToken;

/// Reconciles Sources and Subscriptions, makes their runs when they are due, and shows what became of them.
#[derive(Parser)]
#[command(name = "tipstaff-operator", version)]
struct Arguments {
    /// How log lines look
    #[arg(long, env = "TIPSTAFF_LOG_FORMAT", value_enum, default_value_t, global = true)]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the operator
    Run(Box<RunArguments>),
    /// Bring the catalog's schema up to date, then exit
    Migrate(DatabaseArguments),
}

#[derive(clap::Args)]
struct RunArguments {
    #[command(flatten)]
    database: DatabaseArguments,
    #[command(flatten)]
    kafka: KafkaArguments,
    /// Reconcile the objects of this namespace only
    #[arg(long, env = "TIPSTAFF_NAMESPACE")]
    namespace: Option<String>,
    /// Where probes and metrics are served
    #[arg(long, env = "TIPSTAFF_LISTEN", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// The namespace of the lease
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    lease_namespace: String,
    /// The lease that tells which replica leads
    #[arg(long, env = "TIPSTAFF_LEASE_NAME", default_value = "tipstaff-operator")]
    lease_name: String,
    /// This replica's name; one is made up where it is not given
    #[arg(long, env = "POD_NAME")]
    identity: Option<String>,
    /// How long, in seconds, a leader that fell silent keeps the lease
    #[arg(long, env = "TIPSTAFF_LEASE_SECONDS", default_value_t = 10)]
    lease_seconds: u64,
    /// After how many seconds without progress a run's event is sent again
    #[arg(long, env = "TIPSTAFF_RESTART_AFTER_SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    restart_after_seconds: u32,
    /// After how many seconds without progress a run fails
    #[arg(long, env = "TIPSTAFF_GIVE_UP_AFTER_SECONDS", default_value_t = 21_600, value_parser = clap::value_parser!(u32).range(1..))]
    give_up_after_seconds: u32,
    /// The file that says which workers to run and how to scale them, in the lease's namespace; without it none are run
    #[arg(long, env = "TIPSTAFF_WORKERS_FILE")]
    workers_file: Option<PathBuf>,
    /// The operator's own Deployment, in the same namespace: when it is deleted, so are the workers
    #[arg(long, env = "TIPSTAFF_OWNER_DEPLOYMENT")]
    owner_deployment: Option<String>,
}

/// Does what the process's arguments say; the process ends with what it returns.
pub async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    init_logging(arguments.log_format, "info");
    // A second provider is never installed in this process.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let result = match arguments.command {
        Command::Run(run) => run_operator(*run).await,
        Command::Migrate(database) => migrate(database).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", error_chain(&*error));
            ExitCode::FAILURE
        }
    }
}

async fn migrate(database: DatabaseArguments) -> Result<(), events::BoxError> {
    database.connect().await?.migrate().await?;
    tracing::info!("the catalog's schema is up to date");
    Ok(())
}

async fn run_operator(arguments: RunArguments) -> Result<(), events::BoxError> {
    let shutdown = shutdown_on_signal()?;
    let spans = SpanExport::start("tipstaff-operator")?;
    let kafka = arguments.kafka.options(Duration::from_secs(5));
    let scaling = match &arguments.workers_file {
        Some(path) => Some(ScalingOptions {
            workers: read_workers(path)?,
            owner: arguments.owner_deployment,
            kafka: kafka.clone(),
        }),
        None => None,
    };
    let catalog = arguments.database.connect().await?;
    catalog.check_schema().await?;
    let bus: Arc<dyn Bus> = Arc::new(KafkaBus::new(kafka)?);
    let mut registry = Registry::default();
    let check = Check::default();
    let options = ClusterOptions {
        namespace: arguments.namespace,
        lease_namespace: arguments.lease_namespace,
        lease_name: arguments.lease_name,
        identity: arguments.identity.unwrap_or_else(|| format!("operator-{}", uuid::Uuid::new_v4())),
        lease_duration: Duration::from_secs(arguments.lease_seconds),
        stuck: StuckPolicy {
            restart_after: SignedDuration::from_secs(arguments.restart_after_seconds.into()),
            give_up_after: SignedDuration::from_secs(arguments.give_up_after_seconds.into()),
        },
        scaling,
    };
    let operator = Operator::new(options, catalog.clone(), bus.clone(), &mut registry, check.clone()).await?;
    let health = HealthServer::bind(arguments.listen, registry, catalog, check.clone()).await?;
    let stop_health = CancellationToken::new();
    let serving = tokio::spawn(health.serve(stop_health.clone()));
    let watching = tokio::spawn(watch_bus(bus, check, stop_health.clone()));
    let result = operator.run(shutdown).await;
    stop_health.cancel();
    serving.await?;
    watching.await?;
    spans.stop().await;
    Ok(result?)
}

fn read_workers(path: &Path) -> Result<Workers, events::BoxError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("the workers file {} cannot be read: {error}", path.display()))?;
    Ok(Workers::parse(&text)?)
}
