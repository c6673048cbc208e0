//! The control groups of a stack's pods: folders of the kernel's, which processes leave behind when they end.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::{StackError, files};

const ROOT: &str = "/sys/fs/cgroup";
/// How long the kernel may take to notice that the last process of a group has ended.
const EMPTY_WITHIN: Duration = Duration::from_secs(5);

/// The name of the groups of the stack with that folder of data.
pub(crate) fn name(data: &Path) -> String {
    data.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A group of that name in every hierarchy.
pub(crate) fn create(name: &str) -> Result<(), StackError> {
    for hierarchy in hierarchies()? {
        files::create_folder(&hierarchy.join(name))?;
    }
    Ok(())
}

/// Removes the groups of that name and those in them, once they have no processes.
pub(crate) fn remove(name: &str) -> Result<(), StackError> {
    for hierarchy in hierarchies()? {
        let group = hierarchy.join(name);
        remove_tree(&group).map_err(StackError::file("remove the control group", group))?;
    }
    Ok(())
}

/// The hierarchies that are mounted: one of version 2, or one for each controller.
fn hierarchies() -> Result<Vec<PathBuf>, StackError> {
    let root = Path::new(ROOT);
    if root.join("cgroup.controllers").exists() {
        return Ok(vec![root.to_owned()]);
    }
    let failed = || StackError::file("read the folder", root);
    let entries = fs::read_dir(root).map_err(failed())?;
    let mut hierarchies = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed())?;
        // Links are other names of hierarchies that hold several controllers.
        if entry.file_type().map_err(failed())?.is_dir() {
            hierarchies.push(entry.path());
        }
    }
    Ok(hierarchies)
}

/// The files in a group cannot be removed, and go with it.
fn remove_tree(group: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(group) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    remove_empty(group)
}

#[allow(clippy::disallowed_methods, reason = "a drop cannot await, and the processes have been killed")]
fn remove_empty(group: &Path) -> io::Result<()> {
    let start = Instant::now();
    loop {
        match fs::remove_dir(group) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && start.elapsed() < EMPTY_WITHIN => {
                std::thread::sleep(Duration::from_millis(10));
            }
            outcome => return outcome,
        }
    }
}
