use std::{
    fs::File,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::{Child, Command},
    time::timeout,
};

use crate::eventually;

/// How long a process may take to end after SIGTERM.
const END_WITHIN: Duration = Duration::from_secs(40);

/// A process of Tipstaff. It is killed when this value is dropped.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program of the workspace, as `cargo build --workspace` left it beside this one.
    pub fn start(program: &str, arguments: &[&str], environment: &[(&str, String)], log: &Path) -> Self {
        let path = self::program(program);
        let output = File::options().create(true).append(true).open(log).unwrap();
        let child = Command::new(&path)
            .args(arguments)
            .envs(environment.iter().map(|(name, value)| (*name, value)))
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { child, log: log.to_owned() }
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id().expect("the process has not ended")
    }

    /// Ends it as a crash would.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Asks it to end and waits until it has, as it should.
    pub async fn terminate(mut self) {
        self.signal("TERM").await;
        let status = self.ended().await;
        assert!(status.success(), "ended with {status}; log:\n{}", self.log());
    }

    /// Sends a signal, named as for `kill`.
    pub async fn signal(&self, name: &str) {
        let id = self.id().to_string();
        let status = Command::new("kill").args([&format!("-{name}"), &id]).status().await.unwrap();
        assert!(status.success());
    }

    /// Waits until it ends.
    pub async fn wait(mut self) -> ExitStatus {
        self.ended().await
    }

    async fn ended(&mut self) -> ExitStatus {
        match timeout(END_WITHIN, self.child.wait()).await {
            Ok(status) => {
                let status = status.unwrap();
                assert!(status.signal().is_none(), "ended by {status}; log:\n{}", self.log());
                status
            }
            Err(_) => panic!("the process did not end; log:\n{}", self.log()),
        }
    }

    /// Waits for its end, and says whether it came in time.
    pub async fn ends_within(&mut self, time: Duration) -> bool {
        timeout(time, self.child.wait()).await.is_ok()
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Where it logs.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// What its port for probes and metrics answers: the status line and all that follows.
    pub async fn probe(&self, path: &str) -> String {
        let address = eventually("the address of the probes", Duration::from_secs(30), async || {
            let log = self.log();
            let line = log.lines().find(|line| line.contains("serving probes and metrics"));
            let address =
                line.and_then(|line| line.rsplit("address=").next()).map(|text| text.trim().to_owned());
            address.ok_or(log)
        })
        .await;
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// The value of a series among its metrics, such as `tipstaff_leader` or `name{label="value"}`; none while there is no such.
    pub async fn metric(&self, series: &str) -> Option<f64> {
        let metrics = self.probe("/metrics").await;
        let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map(|value| value.trim().parse().unwrap())
    }

    /// The most memory that it ever had in use, in bytes (Linux: `VmHWM`).
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse().unwrap();
        kibibytes * 1024
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// The path of a program of the workspace. Programs are in `target/debug` or `target/release`, tests in its folder `deps`.
pub fn program(program: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let folders = own.ancestors().skip(1).take(2);
    let found = folders.map(|folder| folder.join(program)).find(|path| path.exists());
    found.unwrap_or_else(|| {
        panic!("{program} is not built beside {}; run `cargo build --workspace` first", own.display())
    })
}
