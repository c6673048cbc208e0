//! Finding the PostgreSQL that is installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::PrivatePostgresError;
use super::process::run_to_end;

/// The variable that names the folder of the binaries and overrides every other place.
const BINARIES_VARIABLE: &str = "TIPSTAFF_POSTGRES_BIN";
const QUESTION_DEADLINE: Duration = Duration::from_secs(10);

/// The programs of one installed PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresBinaries {
    /// The server.
    pub postgres: PathBuf,
    /// The program that makes a server's folder.
    pub initdb: PathBuf,
    /// The major version, such as 15.
    pub major: u32,
}

/// Finds the binaries: in `$TIPSTAFF_POSTGRES_BIN` and nowhere else if that is set, else on `PATH`, where `pg_config` says,
/// in Debian's `/usr/lib/postgresql` (newest first), then in Red Hat's, PGDG's and Homebrew's folders.
///
/// # Errors
/// When no place holds both `postgres` and `initdb`, or they do not say their version.
pub async fn find_binaries() -> Result<PostgresBinaries, PrivatePostgresError> {
    match candidates().await.first() {
        Some(directory) => binaries_in(directory).await,
        None => Err(no_binaries()),
    }
}

/// The first binaries of a major version, which a folder made by it needs.
pub(super) async fn find_binaries_of(
    major: u32,
    data_dir: &Path,
) -> Result<PostgresBinaries, PrivatePostgresError> {
    let mut found = Vec::new();
    for directory in candidates().await {
        let binaries = binaries_in(&directory).await?;
        if binaries.major == major {
            return Ok(binaries);
        }
        found.push(format!("{} ({})", binaries.major, directory.display()));
    }
    if found.is_empty() {
        return Err(no_binaries());
    }
    Err(PrivatePostgresError::OtherMajor {
        data_dir: data_dir.to_owned(),
        folder_major: major,
        found: found.join(", "),
    })
}

fn no_binaries() -> PrivatePostgresError {
    PrivatePostgresError::NoBinaries {
        looked_in: match std::env::var(BINARIES_VARIABLE) {
            Ok(directory) => format!("{BINARIES_VARIABLE}={directory}"),
            Err(_) => "PATH, pg_config --bindir, /usr/lib/postgresql, /usr/pgsql-*, Homebrew".to_owned(),
        },
    }
}

async fn binaries_in(directory: &Path) -> Result<PostgresBinaries, PrivatePostgresError> {
    let postgres = directory.join("postgres");
    let mut command = Command::new(&postgres);
    command.arg("--version");
    let output = run_to_end(command, QUESTION_DEADLINE)
        .await
        .map_err(|source| PrivatePostgresError::Run { program: postgres.clone(), source })?;
    let answer = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match major_of(&answer) {
        Some(major) => Ok(PostgresBinaries { initdb: directory.join("initdb"), postgres, major }),
        None => Err(PrivatePostgresError::UnknownVersion { program: postgres, answer }),
    }
}

/// Folders that hold both programs, best first, each once.
async fn candidates() -> Vec<PathBuf> {
    if let Some(directory) = std::env::var_os(BINARIES_VARIABLE) {
        return with_both_programs([PathBuf::from(directory)]);
    }
    let mut directories: Vec<PathBuf> =
        std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    let mut pg_config = Command::new("pg_config");
    pg_config.arg("--bindir");
    if let Ok(output) = run_to_end(pg_config, QUESTION_DEADLINE).await {
        directories.push(String::from_utf8_lossy(&output.stdout).trim().into());
    }
    directories.extend(versioned("/usr/lib/postgresql", ""));
    directories.extend(versioned("/usr", "pgsql-"));
    for homebrew in ["/opt/homebrew/opt", "/usr/local/opt", "/home/linuxbrew/.linuxbrew/opt"] {
        directories.extend(versioned(homebrew, "postgresql@"));
    }
    with_both_programs(directories)
}

/// `parent/<prefix><number>/bin`, the highest number first.
fn versioned(parent: &str, prefix: &str) -> Vec<PathBuf> {
    let mut versions: Vec<u32> = fs::read_dir(parent)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let name = entry.ok()?.file_name();
            name.to_str()?.strip_prefix(prefix)?.parse().ok()
        })
        .collect();
    versions.sort_unstable_by(|left, right| right.cmp(left));
    versions
        .into_iter()
        .map(|version| Path::new(parent).join(format!("{prefix}{version}")).join("bin"))
        .collect()
}

fn with_both_programs(directories: impl IntoIterator<Item = PathBuf>) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for directory in directories {
        // A link on PATH leads to the folder where the programs find their libraries and each other.
        let Ok(postgres) = fs::canonicalize(directory.join("postgres")) else {
            continue;
        };
        let Some(real) = postgres.parent() else {
            continue;
        };
        if real.join("initdb").is_file() && !found.iter().any(|other| other == real) {
            found.push(real.to_owned());
        }
    }
    found
}

/// `postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)` is 15; `… 18beta1` is 18.
fn major_of(answer: &str) -> Option<u32> {
    let version = answer.split("(PostgreSQL) ").nth(1)?;
    let digits = version.split(|character: char| !character.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn major_version_of_an_answer() {
        let cases = [
            ("postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)", Some(15)),
            ("postgres (PostgreSQL) 18beta1", Some(18)),
            ("postgres (PostgreSQL) 17.0", Some(17)),
            ("postgres (PostgreSQL) devel", None),
            ("", None),
        ];
        for (answer, expected) in cases {
            assert_eq!(major_of(answer), expected, "{answer:?}");
        }
    }
}
