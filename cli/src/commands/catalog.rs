//! Where the catalog is that commands read.

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use store::catalog::{Catalog, CatalogError};
use store::private_postgres::{PrivatePostgresError, default_data_dir, running_url};

use crate::output::SubscriptionName;

/// The database of a private server, as `tipstaff local` names it.
const DATABASE: &str = "tipstaff";
/// Where operator and workers are told of the database: in a pod of theirs, it needs no flag.
const DATABASE_OF_PODS: &str = "DATABASE_URL";
const CONNECTIONS: u32 = 2;
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// How many subscriptions an error names at most.
const MOST_NAMED: u32 = 10;

/// Where the catalog is.
#[derive(Args, Clone)]
pub struct CatalogArguments {
    /// The catalog's database; without it, that of the `tipstaff local` that runs on this machine
    #[arg(long, value_name = "URL", env = "TIPSTAFF_DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<String>,
    /// The data directory of that `tipstaff local`
    #[arg(long, value_name = "DIR", env = "TIPSTAFF_DATA_DIR")]
    pub data: Option<PathBuf>,
}

/// The catalog cannot be read, or has not what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// No database is named, and no private one runs.
    #[error(
        "no `tipstaff local` or `tipstaff demo` runs on {directories}: start one, name the directory of one that runs \
         with --data, or the catalog's database with --database-url"
    )]
    NothingRuns {
        /// Where one was looked for.
        directories: String,
    },
    /// The private server that is there cannot be reached.
    #[error(transparent)]
    Postgres(#[from] PrivatePostgresError),
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// There is no such subscription.
    #[error("the catalog has no subscription {name:#}{}", among(others))]
    NoSubscription {
        /// What was asked for.
        name: SubscriptionName,
        /// Some that there are.
        others: Vec<String>,
    },
}

/// Goes on from what there is not.
fn among(others: &[String]) -> String {
    if others.is_empty() { ", and no other".to_owned() } else { format!("; it has {}", others.join(", ")) }
}

impl CatalogArguments {
    /// Connects to the catalog, which must be of this program's release.
    ///
    /// # Errors
    /// When none is named and none runs here, or it cannot be reached or read.
    pub async fn connect(&self) -> Result<Catalog, InspectError> {
        let catalog = Catalog::connect(&self.url()?, CONNECTIONS, CONNECT_WITHIN).await?;
        catalog.check_schema().await?;
        Ok(catalog)
    }

    fn url(&self) -> Result<String, InspectError> {
        match (&self.database_url, &self.data) {
            (Some(url), _) => Ok(url.clone()),
            (None, Some(directory)) => running_in(std::slice::from_ref(directory)),
            (None, None) => match env::var(DATABASE_OF_PODS) {
                Ok(url) => Ok(url),
                Err(_) => {
                    let directory = default_data_dir()?;
                    let demo = directory.join("demo");
                    running_in(&[directory, demo])
                }
            },
        }
    }
}

/// The URL of the first private server that runs in one of the data directories.
fn running_in(directories: &[PathBuf]) -> Result<String, InspectError> {
    for directory in directories {
        if let Some(url) = running_url(&directory.join("postgres"), DATABASE)? {
            return Ok(url);
        }
    }
    let directories: Vec<_> = directories.iter().map(|directory| shown(directory)).collect();
    Err(InspectError::NothingRuns { directories: directories.join(" or ") })
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// The catalog's id of a subscription.
pub(super) async fn subscription_id(catalog: &Catalog, name: &SubscriptionName) -> Result<i64, InspectError> {
    if let Some(id) = catalog.named_subscription(&name.namespace, &name.subscription).await? {
        return Ok(id);
    }
    let others = catalog.subscription_names(MOST_NAMED).await?;
    let others = others.into_iter().map(|(namespace, name)| format!("{namespace}/{name}")).collect();
    Err(InspectError::NoSubscription { name: name.clone(), others })
}

/// Takes a command line argument as the name of a subscription.
pub(super) fn subscription_name(text: &str) -> Result<SubscriptionName, String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok(SubscriptionName { namespace: namespace.to_owned(), subscription: name.to_owned() })
        }
        _ => Err("a subscription is written NAMESPACE/NAME, such as default/slip-opinions".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_subscription_has_a_namespace_and_a_name() {
        let name = subscription_name("courts/slip-opinions").unwrap();
        assert_eq!((name.namespace.as_str(), name.subscription.as_str()), ("courts", "slip-opinions"));
        for wrong in ["", "slip-opinions", "/slip-opinions", "courts/", "courts/a/b"] {
            assert!(subscription_name(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn without_a_server_the_error_says_where_it_was_looked_for() {
        let empty = tempfile::tempdir().unwrap();
        let directories = [empty.path().to_owned(), empty.path().join("demo")];
        let shown = running_in(&directories).unwrap_err().to_string();
        let expected = format!("runs on {} or {}:", directories[0].display(), directories[1].display());
        assert!(shown.contains(&expected) && shown.contains("--database-url"), "{shown}");
    }
}
