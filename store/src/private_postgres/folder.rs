//! The folder of a private server: what is in it, whose it is, whether it is in use.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::account::Launcher;
use super::{PrivatePostgresError, SUPERUSER, absolute};

/// The file from which `initdb` reads the password; removed when it has.
pub(super) const INITDB_PASSWORD: &str = "initdb-password";

const CLUSTER: &str = "cluster";
const UNFINISHED_CLUSTER: &str = "cluster.unfinished";
const LOCK: &str = "lock";

/// A log beyond this size is set aside (one is kept) at the next start.
const LOG_LIMIT_BYTES: u64 = 4 << 20;
/// How much of the log an error shows.
const LOG_TAIL_BYTES: u64 = 8 << 10;
const LOG_TAIL_LINES: usize = 15;
/// How long a server that is shutting down already is waited for.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(30);

pub(super) struct Folder {
    path: PathBuf,
}

/// Held by the one owner of the folder; the kernel releases it when the owner ends, however it ends.
pub(super) struct FolderLock {
    _file: File,
}

impl Folder {
    /// Makes the folder if needed and gives it to the account of the server; refuses one that holds other things.
    pub(super) fn open(path: &Path, launcher: &Launcher) -> Result<Folder, PrivatePostgresError> {
        let folder = Folder { path: absolute(path)? };
        let path = folder.path();
        fs::create_dir_all(path).map_err(|error| failed("create", path, error))?;
        if !folder.is_empty()? && !path.join(LOCK).exists() {
            return Err(PrivatePostgresError::NotOurs { data_dir: path.to_owned() });
        }
        give(path, 0o700, launcher)?;
        Ok(folder)
    }

    /// The folder as it is, for whoever only looks.
    pub(super) fn at(path: &Path) -> Result<Folder, PrivatePostgresError> {
        Ok(Folder { path: absolute(path)? })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// PostgreSQL's own folder.
    pub(super) fn cluster(&self) -> PathBuf {
        self.path.join(CLUSTER)
    }

    pub(super) fn log_file(&self) -> PathBuf {
        self.path.join("postgres.log")
    }

    pub(super) fn password_file(&self) -> PathBuf {
        self.path.join("pgpass")
    }

    pub(super) fn lock(&self) -> Result<FolderLock, PrivatePostgresError> {
        let path = self.path.join(LOCK);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|error| failed("open", &path, error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                let _ = file.take(32).read_to_string(&mut owner);
                return Err(self.in_use(owner.trim()));
            }
            Err(TryLockError::Error(error)) => return Err(failed("lock", &path, error)),
        }
        // The content is for the message above; the lock itself is the kernel's.
        file.set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(|error| failed("write", &path, error))?;
        Ok(FolderLock { _file: file })
    }

    /// The server's password: made on the first start, read on later ones.
    pub(super) fn password(&self, launcher: &Launcher) -> Result<String, PrivatePostgresError> {
        let path = self.password_file();
        match fs::read_to_string(&path) {
            Ok(line) => password_in(&line).ok_or(PrivatePostgresError::PasswordLost { path }),
            Err(_) if self.cluster().exists() => Err(PrivatePostgresError::PasswordLost { path }),
            Err(_) => {
                let password = uuid::Uuid::new_v4().simple().to_string();
                let line = format!("127.0.0.1:*:*:{SUPERUSER}:{password}\n");
                write_secret(&path, &line, launcher)?;
                Ok(password)
            }
        }
    }

