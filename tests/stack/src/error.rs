//! What can go wrong, said so that the reader knows what to do next.

use std::{io, net::Ipv4Addr, path::PathBuf, process::ExitStatus};

use crate::Part;

/// An error of building, starting or steering the stack.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StackError {
    /// A part exited early, or was not ready by its deadline.
    #[error("{part} did not start: {reason}. The end of its log, {}:\n{log_end}", log.display())]
    PartFailed {
        /// The part.
        part: Part,
        /// What was seen: its exit status, or what its last health check said.
        reason: String,
        /// The whole log.
        log: PathBuf,
        /// The last lines of the log.
        log_end: String,
    },
    /// A part did not end although it was told to.
    #[error("{part} (process {process}) does not end, not even killed")]
    DoesNotEnd {
        /// The part.
        part: Part,
        /// Its process id.
        process: u32,
    },
    /// An artifact could not be built.
    #[error("{artifact} could not be built: {reason}. The end of the build's log, {}:\n{log_end}", log.display())]
    BuildFailed {
        /// Name and version of what was built.
        artifact: String,
        /// The build's exit status.
        reason: String,
        /// The build's whole log.
        log: PathBuf,
        /// The last lines of the log.
        log_end: String,
    },
    /// A program of the machine could not be run.
    #[error("cannot run `{program}`: `scripts/setup.sh test` installs or names what is missing")]
    CannotRun {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A program ran and failed, or did not end in time.
    #[error("`{command}` failed ({outcome}):\n{output}")]
    CommandFailed {
        /// The command line.
        command: String,
        /// Its exit status, or that it took too long.
        outcome: String,
        /// What it wrote, to standard output and standard error.
        output: String,
    },
    /// A file or folder could not be used.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate for {subject}")]
    Certificate {
        /// Whom the certificate names.
        subject: String,
        /// Why not.
        #[source]
        source: rcgen::Error,
    },
    /// A certificate with more groups than can be written into one.
    #[error("a certificate for {user} can carry at most two groups, not {groups}")]
    TooManyGroups {
        /// Whom the certificate names.
        user: String,
        /// How many groups were asked for.
        groups: usize,
    },
    /// The private PostgreSQL server could not be prepared.
    #[error("cannot prepare the PostgreSQL server")]
    Postgres(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A part that this stack was not started with.
    #[error("this stack was started without {part}; it has: {present}")]
    NotInStack {
        /// The part asked for.
        part: Part,
        /// The parts there are.
        present: String,
    },
    /// No stack was named to attach to.
    #[error(
        "no running stack is named: the variable TIPSTAFF_STACK is not set. \
         Run `make test`; or start a stack and name it with `eval \"$(stack up --print-env)\"`"
    )]
    NoSharedStack,
    /// No stack stands behind a state file.
    #[error("no stack is up at {}: start one with `stack up`", state.display())]
    NotUp {
        /// The state file.
        state: PathBuf,
    },
    /// Some parts of a stack to attach to have ended.
    #[error(
        "of the stack {name}, these parts do not run: {parts}. Start them with `stack restart`, \
         or all anew with `stack down` and `stack up`; their logs are in {}", logs.display()
    )]
    PartsEnded {
        /// The stack's name.
        name: String,
        /// The parts that do not run.
        parts: String,
        /// Where the logs are.
        logs: PathBuf,
    },
    /// A state file that is none.
    #[error("{} is not a stack's state file, or one of another version: remove it", path.display())]
    StateUnreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// Every free port that was tried was taken by another program in the meantime.
    #[error("no free port was found on {address} in {attempts} attempts")]
    NoFreePort {
        /// The address that it was to be free on.
        address: Ipv4Addr,
        /// How many ports were tried.
        attempts: usize,
    },
    /// The machine has a route into every network that was tried.
    #[error(
        "no free network 10.a.b.0/24 was found in {attempts} attempts: has this machine a route into 10.0.0.0/8?"
    )]
    NoFreeNetwork {
        /// How many networks were tried.
        attempts: usize,
    },
    /// The machine, or this user, cannot run a node.
    #[error(
        "no node can run here: {reason}. A stack without a node needs no more than `scripts/setup.sh test` brings"
    )]
    NoNode {
        /// What is missing.
        reason: String,
    },
    /// An image was imported, and the container runtime did not take notice.
    #[error("the image {name} is not known to the container runtime; its log is {}", log.display())]
    ImageUnknown {
        /// The image's name.
        name: String,
        /// The runtime's log.
        log: PathBuf,
    },
    /// The start was interrupted by a signal.
    #[error("interrupted; what had started is ended again")]
    Interrupted,
    /// A blocking task of this library was cancelled or panicked.
    #[error("a task of the stack ended early")]
    Task(#[from] tokio::task::JoinError),
}

impl StackError {
    pub(crate) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> StackError {
        let path = path.into();
        move |source| StackError::File { action, path, source }
    }
}

pub(crate) fn outcome(status: ExitStatus) -> String {
    status.to_string()
}
