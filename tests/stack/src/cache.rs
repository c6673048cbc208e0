//! Where things are kept: builds, and the folders of stacks.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::{StackError, files};

/// Names another cache folder than `~/.cache/tipstaff-stack`.
pub const CACHE_VARIABLE: &str = "TIPSTAFF_STACK_CACHE";

/// The logs of tests' own stacks are of use for a while, and then in the way.
const KEPT_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// Tests' own stacks are named with this prefix; only they are tidied away.
pub(crate) const TEST_PREFIX: &str = "test-";

/// The cache folder: `TIPSTAFF_STACK_CACHE`, or `~/.cache/tipstaff-stack`.
pub(crate) fn folder() -> Result<PathBuf, StackError> {
    if let Some(folder) = std::env::var_os(CACHE_VARIABLE).filter(|value| !value.is_empty()) {
        return Ok(folder.into());
    }
    std::env::home_dir().map(|home| home.join(".cache/tipstaff-stack")).ok_or_else(|| {
        StackError::file("find", "~/.cache/tipstaff-stack")(std::io::Error::other("HOME is not set"))
    })
}

/// The folder of the stack of that name: its state, logs, keys and scripts.
pub(crate) fn stack_folder(name: &str) -> Result<PathBuf, StackError> {
    Ok(folder()?.join("run").join(name))
}

/// Removes what tests' own stacks left a day or more ago.
pub(crate) fn tidy() {
    let Ok(runs) = folder().map(|folder| folder.join("run")) else {
        return;
    };
    let Ok(entries) = fs::read_dir(runs) else {
        return;
    };
    for entry in entries.flatten() {
        let is_test = entry.file_name().to_string_lossy().starts_with(TEST_PREFIX);
        if is_test && is_old(&entry.path()) {
            // What cannot be removed now is tried again by the next test; nothing depends on it.
            let state = entry.path().join(crate::state::FILE);
            if let Ok(state) = crate::state::State::read(&state) {
                let _ = state.remove_data();
            }
            let _ = files::remove_folder(&entry.path());
        }
    }
}

fn is_old(path: &Path) -> bool {
    fs::metadata(path)
        .and_then(|metadata| metadata.modified())
        .is_ok_and(|modified| SystemTime::now().duration_since(modified).is_ok_and(|age| age > KEPT_FOR))
}
