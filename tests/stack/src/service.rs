//! One running part: started, asked whether it is ready, stopped, killed, paused, started again.

use std::{
    fmt, fs,
    net::SocketAddrV4,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::{
    Part, StackError, files,
    health::Health,
    port,
    process::{self, Launch, Process, ProcessId},
    progress::say,
};

/// Generous, because a machine that also compiles is slow; a part that exits is reported at once.
const READY_WITHIN: Duration = Duration::from_secs(120);
const ASK_EVERY: Duration = Duration::from_millis(50);
/// How long a part may take to end in good order before it is killed.
const STOP_WITHIN: Duration = Duration::from_secs(20);
const KILL_WITHIN: Duration = Duration::from_secs(10);
const KILL_BLOCKING_WITHIN: Duration = Duration::from_secs(2);
/// How often a part is given another port, or network, when somebody else took the one chosen for it.
const PORT_ATTEMPTS: usize = 4;

/// All that is needed to run a part and to know whether it is ready; kept in the state file.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) part: Part,
    pub(crate) address: SocketAddrV4,
    pub(crate) launch: Launch,
    pub(crate) health: Health,
}

/// One part of a stack. All its methods may be called at any time, from any task; they take turns.
pub struct Service {
    plan: Plan,
    /// Where the log and the process id are.
    folder: PathBuf,
    /// Absent while the part is stopped.
    process: Mutex<Option<Process>>,
}

