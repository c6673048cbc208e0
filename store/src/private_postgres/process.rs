//! The server as a process: started, watched, signalled, ended.

use std::fs::File;
use std::io;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, test_kill_process, waitid};
use tokio::sync::{oneshot, watch};

/// How long killed processes may take to go away.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// A running server. Dropping it asks for an immediate shutdown.
pub(super) struct ServerProcess {
    pid: Pid,
    /// Whether the id still is the server's. Signals are sent under this lock, so that they never reach a stranger.
    is_ours: Arc<Mutex<bool>>,
    ended: watch::Receiver<bool>,
}

impl ServerProcess {
    /// Starts the server with its messages going to `log`.
    ///
    /// A thread of its own starts it and waits for it: the kernel's death signal is tied to the thread that made
    /// the process, and threads of the runtime may end before the runtime does.
    pub(super) async fn spawn(mut command: Command, log: &File) -> io::Result<ServerProcess> {
        command.stdout(log.try_clone()?).stderr(log.try_clone()?);
        let is_ours = Arc::new(Mutex::new(true));
        let (ended_sender, ended) = watch::channel(false);
        let (started_sender, started) = oneshot::channel();
        let keeper_is_ours = Arc::clone(&is_ours);
        thread::Builder::new().name("private-postgres".to_owned()).spawn(move || match command.spawn() {
            Ok(child) => {
                let pid = Pid::from_child(&child);
                if started_sender.send(Ok(pid)).is_err() {
                    // Nobody waits for it any more.
                    let _ = kill_process(pid, Signal::QUIT);
                }
                keep(child, pid, &keeper_is_ours);
                let _ = ended_sender.send(true);
            }
            Err(error) => {
                let _ = started_sender.send(Err(error));
            }
        })?;
        let pid = started.await.map_err(|_| io::Error::other("the thread that starts it ended"))??;
        Ok(ServerProcess { pid, is_ours, ended })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Returns when the process has ended.
    pub(super) async fn ended(&self) {
        // An error means that the keeper is gone, and with it the process.
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }

    /// Sends a signal, unless the process has ended.
    pub(super) fn signal(&self, signal: Signal) {
        if *lock(&self.is_ours) {
            // A process that just ended is the outcome that was wanted.
            let _ = kill_process(self.pid, signal);
        }
    }

    /// SIGKILLs the server and its children, and waits until they are gone: a child that lives on would keep the
    /// shared memory, and the next start would be refused.
    pub(super) async fn kill_with_children(&self) {
        // Stopped, it makes no more children while they are listed.
        self.signal(Signal::STOP);
        let children = children_of(self.pid);
        self.signal(Signal::KILL);
        for child in &children {
            let _ = kill_process(*child, Signal::KILL);
        }
        let deadline = Instant::now() + KILL_DEADLINE;
        let _ = tokio::time::timeout(KILL_DEADLINE, self.ended()).await;
        while children.iter().any(|child| is_running(*child)) && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // Immediate shutdown: the children are ended too, and the next start replays the log.
        self.signal(Signal::QUIT);
    }
}

/// Waits for the child, and takes its id out of use before the kernel may give it to another process.
fn keep(mut child: Child, pid: Pid, is_ours: &Mutex<bool>) {
    while let Err(rustix::io::Errno::INTR) =
        waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
    {}
    *lock(is_ours) = false;
    let _ = child.wait();
}

fn lock(mutex: &Mutex<bool>) -> MutexGuard<'_, bool> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The processes whose parent is `parent`. Empty where there is no `/proc`: PostgreSQL's processes then end by
/// themselves soon after their parent.
fn children_of(parent: Pid) -> Vec<Pid> {
    let is_child = |process: &Pid| {
        stat_fields(*process).is_some_and(|(_, parent_of)| parent_of == parent.as_raw_nonzero().get())
    };
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(Pid::from_raw)
        .filter(is_child)
        .collect()
}

fn is_running(process: Pid) -> bool {
    match stat_fields(process) {
        // A zombie holds nothing any more; whoever adopted it may leave it for long.
        Some((state, _)) => state != 'Z' && state != 'X',
        None => !std::path::Path::new("/proc/self").exists() && test_kill_process(process).is_ok(),
    }
}

/// State and parent of a process, from `/proc/<pid>/stat`.
fn stat_fields(process: Pid) -> Option<(char, i32)> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).ok()?;
    // The name before them is in parentheses and may itself hold spaces and parentheses.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// Runs a short program to its end and collects what it printed; past the deadline it is killed.
pub(super) async fn run_to_end(mut command: Command, deadline: Duration) -> io::Result<Output> {
    command.stdin(Stdio::null());
    let mut command = tokio::process::Command::from(command);
    command.kill_on_drop(true);
    tokio::time::timeout(deadline, command.output())
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "it did not end in time"))?
}
