//! A disk that can be filled.

use std::{
    fs::{File, remove_file},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

/// A file system in memory, mounted over a folder until it is dropped.
pub(crate) struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    /// Mounts one of so many bytes; none, and why, where this user may not.
    pub(crate) fn mount(folder: &Path, bytes: u64) -> Result<Self, String> {
        let size = format!("size={bytes}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tipstaff-small-disk"]).arg(folder);
        let output = mount.output().map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
        Ok(Self { folder: folder.to_owned() })
    }

    /// Leaves no byte free.
    pub(crate) fn fill(&self) {
        let mut filler = File::create(self.filler()).unwrap();
        let piece = vec![1; 64 * 1024];
        while filler.write_all(&piece).is_ok() {}
        while filler.write_all(&[1]).is_ok() {}
    }

    /// Frees what was filled.
    pub(crate) fn make_room(&self) {
        remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.folder.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Whoever still has files open there keeps them until it ends.
        let _ = Command::new("umount").arg("--lazy").arg(&self.folder).status();
    }
}
