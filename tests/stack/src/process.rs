//! Processes that are started, signalled and watched: by the program that started them, or by a later one that only
//! knows their ids (`stack down` ends what `stack up` started).

use std::{
    ffi::OsString,
    fs,
    io::{self},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{LazyLock, mpsc},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::files;

/// A command line that can be run again: after a kill, or by another program that attached to the stack.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Launch {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    /// All that the process sees besides `PATH` and `HOME`.
    pub(crate) environment: Vec<(String, String)>,
    /// The user and group ids to run under, if not the caller's.
    pub(crate) account: Option<(u32, u32)>,
    pub(crate) stop_signal: StopSignal,
    /// A file that a killed process leaves, and that is removed before the next start.
    ///
    /// PostgreSQL takes its `postmaster.pid` for a running server's as long as a process of that id is listed, and in a
    /// container a killed process may stay listed, as a zombie, for long.
    pub(crate) leftover: Option<PathBuf>,
    /// Whether the process is killed when the program that started it ends, however it ends.
    pub(crate) dies_with_owner: bool,
    pub(crate) namespaces: Namespaces,
}

/// Which processes, mounts and network the program sees.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Namespaces {
    /// Those of the machine.
    Machine,
    /// The program makes new ones, and starts one of its own in them: the first process of a node.
    New,
    /// Those of the node whose process id is in this file.
    Node(PathBuf),
}

impl Launch {
    /// The process that does the part's work: the one that was started, or the one that it started in other namespaces
    /// and waits for.
    pub(crate) fn worker(&self, started: ProcessId) -> ProcessId {
        match self.namespaces {
            Namespaces::Machine => started,
            Namespaces::New | Namespaces::Node(_) => started.tree().get(1).copied().unwrap_or(started),
        }
    }
}

/// What asks a process to end in good order.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum StopSignal {
    Terminate,
    /// PostgreSQL waits for its clients to leave after SIGTERM, and ends their sessions after SIGINT.
    Interrupt,
}

impl From<StopSignal> for Signal {
    fn from(signal: StopSignal) -> Signal {
        match signal {
            StopSignal::Terminate => Signal::TERM,
            StopSignal::Interrupt => Signal::INT,
        }
    }
}

/// A process id together with what tells it from a later process of the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    pub(crate) id: u32,
    /// Clock ticks from the machine's boot to the process's start; absent where there is no `/proc`.
    pub(crate) started: Option<u64>,
}

/// A started process. Dropping it does not end it.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) id: ProcessId,
    /// Absent when another program started the process.
    child: Option<Child>,
}

impl Process {
    pub(crate) fn attached(id: ProcessId) -> Process {
        Process { id, child: None }
    }

    /// Why the process does not run any more; `None` while it runs.
    pub(crate) fn ended(&mut self) -> Option<String> {
        match self.child.as_mut().map(Child::try_wait) {
            Some(Ok(Some(status))) => Some(crate::error::outcome(status)),
            Some(Ok(None)) => None,
            Some(Err(_)) | None => (!self.id.is_alive()).then(|| "it does not run".to_owned()),
        }
    }

