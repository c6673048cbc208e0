//! `tipstaff demo`: the built-in sample site, a manifest for it, and `tipstaff local` over both.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use tokio_util::sync::CancellationToken;

use crate::local::{self, Goal, LocalError, LocalOptions, Outcome};
use crate::output::OutputFormat;
use crate::sample_site::{SampleSite, SampleSiteError};

const MANIFEST: &str = include_str!("../../examples/sample.yaml");
/// The address of the sample site in [`MANIFEST`].
const ADDRESS_IN_MANIFEST: &str = "127.0.0.1:4780";
const PREFERRED_PORT: u16 = 4780;

/// How to run the demonstration.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// Where everything is kept, the manifest included.
    pub data_dir: PathBuf,
    /// How often the sample site changes.
    pub interval: Duration,
    /// A database to use instead of a private one.
    pub database_url: Option<String>,
    /// How events are told.
    pub output: OutputFormat,
    /// When to end.
    pub goal: Goal,
}

/// The demonstration could not run, or not go on.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The sample site cannot run.
    #[error(transparent)]
    Site(#[from] SampleSiteError),
    /// The manifest cannot be written.
    #[error("cannot write the sample's manifest {}; name another directory with --data", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// What works on it failed.
    #[error(transparent)]
    Local(#[from] LocalError),
}

/// Runs the sample site and watches it, until the goal is reached or until `shutdown`.
///
/// # Errors
/// When the site or a part cannot start, or ends by itself.
pub async fn run(options: DemoOptions, shutdown: CancellationToken) -> Result<Outcome, DemoError> {
    let site = SampleSite::start(Some(PREFERRED_PORT), options.interval).await?;
    let manifests = options.data_dir.join("manifests");
    let path = manifests.join("sample.yaml");
    let manifest = MANIFEST.replace(ADDRESS_IN_MANIFEST, &site.address().to_string());
    write_manifest(&path, &manifest)
        .await
        .map_err(|source| DemoError::Manifest { path: path.clone(), source })?;
    let local = LocalOptions {
        manifests,
        data_dir: options.data_dir,
        database_url: options.database_url,
        allowed_networks: vec![IpNet::from(site.address().ip())],
        output: options.output,
        goal: options.goal,
        sample_site: Some(site.opinions_url()),
    };
    let outcome = local::run(local, shutdown).await;
    site.stop().await;
    Ok(outcome?)
}

async fn write_manifest(path: &std::path::Path, manifest: &str) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        tokio::fs::create_dir_all(directory).await?;
    }
    tokio::fs::write(path, manifest).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_names_the_preferred_address() {
        assert_eq!(ADDRESS_IN_MANIFEST, format!("127.0.0.1:{PREFERRED_PORT}"));
        assert!(MANIFEST.contains(&format!("baseURL: http://{ADDRESS_IN_MANIFEST}/opinions")));
    }
}