    /// The port of the server that runs on the cluster and its password, if one runs.
    pub(super) fn running(&self) -> Result<Option<(u16, String)>, PrivatePostgresError> {
        let path = self.cluster().join("postmaster.pid");
        let content = match fs::read_to_string(&path) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", &path, error)),
        };
        let mut lines = content.lines().map(str::trim);
        let pid = lines.next().unwrap_or_default();
        // The fourth line is the port; the server writes it a moment after the first.
        let Some(port) = lines.nth(2).and_then(|port| port.parse().ok()) else { return Ok(None) };
        if !self.is_served_by(pid) {
            return Ok(None);
        }
        Ok(Some((port, self.known_password()?)))
    }

    /// The password that an earlier start made.
    fn known_password(&self) -> Result<String, PrivatePostgresError> {
        let path = self.password_file();
        let line = fs::read_to_string(&path).map_err(|error| failed("read", &path, error))?;
        password_in(&line).ok_or(PrivatePostgresError::PasswordLost { path })
    }

    /// The major version that made the cluster; `None` if there is none yet.
    pub(super) fn major_version(&self) -> Result<Option<u32>, PrivatePostgresError> {
        let path = self.cluster().join("PG_VERSION");
        match fs::read_to_string(&path) {
            Ok(version) => version
                .trim()
                .parse()
                .map(Some)
                .map_err(|_| failed("read a version from", &path, io::ErrorKind::InvalidData.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.cluster().exists() => Ok(None),
            Err(error) => Err(failed("read", &path, error)),
        }
    }

    /// An empty folder in which `initdb` works; what an interrupted one left is removed.
    pub(super) fn make_unfinished_cluster(
        &self,
        launcher: &Launcher,
    ) -> Result<PathBuf, PrivatePostgresError> {
        let path = self.path.join(UNFINISHED_CLUSTER);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", &path, error));
            }
            _ => {}
        }
        fs::create_dir(&path).map_err(|error| failed("create", &path, error))?;
        give(&path, 0o700, launcher)?;
        Ok(path)
    }

    pub(super) fn write_initdb_password(
        &self,
        launcher: &Launcher,
        password: &str,
    ) -> Result<PathBuf, PrivatePostgresError> {
        let path = self.path.join(INITDB_PASSWORD);
        write_secret(&path, password, launcher)?;
        Ok(path)
    }

    /// Gives the finished cluster its name.
    pub(super) fn finish_cluster(&self) -> Result<(), PrivatePostgresError> {
        let unfinished = self.path.join(UNFINISHED_CLUSTER);
        fs::rename(&unfinished, self.cluster()).map_err(|error| failed("rename", &unfinished, error))
    }

    /// Makes sure that no server runs on the cluster. One that is shutting down (its owner was killed a moment ago) is
    /// waited for. A `postmaster.pid` whose process is gone or is something else by now is removed: PostgreSQL
    /// would refuse to start when the id belongs to any process of the same user, as after a container's restart.
    pub(super) async fn wait_until_unused(&self) -> Result<(), PrivatePostgresError> {
        let path = self.cluster().join("postmaster.pid");
        let started = Instant::now();
        loop {
            let Ok(content) = fs::read_to_string(&path) else {
                return Ok(());
            };
            let mut lines = content.lines();
            let pid = lines.next().unwrap_or_default().trim();
            if !self.is_served_by(pid) {
                return match fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        Err(failed("remove", &path, error))
                    }
                    _ => Ok(()),
                };
            }
            // The eighth line is the server's state.
            let is_stopping = lines.nth(6).unwrap_or_default().trim() == "stopping";
            if !is_stopping || started.elapsed() > SHUTDOWN_DEADLINE {
                return Err(self.in_use(pid));
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// Whether a live process works in the cluster's folder, as every server does in its own.
    fn is_served_by(&self, pid: &str) -> bool {
        let Some(process) = pid.parse().ok().and_then(rustix::process::Pid::from_raw) else {
            return false;
        };
        let identity = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino()));
        match identity(Path::new(&format!("/proc/{pid}/cwd"))) {
            Ok(working_in) => identity(&self.cluster()).is_ok_and(|cluster| cluster == working_in),
            // It is there and hides from us, or there is no /proc: take the id's word.
            Err(_) => match rustix::process::test_kill_process(process) {
                Ok(()) => !Path::new("/proc/self").exists(),
                Err(error) => error == rustix::io::Errno::PERM,
            },
        }
    }

    /// The log, opened for appending by the server; a large one is set aside first.
    pub(super) fn open_log(&self) -> Result<Log, PrivatePostgresError> {
        let path = self.log_file();
        if fs::metadata(&path).is_ok_and(|log| log.len() > LOG_LIMIT_BYTES) {
            fs::rename(&path, path.with_extension("log.1"))
                .map_err(|error| failed("rename", &path, error))?;
        }
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| failed("open", &path, error))?;
        let start = file.metadata().map_err(|error| failed("read", &path, error))?.len();
        Ok(Log { file, start })
    }

    fn is_empty(&self) -> Result<bool, PrivatePostgresError> {
        let mut entries = fs::read_dir(&self.path).map_err(|error| failed("read", &self.path, error))?;
        Ok(entries.next().is_none())
    }

    fn in_use(&self, pid: &str) -> PrivatePostgresError {
        PrivatePostgresError::InUse { data_dir: self.path.clone(), pid: pid.to_owned() }
    }
}

/// The server's log, and where this start's part of it begins.
pub(super) struct Log {
    pub(super) file: File,
    start: u64,
}

impl Log {
    /// The last lines that this start wrote; empty if they cannot be read, as they only add to another error.
    pub(super) fn tail(&self) -> String {
        let read = || -> io::Result<String> {
            let mut file = &self.file;
            let end = file.metadata()?.len();
            file.seek(SeekFrom::Start(self.start.max(end.saturating_sub(LOG_TAIL_BYTES))))?;
            let mut bytes = Vec::new();
            file.take(LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let text = read().unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }
}

/// The last field of a line of `pgpass`.
fn password_in(line: &str) -> Option<String> {
    let (_, password) = line.trim().rsplit_once(':')?;
    (!password.is_empty()).then(|| password.to_owned())
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> PrivatePostgresError {
    PrivatePostgresError::Folder { action, path: path.to_owned(), source }
}

/// Sets the mode and, under root, the owner.
fn give(path: &Path, mode: u32, launcher: &Launcher) -> Result<(), PrivatePostgresError> {
    fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(|error| failed("set the mode of", path, error))?;
    match &launcher.account {
        Some(account) => chown(path, Some(account.uid), Some(account.gid))
            .map_err(|error| failed("change the owner of", path, error)),
        None => Ok(()),
    }
}

/// Writes a file that only its owner can read, from its first moment on, whole or not at all.
fn write_secret(path: &Path, content: &str, launcher: &Launcher) -> Result<(), PrivatePostgresError> {
    let unfinished = path.with_extension("unfinished");
    let write = || {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|error| failed("write", &unfinished, error))?;
    give(&unfinished, 0o600, launcher)?;
    fs::rename(&unfinished, path).map_err(|error| failed("rename", &unfinished, error))
}
