//! `tipstaff deliveries`: what was sent to whom, and what still waits.

use clap::Args;
use store::catalog::DeliveryRow;
use uuid::Uuid;

use super::list::{Column, ListArguments};
use super::show::{dash, one_line, time, time_or_dash};

/// The longest error of a table, in characters.
const LONGEST_ERROR: usize = 80;

/// What to show.
#[derive(Args)]
pub struct DeliveriesArguments {
    #[command(flatten)]
    list: ListArguments,
    /// Only deliveries that are older than this one
    #[arg(long, value_name = "ID")]
    before: Option<Uuid>,
}

const COLUMNS: [Column<DeliveryRow>; 13] = [
    Column::text("DELIVERY", |delivery: &DeliveryRow| delivery.id.to_string()[..8].to_owned()).narrow(),
    Column::text("DELIVERY", |delivery: &DeliveryRow| delivery.id.to_string()).wide(),
    Column::text("SUBSCRIPTION", |delivery| format!("{}/{}", delivery.namespace, delivery.subscription)),
    Column::text("TARGET", |delivery| delivery.target.clone()),
    Column::text("PHASE", |delivery| delivery.phase.clone()),
    Column::number("CHANGES", |delivery| delivery.changes.to_string()),
    Column::number("BYTES", |delivery: &DeliveryRow| delivery.bytes.to_string()).wide(),
    Column::number("ATTEMPTS", |delivery| delivery.attempts.to_string()),
    Column::text("MADE", |delivery| time(delivery.created_at)),
    Column::text("FINISHED", |delivery: &DeliveryRow| time_or_dash(delivery.finished_at)).wide(),
    Column::text("NEXT ATTEMPT", |delivery| time_or_dash(delivery.next_attempt_at)),
    Column::text("LAST ERROR", |delivery: &DeliveryRow| error(delivery, LONGEST_ERROR)).narrow(),
    Column::text("LAST ERROR", |delivery: &DeliveryRow| error(delivery, usize::MAX)).wide(),
];

/// Prints deliveries, newest first.
///
/// # Errors
/// When the catalog cannot be read, or has no such subscription.
pub async fn run(arguments: &DeliveriesArguments) -> Result<(), events::BoxError> {
    let catalog = arguments.list.connect().await?;
    let page = arguments.list.page(&catalog, arguments.before).await?;
    let deliveries = catalog.list_deliveries(page).await?;
    arguments.list.print(&deliveries, &COLUMNS, |delivery| delivery.id.to_string())
}

fn error(delivery: &DeliveryRow, most: usize) -> String {
    delivery.last_error.as_deref().map_or_else(dash, |error| one_line(error, most))
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::commands::list::{ListFormat, render};

    const DOCUMENTATION: &str = include_str!("../../../docs/cli.md");

    pub(in crate::commands) fn delivered() -> DeliveryRow {
        DeliveryRow {
            id: "3d0f6a12-0000-5000-8000-0000000000ff".parse().unwrap(),
            namespace: "courts".into(),
            subscription: "slip-opinions".into(),
            target: "clerks".into(),
            phase: "Delivered".into(),
            changes: 1,
            bytes: 1_874,
            attempts: 2,
            last_error: Some("HTTP status 503: busy".into()),
            next_attempt_at: None,
            created_at: "2026-03-09T09:00:05.1Z".parse().unwrap(),
            finished_at: Some("2026-03-09T09:00:10.7Z".parse().unwrap()),
        }
    }

    #[test]
    fn the_documentation_shows_the_table() {
        let waiting = DeliveryRow {
            id: "9a44c0de-0000-5000-8000-0000000000fe".parse().unwrap(),
            target: "sanctions".into(),
            phase: "Collecting".into(),
            changes: 3,
            attempts: 0,
            last_error: None,
            next_attempt_at: Some("2026-03-09T09:15:05Z".parse().unwrap()),
            finished_at: None,
            ..delivered()
        };
        let table = render(&[waiting, delivered()], &COLUMNS, ListFormat::Table).unwrap();
        assert!(DOCUMENTATION.contains(&table), "{table}");
    }

    #[test]
    fn a_wide_table_has_the_whole_error_on_its_line() {
        let long = format!("no\nanswer: {}", "x".repeat(200));
        let failing = DeliveryRow { last_error: Some(long), ..delivered() };
        let wide = render(std::slice::from_ref(&failing), &COLUMNS, ListFormat::Wide).unwrap();
        assert!(wide.ends_with(&format!("no answer: {}\n", "x".repeat(200))), "{wide}");
        let table = render(&[failing], &COLUMNS, ListFormat::Table).unwrap();
        assert!(table.ends_with("x…\n"), "{table}");
    }
}
