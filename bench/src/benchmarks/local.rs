//! `tipstaff local` from its start to the first document, with a database to be made and with one that is there.

use std::{
    fs,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use events::BoxError;
use serde_json::Value;
use store::private_postgres::{PrivatePostgres, PrivatePostgresOptions};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    time::timeout,
};

use crate::{
    report::{Measure, Report, Unit},
    site::Site,
    statistics::median,
};

/// As long as a start may take.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How often it is started from nothing, and again
    #[arg(long, default_value_t = 5)]
    repeats: usize,
    /// How large the document is, in bytes
    #[arg(long, default_value_t = 20_000)]
    bytes: usize,
}

pub(crate) async fn run(arguments: &Arguments) -> Result<Report, BoxError> {
    let site = Site::start(arguments.bytes).await?;
    let place = tempfile::tempdir()?;
    let manifest = place.path().join("manifest.yaml");
    let urls = site.urls(1, 1);
    fs::write(&manifest, manifests(urls.first().ok_or("no URL")?))?;

    let (mut first, mut again, mut first_floor, mut again_floor) =
        <(Vec<_>, Vec<_>, Vec<_>, Vec<_>)>::default();
    for repeat in 0..arguments.repeats {
        let folder = place.path().join(format!("floor-{repeat}"));
        first_floor.push(database(&folder).await?);
        again_floor.push(database(&folder).await?);
        let folder = place.path().join(format!("local-{repeat}"));
        first.push(until_first_run(&manifest, &folder).await?);
        site.change();
        again.push(until_first_run(&manifest, &folder).await?);
    }
    let mut report =
        Report::new("bench local: `tipstaff local --once`, from its start to the end of its run");
    for (name, seconds, floor) in
        [("from nothing", first, first_floor), ("with the database of an earlier start", again, again_floor)]
    {
        report.add(Measure::repeated(name, Unit::Seconds, seconds).over_floor(median(&floor)));
    }
    report.note("The floor is PostgreSQL alone: the database made, started, and asked for the first time.");
    Ok(report)
}

fn manifests(url: &str) -> String {
    format!(
        "apiVersion: tipstaff.dev/v1alpha1
kind: Source
metadata: {{ name: page }}
spec: {{ kind: html, baseURL: {url} }}
---
apiVersion: tipstaff.dev/v1alpha1
kind: Subscription
metadata: {{ name: page }}
spec: {{ sourceRef: {{ name: page }}, jurisdiction: US-CA, schedule: '0 0 1 1 *' }}
"
    )
}

/// Seconds until the private database answers.
async fn database(folder: &Path) -> Result<f64, BoxError> {
    let started = Instant::now();
    let options = PrivatePostgresOptions {
        data_dir: folder.join("postgres"),
        port: None,
        durable: true,
        max_connections: 100,
    };
    let postgres = PrivatePostgres::start(&options).await?;
    postgres.create_database_if_missing("tipstaff").await?;
    let seconds = started.elapsed().as_secs_f64();
    postgres.stop().await;
    Ok(seconds)
}

/// Seconds until the run has ended; the process ends by itself afterwards.
async fn until_first_run(manifest: &Path, folder: &Path) -> Result<f64, BoxError> {
    let started = Instant::now();
    let mut child = Command::new(tests::program("tipstaff"))
        .args(["local", "--once", "-o", "json", "--allow-cidr", "127.0.0.0/8", "-f"])
        .args([manifest.as_os_str(), "--data".as_ref(), folder.as_os_str()])
        .env_remove("TIPSTAFF_DATABASE_URL")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
    let run = async {
        while let Some(line) = lines.next_line().await? {
            let event: Value = serde_json::from_str(&line)?;
            if event["event"] == "run_ended" {
                return Ok((started.elapsed().as_secs_f64(), event));
            }
        }
        Err::<_, BoxError>("it ended before its run did".into())
    };
    let (seconds, event) = timeout(PATIENCE, run).await??;
    if event["phase"] != "Succeeded" {
        return Err(format!("its run ended as {event}").into());
    }
    timeout(PATIENCE, child.wait()).await??;
    Ok(seconds)
}
