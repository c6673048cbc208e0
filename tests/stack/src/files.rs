//! Files with errors that name them, and the ends of logs.

use std::{
    fs,
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use crate::StackError;

const LINES_SHOWN: usize = 30;
const BYTES_READ: u64 = 64 * 1024;

pub(crate) fn create_folder(path: &Path) -> Result<(), StackError> {
    fs::create_dir_all(path).map_err(StackError::file("create the folder", path))
}

pub(crate) fn remove_folder(path: &Path) -> Result<(), StackError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(StackError::file("remove the folder", path)(error))
        }
        _ => Ok(()),
    }
}

pub(crate) fn read(path: &Path) -> Result<String, StackError> {
    fs::read_to_string(path).map_err(StackError::file("read", path))
}

/// Writes a file that only its owner may read, whole or not at all: keys, passwords, state.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<(), StackError> {
    let new = path.with_added_extension("new");
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| fs::rename(&new, path))
        .map_err(StackError::file("write", path))
}

pub(crate) fn write_script(path: &Path, text: &str) -> Result<(), StackError> {
    fs::write(path, text)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)))
        .map_err(StackError::file("write", path))
}

/// The last lines of a log from the given byte on, for an error message.
pub(crate) fn end_of_log(path: &Path, from: u64) -> String {
    let text = match read_end(path, from) {
        Ok(text) => text,
        Err(error) => return format!("(the log cannot be read: {error})"),
    };
    let lines: Vec<_> = text.lines().collect();
    if lines.is_empty() {
        return "(it is empty)".to_owned();
    }
    lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n")
}

fn read_end(path: &Path, from: u64) -> std::io::Result<String> {
    let mut file = fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(from.max(length.saturating_sub(BYTES_READ))))?;
    let mut bytes = Vec::new();
    file.take(BYTES_READ).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Where a program of the machine is, as the shell would find it.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_end_of_a_log_is_its_last_lines_from_the_given_byte_on() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let text: String = (0..100).map(|line| format!("line {line}\n")).collect();
        fs::write(&log, &text).unwrap();
        let end = end_of_log(&log, 0);
        assert!(end.starts_with("line 70\n") && end.ends_with("line 99"), "{end}");
        assert_eq!(end_of_log(&log, text.len() as u64), "(it is empty)");
        assert!(end_of_log(&folder.path().join("none"), 0).contains("cannot be read"));
    }

    #[test]
    fn private_files_are_readable_by_their_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        write_private(&file, "secret").unwrap();
        write_private(&file, "newer").unwrap();
        assert_eq!(read(&file).unwrap(), "newer");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
