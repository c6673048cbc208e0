//! Noticing that manifests changed.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::watch;

use super::{ManifestsError, is_manifest_name};

/// Editors write a file in several steps, and several files are saved together: a change is told when it has been quiet
/// for this long.
const QUIET: Duration = Duration::from_millis(200);

/// Tells when the manifests at a path may have changed.
///
/// For a file, its directory is watched: editors and tools replace files by renaming others over them. A directory that is
/// itself removed and made again is no longer watched.
pub struct ManifestWatcher {
    // Watching ends when it is dropped.
    _watcher: RecommendedWatcher,
    changes: Changes,
}

impl ManifestWatcher {
    /// Starts watching. Start before the first reading, so that no change falls between.
    ///
    /// # Errors
    /// When the path cannot be watched, for example because it does not exist.
    pub fn start(path: &Path) -> Result<ManifestWatcher, ManifestsError> {
        let failed = |source| ManifestsError::Watch { path: path.to_owned(), source };
        let watched = Watched::at(path).map_err(|error| failed(notify::Error::io(error)))?;
        let directories = watched.directories.clone();
        let (sender, changes) = Changes::channel();
        let mut watcher = notify::recommended_watcher(move |outcome: notify::Result<Event>| match outcome {
            Ok(event) if watched.concerns(&event) => sender.send_modify(|count| *count += 1),
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "watching manifests failed; changes may be missed");
                sender.send_modify(|count| *count += 1);
            }
        })
        .map_err(failed)?;
        for directory in directories {
            watcher.watch(&directory, RecursiveMode::NonRecursive).map_err(failed)?;
        }
        Ok(ManifestWatcher { _watcher: watcher, changes })
    }

    /// Returns when something has changed since the last return, and has been quiet for 200 ms. Nothing is lost when it is
    /// dropped before.
    pub async fn changed(&mut self) {
        self.changes.settled().await;
    }
}

/// What is watched, and which of its files matter.
struct Watched {
    directories: Vec<PathBuf>,
    /// The file's names (its own, and that of the file a link leads to); none: all manifests of the directory.
    names: Vec<OsString>,
}

impl Watched {
    fn at(path: &Path) -> std::io::Result<Watched> {
        let real = path.canonicalize()?;
        if real.is_dir() {
            return Ok(Watched { directories: vec![real], names: Vec::new() });
        }
        let own = std::path::absolute(path)?;
        let files = if own == real { vec![real] } else { vec![own, real] };
        let mut directories: Vec<PathBuf> =
            files.iter().filter_map(|file| file.parent()).map(Path::to_owned).collect();
        directories.dedup();
        let names = files.iter().filter_map(|file| file.file_name()).map(OsStr::to_owned).collect();
        Ok(Watched { directories, names })
    }

    fn concerns(&self, event: &Event) -> bool {
        if event.need_rescan() {
            return true;
        }
        // Reading is an event too: ours would call for the next one.
        !matches!(event.kind, EventKind::Access(_)) && event.paths.iter().any(|path| self.concerns_path(path))
    }

    fn concerns_path(&self, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default();
        // A mounted ConfigMap changes by turning this link round.
        if name == "..data" || self.directories.iter().any(|directory| directory == path) {
            return true;
        }
        if self.names.is_empty() { is_manifest_name(path) } else { self.names.iter().any(|own| own == name) }
    }
}

/// Counts changes, and tells when they have settled.
struct Changes {
    count: watch::Receiver<u64>,
    told: u64,
}

impl Changes {
    fn channel() -> (watch::Sender<u64>, Changes) {
        let (sender, count) = watch::channel(0);
        (sender, Changes { count, told: 0 })
    }

    async fn settled(&mut self) {
        let mut known = self.told;
        if !self.passes(known).await {
            // The counting end is gone, and with it all news.
            std::future::pending::<()>().await;
        }
        loop {
            known = *self.count.borrow();
            match tokio::time::timeout(QUIET, self.passes(known)).await {
                Ok(true) => {}
                Ok(false) | Err(_) => break,
            }
        }
        self.told = known;
    }

