//! The program `tipstaff-worker`: its flags and its start-up.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    Keeper, KeeperOptions, Newsroom, Pipeline, PipelineOptions, Tools, WorkerMetrics,
    fetch::{AllowedAddresses, Fetcher, GuardedClient, install_crypto_provider},
    http_routes, pdf_reader,
    secrets::{ClusterSecrets, SecretCache, SecretReader},
    send::{Mailer, Sender},
};
use clap::Parser;
use events::{Bus, Role, SystemClock, error_chain, kafka::KafkaBus};
use ipnet::IpNet;
use prometheus_client::registry::Registry;
use service::{
    Check, DatabaseArguments, HealthServer, KafkaArguments, LogFormat, SpanExport, init_logging,
    shutdown_on_signal, watch_bus,
};
use store::blobs::{self, BlobError, BlobLocation, Blobs, RecentBlobs, S3Credentials, S3Options, Spool};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How long the object store may refuse or fail to answer at first: as long as the catalog, and shorter than a pod may take to
/// start. One attempt more may be under way then.
const STORE_ANSWERS_WITHIN: Duration = Duration::from_secs(20);

/// Consumes Tipstaff's topics and does the jobs of its roles.
#[derive(Parser)]
#[command(name = "tipstaff-worker", version)]
struct Arguments {
    /// How log lines look
    #[arg(long, env = "TIPSTAFF_LOG_FORMAT", value_enum, default_value_t)]
    log_format: LogFormat,
    #[command(flatten)]
    database: DatabaseArguments,
    #[command(flatten)]
    kafka: KafkaArguments,
    /// What this worker does: schedule, crawl, parse, version, deliver, or all
    #[arg(long, env = "TIPSTAFF_ROLES", value_delimiter = ',', default_value = "all", value_parser = roles)]
    roles: Vec<Vec<Role>>,
    /// How many events of each role are handled at a time
    #[arg(long, env = "TIPSTAFF_CONCURRENCY", default_value_t = 64)]
    concurrency: usize,
    /// How long, in seconds, running handlers get to finish after SIGTERM; keep it below the pod's grace period
    #[arg(long, env = "TIPSTAFF_DRAIN_SECONDS", default_value_t = 20)]
    drain_seconds: u64,
    /// How often, in seconds, a worker of the version role looks for what `spec.retention` does not keep
    #[arg(long, env = "TIPSTAFF_RETENTION_SECONDS", default_value_t = 900, value_parser = clap::value_parser!(u64).range(1..))]
    retention_seconds: u64,
    /// How long, in seconds, everything is kept whatever `spec.retention` says: longer than events may be on their way
    #[arg(long, env = "TIPSTAFF_RETENTION_GRACE_SECONDS", default_value_t = 3600)]
    retention_grace_seconds: u64,
    /// Where probes and metrics are served
    #[arg(long, env = "TIPSTAFF_LISTEN", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// An address range that is closed by default (private, loopback …) and may be fetched from; may be repeated
    #[arg(long = "allow-cidr", env = "TIPSTAFF_ALLOW_CIDRS", value_delimiter = ',')]
    allow_cidrs: Vec<IpNet>,
    /// Where bodies are kept while they arrive; a temporary directory unless given
    #[arg(long, env = "TIPSTAFF_SPOOL_DIR")]
    spool_dir: Option<PathBuf>,
    /// A file of routes to services of your own, which get a topic's events too (docs/extending.md)
    #[arg(long, env = "TIPSTAFF_HTTP_ROUTES")]
    http_routes: Option<PathBuf>,
    #[command(flatten)]
    blobs: BlobArguments,
    #[command(flatten)]
    email: EmailArguments,
}

