//! What is known about a stack, in a file: how a later program finds what an earlier one started.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{S3, StackError, files, service::Plan};

/// The state file's name in the stack's folder.
pub(crate) const FILE: &str = "state.json";

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) name: String,
    /// Logs, process ids, keys, scripts.
    pub(crate) folder: PathBuf,
    /// The parts' data. Elsewhere, since PostgreSQL runs under an account that may not be able to reach the folder above.
    pub(crate) data: PathBuf,
    pub(crate) s3: Option<S3>,
    pub(crate) postgres: Option<PostgresAccess>,
    pub(crate) plans: Vec<Plan>,
}

/// Who may connect to the PostgreSQL server.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct PostgresAccess {
    pub(crate) user: String,
    pub(crate) password: String,
}

impl State {
    pub(crate) fn read(path: &Path) -> Result<State, StackError> {
        if !path.exists() {
            return Err(StackError::NotUp { state: path.to_owned() });
        }
        serde_json::from_str(&files::read(path)?)
            .map_err(|source| StackError::StateUnreadable { path: path.to_owned(), source })
    }

    pub(crate) fn write(&self, path: &Path) -> Result<(), StackError> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| StackError::file("write", path)(std::io::Error::other(error)))?;
        files::write_private(path, &text)
    }

    /// Removes the stack's data, keys and scripts, and the logs unless they are to be kept.
    pub(crate) fn remove(&self, keep_logs: bool) -> Result<(), StackError> {
        files::remove_folder(&self.data)?;
        if !keep_logs {
            return files::remove_folder(&self.folder);
        }
        for inner in ["processes", "bin", "kubernetes"] {
            files::remove_folder(&self.folder.join(inner))?;
        }
        Ok(())
    }
}
