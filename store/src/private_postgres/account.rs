//! Under which account the server's programs run, and how they reach their folder.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::PrivatePostgresError;

/// The folder for everything `tipstaff local` keeps when none is named: `/var/lib/tipstaff` for root,
/// `$XDG_STATE_HOME/tipstaff` or `~/.local/state/tipstaff` for everybody else.
///
/// # Errors
/// When the user is not root and has neither variable.
pub fn default_data_dir() -> Result<PathBuf, PrivatePostgresError> {
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/tipstaff"));
    }
    let absolute_variable =
        |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute_variable("XDG_STATE_HOME")
        .or_else(|| absolute_variable("HOME").map(|home| home.join(".local/state")))
        .map(|state| state.join("tipstaff"))
        .ok_or(PrivatePostgresError::NoHome)
}

/// An account as `/etc/passwd` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// Makes the commands of the server's programs: under an account that PostgreSQL accepts, ended with this process.
pub(super) struct Launcher {
    /// The account to change to; `None`: this process is not root and keeps its own.
    pub(super) account: Option<Account>,
    /// util-linux's setpriv: asks the kernel to signal the program when this process dies, which `Command` cannot.
    setpriv: Option<PathBuf>,
}

impl Launcher {
    pub(super) fn for_this_process() -> Result<Launcher, PrivatePostgresError> {
        let account = if rustix::process::geteuid().is_root() {
            let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
            Some(server_account(&passwd).ok_or(PrivatePostgresError::NoAccount)?)
        } else {
            None
        };
        Ok(Launcher { account, setpriv: working_setpriv() })
    }

    /// A command in its own process group, so that a terminal's ctrl-C reaches this process alone.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = match &self.setpriv {
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                // SIGINT is PostgreSQL's fast shutdown.
                command.args(["--pdeathsig", "INT"]);
                if let Some(account) = &self.account {
                    command.args(["--reuid", &account.uid.to_string()]);
                    command.args(["--regid", &account.gid.to_string(), "--clear-groups"]);
                }
                command.arg("--").arg(program);
                command
            }
            None => {
                let mut command = Command::new(program);
                if let Some(account) = &self.account {
                    // The standard library drops the supplementary groups when it changes from root.
                    command.uid(account.uid).gid(account.gid);
                }
                command
            }
        };
        for (name, _) in std::env::vars_os().filter(|(name, _)| speaks_to_postgres(name)) {
            command.env_remove(name);
        }
        command.env("LC_ALL", "C").current_dir("/");
        command.stdin(Stdio::null()).process_group(0);
        command
    }

    /// How the server's programs name `directory`. Where the account cannot pass a folder above it (root's home is
    /// closed to others), they get the open folder itself, which needs no way to it.
    pub(super) fn enter(&self, directory: &Path) -> Result<Entry, PrivatePostgresError> {
        let Some((account, (blocking, mode))) =
            self.account.as_ref().and_then(|account| Some((account, blocking_ancestor(directory, account)?)))
        else {
            return Ok(Entry::Path(directory.to_owned()));
        };
        if self.setpriv.is_none() || !Path::new("/proc/self/fd").is_dir() {
            return Err(PrivatePostgresError::Unreachable {
                data_dir: directory.to_owned(),
                blocking,
                mode,
                user: account.name.clone(),
            });
        }
        let opened = File::open(directory).and_then(|directory| Ok(rustix::io::dup(directory)?)).map_err(
            |source| PrivatePostgresError::Folder { action: "open", path: directory.to_owned(), source },
        )?;
        Ok(Entry::Opened(opened))
    }
}

/// A folder as a program to be started sees it. Keep it until the program runs.
pub(super) enum Entry {
    Path(PathBuf),
    /// A descriptor that programs inherit (`dup` leaves close-on-exec off).
    Opened(OwnedFd),
}

impl Entry {
    pub(super) fn path(&self) -> PathBuf {
        match self {
            Entry::Path(path) => path.clone(),
            Entry::Opened(opened) => PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd())),
        }
    }
}

/// `PGDATA`, `PGPORT` and their like would change what the programs do; so would `TZ`.
fn speaks_to_postgres(variable: &OsStr) -> bool {
    variable.to_string_lossy().starts_with("PG") || variable == "TZ"
}

/// `postgres` if there is one, else `nobody`.
fn server_account(passwd: &str) -> Option<Account> {
    ["postgres", "nobody"].iter().find_map(|wanted| {
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next().filter(|name| name == wanted)?;
            let uid = fields.nth(1)?.parse().ok().filter(|uid| *uid != 0)?;
            let gid = fields.next()?.parse().ok()?;
            Some(Account { name: name.to_owned(), uid, gid })
        })
    })
}

/// The first folder above `directory` that the account may not pass, with its mode. Access lists are not looked at.
fn blocking_ancestor(directory: &Path, account: &Account) -> Option<(PathBuf, u32)> {
    let real = fs::canonicalize(directory).ok()?;
    let mut ancestors: Vec<&Path> = real.ancestors().skip(1).collect();
    ancestors.reverse();
    ancestors.into_iter().find_map(|ancestor| {
        let metadata = fs::metadata(ancestor).ok()?;
        let execute = match metadata.uid() == account.uid {
            true => 0o100,
            false if metadata.gid() == account.gid => 0o010,
            false => 0o001,
        };
        (metadata.mode() & execute == 0).then(|| (ancestor.to_owned(), metadata.mode() & 0o7777))
    })
}

/// The setpriv of util-linux; others by that name do not know `--pdeathsig`.
fn working_setpriv() -> Option<PathBuf> {
    ["/usr/bin/setpriv", "/bin/setpriv"].into_iter().map(PathBuf::from).find(|setpriv| {
        Command::new(setpriv)
            .args(["--pdeathsig", "INT", "--", "true"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn server_account_prefers_postgres_and_never_takes_root() {
        let account = |name: &str, uid, gid| Some(Account { name: name.to_owned(), uid, gid });
        let cases = [
            (
                "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65533::/:/bin/false\npostgres:x:101:104::/:/bin/sh",
                account("postgres", 101, 104),
            ),
            ("nobody:x:65534:65533::/:/bin/false", account("nobody", 65534, 65533)),
            ("postgres:x:0:0::/:/bin/sh\nnobody:x:7:8::/:", account("nobody", 7, 8)),
            ("postgres2:x:5:5::/:/bin/sh\nbroken", None),
            ("", None),
        ];
        for (passwd, expected) in cases {
            assert_eq!(server_account(passwd), expected, "{passwd:?}");
        }
    }

    #[test]
    fn a_closed_folder_above_blocks_a_stranger() {
        let closed = tempfile::tempdir().unwrap();
        fs::set_permissions(closed.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let inside = closed.path().join("a/b");
        fs::create_dir_all(&inside).unwrap();
        let stranger = Account { name: "stranger".into(), uid: 3_000_001, gid: 3_000_001 };
        let owner = Account { uid: fs::metadata(closed.path()).unwrap().uid(), ..stranger.clone() };

        let (blocking, mode) = blocking_ancestor(&inside, &stranger).unwrap();
        assert_eq!(blocking, fs::canonicalize(closed.path()).unwrap());
        assert_eq!(mode, 0o700);
        assert_eq!(blocking_ancestor(&inside, &owner), None);

        fs::set_permissions(closed.path(), fs::Permissions::from_mode(0o711)).unwrap();
        assert_eq!(blocking_ancestor(&inside, &stranger), None);
    }
}
