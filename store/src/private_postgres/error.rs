use std::io;
use std::path::PathBuf;

/// Why a private server cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PrivatePostgresError {
    /// No folder with `postgres` and `initdb` was found.
    #[error(
        "found no PostgreSQL server binaries (looked in {looked_in}); install PostgreSQL (Debian: apt install postgresql; \
         macOS: brew install postgresql), or set TIPSTAFF_POSTGRES_BIN to the folder that holds postgres and initdb"
    )]
    NoBinaries {
        /// The places looked at, readable.
        looked_in: String,
    },
    /// The binaries cannot say their version.
    #[error("cannot tell the version of {}: it answered {answer:?}", program.display())]
    UnknownVersion {
        /// The binary asked.
        program: PathBuf,
        /// What it printed.
        answer: String,
    },
    /// The folder was made by a major version that is not installed.
    #[error(
        "{} was made by PostgreSQL {folder_major}, but this machine has {found}; install PostgreSQL {folder_major}, \
         or choose another data folder", data_dir.display()
    )]
    OtherMajor {
        /// The data folder.
        data_dir: PathBuf,
        /// The major version that made it.
        folder_major: u32,
        /// The major versions found, readable.
        found: String,
    },
    /// A live server or owner holds the folder.
    #[error("{} is already in use by process {pid}; stop that one first, or choose another data folder", data_dir.display())]
    InUse {
        /// The data folder.
        data_dir: PathBuf,
        /// The process id of its owner or of its server.
        pid: String,
    },
    /// The folder holds something else.
    #[error("{} is not empty and was not made by Tipstaff; choose an empty or a new folder", data_dir.display())]
    NotOurs {
        /// The data folder.
        data_dir: PathBuf,
    },
    /// The account PostgreSQL runs under cannot get to the folder.
    #[error(
        "PostgreSQL does not run as root, and user {user} cannot reach {}: {} lets others not pass (mode {mode:04o}); \
         choose a data folder elsewhere, for example under /var/lib", data_dir.display(), blocking.display()
    )]
    Unreachable {
        /// The data folder.
        data_dir: PathBuf,
        /// The folder above it that cannot be passed.
        blocking: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// The account's name.
        user: String,
    },
    /// Root has no other account to run PostgreSQL under.
    #[error(
        "PostgreSQL does not run as root, and neither user postgres nor user nobody exists; add one of them, or start as another user"
    )]
    NoAccount,
    /// Neither a home folder nor an XDG state folder is known.
    #[error("there is no default data folder, as neither XDG_STATE_HOME nor HOME is set; name one")]
    NoHome,
    /// A file or folder of the server cannot be handled.
    #[error("cannot {action} {}", path.display())]
    Folder {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The folder has a cluster whose password is unknown.
    #[error("{} is missing or unreadable, and without it nobody can log in; restore it, or remove the data folder to start afresh", path.display())]
    PasswordLost {
        /// The password's file.
        path: PathBuf,
    },
    /// The port cannot be listened on.
    #[error("cannot listen on 127.0.0.1:{port}")]
    Port {
        /// The port; 0 stands for any free one.
        port: u16,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A binary cannot be run.
    #[error("cannot run {}", program.display())]
    Run {
        /// The binary.
        program: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// `initdb` failed.
    #[error("initdb could not make {}: {output}", data_dir.display())]
    Initialize {
        /// The data folder.
        data_dir: PathBuf,
        /// What it said.
        output: String,
    },
    /// The server ended while starting.
    #[error("PostgreSQL on port {port} ended while starting; the end of {}:\n{log}", log_file.display())]
    Ended {
        /// Its port.
        port: u16,
        /// Its log.
        log_file: PathBuf,
        /// The last lines this start wrote to it.
        log: String,
    },
    /// The server runs but does not answer.
    #[error("PostgreSQL on port {port} does not answer; the end of {}:\n{log}", log_file.display())]
    NotReady {
        /// Its port.
        port: u16,
        /// Its log.
        log_file: PathBuf,
        /// The last lines this start wrote to it.
        log: String,
        /// What the last attempt to ask it met.
        #[source]
        source: sqlx::Error,
    },
    /// The name cannot be a database's.
    #[error(
        "{name:?} cannot be a database name: use lower-case letters, digits and _, starting with a letter, at most 63 characters"
    )]
    DatabaseName {
        /// The name asked for.
        name: String,
    },
    /// The database cannot be made.
    #[error("cannot create database {name}")]
    CreateDatabase {
        /// The name asked for.
        name: String,
        /// What the server said.
        #[source]
        source: sqlx::Error,
    },
}