#[derive(clap::Args)]
struct EmailArguments {
    /// The mail server that deliveries by e-mail go through, with its account:
    /// smtps://USER:PASSWORD@HOST, or smtp://HOST?tls=required
    #[arg(long, env = "TIPSTAFF_SMTP_URL", requires = "email_from", hide_env_values = true)]
    smtp_url: Option<String>,
    /// The sender of deliveries by e-mail: `Tipstaff <tipstaff@example.org>`
    #[arg(long, env = "TIPSTAFF_EMAIL_FROM", requires = "smtp_url")]
    email_from: Option<String>,
}

#[derive(clap::Args)]
struct BlobArguments {
    /// Keep raw bytes in this directory instead of an object store
    #[arg(long, env = "TIPSTAFF_BLOB_DIR", conflicts_with = "s3_bucket")]
    blob_dir: Option<PathBuf>,
    /// The bucket for raw bytes
    #[arg(long, env = "S3_BUCKET", required_unless_present = "blob_dir")]
    s3_bucket: Option<String>,
    /// The object store's URL, where it is not Amazon's
    #[arg(long, env = "AWS_ENDPOINT_URL")]
    s3_endpoint: Option<String>,
    /// The region that requests are signed for
    #[arg(long, env = "AWS_REGION", default_value = "us-east-1")]
    s3_region: String,
    /// Put the bucket into the host name instead of the path
    #[arg(long, env = "S3_VIRTUAL_HOST")]
    s3_virtual_host: bool,
    /// A file of PEM certificates that the object store's is checked against, instead of the system's roots
    #[arg(long, env = "AWS_CA_BUNDLE")]
    s3_ca_file: Option<PathBuf>,
    /// A shared credentials file, instead of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY
    #[arg(long, env = "AWS_SHARED_CREDENTIALS_FILE")]
    s3_credentials_file: Option<PathBuf>,
}

impl BlobArguments {
    fn location(self) -> BlobLocation {
        match (self.blob_dir, self.s3_bucket) {
            (Some(directory), _) => BlobLocation::Directory(directory),
            (None, bucket) => BlobLocation::S3(S3Options {
                endpoint: self.s3_endpoint,
                region: self.s3_region,
                // The flags' own rules ask for one of the two.
                bucket: bucket.unwrap_or_default(),
                path_style: !self.s3_virtual_host,
                ca_file: self.s3_ca_file,
                credentials: self.s3_credentials_file.map_or(S3Credentials::Environment, S3Credentials::File),
            }),
        }
    }
}

fn roles(name: &str) -> Result<Vec<Role>, String> {
    if name == "all" {
        return Ok(Role::ALL.to_vec());
    }
    name.parse().map(|role| vec![role]).map_err(|error: events::UnknownRole| error.to_string())
}

/// Does what the process's arguments say; the process ends with what it returns.
pub async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    init_logging(arguments.log_format, "info");
    install_crypto_provider();
    match run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", error_chain(&*error));
            ExitCode::FAILURE
        }
    }
}

/// Opens the blobs. An object store that does not answer may come up just now, beside this process.
async fn connect_blobs(location: &BlobLocation, catalog: Uuid) -> Result<Arc<dyn Blobs>, BlobError> {
    let deadline = Instant::now() + STORE_ANSWERS_WITHIN;
    loop {
        match blobs::connect(location, catalog).await {
            Err(error @ BlobError::ObjectStore { denied: false, .. }) if Instant::now() < deadline => {
                tracing::warn!(
                    error = error_chain(&error),
                    "the object store is not there yet; trying again in a second"
                );
                sleep(Duration::from_secs(1)).await;
            }
            result => return result,
        }
    }
}

/// Who fetches and parses reads what was just stored; who does one of both never reads its own.
fn remembering(blobs: Arc<dyn Blobs>, roles: &[Role]) -> Arc<dyn Blobs> {
    if [Role::Crawl, Role::Parse].iter().all(|role| roles.contains(role)) {
        Arc::new(RecentBlobs::new(blobs))
    } else {
        blobs
    }
}