impl Service {
    /// Starts a part for the first time. `plan` chooses the ports and prepares the data; it is asked again when a port
    /// turns out to be taken.
    pub(crate) async fn create(
        folder: &Path,
        plan: impl AsyncFn() -> Result<Plan, StackError>,
    ) -> Result<Service, StackError> {
        let mut attempt = 1;
        loop {
            let service =
                Service { plan: plan().await?, folder: folder.to_owned(), process: Mutex::new(None) };
            let started = Instant::now();
            match service.start().await {
                Ok(()) => {
                    let Plan { part, address, .. } = service.plan;
                    let seconds = started.elapsed().as_secs_f64();
                    say(&format!("{part} is ready on {address} after {seconds:.1} s"));
                    return Ok(service);
                }
                Err(error) if attempt < PORT_ATTEMPTS && is_taken_port(&error) => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// A part that another program started.
    pub(crate) fn attach(folder: &Path, plan: Plan) -> Service {
        let process = process::read_id(&process_file(folder, plan.part)).map(Process::attached);
        Service { plan, folder: folder.to_owned(), process: Mutex::new(process) }
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Which part this is.
    #[must_use]
    pub fn part(&self) -> Part {
        self.plan.part
    }

    /// Where the part serves its clients: on loopback, or, with a node, where pods can reach it too. It stays the same
    /// over restarts.
    #[must_use]
    pub fn address(&self) -> SocketAddrV4 {
        self.plan.address
    }

    /// The port of [`Service::address`].
    #[must_use]
    pub fn port(&self) -> u16 {
        self.plan.address.port()
    }

    /// The file that the part's output is appended to.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        log_file(&self.folder, self.plan.part)
    }

    /// The id of the part's first process; `None` while it does not run.
    pub async fn process_id(&self) -> Option<u32> {
        let mut process = self.process.lock().await;
        running(&mut process).map(|process| process.id.id)
    }

    /// Asks the part whether it does its work now.
    ///
    /// # Errors
    /// When it does not run, does not answer, or says that it is not ready; the end of its log is part of the error.
    pub async fn check(&self) -> Result<(), StackError> {
        let runs = self.process_id().await.is_some();
        let checked = match runs {
            true => self.plan.health.check(self.plan.address).await,
            false => Err("it does not run".to_owned()),
        };
        checked.map_err(|reason| self.failure(reason, 0))
    }

    /// Starts the part on its data and its port, and waits until it is ready. Nothing happens if it runs.
    ///
    /// # Errors
    /// When it exits or is not ready within two minutes; the end of its log is part of the error.
    pub async fn start(&self) -> Result<(), StackError> {
        let mut process = self.process.lock().await;
        match running(&mut process) {
            Some(_) => Ok(()),
            None => self.start_locked(&mut process).await,
        }
    }

    /// Asks the part to end, waits for that, and kills it if it takes longer than 20 seconds.
    ///
    /// # Errors
    /// When not even that ends it.
    pub async fn stop(&self) -> Result<(), StackError> {
        let mut process = self.process.lock().await;
        self.stop_locked(&mut process).await
    }

    /// Ends the part and all its processes with SIGKILL, as a crash would, and waits until they are gone.
    ///
    /// # Errors
    /// When a process does not end.
    pub async fn kill(&self) -> Result<(), StackError> {
        let mut process = self.process.lock().await;
        self.kill_locked(&mut process).await
    }

    /// Stops the part, if it runs, and starts it on the same data and port.
    ///
    /// # Errors
    /// As [`Service::stop`] and [`Service::start`].
    pub async fn restart(&self) -> Result<(), StackError> {
        let mut process = self.process.lock().await;
        self.stop_locked(&mut process).await?;
        self.start_locked(&mut process).await
    }

    /// Freezes the part: its connections stay open, and nothing is answered on them.
    pub async fn pause(&self) {
        self.signal(Signal::STOP).await;
    }

    /// Lets a paused part go on.
    pub async fn resume(&self) {
        self.signal(Signal::CONT).await;
    }

    async fn signal(&self, signal: Signal) {
        if let Some(process) = running(&mut *self.process.lock().await) {
            process.id.signal_tree(signal);
        }
    }

    async fn start_locked(&self, process: &mut Option<Process>) -> Result<(), StackError> {
        let log = self.log_path();
        let log_start = fs::metadata(&log).map_or(0, |metadata| metadata.len());
        let program = self.plan.launch.program.display().to_string();
        let mut started = process::spawn(&self.plan.launch, &log)
            .await
            .map_err(|source| StackError::CannotRun { program, source })?;
        let written = write_process_id(&process_file(&self.folder, self.plan.part), started.id);
        let outcome = match written {
            Ok(()) => self.wait_until_ready(&mut started, log_start).await,
            Err(error) => Err(error),
        };
        *process = Some(started);
        if outcome.is_err() {
            // The first error is the one that tells what is wrong.
            let _ = self.kill_locked(process).await;
        }
        outcome
    }

    async fn wait_until_ready(&self, process: &mut Process, log_start: u64) -> Result<(), StackError> {
        let start = Instant::now();
        loop {
            if let Some(outcome) = process.ended() {
                return Err(self.failure(format!("it ended ({outcome})"), log_start));
            }
            let tree: Vec<_> = process.id.tree().iter().map(|process| process.id).collect();
            let checked = match port::listens(&tree, self.plan.address.port()) {
                true => self.plan.health.check(self.plan.address).await,
                false => Err(format!("it does not listen on {}", self.plan.address)),
            };
            match checked {
                Ok(()) => return Ok(()),
                Err(reason) if start.elapsed() > READY_WITHIN => {
                    let seconds = READY_WITHIN.as_secs();
                    let reason = format!("it was not ready after {seconds} s ({reason})");
                    return Err(self.failure(reason, log_start));
                }
                Err(_) => tokio::time::sleep(ASK_EVERY).await,
            }
        }
    }

    async fn stop_locked(&self, process: &mut Option<Process>) -> Result<(), StackError> {
        if let Some(running) = running(process) {
            // A paused process would see the signal only when it goes on.
            running.id.signal_tree(Signal::CONT);
            self.plan.launch.worker(running.id).signal(self.plan.launch.stop_signal.into());
            if !running.wait(STOP_WITHIN).await {
                say(&format!("{} does not stop, and is killed", self.plan.part));
            }
        }
        self.kill_locked(process).await
    }

    async fn kill_locked(&self, process: &mut Option<Process>) -> Result<(), StackError> {
        if let Some(mut killed) = process.take() {
            let tree = killed.id.signal_tree(Signal::KILL);
            wait_for_end(self.plan.part, &mut killed, &tree).await?;
        }
        remove_process_id(&process_file(&self.folder, self.plan.part));
        Ok(())
    }

    /// Kills the part without waiting long: for places that cannot await.
    pub(crate) fn kill_blocking(&mut self) {
        if let Some(mut process) = self.process.get_mut().take() {
            let tree = process.id.signal_tree(Signal::KILL);
            process.wait_blocking(&tree, KILL_BLOCKING_WITHIN);
        }
        remove_process_id(&process_file(&self.folder, self.plan.part));
    }

    fn failure(&self, reason: String, log_start: u64) -> StackError {
        let log = self.log_path();
        StackError::PartFailed {
            part: self.plan.part,
            reason,
            log_end: files::end_of_log(&log, log_start),
            log,
        }
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The plan's environment holds passwords.
        formatter
            .debug_struct("Service")
            .field("part", &self.plan.part)
            .field("address", &self.plan.address)
            .finish_non_exhaustive()
    }
}

fn running(process: &mut Option<Process>) -> Option<&mut Process> {
    process.as_mut().and_then(|process| process.ended().is_none().then_some(process))
}

/// Waits until a killed process and those of its tree are gone.
async fn wait_for_end(part: Part, process: &mut Process, tree: &[ProcessId]) -> Result<(), StackError> {
    let start = Instant::now();
    while let Some(survivor) = process.survivor(tree) {
        if start.elapsed() > KILL_WITHIN {
            return Err(StackError::DoesNotEnd { part, process: survivor.id });
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// The words of Go's, Java's and PostgreSQL's messages, and MinIO's own.
fn is_taken_port(error: &StackError) -> bool {
    matches!(error, StackError::PartFailed { log_end, .. } if {
        let log = log_end.to_ascii_lowercase();
        log.contains("address already in use")
            || log.contains("port is already in use")
            // What `ip` says of an interface, an address or a route.
            || log.contains("rtnetlink answers: file exists")
    })
}

pub(crate) fn log_file(folder: &Path, part: Part) -> PathBuf {
    folder.join("logs").join(format!("{part}.log"))
}

pub(crate) fn process_file(folder: &Path, part: Part) -> PathBuf {
    folder.join("processes").join(format!("{part}.json"))
}

fn write_process_id(path: &Path, id: ProcessId) -> Result<(), StackError> {
    let text = serde_json::to_string(&id)
        .map_err(|error| StackError::file("write", path)(std::io::Error::other(error)))?;
    files::write_private(path, &text)
}

fn remove_process_id(path: &Path) {
    // A file that stays names a process that is gone, which every reader checks.
    let _ = fs::remove_file(path);
}

/// Kills whatever parts the folder of a stack names, also those of a start that was interrupted.
pub(crate) async fn kill_all(folder: &Path) -> Result<(), StackError> {
    for (part, id, tree) in signal_kill(folder) {
        wait_for_end(part, &mut Process::attached(id), &tree).await?;
        remove_process_id(&process_file(folder, part));
    }
    Ok(())
}

/// The same for places that cannot await, and without an error.
pub(crate) fn kill_all_blocking(folder: &Path) {
    for (part, id, tree) in signal_kill(folder) {
        Process::attached(id).wait_blocking(&tree, KILL_BLOCKING_WITHIN);
        remove_process_id(&process_file(folder, part));
    }
}

/// Sends SIGKILL to the parts that the folder names, and to all that they started.
fn signal_kill(folder: &Path) -> Vec<(Part, ProcessId, Vec<ProcessId>)> {
    let named = Part::ALL.into_iter().filter_map(|part| {
        let id = process::read_id(&process_file(folder, part))?;
        Some((part, id))
    });
    named.map(|(part, id)| (part, id, id.signal_tree(Signal::KILL))).collect()
}