    /// Waits for the process to end; `false` when it still runs at the deadline.
    pub(crate) async fn wait(&mut self, deadline: Duration) -> bool {
        let start = Instant::now();
        while self.ended().is_none() {
            if start.elapsed() > deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        true
    }

    /// Which of this process and those of its tree has not ended.
    pub(crate) fn survivor(&mut self, tree: &[ProcessId]) -> Option<ProcessId> {
        match self.ended() {
            None => Some(self.id),
            Some(_) => tree.iter().copied().find(|process| process.is_alive()),
        }
    }

    /// Waits for this process and those of its tree to end, but no longer than the deadline: for places that cannot await.
    #[allow(clippy::disallowed_methods, reason = "a drop cannot await, and killed processes end at once")]
    pub(crate) fn wait_blocking(&mut self, tree: &[ProcessId], deadline: Duration) {
        let start = Instant::now();
        while self.survivor(tree).is_some() && start.elapsed() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl ProcessId {
    pub(crate) fn is_alive(self) -> bool {
        match Stat::read(self.id) {
            // A process that ended but was not waited for by its parent is still listed, as a zombie.
            Some(stat) => self.started == Some(stat.started) && !matches!(stat.state, 'Z' | 'X'),
            None => !has_proc() && pid(self.id).is_some_and(|pid| test_kill_process(pid).is_ok()),
        }
    }

    pub(crate) fn signal(self, signal: Signal) {
        if self.is_alive()
            && let Some(pid) = pid(self.id)
        {
            // The only failures are that it just ended, and that it is another user's, which the caller sees by waiting.
            let _ = kill_process(pid, signal);
        }
    }

    /// Signals the process and all that it started. A PostgreSQL server's sessions are processes of their own, which a
    /// signal to the process group does not reach.
    pub(crate) fn signal_tree(self, signal: Signal) -> Vec<ProcessId> {
        let tree = self.tree();
        for process in &tree {
            process.signal(signal);
        }
        tree
    }

    /// This process first, then its descendants.
    pub(crate) fn tree(self) -> Vec<ProcessId> {
        let all = all_processes();
        let mut tree = vec![self];
        let mut next = 0;
        while let Some(parent) = tree.get(next).map(|process| process.id) {
            tree.extend(
                all.iter()
                    .filter(|(_, stat)| stat.parent == parent)
                    .map(|(id, stat)| ProcessId { id: *id, started: Some(stat.started) }),
            );
            next += 1;
        }
        tree
    }
}

/// Starts the process with its output appended to the log, in a process group of its own.
///
/// The caller has seen that no earlier process of this launch runs.
pub(crate) async fn spawn(launch: &Launch, log: &Path) -> io::Result<Process> {
    if let Some(leftover) = &launch.leftover {
        match fs::remove_file(leftover) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let output = fs::OpenOptions::new().create(true).append(true).open(log)?;
    let mut command = command(launch)?;
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).process_group(0);
    let (reply, child) = oneshot::channel();
    let spawner = SPAWNER.as_ref().ok_or_else(|| io::Error::other("no thread could be started"))?;
    spawner
        .send(Order { command, reply })
        .map_err(|_| io::Error::other("the thread that starts processes has ended"))?;
    let child = child.await.map_err(|_| io::Error::other("the thread that starts processes has ended"))??;
    let id = ProcessId { id: child.id(), started: Stat::read(child.id()).map(|stat| stat.started) };
    Ok(Process { id, child: Some(child) })
}

fn command(launch: &Launch) -> io::Result<Command> {
    let mut words: Vec<OsString> = Vec::new();
    if let Namespaces::Node(file) = &launch.namespaces {
        let node = first_process_of_node(file)?.to_string();
        words.extend(["nsenter", "--target", &node, "--pid", "--mount", "--net", "--"].map(OsString::from));
    }
    words.push(launch.program.clone().into());
    words.extend(launch.arguments.iter().map(OsString::from));

    let setpriv = SETPRIV.as_ref().filter(|_| launch.dies_with_owner || launch.account.is_some());
    let mut command = match setpriv {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            if let Some((user, group)) = launch.account {
                command.args(["--reuid", &user.to_string(), "--regid", &group.to_string()]);
                command.arg("--clear-groups");
            }
            if launch.dies_with_owner {
                command.args(["--pdeathsig", "KILL"]);
            }
            command.arg("--").args(words);
            command
        }
        None => {
            let mut words = words.into_iter();
            let mut command = Command::new(words.next().unwrap_or_default());
            command.args(words);
            if let Some((user, group)) = launch.account {
                command.uid(user).gid(group);
            }
            command
        }
    };
    command
        .env_clear()
        .envs(["PATH", "HOME"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .envs(launch.environment.iter().cloned())
        // Not the caller's folder: it may be closed to the account, or removed while the process runs.
        .current_dir("/");
    Ok(command)
}

/// The process whose namespaces a program that runs on the node enters.
fn first_process_of_node(file: &Path) -> io::Result<u32> {
    let maker = read_id(file).filter(|maker| maker.is_alive());
    let first = maker.and_then(|maker| maker.tree().get(1).copied());
    first.map(|first| first.id).ok_or_else(|| io::Error::other("the node does not run"))
}

/// A process id from its file. A file that is missing or half written means: no process.
pub(crate) fn read_id(file: &Path) -> Option<ProcessId> {
    serde_json::from_str(&fs::read_to_string(file).ok()?).ok()
}

/// util-linux's setpriv can ask the kernel to kill a process when its parent dies, which `Command` cannot. Where it is
/// missing (macOS), parts are ended by [`Drop`] alone.
static SETPRIV: LazyLock<Option<PathBuf>> = LazyLock::new(|| files::on_path("setpriv"));

struct Order {
    command: Command,
    reply: oneshot::Sender<io::Result<Child>>,
}

/// The thread that starts all processes. To the kernel the parent of a process is the *thread* that started it, and
/// threads of an async runtime may end long before the program does: the processes would be killed with them.
static SPAWNER: LazyLock<Option<mpsc::Sender<Order>>> = LazyLock::new(|| {
    let (orders, received) = mpsc::channel::<Order>();
    std::thread::Builder::new()
        .name("stack-spawner".to_owned())
        .spawn(move || {
            for mut order in received {
                // Whoever asked may have given up; the process is then not wanted any more.
                if let Err(Ok(mut unwanted)) = order.reply.send(order.command.spawn()) {
                    let _ = unwanted.kill();
                    let _ = unwanted.wait();
                }
            }
        })
        .ok()?;
    Some(orders)
});

fn pid(id: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(id).ok()?)
}

fn has_proc() -> bool {
    Path::new("/proc/self/stat").exists()
}

/// The fields of `/proc/<id>/stat` that matter here.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    state: char,
    parent: u32,
    started: u64,
}

impl Stat {
    fn read(id: u32) -> Option<Stat> {
        Stat::parse(&fs::read_to_string(format!("/proc/{id}/stat")).ok()?)
    }

    fn parse(text: &str) -> Option<Stat> {
        // The second field, the program's name in parentheses, may itself hold spaces and parentheses.
        let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
        Some(Stat {
            state: fields.next()?.chars().next()?,
            parent: fields.next()?.parse().ok()?,
            started: fields.nth(17)?.parse().ok()?,
        })
    }
}

fn all_processes() -> Vec<(u32, Stat)> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| {
            let id = entry.ok()?.file_name().to_str()?.parse().ok()?;
            Some((id, Stat::read(id)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_program_name_with_parentheses_does_not_disturb_the_fields() {
        let text = "42 (a) b (c)) S 7 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2 3\n";
        assert_eq!(Stat::parse(text), Some(Stat { state: 'S', parent: 7, started: 987_654 }));
    }

    fn sleep(dies_with_owner: bool) -> Launch {
        Launch {
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), "sleep 1000 & wait".into()],
            environment: Vec::new(),
            account: None,
            stop_signal: StopSignal::Terminate,
            leftover: None,
            dies_with_owner,
            namespaces: Namespaces::Machine,
        }
    }

    #[tokio::test]
    async fn a_process_and_what_it_started_are_killed() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = spawn(&sleep(true), &folder.path().join("log")).await.unwrap();
        let start = Instant::now();
        while process.id.tree().len() < 2 {
            assert!(start.elapsed() < Duration::from_secs(10));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let tree = process.id.signal_tree(Signal::KILL);
        assert!(process.wait(Duration::from_secs(10)).await);
        assert!(process.ended().unwrap().contains("signal"));
        while tree.iter().any(|process| process.is_alive()) {
            assert!(start.elapsed() < Duration::from_secs(10));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn a_process_outlives_the_thread_that_asked_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut process = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(spawn(&sleep(true), &log)).unwrap()
        })
        .join()
        .unwrap();
        // The kernel signals at the thread's end, which `join` has waited for.
        assert!(!process.wait(Duration::from_millis(200)).await);
        process.id.signal_tree(Signal::KILL);
        assert!(process.wait(Duration::from_secs(10)).await);
    }

    #[test]
    fn another_process_of_the_same_id_is_not_the_process() {
        let own = Stat::read(std::process::id()).unwrap();
        let this = ProcessId { id: std::process::id(), started: Some(own.started) };
        assert!(this.is_alive());
        let earlier = ProcessId { started: Some(own.started - 1), ..this };
        assert!(!earlier.is_alive());
    }
}
