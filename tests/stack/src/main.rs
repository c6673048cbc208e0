//! `stack`: the real parts for tests, by hand. See `README.md`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line program")]

use std::{
    error::Error,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use stack::{Artifact, Image, Part, STATE_VARIABLE, Stack, StackError, quote};

/// Builds and runs the real parts that tests work with, on loopback.
#[derive(Parser)]
#[command(name = "stack")]
struct Arguments {
    /// Name of the stack; several can run side by side. Default: made from the current folder.
    #[arg(long, global = true)]
    name: Option<String>,
    /// The stack's state file. Default: TIPSTAFF_STACK unless a name is given, else one in the cache folder.
    #[arg(long, global = true)]
    state: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build what is missing, start the parts and wait until they are ready; leaves a stack that is up as it is.
    Up {
        /// Which parts, with what they need; all but a node's if none is named.
        #[arg(long, value_delimiter = ',')]
        parts: Vec<Part>,
        /// A node too, on which pods run. It needs Linux and root.
        #[arg(long)]
        node: bool,
        /// Print what `env` prints. If the start fails, prints `false`, so that `eval` fails too.
        #[arg(long)]
        print_env: bool,
    },
    /// Kill all parts and remove their data.
    Down {
        /// Leave the logs.
        #[arg(long)]
        keep_logs: bool,
    },
    /// Say which parts are ready. Exit status 1 if one is not.
    Status,
    /// Print shell commands that set the variables for kubectl, psql, Kafka's and S3 tools.
    Env,
    /// Build only.
    Build {
        /// What to build; by default all that `up` and tests need.
        artifacts: Vec<Artifact>,
    },
    /// Make an image that pods on the node can be made of.
    LoadImage {
        /// Its name, as pods say it.
        image: String,
        /// What it holds: a folder, or a tar file.
        files: PathBuf,
        /// The program; given again, its first arguments.
        #[arg(long, required = true)]
        entrypoint: Vec<String>,
        /// A variable, as NAME=value; may be given several times.
        #[arg(long)]
        env: Vec<String>,
        /// The user and group ids to run under. Default: root.
        #[arg(long, default_value = "")]
        user: String,
    },
    /// Kill a part as a crash would.
    Kill {
        /// The part.
        part: Part,
    },
    /// Start a part, again if it runs, on its data and port.
    Restart {
        /// The part.
        part: Part,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let prints_env = matches!(arguments.command, Command::Up { print_env: true, .. });
    match run(arguments).await {
        Ok(code) => code,
        Err(error) => {
            report(&error);
            if prints_env {
                println!("false");
            }
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<ExitCode, StackError> {
    let (name, state) = which(arguments.name, arguments.state)?;
    match arguments.command {
        Command::Up { parts, node, print_env } => {
            up(&name, &state, &parts_to_start(parts, node)).await?;
            if print_env {
                print_environment(&state)?;
            } else {
                eprintln!("stack: up. For its addresses: eval \"$(stack env)\"; to end it: stack down");
            }
        }
        Command::Down { keep_logs } => Stack::down(&state, keep_logs).await?,
        Command::Status => return status(&state).await,
        Command::Env => print_environment(&state)?,
        Command::Build { artifacts } => {
            let artifacts = match artifacts.is_empty() {
                true => needed_here(),
                false => artifacts,
            };
            stack::build(&artifacts).await?;
        }
        Command::LoadImage { image, files, entrypoint, env, user } => {
            let image = Image {
                name: &image,
                files: &files,
                entrypoint: &entrypoint.iter().map(String::as_str).collect::<Vec<_>>(),
                environment: &env.iter().map(String::as_str).collect::<Vec<_>>(),
                user: &user,
            };
            Stack::open(&state)?.load_image(&image).await?;
        }
        Command::Kill { part } => Stack::open(&state)?.service(part)?.kill().await?,
        Command::Restart { part } => Stack::open(&state)?.service(part)?.restart().await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The stack's name and state file.
fn which(name: Option<String>, state: Option<PathBuf>) -> Result<(String, PathBuf), StackError> {
    let given = state.or_else(|| {
        let variable = std::env::var_os(STATE_VARIABLE).filter(|value| !value.is_empty());
        variable.filter(|_| name.is_none()).map(PathBuf::from)
    });
    let name = name.unwrap_or_else(name_of_current_folder);
    let state = match given {
        // Programs that are told of it may run in other folders.
        Some(state) => std::path::absolute(&state).unwrap_or(state),
        None => Stack::default_state_file(&name)?,
    };
    Ok((name, state))
}

fn name_of_current_folder() -> String {
    let folder = std::env::current_dir().unwrap_or_default();
    let mut hasher = DefaultHasher::new();
    folder.hash(&mut hasher);
    let last = folder.file_name().unwrap_or_default().to_string_lossy();
    let last: String = last.chars().filter(|character| character.is_ascii_alphanumeric()).collect();
    format!("{last}-{:08x}", hasher.finish() & 0xffff_ffff)
}

/// What `up` and tests need on this machine.
fn needed_here() -> Vec<Artifact> {
    let parts = match stack::can_run_node() {
        Ok(()) => Part::ALL.to_vec(),
        Err(_) => Part::SERVERS.to_vec(),
    };
    // What no part needs, but a test.
    let of_tests =
        vec![Artifact::Helm, Artifact::RobfigCron, Artifact::KindConfig, Artifact::Promtool, Artifact::Probe];
    [stack::needed(&parts), of_tests].concat()
}

fn parts_to_start(named: Vec<Part>, node: bool) -> Vec<Part> {
    let mut parts = match named.is_empty() {
        true => Part::SERVERS.to_vec(),
        false => named,
    };
    if node {
        parts.extend(Part::NODE);
    }
    parts
}

async fn up(name: &str, state: &Path, parts: &[Part]) -> Result<(), StackError> {
    if let Ok(running) = Stack::open(state)
        && has_ready(&running, parts).await
    {
        eprintln!("stack: {} is up already", running.name());
        return Ok(());
    }
    let started = tokio::select! {
        started = Stack::up(name, state, parts) => started.map(|_| ()),
        _ = tokio::signal::ctrl_c() => Err(StackError::Interrupted),
    };
    if started.is_err() {
        // The first error is the one that tells what is wrong; the logs it points to stay.
        let _ = Stack::down(state, true).await;
    }
    started
}

async fn has_ready(stack: &Stack, parts: &[Part]) -> bool {
    for part in parts {
        match stack.service(*part) {
            Ok(service) if service.check().await.is_ok() => {}
            _ => return false,
        }
    }
    true
}

async fn status(state: &Path) -> Result<ExitCode, StackError> {
    let stack = Stack::open(state)?;
    let mut code = ExitCode::SUCCESS;
    for service in stack.services() {
        let process = service.process_id().await;
        let condition = match (process, service.check().await) {
            (None, _) => "ended",
            (Some(_), Ok(())) => "ready",
            (Some(_), Err(_)) => "not ready",
        };
        if condition != "ready" {
            code = ExitCode::FAILURE;
        }
        let process = process.map_or("-".to_owned(), |process| process.to_string());
        println!(
            "{:<24} {condition:<10} {:<21} process {process:<8} {}",
            service.part(),
            service.address().to_string(),
            service.log_path().display(),
        );
    }
    Ok(code)
}

fn print_environment(state: &Path) -> Result<(), StackError> {
    let stack = Stack::open(state)?;
    for (name, value) in stack.environment(state)? {
        println!("export {name}={}", quote(&value));
    }
    let programs = quote(&stack.programs().display().to_string());
    println!("export PATH={programs}:\"$PATH\"");
    Ok(())
}

fn report(error: &StackError) {
    eprintln!("stack: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        eprintln!("  because: {cause}");
        source = cause.source();
    }
}
