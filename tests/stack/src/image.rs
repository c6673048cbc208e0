//! Images of containers, made of folders or tar files: there is no registry to pull them from.

use std::{
    fs,
    io::{self, BufRead as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::{Part, StackError, command, files, parts, service};

/// A tar of some hundred megabytes, on a busy machine.
const IMPORT_WITHIN: Duration = Duration::from_secs(120);
/// The namespace of containerd that the kubelet's images are in.
const NAMESPACE: &str = "k8s.io";
/// Set by containerd's Kubernetes plugin when it has taken notice of an image.
const NOTICED: &str = "io.cri-containerd.image=managed";
const NOTICED_WITHIN: Duration = Duration::from_secs(30);

/// An image, as it is to be made.
#[derive(Clone, Debug)]
pub struct Image<'a> {
    /// Its name, as pods say it: `tipstaff.test/worker:1`. Such pods need `imagePullPolicy: Never` or `IfNotPresent`.
    pub name: &'a str,
    /// What it holds: a folder, whose files become root's, or a tar file.
    pub files: &'a Path,
    /// The program and its first arguments.
    pub entrypoint: &'a [&'a str],
    /// Variables, as `NAME=value`.
    pub environment: &'a [&'a str],
    /// The user and group ids that it runs under, as `65532:65532`; empty for root.
    pub user: &'a str,
}

/// Where images are imported.
pub(crate) struct Runtime {
    socket: PathBuf,
    log: PathBuf,
}

impl Runtime {
    /// Of the stack with these folders.
    pub(crate) fn of(folder: &Path, data: &Path) -> Runtime {
        Runtime { socket: parts::containerd_socket(data), log: service::log_file(folder, Part::Containerd) }
    }

    /// Imports the image, and waits until pods can be made of it. One of the same name is replaced.
    pub(crate) async fn import(&self, image: &Image<'_>) -> Result<(), StackError> {
        let folder =
            tempfile::tempdir().map_err(StackError::file("create a folder in", std::env::temp_dir()))?;
        let archive = archive(image, folder.path()).await?;
        self.import_archive(image.name, &archive).await
    }

    /// Imports an archive that holds the image of this name, and waits until pods can be made of it.
    pub(crate) async fn import_archive(&self, name: &str, archive: &Path) -> Result<(), StackError> {
        self.ctr(&["images", "import", &archive.display().to_string()]).await?;
        let filter = format!("name=={name}");
        let start = Instant::now();
        while !self.ctr(&["images", "list", &filter]).await?.contains(NOTICED) {
            if start.elapsed() > NOTICED_WITHIN {
                return Err(StackError::ImageUnknown { name: name.to_owned(), log: self.log.clone() });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    async fn ctr(&self, words: &[&str]) -> Result<String, StackError> {
        let socket = self.socket.display().to_string();
        let mut arguments = vec!["--address", &socket, "--namespace", NAMESPACE];
        arguments.extend(words);
        command::run("ctr".as_ref(), &arguments, &[], "", IMPORT_WITHIN).await
    }
}

/// An archive as `docker save` writes it, with one layer.
async fn archive(image: &Image<'_>, folder: &Path) -> Result<PathBuf, StackError> {
    const LAYER: &str = "layer.tar";
    let layer = folder.join(LAYER);
    if image.files.is_dir() {
        tar(image.files, &["."], &layer).await?;
    } else {
        fs::copy(image.files, &layer).map_err(StackError::file("copy", image.files))?;
    }
    let digest = digest(layer).await?;
    let configuration = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": { "Entrypoint": image.entrypoint, "Env": image.environment, "User": image.user },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
    });
    files::write_private(&folder.join("config.json"), &configuration.to_string())?;
    let manifest = json!([{ "Config": "config.json", "RepoTags": [image.name], "Layers": [LAYER] }]);
    files::write_private(&folder.join("manifest.json"), &manifest.to_string())?;
    let archive = folder.join("image.tar");
    tar(folder, &["manifest.json", "config.json", LAYER], &archive).await?;
    Ok(archive)
}

async fn tar(folder: &Path, names: &[&str], archive: &Path) -> Result<(), StackError> {
    let (folder, archive) = (folder.display().to_string(), archive.display().to_string());
    let mut arguments = vec!["--create", "--file", &archive, "--directory", &folder];
    arguments.extend(["--numeric-owner", "--owner=0", "--group=0", "--"]);
    arguments.extend(names);
    command::run("tar".as_ref(), &arguments, &[], "", IMPORT_WITHIN).await?;
    Ok(())
}

async fn digest(file: PathBuf) -> Result<String, StackError> {
    let digest = tokio::task::spawn_blocking(move || hash(&file).map_err(StackError::file("read", &file)));
    Ok(hex::encode(digest.await??))
}

fn hash(file: &Path) -> io::Result<Vec<u8>> {
    const CHUNK: usize = 1 << 20;
    let mut reader = io::BufReader::with_capacity(CHUNK, fs::File::open(file)?);
    let mut hasher = Sha256::new();
    loop {
        let chunk = reader.fill_buf()?;
        if chunk.is_empty() {
            return Ok(hasher.finalize().to_vec());
        }
        hasher.update(chunk);
        let length = chunk.len();
        reader.consume(length);
    }
}

/// As Go names it, which images do.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
