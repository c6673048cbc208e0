//! `tipstaff`: flags and start-up; the library does the work.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use cli::commands::{
    artifacts::{self, ArtifactsArguments},
    deliveries::{self, DeliveriesArguments},
    diff::{self, DiffArguments},
    dlq::{self, DlqArguments},
    runs::{self, RunsArguments},
    trace::{self, TraceArguments},
    try_page::{self, TryArguments},
    versions::{self, VersionsArguments},
};
use cli::demo::{self, DemoOptions};
use cli::local::{self, Goal, LocalOptions, Outcome};
use cli::output::OutputFormat;
use cli::schedule;
use cli::self_test::{self, SelfTestOptions};
use crds::Schedule;
use events::{Clock, SystemClock, error_chain};
use ipnet::IpNet;
use jiff::Timestamp;
use service::{LogFormat, SpanExport, init_logging, shutdown_on_signal};
use store::private_postgres::default_data_dir;
use tokio::runtime::Runtime;
use url::Url;
use worker::fetch::install_crypto_provider;

#[global_allocator]
static ALLOCATOR: service::Allocator = service::Allocator;

/// How a process ends that was interrupted before it reached its goal, as shells have it.
const INTERRUPTED: u8 = 130;

/// Watches published sources on a schedule and keeps every version with its evidence.
#[derive(Parser)]
#[command(name = "tipstaff", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run Sources and Subscriptions from manifest files, without a cluster
    Local(LocalArguments),
    /// See it work: watch a small built-in site whose pages change now and then
    Demo(DemoArguments),
    /// Show what a subscription's selectors take from a page, without storing anything
    Try(TryArguments),
    /// Show what differs between two versions of a document
    Diff(DiffArguments),
    /// List runs, newest first
    Runs(RunsArguments),
    /// List what servers answered, newest first
    Artifacts(ArtifactsArguments),
    /// List versions of documents, newest first
    Versions(VersionsArguments),
    /// List what was sent to whom, newest first
    Deliveries(DeliveriesArguments),
    /// Show all that a run did, as a tree
    Trace(TraceArguments),
    /// Look at the dead letters on Kafka, and publish them again
    Dlq(DlqArguments),
    /// Print when a schedule is due next, one RFC 3339 time a line
    Schedule(ScheduleArguments),
    /// Have the installation on the cluster fetch a page, and tell what came of it
    SelfTest(SelfTestArguments),
    /// Print the version
    Version,
}

#[derive(Args)]
struct LocalArguments {
    /// A manifest file, or a directory of them; changes take effect while it runs
    #[arg(short = 'f', long = "filename", value_name = "PATH")]
    manifests: PathBuf,
    /// Run every subscription once, print a table, and exit: with 1 if a run failed or a manifest has a problem
    #[arg(long, conflicts_with = "until_changed")]
    once: bool,
    /// An address range that is closed by default (private, loopback …) and may be fetched from; may be repeated
    #[arg(long = "allow-cidr", value_name = "CIDR", env = "TIPSTAFF_ALLOW_CIDRS", value_delimiter = ',')]
    allow_cidrs: Vec<IpNet>,
    #[command(flatten)]
    common: CommonArguments,
}

#[derive(Args)]
struct DemoArguments {
    /// How often the site changes, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 75, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    interval: u64,
    #[command(flatten)]
    common: CommonArguments,
}

#[derive(Args)]
struct ScheduleArguments {
    /// Five cron fields in one argument, such as '30 2 * * MON-FRI', or a nickname such as @daily
    #[arg(value_name = "CRON", value_parser = schedule::expression)]
    expression: String,
    /// The IANA time zone in which the schedule is read, such as Europe/Berlin
    #[arg(long, value_name = "ZONE", default_value = "UTC", value_parser = schedule::time_zone)]
    time_zone: String,
    /// Begin after this time instead of now, such as 2026-03-28T00:00:00Z
    #[arg(long, value_name = "RFC3339")]
    after: Option<Timestamp>,
    /// How many times to print
    #[arg(short = 'n', value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    count: u32,
}

#[derive(Args)]
struct SelfTestArguments {
    /// Where a Source and a Subscription are made, and removed again; the current namespace unless given
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// The page that is fetched
    #[arg(long, value_name = "URL", default_value = "https://example.com/")]
    url: Url,
    /// How long, in seconds, it may take
    #[arg(long, value_name = "SECONDS", default_value_t = 240, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout_seconds: u64,
}

#[derive(Args)]
struct CommonArguments {
    /// Where everything is kept; by default below /var/lib (root) or ~/.local/state
    #[arg(long, value_name = "DIR", env = "TIPSTAFF_DATA_DIR")]
    data: Option<PathBuf>,
    /// Keep the catalog in this database instead of a private one
    #[arg(long, value_name = "URL", env = "TIPSTAFF_DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
    /// Exit when a document was stored that differs from an earlier one; with 1 if none came within this many minutes
    #[arg(long, value_name = "MINUTES", num_args = 0..=1, require_equals = true, default_missing_value = "10", value_parser = clap::value_parser!(u64).range(1..=1440))]
    until_changed: Option<u64>,
    /// How events are told
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    /// A readable line an event
    Text,
    /// A JSON object an event
    Json,
}

impl From<Output> for OutputFormat {
    fn from(output: Output) -> Self {
        match output {
            Output::Text => OutputFormat::Text,
            Output::Json => OutputFormat::Json,
        }
    }
}

impl CommonArguments {
    fn goal(&self) -> Goal {
        self.until_changed.map_or(Goal::None, |minutes| Goal::Change(Duration::from_secs(60 * minutes)))
    }
}

