//! `tipstaff artifacts`: what servers answered.

use clap::Args;
use store::catalog::ArtifactRow;

use super::list::{Column, ListArguments};
use super::show::{dash, time};
use crate::output::short_hash;

/// What to show.
#[derive(Args)]
pub struct ArtifactsArguments {
    #[command(flatten)]
    list: ListArguments,
    /// Only artifacts that are older than this one
    #[arg(long, value_name = "ID")]
    before: Option<i64>,
}

const COLUMNS: [Column<ArtifactRow>; 12] = [
    Column::number("ID", |artifact: &ArtifactRow| artifact.id.to_string()),
    Column::text("SOURCE", |artifact| format!("{}/{}", artifact.namespace, artifact.source)),
    Column::text("URL", |artifact| artifact.source_url.clone()),
    Column::number("STATUS", |artifact| artifact.status.to_string()),
    Column::number("BYTES", |artifact| artifact.byte_size.to_string()),
    Column::text("SHA256", |artifact: &ArtifactRow| short_hash(&artifact.fetch_hash).to_owned()).narrow(),
    Column::text("SHA256", |artifact: &ArtifactRow| artifact.fetch_hash.clone()).wide(),
    Column::text("FETCHED", |artifact| time(artifact.fetched_at)),
    Column::text("TYPE", |artifact: &ArtifactRow| artifact.content_type.clone().unwrap_or_else(dash)).wide(),
    Column::text("ADDRESS", |artifact: &ArtifactRow| artifact.remote_address.clone().unwrap_or_else(dash))
        .wide(),
    Column::text("RUN", |artifact: &ArtifactRow| artifact.run_id.to_string()).wide(),
    Column::text("BLOB", |artifact: &ArtifactRow| artifact.blob_uri.clone()).wide(),
];

/// Prints artifacts, newest first.
///
/// # Errors
/// When the catalog cannot be read, or has no such subscription.
pub async fn run(arguments: &ArtifactsArguments) -> Result<(), events::BoxError> {
    let catalog = arguments.list.connect().await?;
    let page = arguments.list.page(&catalog, arguments.before).await?;
    let artifacts = catalog.list_artifacts(page).await?;
    arguments.list.print(&artifacts, &COLUMNS, |artifact| artifact.id.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use uuid::Uuid;

    use super::*;
    use crate::commands::list::{ListFormat, render};

    const DOCUMENTATION: &str = include_str!("../../../docs/cli.md");

    #[test]
    fn the_documentation_shows_the_table() {
        let changed = ArtifactRow {
            id: 44,
            namespace: "courts".into(),
            source: "supreme-court".into(),
            run_id: Uuid::from_u128(1),
            source_url: "https://court.example/opinions/24-18".into(),
            final_url: "https://court.example/opinions/24-18".into(),
            status: 200,
            content_type: Some("text/html; charset=utf-8".into()),
            byte_size: 12_345,
            fetch_hash: "b4e1".repeat(16),
            blob_uri: "s3://evidence/raw/7/2026/03/09/b4e1.bin".into(),
            remote_address: Some("192.0.2.1:443".into()),
            requested_at: None,
            fetched_at: "2026-03-09T09:00:02.4Z".parse().unwrap(),
            finished_at: None,
            revisit_of: None,
        };
        let same = ArtifactRow {
            id: 43,
            status: 304,
            byte_size: 12_337,
            fetch_hash: "a17c".repeat(16),
            fetched_at: "2026-03-09T08:00:01Z".parse().unwrap(),
            ..changed.clone()
        };
        let table = render(&[changed.clone(), same], &COLUMNS, ListFormat::Table).unwrap();
        assert!(DOCUMENTATION.contains(&table), "{table}");
        let wide = render(std::slice::from_ref(&changed), &COLUMNS, ListFormat::Wide).unwrap();
        for shown in [&changed.fetch_hash, &changed.blob_uri, "192.0.2.1:443", "text/html; charset=utf-8"] {
            assert!(wide.contains(shown), "{shown}: {wide}");
        }
    }
}
