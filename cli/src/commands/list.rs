//! Lists of rows of the catalog, newest first: tables for people, a JSON object a row for programs.

use clap::{Args, ValueEnum};
use serde::Serialize;
use store::catalog::{Catalog, Page};

use super::catalog::{CatalogArguments, InspectError, subscription_id, subscription_name};
use super::show;
use crate::output::SubscriptionName;
use crate::output::columns::{self, Heading};

/// What a list shows, whatever its rows are.
#[derive(Args)]
pub struct ListArguments {
    /// Those of one subscription; without it, of all
    #[arg(value_name = "NAMESPACE/NAME", value_parser = subscription_name)]
    subscription: Option<SubscriptionName>,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// How they are shown
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    output: ListFormat,
    #[command(flatten)]
    catalog: CatalogArguments,
}

/// How rows are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ListFormat {
    /// A table
    #[default]
    Table,
    /// A table with all columns
    Wide,
    /// A JSON object a row
    Json,
}

/// A column of a table.
pub(super) struct Column<Row> {
    heading: Heading,
    shown: Shown,
    cell: fn(&Row) -> String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    Always,
    Narrow,
    Wide,
}

impl<Row> Column<Row> {
    pub(super) const fn text(heading: &'static str, cell: fn(&Row) -> String) -> Self {
        Self { heading: Heading::text(heading), shown: Shown::Always, cell }
    }

    pub(super) const fn number(heading: &'static str, cell: fn(&Row) -> String) -> Self {
        Self { heading: Heading::number(heading), shown: Shown::Always, cell }
    }

    /// The column is part of wide tables only.
    pub(super) const fn wide(self) -> Self {
        Self { shown: Shown::Wide, ..self }
    }

    /// The column is not part of wide tables.
    pub(super) const fn narrow(self) -> Self {
        Self { shown: Shown::Narrow, ..self }
    }

    fn is_shown(&self, format: ListFormat) -> bool {
        match self.shown {
            Shown::Always => true,
            Shown::Narrow => format != ListFormat::Wide,
            Shown::Wide => format == ListFormat::Wide,
        }
    }
}

impl ListArguments {
    pub(super) async fn connect(&self) -> Result<Catalog, InspectError> {
        self.catalog.connect().await
    }

    pub(super) async fn page<Id>(
        &self,
        catalog: &Catalog,
        before: Option<Id>,
    ) -> Result<Page<Id>, InspectError> {
        let subscription_id = match &self.subscription {
            Some(name) => Some(subscription_id(catalog, name).await?),
            None => None,
        };
        Ok(Page { subscription_id, before, limit: self.limit })
    }

    /// Prints the rows; `id` is what `--before` takes.
    pub(super) fn print<Row: Serialize>(
        &self,
        rows: &[Row],
        columns: &[Column<Row>],
        id: impl Fn(&Row) -> String,
    ) -> Result<(), events::BoxError> {
        show::print(&render(rows, columns, self.output)?)?;
        if self.output == ListFormat::Json {
            return Ok(());
        }
        match rows.last() {
            None => show::remark("there are none"),
            Some(last) if rows.len() >= usize::try_from(self.limit)? => {
                show::remark(&format!("older ones: --before {}", id(last)));
            }
            Some(_) => {}
        }
        Ok(())
    }
}

/// Rows in a format; a table has its headings also where there are no rows.
pub(super) fn render<Row: Serialize>(
    rows: &[Row],
    columns: &[Column<Row>],
    format: ListFormat,
) -> Result<String, serde_json::Error> {
    let lines: Vec<String> = if format == ListFormat::Json {
        rows.iter().map(serde_json::to_string).collect::<Result<_, _>>()?
    } else {
        let columns: Vec<_> = columns.iter().filter(|column| column.is_shown(format)).collect();
        let headings: Vec<Heading> = columns.iter().map(|column| column.heading).collect();
        let cells: Vec<Vec<String>> =
            rows.iter().map(|row| columns.iter().map(|column| (column.cell)(row)).collect()).collect();
        columns::lines(&headings, &cells)
    };
    Ok(lines.into_iter().map(|line| line + "\n").collect())
}
