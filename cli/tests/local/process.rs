//! The `tipstaff` binary as a process that tells its events as JSON.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

/// Making a database on a busy machine is the longest step.
const DEADLINE: Duration = Duration::from_secs(120);

/// A running process; it is killed when it is dropped.
pub(crate) struct Tipstaff {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    events: Vec<Value>,
}

/// A process that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    /// None where a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) events: Vec<Value>,
    /// What it wrote to standard error.
    pub(crate) errors: String,
}

impl Tipstaff {
    pub(crate) fn local(manifests: &Path, data: &Path, arguments: &[&str]) -> Tipstaff {
        let manifests = manifests.to_str().unwrap();
        Tipstaff::start(&[&["local", "-f", manifests], arguments, &["--data"]].concat(), data)
    }

    /// The last of the arguments is the flag of the data directory.
    pub(crate) fn start(arguments: &[&str], data: &Path) -> Tipstaff {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tipstaff"));
        command.args(arguments).arg(data).args(["-o", "json"]).kill_on_drop(true);
        for variable in ["TIPSTAFF_DATA_DIR", "TIPSTAFF_DATABASE_URL", "TIPSTAFF_ALLOW_CIDRS", "RUST_LOG"] {
            command.env_remove(variable);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Tipstaff { child, lines, events: Vec::new() }
    }

    /// The next event of this name.
    pub(crate) async fn wait_for(&mut self, event: &str) -> Value {
        self.wait_until(event, |candidate| candidate["event"] == event).await
    }

    /// The next such event of an object.
    pub(crate) async fn wait_for_object(&mut self, event: &str, kind: &str, name: &str) -> Value {
        let what = format!("{event} {kind} {name}");
        self.wait_until(&what, |candidate| {
            candidate["event"] == event && candidate["kind"] == kind && candidate["name"] == name
        })
        .await
    }

    async fn wait_until(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        loop {
            match timeout(DEADLINE, self.next()).await {
                Ok(Some(event)) if is_it(&event) => return event,
                Ok(Some(_)) => {}
                Ok(None) => {
                    let errors = self.errors().await;
                    panic!("it ended before {what}: {:?}; {errors}", self.events)
                }
                Err(_) => panic!("no {what} came: {:?}", self.events),
            }
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        send(self.child.id().unwrap(), signal);
    }

    /// Waits for its end.
    pub(crate) async fn finish(mut self) -> Finished {
        let all = async {
            while self.next().await.is_some() {}
            let errors = self.errors().await;
            (errors, self.child.wait().await.unwrap())
        };
        let (errors, status) = timeout(DEADLINE, all).await.expect("it did not end");
        Finished { code: status.code(), events: self.events, errors }
    }

    async fn next(&mut self) -> Option<Value> {
        let line = self.lines.next_line().await.unwrap()?;
        let event: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        self.events.push(event.clone());
        Some(event)
    }

    async fn errors(&mut self) -> String {
        let mut errors = String::new();
        if let Some(mut stream) = self.child.stderr.take() {
            stream.read_to_string(&mut errors).await.unwrap();
        }
        errors
    }
}

pub(crate) fn send(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), signal).unwrap();
}
