//! Files that a killed process left half written.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use tokio::task;

use super::BlobError;

/// No body takes this long between two writes: what was not touched for longer has no writer any more.
const ABANDONED_AFTER: Duration = Duration::from_secs(6 * 60 * 60);

/// Creates `directory` when missing and removes from it the files that begin with `prefix` and were abandoned.
pub(super) async fn prepare_directory(directory: &Path, prefix: &'static str) -> Result<(), BlobError> {
    let owned = directory.to_owned();
    run_blocking(move || {
        std::fs::create_dir_all(&owned)?;
        remove_abandoned(&owned, prefix, SystemTime::now())
    })
    .await
    .map_err(BlobError::file("prepare the directory", directory))
}

fn remove_abandoned(directory: &Path, prefix: &str, now: SystemTime) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(prefix) {
            continue;
        }
        // Another process may be starting here too, and have removed it first.
        match remove_if_abandoned(&entry, now) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    Ok(())
}

fn remove_if_abandoned(entry: &std::fs::DirEntry, now: SystemTime) -> io::Result<()> {
    let metadata = entry.metadata()?;
    let untouched = now.duration_since(metadata.modified()?).unwrap_or_default();
    if metadata.is_file() && untouched > ABANDONED_AFTER {
        std::fs::remove_file(entry.path())?;
    }
    Ok(())
}

/// Runs file operations off the runtime's threads.
pub(super) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    // The task fails only by a panic or by the runtime's end; both end this call with it.
    task::spawn_blocking(work).await.unwrap_or_else(|stopped| Err(io::Error::other(stopped)))
}
