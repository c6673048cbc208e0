//! Tipstaff's processes, each watched over as a kubelet does: what ended is started again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tests::{Installation, Process};
use tokio::{
    process::Command,
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::sleep,
};

const ROLES: [&str; 5] = ["schedule", "crawl", "parse", "version", "deliver"];
const REPLICAS: usize = 2;
/// How often it is looked whether a process has ended by itself.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// What a pod has to end in by itself.
const GRACE: Duration = Duration::from_secs(30);

/// How many processes ended by themselves, by their role and why.
pub type Ended = BTreeMap<(&'static str, String), usize>;

/// All processes.
pub struct Fleet {
    members: Vec<Member>,
    ended: Arc<Mutex<Ended>>,
    // Dropped with it, and the processes with the tasks.
    _keepers: JoinSet<()>,
}

struct Member {
    name: String,
    commands: mpsc::Sender<(Harm, oneshot::Sender<()>)>,
}

/// What is done to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// SIGKILL, and a new start so much later.
    Kill(Duration),
    /// SIGTERM, and a new start so much after it has ended.
    Restart(Duration),
    /// SIGSTOP for a time.
    Pause(Duration),
}

impl Fleet {
    /// Starts two operators, and two workers of each role. `environment` is that of all.
    pub fn start(tipstaff: &Arc<Installation>, environment: &[(&'static str, String)]) -> Self {
        let ended = Arc::new(Mutex::new(Ended::new()));
        let mut keepers = JoinSet::new();
        let mut members = Vec::new();
        for role in ["operator"].into_iter().chain(ROLES) {
            for replica in 0..REPLICAS {
                let name = format!("{role}-{replica}");
                let (commands, received) = mpsc::channel(1);
                let mut environment = environment.to_vec();
                environment.push(("POD_NAME", name.clone()));
                if role != "operator" {
                    environment.push(("TIPSTAFF_ROLES", role.to_owned()));
                }
                let keeper =
                    Keeper { tipstaff: tipstaff.clone(), role, environment, ended: ended.clone(), received };
                keepers.spawn(keeper.keep());
                members.push(Member { name, commands });
            }
        }
        Self { members, ended, _keepers: keepers }
    }

    /// The names of all processes.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|member| member.name.as_str())
    }

    /// Harms one, and returns when it goes on, or its successor was started.
    pub async fn harm(&self, name: &str, harm: Harm) {
        let Some(member) = self.members.iter().find(|member| member.name == name) else { return };
        let (done, is_done) = oneshot::channel();
        if member.commands.send((harm, done)).await.is_ok() {
            let _ = is_done.await;
        }
    }

    /// How many ended by themselves, and why: an operator that lost its lease does.
    #[must_use]
    pub fn ended_by_themselves(&self) -> Ended {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct Keeper {
    tipstaff: Arc<Installation>,
    role: &'static str,
    environment: Vec<(&'static str, String)>,
    ended: Arc<Mutex<Ended>>,
    received: mpsc::Receiver<(Harm, oneshot::Sender<()>)>,
}

impl Keeper {
    async fn keep(mut self) {
        let mut process = self.start();
        loop {
            tokio::select! {
                command = self.received.recv() => {
                    let Some((harm, done)) = command else { return };
                    match harm {
                        Harm::Kill(time) => {
                            process.kill().await;
                            sleep(time).await;
                            process = self.start();
                        }
                        Harm::Restart(time) => {
                            if process.is_running() {
                                signal(&process, "TERM").await;
                                // It finishes what it has begun; one that is away longer than a pod may take is killed.
                                if !process.ends_within(GRACE).await {
                                    process.kill().await;
                                }
                            }
                            sleep(time).await;
                            process = self.start();
                        }
                        Harm::Pause(time) => {
                            if process.is_running() {
                                signal(&process, "STOP").await;
                                sleep(time).await;
                                signal(&process, "CONT").await;
                            }
                        }
                    }
                    let _ = done.send(());
                }
                () = sleep(LOOK_EVERY) => {
                    if !process.is_running() {
                        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
                        *ended.entry((self.role, reason(&process.log()))).or_default() += 1;
                        drop(ended);
                        process = self.start();
                    }
                }
            }
        }
    }

    fn start(&self) -> Process {
        match self.role {
            "operator" => self.tipstaff.operator(&self.environment),
            _ => self.tipstaff.worker(&self.environment),
        }
    }
}

/// Why a process ended: the first part of the last error that it logged, without what that followed from.
fn reason(log: &str) -> String {
    let error = log.lines().rev().find_map(|line| line.split_once(" ERROR ")?.1.split_once(": "));
    let message = error.map_or("nothing was logged of why", |(_, message)| message);
    message.split(": ").next().unwrap_or_default().to_owned()
}

/// One that has ended meanwhile is not harmed.
async fn signal(process: &Process, name: &str) {
    let id = process.id().to_string();
    let _ = Command::new("kill").args([&format!("-{name}"), &id]).status().await;
}
