//! A private PostgreSQL server, started from the binaries that the machine has.
//!
//! `tipstaff local` keeps its catalog in one, and so do the tests: the SQL that runs there is the SQL that runs
//! in a cluster. The server listens on 127.0.0.1 alone, asks for a random password, and ends with its owner, also
//! when the owner is killed (on Linux). Its folder is used again by the next start.
//!
//! Inside [`PrivatePostgresOptions::data_dir`]: `cluster/` (PostgreSQL's own), `pgpass` (the password, mode 0600, in
//! the form that `PGPASSFILE` takes), `postgres.log`, and `lock`, which one owner at a time holds.

mod account;
mod binaries;
mod error;
mod folder;
mod prepared;
mod process;

use std::fmt;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{AssertSqlSafe, Connection};

pub use account::default_data_dir;
pub use binaries::{PostgresBinaries, find_binaries};
pub use error::PrivatePostgresError;
pub use prepared::PreparedPostgres;

use account::Launcher;
use folder::{Folder, FolderLock};
use process::ServerProcess;

/// The superuser of a private server, and the only user it is made with.
pub const SUPERUSER: &str = "tipstaff";

/// How long a server may take until it answers `select 1`; replaying the log after a crash is part of it.
const READY_DEADLINE: Duration = Duration::from_secs(30);
/// How long a fast shutdown (which writes a checkpoint) may take before the server is killed.
const STOP_DEADLINE: Duration = Duration::from_secs(20);
/// How often a start is tried again when another process took the free port that was just found.
const PORT_ATTEMPTS: u32 = 3;

/// Where and how a private server runs.
#[derive(Clone, Debug)]
pub struct PrivatePostgresOptions {
    /// The folder that holds everything of this server. It is made if missing; one that is there must be empty or from
    /// an earlier start. Under root it is given to the account that PostgreSQL runs under.
    pub data_dir: PathBuf,
    /// The TCP port on 127.0.0.1; `None` takes a free one.
    pub port: Option<u16>,
    /// Whether committed data must survive a crash of the machine. Without it the server does not wait for the disk,
    /// which is for tests; data survives a crash of the server or of its owner in both cases.
    pub durable: bool,
    /// PostgreSQL's `max_connections`; three of them are reserved for the superuser. At least 4.
    pub max_connections: u16,
}

/// A running private server. Dropping it ends the server without waiting; [`PrivatePostgres::stop`] is the orderly way.
pub struct PrivatePostgres {
    process: ServerProcess,
    port: u16,
    password: String,
    folder: Folder,
    // Held for as long as this server may run, released last.
    _lock: FolderLock,
}

