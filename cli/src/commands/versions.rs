//! `tipstaff versions`: how documents were, one after the other.

use clap::Args;
use store::catalog::VersionRow;

use super::list::{Column, ListArguments};
use super::show::{dash, extent, percent, time};

/// What to show.
#[derive(Args)]
pub struct VersionsArguments {
    #[command(flatten)]
    list: ListArguments,
    /// Only versions that are older than the one with this id
    #[arg(long, value_name = "ID")]
    before: Option<i64>,
}

const COLUMNS: [Column<VersionRow>; 12] = [
    Column::number("ID", |version: &VersionRow| version.id.to_string()),
    Column::text("SUBSCRIPTION", |version| format!("{}/{}", version.namespace, version.subscription)),
    Column::text("URL", |version| version.url.clone()),
    Column::number("VERSION", |version| version.number.to_string()),
    Column::text("KIND", |version| version.kind.clone()),
    Column::text("LINES", lines),
    Column::number("DIFFERS", |version| percent(version.ratio)),
    Column::text("MADE", |version| time(version.created_at)),
    Column::text("FIELDS", fields).wide(),
    Column::number("ARTIFACT", |version: &VersionRow| version.artifact_id.to_string()).wide(),
    Column::text("RUN", |version: &VersionRow| version.run_id.to_string()).wide(),
    Column::text("TEXT SHA256", |version: &VersionRow| version.text_hash.clone()).wide(),
];

/// Prints versions, newest first.
///
/// # Errors
/// When the catalog cannot be read, or has no such subscription.
pub async fn run(arguments: &VersionsArguments) -> Result<(), events::BoxError> {
    let catalog = arguments.list.connect().await?;
    let page = arguments.list.page(&catalog, arguments.before).await?;
    let versions = catalog.list_versions(page).await?;
    arguments.list.print(&versions, &COLUMNS, |version| version.id.to_string())
}

fn lines(version: &VersionRow) -> String {
    extent(version.lines_changed, version.lines_added, version.lines_removed)
}

/// Those that changed.
fn fields(version: &VersionRow) -> String {
    if version.changed_fields.is_empty() { dash() } else { version.changed_fields.join(",") }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::commands::list::{ListFormat, render};

    const DOCUMENTATION: &str = include_str!("../../../docs/cli.md");

    pub(in crate::commands) fn version() -> VersionRow {
        VersionRow {
            id: 61,
            namespace: "courts".into(),
            subscription: "slip-opinions".into(),
            url: "https://court.example/opinions/24-18".into(),
            number: 4,
            kind: "Changed".into(),
            run_id: "5b7e1f30-0000-5000-8000-000000000001".parse().unwrap(),
            extract_id: 52,
            artifact_id: 44,
            text_hash: "0c5d".repeat(16),
            lines_added: 0,
            lines_removed: 0,
            lines_changed: 1,
            ratio: 0.095_238,
            changed_fields: vec!["docket".into()],
            created_at: "2026-03-09T09:00:05Z".parse().unwrap(),
        }
    }

    #[test]
    fn the_documentation_shows_the_table() {
        let baseline = VersionRow {
            id: 60,
            url: "https://court.example/opinions/24-17".into(),
            number: 1,
            kind: "Baseline".into(),
            lines_added: 38,
            lines_changed: 0,
            ratio: 1.0,
            changed_fields: Vec::new(),
            created_at: "2026-03-09T08:00:04Z".parse().unwrap(),
            ..version()
        };
        let table = render(&[version(), baseline], &COLUMNS, ListFormat::Table).unwrap();
        assert!(DOCUMENTATION.contains(&table), "{table}");
        let wide = render(&[version()], &COLUMNS, ListFormat::Wide).unwrap();
        assert!(wide.contains("docket") && wide.contains(&version().text_hash), "{wide}");
    }
}
