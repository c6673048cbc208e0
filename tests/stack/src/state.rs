//! What is known about a stack, in a file: how a later program finds what an earlier one started.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Part, S3, StackError, cgroups, files, network::Network, service::Plan};

/// The state file's name in the stack's folder.
pub(crate) const FILE: &str = "state.json";

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) name: String,
    /// Logs, process ids, keys, scripts.
    pub(crate) folder: PathBuf,
    /// The parts' data. Elsewhere, since PostgreSQL runs under an account that may not be able to reach the folder above.
    pub(crate) data: PathBuf,
    /// The node's network, if there is a node.
    pub(crate) node: Option<Network>,
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

    /// Removes what the parts wrote, and the control groups that pods leave.
    pub(crate) fn remove_data(&self) -> Result<(), StackError> {
        self.remove_control_groups()?;
        files::remove_folder(&self.data)
    }

    pub(crate) fn remove_control_groups(&self) -> Result<(), StackError> {
        // A start that was given up may have made a node before it was written here.
        match self.data.join(Part::Node.name()).exists() {
            true => cgroups::remove(&cgroups::name(&self.data)),
            false => Ok(()),
        }
    }

    /// Removes the stack's data, keys and scripts, and the logs unless they are to be kept.
    pub(crate) fn remove(&self, keep_logs: bool) -> Result<(), StackError> {
        self.remove_data()?;
        if !keep_logs {
            return files::remove_folder(&self.folder);
        }
        for inner in ["processes", "bin", "kubernetes"] {
            files::remove_folder(&self.folder.join(inner))?;
        }
        Ok(())
    }
}