async fn run(arguments: Arguments) -> Result<(), events::BoxError> {
    let shutdown = shutdown_on_signal()?;
    let spans = SpanExport::start("tipstaff-worker")?;
    let http_routes =
        arguments.http_routes.as_deref().map(http_routes::read).transpose()?.unwrap_or_default();
    let drain = Duration::from_secs(arguments.drain_seconds);
    let catalog = arguments.database.connect_by_keys().await?.asked_by(arguments.concurrency);
    catalog.check_schema().await?;
    let mut registry = Registry::default();
    let clock = Arc::new(SystemClock);
    let allowed = AllowedAddresses::with_networks(arguments.allow_cidrs);
    let location = arguments.blobs.location();
    let identity = catalog.identity().await?;
    let Some(blobs) = shutdown.run_until_cancelled(connect_blobs(&location, identity)).await else {
        return Ok(());
    };
    let roles: Vec<Role> = arguments.roles.into_iter().flatten().collect();
    let blobs = remembering(blobs?, &roles);
    let secrets: Arc<dyn SecretReader> = Arc::new(SecretCache::new(ClusterSecrets::default(), clock.clone()));
    // Shorter than the group's session, so that a slow handler costs its partition and not the membership.
    let revoke = drain.min(Duration::from_secs(8));
    let bus: Arc<dyn Bus> = Arc::new(KafkaBus::new(arguments.kafka.options(revoke))?);
    let mailer = match (arguments.email.smtp_url, arguments.email.email_from) {
        (Some(url), Some(from)) => Some(Mailer::new(&url, &from)?),
        _ => None,
    };
    let client = GuardedClient::new(allowed.clone())?;
    let tools = Tools {
        catalog: catalog.clone(),
        blobs: blobs.clone(),
        fetcher: Fetcher::new(allowed)?,
        spool: Spool::open(arguments.spool_dir.unwrap_or_else(std::env::temp_dir)).await?,
        pdf_reader: pdf_reader::program()?,
        sender: Sender::new(client, secrets.clone(), mailer, bus.clone(), blobs),
        secrets,
        clock,
        news: Newsroom::default(),
        metrics: WorkerMetrics::register(&mut registry),
    };
    let options = PipelineOptions { roles, concurrency: arguments.concurrency, drain };
    let pipeline =
        Pipeline::new(&options, &tools, &bus)?.with_http_routes(&http_routes, &options, &tools, &bus)?;
    let check = Check::default();
    let health = HealthServer::bind(arguments.listen, registry, catalog, check.clone()).await?;
    let stop_health = CancellationToken::new();
    let serving = tokio::spawn(health.serve(stop_health.clone()));
    let watching = tokio::spawn(watch_bus(bus, check, stop_health.clone()));
    tracing::info!(roles = ?options.roles, "working");
    let keeping = options.roles.contains(&Role::Version).then(|| {
        let keeper = Keeper::new(
            &tools,
            KeeperOptions {
                look_every: Duration::from_secs(arguments.retention_seconds),
                grace: Duration::from_secs(arguments.retention_grace_seconds),
            },
        );
        tokio::spawn(keeper.run(shutdown.clone()))
    });
    let result = pipeline.run(shutdown).await;
    if let Some(keeping) = keeping {
        // Also when the pipeline ended by itself: what the keeper does may be cut off at any moment.
        keeping.abort();
    }
    stop_health.cancel();
    serving.await?;
    watching.await?;
    spans.stop().await;
    Ok(result?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[tokio::test]
    async fn only_who_fetches_and_parses_remembers_what_was_stored() {
        let folder = tempfile::tempdir().unwrap();
        let blobs =
            blobs::connect(&BlobLocation::Directory(folder.path().to_owned()), Uuid::nil()).await.unwrap();
        for (roles, remembers) in [
            (&[Role::Crawl][..], false),
            (&[Role::Parse, Role::Version], false),
            (&[Role::Parse, Role::Crawl], true),
            (&Role::ALL, true),
        ] {
            let opened = remembering(blobs.clone(), roles);
            assert_eq!(!Arc::ptr_eq(&opened, &blobs), remembers, "{roles:?}");
        }
    }
}