    /// Waits until the count is another than `known`; false if it never will be.
    async fn passes(&mut self, known: u64) -> bool {
        self.count.wait_for(|count| *count != known).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use notify::event::{AccessKind, CreateKind, DataChange, ModifyKind};
    use tokio::time::{Instant, timeout};

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_burst_of_changes_is_told_once_when_it_is_over() {
        let (sender, mut changes) = Changes::channel();
        let start = Instant::now();
        tokio::spawn(async move {
            for _ in 0..5 {
                tokio::time::sleep(Duration::from_millis(150)).await;
                sender.send_modify(|count| *count += 1);
            }
            tokio::time::sleep(Duration::from_secs(60)).await;
            sender.send_modify(|count| *count += 1);
            std::future::pending::<()>().await;
        });
        changes.settled().await;
        assert_eq!(start.elapsed(), Duration::from_millis(5 * 150 + 200));
        changes.settled().await;
        assert_eq!(start.elapsed(), Duration::from_millis(5 * 150 + 60_000 + 200));
        assert!(timeout(Duration::from_secs(3600), changes.settled()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_survives_a_dropped_wait() {
        let (sender, mut changes) = Changes::channel();
        sender.send_modify(|count| *count += 1);
        assert!(timeout(Duration::from_millis(100), changes.settled()).await.is_err(), "not quiet yet");
        assert!(timeout(Duration::from_millis(201), changes.settled()).await.is_ok());
    }

    #[test]
    fn only_changes_of_manifests_concern_us() {
        let directory = Watched { directories: vec!["/d".into()], names: Vec::new() };
        let file = Watched { directories: vec!["/d".into()], names: vec!["a.conf".into()] };
        let modify = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        let cases = [
            ("/d/a.yaml", modify, true, false),
            ("/d/b.json", EventKind::Create(CreateKind::File), true, false),
            ("/d/a.conf", modify, false, true),
            ("/d/.a.yaml.swp", modify, false, false),
            ("/d/.hidden.yaml", modify, false, false),
            ("/d/catalog.db", modify, false, false),
            ("/d/a.yaml", EventKind::Access(AccessKind::Read), false, false),
            ("/d/a.conf", EventKind::Access(AccessKind::Read), false, false),
            ("/d/..data", EventKind::Create(CreateKind::Any), true, true),
            ("/d", EventKind::Remove(notify::event::RemoveKind::Folder), true, true),
        ];
        for (path, kind, in_directory, of_file) in cases {
            let event = Event::new(kind).add_path(path.into());
            assert_eq!(directory.concerns(&event), in_directory, "{event:?}");
            assert_eq!(file.concerns(&event), of_file, "{event:?}");
        }
    }

    #[tokio::test]
    async fn writes_replacements_and_removals_are_told() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("a.yaml");
        fs::write(&file, "one").unwrap();
        let mut directory_watcher = ManifestWatcher::start(place.path()).unwrap();
        let mut file_watcher = ManifestWatcher::start(&file).unwrap();
        let steps: [(&str, &dyn Fn()); 4] = [
            ("write", &|| fs::write(&file, "two").unwrap()),
            ("replace", &|| {
                let new = place.path().join(".a.yaml.new");
                fs::write(&new, "three").unwrap();
                fs::rename(&new, &file).unwrap();
            }),
            ("write to the replacement", &|| fs::write(&file, "four").unwrap()),
            ("remove", &|| fs::remove_file(&file).unwrap()),
        ];
        for (name, change) in steps {
            change();
            for watcher in [&mut directory_watcher, &mut file_watcher] {
                assert!(timeout(DEADLINE, watcher.changed()).await.is_ok(), "{name}");
            }
        }
        fs::write(place.path().join("new.yml"), "").unwrap();
        assert!(timeout(DEADLINE, directory_watcher.changed()).await.is_ok(), "another file");
        assert!(ManifestWatcher::start(&place.path().join("missing")).is_err());
    }
}