fn main() -> io::Result<ExitCode> {
    // Before the runtime: its threads take memory that the reader of PDFs may not have.
    if let Some(code) = worker::pdf_reader::run_if_asked() {
        return Ok(code);
    }
    // An image has this program only, and links to it for the two others: that is half the size.
    let called_as = std::env::args_os().next();
    let called_as = called_as.as_deref().and_then(|path| Path::new(path).file_name()).and_then(OsStr::to_str);
    let runtime = Runtime::new()?;
    Ok(match called_as {
        Some("tipstaff-operator") => runtime.block_on(operator::program::main()),
        Some("tipstaff-worker") => runtime.block_on(worker::program::main()),
        _ => runtime.block_on(tipstaff()),
    })
}

async fn tipstaff() -> ExitCode {
    let arguments = Arguments::parse();
    init_logging(LogFormat::Text, "warn");
    install_crypto_provider();
    let ended = match arguments.command {
        Command::Local(arguments) => traced(run_local(arguments)).await,
        Command::Demo(arguments) => traced(run_demo(arguments)).await,
        Command::Try(arguments) => try_page::run(&arguments).await.map(succeeds_if),
        Command::Diff(arguments) => diff::run(&arguments).await.map(succeeded),
        Command::Runs(arguments) => runs::run(&arguments).await.map(succeeded),
        Command::Artifacts(arguments) => artifacts::run(&arguments).await.map(succeeded),
        Command::Versions(arguments) => versions::run(&arguments).await.map(succeeded),
        Command::Deliveries(arguments) => deliveries::run(&arguments).await.map(succeeded),
        Command::Trace(arguments) => trace::run(&arguments).await.map(succeeded),
        Command::Dlq(arguments) => dlq::run(&arguments).await.map(succeeded),
        Command::Schedule(arguments) => print_schedule(&arguments, &SystemClock),
        Command::SelfTest(arguments) => run_self_test(arguments).await,
        Command::Version => {
            let _ = writeln!(std::io::stdout(), "tipstaff {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
    };
    match ended {
        Ok(code) => code,
        Err(error) => {
            complain(&error_chain(&*error));
            ExitCode::FAILURE
        }
    }
}

fn succeeded((): ()) -> ExitCode {
    ExitCode::SUCCESS
}

fn succeeds_if(is_good: bool) -> ExitCode {
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn complain(problem: &str) {
    // Where standard error is closed, the exit code has to do.
    let _ = writeln!(std::io::stderr(), "tipstaff: {problem}");
}

/// Exports the spans of what is done meanwhile, where the environment says to whom.
async fn traced<W>(work: W) -> Result<ExitCode, events::BoxError>
where
    W: Future<Output = Result<ExitCode, events::BoxError>>,
{
    let spans = SpanExport::start("tipstaff")?;
    let ended = work.await;
    spans.stop().await;
    ended
}

async fn run_local(arguments: LocalArguments) -> Result<ExitCode, events::BoxError> {
    let goal = if arguments.once { Goal::Once } else { arguments.common.goal() };
    let options = LocalOptions {
        manifests: arguments.manifests,
        data_dir: match arguments.common.data {
            Some(directory) => directory,
            None => default_data_dir()?,
        },
        database_url: arguments.common.database_url,
        allowed_networks: arguments.allow_cidrs,
        output: arguments.common.output.into(),
        goal,
        sample_site: None,
    };
    Ok(exit_code(local::run(options, shutdown_on_signal()?).await?, goal))
}

async fn run_demo(arguments: DemoArguments) -> Result<ExitCode, events::BoxError> {
    let goal = arguments.common.goal();
    let options = DemoOptions {
        data_dir: match arguments.common.data {
            Some(directory) => directory,
            None => default_data_dir()?.join("demo"),
        },
        interval: Duration::from_secs(arguments.interval),
        database_url: arguments.common.database_url,
        output: arguments.common.output.into(),
        goal,
    };
    Ok(exit_code(demo::run(options, shutdown_on_signal()?).await?, goal))
}

async fn run_self_test(arguments: SelfTestArguments) -> Result<ExitCode, events::BoxError> {
    let options = SelfTestOptions {
        namespace: arguments.namespace,
        url: arguments.url,
        within: Duration::from_secs(arguments.timeout_seconds),
    };
    self_test::run(&options, &shutdown_on_signal()?, &mut std::io::stdout()).await?;
    Ok(ExitCode::SUCCESS)
}

fn print_schedule(arguments: &ScheduleArguments, clock: &dyn Clock) -> Result<ExitCode, events::BoxError> {
    let schedule = Schedule::parse(&arguments.expression, &arguments.time_zone)?;
    let after = arguments.after.unwrap_or_else(|| clock.now());
    let count = usize::try_from(arguments.count)?;
    schedule::print(&schedule, after, count, &mut std::io::stdout().lock())?;
    Ok(ExitCode::SUCCESS)
}

fn exit_code(outcome: Outcome, goal: Goal) -> ExitCode {
    match outcome {
        Outcome::Reached => ExitCode::SUCCESS,
        Outcome::Missed => {
            if let Goal::Change(within) = goal {
                let minutes = within.as_secs() / 60;
                complain(&format!("no document changed within {minutes} minutes"));
            }
            ExitCode::FAILURE
        }
        // Where it goes on until it is stopped, that is its regular end.
        Outcome::Stopped if goal == Goal::None => ExitCode::SUCCESS,
        Outcome::Stopped => ExitCode::from(INTERRUPTED),
    }
}