impl PrivatePostgres {
    /// Starts the server, making its folder if needed, and returns when it answers a query.
    ///
    /// # Errors
    /// When there are no binaries or they are of another major version than the folder, when the folder is in use or
    /// out of reach, when the port is taken, or when the server ends or does not answer within 30 seconds; the
    /// last lines of its log are then part of the message.
    pub async fn start(options: &PrivatePostgresOptions) -> Result<PrivatePostgres, PrivatePostgresError> {
        let launcher = Launcher::for_this_process()?;
        let (folder, lock, password, binaries) = make_ready(options, &launcher).await?;

        let mut attempt = 1;
        let (process, port) = loop {
            let port = choose_port(options.port)?;
            match run(&binaries, &launcher, &folder, &password, options, port).await {
                Ok(process) => break (process, port),
                Err(PrivatePostgresError::Ended { log, .. })
                    if options.port.is_none()
                        && attempt < PORT_ATTEMPTS
                        && log.contains("Address already in use") =>
                {
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        };
        tracing::debug!(port, pid = process.pid(), data_dir = %folder.path().display(), "private PostgreSQL started");
        Ok(PrivatePostgres { process, port, password, folder, _lock: lock })
    }

    /// The URL of a database, for clients. It holds the password: do not log it.
    pub fn url(&self, database: &str) -> String {
        url(self.port, &self.password, database)
    }

    /// A shell command that opens `database` in psql. It names the file of the password, not the password.
    pub fn psql_command(&self, database: &str) -> String {
        format!(
            "PGPASSFILE='{}' psql -h 127.0.0.1 -p {} -U {SUPERUSER} {database}",
            self.folder.password_file().display(),
            self.port
        )
    }

    /// The TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id of the server's first process (the postmaster).
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The file with the server's own messages.
    pub fn log_file(&self) -> PathBuf {
        self.folder.log_file()
    }

    /// Makes a database unless it is there. Names are lower-case letters, digits and `_`, at most 63 characters.
    ///
    /// # Errors
    /// When the name is not such a name, or the server cannot be asked or refuses.
    pub async fn create_database_if_missing(&self, database: &str) -> Result<(), PrivatePostgresError> {
        if !is_database_name(database) {
            return Err(PrivatePostgresError::DatabaseName { name: database.to_owned() });
        }
        let query_error = |source| PrivatePostgresError::CreateDatabase { name: database.to_owned(), source };
        let mut connection = PgConnection::connect_with(&connect_options(self.port, &self.password))
            .await
            .map_err(query_error)?;
        // The name was checked above: it cannot end the quotation.
        let statement = AssertSqlSafe(format!("create database \"{database}\""));
        let outcome = sqlx::query(statement).execute(&mut connection).await;
        // The answer of the statement is what counts; the server also ends a connection that is merely dropped.
        let _ = connection.close().await;
        match outcome {
            Err(error) if !means_database_exists(&error) => Err(query_error(error)),
            _ => Ok(()),
        }
    }

    /// Returns when the server has ended, for whatever reason.
    pub async fn ended(&self) {
        self.process.ended().await;
    }

    /// Ends the server in order: sessions are ended, a checkpoint is written. It is killed when it has not
    /// ended after 20 seconds; the next start then replays its log.
    pub async fn stop(self) {
        self.process.signal(Signal::INT);
        if tokio::time::timeout(STOP_DEADLINE, self.process.ended()).await.is_err() {
            tracing::warn!(pid = self.pid(), "private PostgreSQL did not stop in time and is killed");
            self.process.kill_with_children().await;
        }
    }

    /// Ends all processes of the server at once with SIGKILL, as a crash would. Committed data is there on the next start.
    pub async fn kill(self) {
        self.process.kill_with_children().await;
    }
}

impl fmt::Debug for PrivatePostgres {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("PrivatePostgres")
            .field("port", &self.port)
            .field("pid", &self.pid())
            .field("data_dir", &self.folder.path())
            .finish_non_exhaustive()
    }
}

/// The URL of a database of the server that another process runs in `data_dir`, or none when none runs there. It holds
/// the password: do not log it.
///
/// # Errors
/// When what is there may not be read.
pub fn running_url(data_dir: &Path, database: &str) -> Result<Option<String>, PrivatePostgresError> {
    let running = Folder::at(data_dir)?.running()?;
    Ok(running.map(|(port, password)| url(port, &password, database)))
}

fn url(port: u16, password: &str, database: &str) -> String {
    format!("postgres://{SUPERUSER}:{password}@127.0.0.1:{port}/{database}?sslmode=disable")
}

/// Opens the folder, makes the database files if there are none, and finds the binaries that fit them.
async fn make_ready(
    options: &PrivatePostgresOptions,
    launcher: &Launcher,
) -> Result<(Folder, FolderLock, String, PostgresBinaries), PrivatePostgresError> {
    let folder = Folder::open(&options.data_dir, launcher)?;
    let lock = folder.lock()?;
    let password = folder.password(launcher)?;
    let binaries = match folder.major_version()? {
        Some(major) => binaries::find_binaries_of(major, folder.path()).await?,
        None => {
            let binaries = find_binaries().await?;
            initialize(&binaries, launcher, &folder, &password, options.durable).await?;
            binaries
        }
    };
    folder.wait_until_unused().await?;
    Ok((folder, lock, password, binaries))
}

/// Makes the database files with `initdb`. An interrupted attempt leaves nothing that a later start takes for whole.
async fn initialize(
    binaries: &PostgresBinaries,
    launcher: &Launcher,
    folder: &Folder,
    password: &str,
    durable: bool,
) -> Result<(), PrivatePostgresError> {
    let unfinished = folder.make_unfinished_cluster(launcher)?;
    let password_file = folder.write_initdb_password(launcher, password)?;
    let entry = launcher.enter(&unfinished)?;
    let mut command = launcher.command(&binaries.initdb);
    command
        .arg("--pgdata")
        .arg(entry.path())
        .arg("--pwfile")
        .arg(entry.path().join("..").join(folder::INITDB_PASSWORD))
        .args(["--username", SUPERUSER, "--auth", "scram-sha-256"])
        .args(["--encoding", "UTF8", "--locale", "C"]);
    if !durable {
        command.arg("--no-sync");
    }
    let outcome = process::run_to_end(command, Duration::from_secs(120)).await;
    let removed = std::fs::remove_file(&password_file);
    let output =
        outcome.map_err(|source| PrivatePostgresError::Run { program: binaries.initdb.clone(), source })?;
    if !output.status.success() {
        return Err(PrivatePostgresError::Initialize {
            data_dir: folder.path().to_owned(),
            output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        });
    }
    removed.map_err(|source| PrivatePostgresError::Folder {
        action: "remove",
        path: password_file,
        source,
    })?;
    folder.finish_cluster()
}

/// Starts the server on `port` and waits until it answers.
async fn run(
    binaries: &PostgresBinaries,
    launcher: &Launcher,
    folder: &Folder,
    password: &str,
    options: &PrivatePostgresOptions,
    port: u16,
) -> Result<ServerProcess, PrivatePostgresError> {
    let log = folder.open_log()?;
    let entry = launcher.enter(&folder.cluster())?;
    let mut command = launcher.command(&binaries.postgres);
    command.arg("-D").arg(entry.path());
    for (name, value) in settings(options, port) {
        command.arg("-c").arg(format!("{name}={value}"));
    }
    let process = ServerProcess::spawn(command, &log.file)
        .await
        .map_err(|source| PrivatePostgresError::Run { program: binaries.postgres.clone(), source })?;
    let started = Instant::now();
    loop {
        let failure = tokio::select! {
            answer = answers(port, password) => match answer {
                Ok(()) => return Ok(process),
                Err(error) => error,
            },
            () = process.ended() => {
                return Err(PrivatePostgresError::Ended { port, log_file: folder.log_file(), log: log.tail() });
            }
        };
        if started.elapsed() >= READY_DEADLINE || is_wrong_password(&failure) {
            process.kill_with_children().await;
            return Err(PrivatePostgresError::NotReady {
                port,
                log_file: folder.log_file(),
                log: log.tail(),
                source: failure,
            });
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// What the server runs with. Sockets in the file system are off: their paths are limited to 107 bytes.
fn settings(options: &PrivatePostgresOptions, port: u16) -> Vec<(&'static str, String)> {
    let mut settings = vec![
        ("listen_addresses", "127.0.0.1".to_owned()),
        ("port", port.to_string()),
        ("unix_socket_directories", String::new()),
        ("max_connections", options.max_connections.to_string()),
        ("shared_buffers", "32MB".to_owned()),
        ("timezone", "UTC".to_owned()),
        ("log_timezone", "UTC".to_owned()),
        ("log_destination", "stderr".to_owned()),
        ("logging_collector", "off".to_owned()),
        ("log_checkpoints", "off".to_owned()),
        // Nothing replicates from a private server, so its log need not hold what replicas need.
        ("wal_level", "minimal".to_owned()),
        ("max_wal_senders", "0".to_owned()),
    ];
    if !options.durable {
        // No more than this is given up: without synchronous_commit a crash of the server alone would lose commits, and
        // without full_page_writes a kill in the middle of a write could tear a page.
        settings.push(("fsync", "off".to_owned()));
    }
    settings
}

fn choose_port(wanted: Option<u16>) -> Result<u16, PrivatePostgresError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, wanted.unwrap_or(0)))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|source| PrivatePostgresError::Port { port: wanted.unwrap_or(0), source })
}

fn connect_options(port: u16, password: &str) -> PgConnectOptions {
    // Everything the environment could set is set here; the user's ~/.pgpass has no say.
    PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(port)
        .username(SUPERUSER)
        .password(password)
        .database("postgres")
        .ssl_mode(PgSslMode::Disable)
}

async fn answers(port: u16, password: &str) -> Result<(), sqlx::Error> {
    let mut connection = PgConnection::connect_with(&connect_options(port, password)).await?;
    sqlx::query("select 1").execute(&mut connection).await?;
    connection.close().await
}

fn is_database_name(name: &str) -> bool {
    name.len() <= 63
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name
            .chars()
            .all(|character| character.is_ascii_lowercase() || character.is_ascii_digit() || character == '_')
}

/// SQLSTATE 42P04 duplicate_database; 23505 when two sessions make the same one at the same time.
fn means_database_exists(error: &sqlx::Error) -> bool {
    has_code(error, &["42P04", "23505"])
}

/// SQLSTATE 28P01 invalid_password: waiting does not help.
fn is_wrong_password(error: &sqlx::Error) -> bool {
    has_code(error, &["28P01"])
}

fn has_code(error: &sqlx::Error, codes: &[&str]) -> bool {
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| codes.contains(&&*code))
}

/// A path for messages and shell commands.
fn absolute(path: &Path) -> Result<PathBuf, PrivatePostgresError> {
    std::path::absolute(path).map_err(|source| PrivatePostgresError::Folder {
        action: "find",
        path: path.to_owned(),
        source,
    })
}
