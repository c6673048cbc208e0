//! `tipstaff diff`: what differs between two versions of a document, all of it.

mod coloured;
mod plain;

use std::env;
use std::io::{self, IsTerminal};

use changes::{Change, ChangeKind, Extent, Extract, fields_of};
use clap::Args;
use serde::Serialize;
use store::catalog::{Catalog, ExtractContent, VersionRow, WhichVersion};
use tokio::task::spawn_blocking;

use super::catalog::{CatalogArguments, InspectError, subscription_id, subscription_name};
use super::show::{self, ReportFormat};
use crate::output::SubscriptionName;

/// How many documents an error names at most.
const MOST_NAMED: u32 = 10;

/// What to compare, and how to show it.
#[derive(Args)]
pub struct DiffArguments {
    /// The subscription
    #[arg(value_name = "NAMESPACE/NAME", value_parser = subscription_name)]
    subscription: SubscriptionName,
    /// The document's URL; not needed where the subscription has one document
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The number of the older version; the one before the newer unless given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    from: Option<i32>,
    /// The number of the newer version; the last unless given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    to: Option<i32>,
    /// A unified diff, which `patch` takes; so it is where standard output is no terminal
    #[arg(long, conflicts_with_all = ["html", "output"])]
    unified: bool,
    /// A page of HTML
    #[arg(long, conflicts_with = "output")]
    html: bool,
    /// How it is shown; on a terminal, words that differ are marked, unless NO_COLOR is set
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    output: ReportFormat,
    #[command(flatten)]
    catalog: CatalogArguments,
}

/// There are no two versions to compare.
#[derive(Debug, thiserror::Error)]
enum DiffError {
    #[error(
        "{subscription:#} has no versions yet: `tipstaff runs {subscription:#}` shows how its runs ended"
    )]
    NoVersions { subscription: SubscriptionName },
    #[error("{subscription:#} has several documents: name one with --url: {}", urls.join(" "))]
    SeveralDocuments { subscription: SubscriptionName, urls: Vec<String> },
    #[error("{subscription:#} has no versions of {url}; it has some of {}", urls.join(" "))]
    NoDocument { subscription: SubscriptionName, url: String, urls: Vec<String> },
    #[error("there is no version {number} of {url}; the last is {last}")]
    NoVersion { number: i32, url: String, last: i32 },
    #[error("there is no version of {url} before version {number}, so nothing to compare it with")]
    NothingBefore { number: i32, url: String },
}

/// Two versions of a document and what differs.
#[derive(Debug, Serialize)]
struct Comparison {
    url: String,
    from: VersionRow,
    to: VersionRow,
    /// None where text and fields are the same.
    change: Option<Change>,
}

impl Comparison {
    fn label(&self, version: &VersionRow) -> String {
        format!("{} (version {})", self.url, version.number)
    }
}

/// Compares two versions and prints what differs.
///
/// # Errors
/// When the catalog cannot be read, or has no two such versions.
pub async fn run(arguments: &DiffArguments) -> Result<(), events::BoxError> {
    let catalog = arguments.catalog.connect().await?;
    let comparison = compare(&catalog, arguments).await?;
    let (old, new) = (comparison.label(&comparison.from), comparison.label(&comparison.to));
    let shown = match &comparison.change {
        _ if arguments.output == ReportFormat::Json => show::json(&comparison)?,
        None => {
            let (from, to) = (comparison.from.number, comparison.to.number);
            show::remark(&format!("versions {from} and {to} have the same text and fields"));
            return Ok(());
        }
        Some(change) if arguments.html => plain::page(change, &old, &new),
        Some(change) if arguments.unified || !is_colourful() => plain::unified(change, &old, &new),
        Some(change) => coloured::coloured(change, &old, &new),
    };
    Ok(show::print(&shown)?)
}

async fn compare(catalog: &Catalog, arguments: &DiffArguments) -> Result<Comparison, events::BoxError> {
    let id = subscription_id(catalog, &arguments.subscription).await?;
    let url = document(catalog, id, arguments).await?;
    let last = catalog.find_version(id, &url, WhichVersion::Last).await?;
    let Some(last) = last else { return Err(no_document(catalog, id, arguments, url).await?.into()) };
    let last_number = last.number;
    let missing = |number| DiffError::NoVersion { number, url: url.clone(), last: last_number };
    let to = match arguments.to {
        Some(number) => {
            let found = catalog.find_version(id, &url, WhichVersion::Number(number)).await?;
            found.ok_or_else(|| missing(number))?
        }
        None => last,
    };
    let from = match arguments.from {
        Some(number) => {
            let found = catalog.find_version(id, &url, WhichVersion::Number(number)).await?;
            found.ok_or_else(|| missing(number))?
        }
        None => {
            let found = catalog.find_version(id, &url, WhichVersion::Before(to.number)).await?;
            found.ok_or_else(|| DiffError::NothingBefore { number: to.number, url: url.clone() })?
        }
    };
    let mut contents = catalog.extract_contents(&[from.extract_id, to.extract_id]).await?;
    // Of a document that was removed, the extract is that of the version before.
    let new = contents.get(&to.extract_id).cloned().unwrap_or_default();
    let old = contents.remove(&from.extract_id).unwrap_or_default();
    let is_there = (from.kind != ChangeKind::Removed.name(), to.kind != ChangeKind::Removed.name());
    // Megabytes of text take a while.
    let change = spawn_blocking(move || change(&old, &new, is_there)).await?;
    Ok(Comparison { url, from, to, change })
}

/// The URL that was asked for, or the only one.
async fn document(
    catalog: &Catalog,
    subscription_id: i64,
    arguments: &DiffArguments,
) -> Result<String, events::BoxError> {
    if let Some(url) = &arguments.url {
        return Ok(url.clone());
    }
    let subscription = arguments.subscription.clone();
    let mut urls = catalog.versioned_urls(subscription_id, MOST_NAMED).await?;
    match urls.len() {
        1 => Ok(urls.remove(0)),
        0 => Err(DiffError::NoVersions { subscription }.into()),
        _ => Err(DiffError::SeveralDocuments { subscription, urls }.into()),
    }
}

async fn no_document(
    catalog: &Catalog,
    subscription_id: i64,
    arguments: &DiffArguments,
    url: String,
) -> Result<DiffError, InspectError> {
    let subscription = arguments.subscription.clone();
    let urls = catalog.versioned_urls(subscription_id, MOST_NAMED).await?;
    Ok(if urls.is_empty() {
        DiffError::NoVersions { subscription }
    } else {
        DiffError::NoDocument { subscription, url, urls }
    })
}

/// What differs between two versions, of which the document may not have been there at one or the other.
fn change(old: &ExtractContent, new: &ExtractContent, is_there: (bool, bool)) -> Option<Change> {
    let (old_fields, new_fields) = (fields_of(&old.fields), fields_of(&new.fields));
    let (old_lines, new_lines) = (Extract::lines_of(&old.text), Extract::lines_of(&new.text));
    let old = Extract { text: &old_lines, fields: &old_fields };
    let new = Extract { text: &new_lines, fields: &new_fields };
    match is_there {
        (true, true) => Change::changed(old, new, Extent::Whole),
        (true, false) => Some(Change::removed(old, Extent::Whole)),
        (false, true) => Some(Change::new_document(new, Extent::Whole)),
        (false, false) => None,
    }
}

fn is_colourful() -> bool {
    // https://no-color.org: any value but an empty one.
    io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const DOCUMENTATION: &str = include_str!("../../../docs/cli.md");

    fn content(text: &str, docket: &str) -> ExtractContent {
        let fields = [("docket".to_owned(), vec![docket.to_owned()])].into();
        ExtractContent { text: text.to_owned(), fields }
    }

    fn old() -> ExtractContent {
        content("Opinion of the Court\nThe judgment is affirmed.\nIt is so ordered.", "24-17")
    }

    fn new() -> ExtractContent {
        content("Opinion of the Court\nThe judgment is reversed.\nIt is so ordered.", "24-18")
    }

    #[test]
    fn a_document_that_was_not_there_is_compared_with_nothing() {
        let kind = |is_there| change(&old(), &new(), is_there).map(|change| change.kind);
        assert_eq!(kind((true, true)), Some(ChangeKind::Changed));
        assert_eq!(kind((true, false)), Some(ChangeKind::Removed));
        assert_eq!(kind((false, true)), Some(ChangeKind::New));
        assert_eq!(kind((false, false)), None);
        assert_eq!(change(&old(), &old(), (true, true)), None);
    }

    #[test]
    fn the_documentation_shows_a_unified_diff() {
        let change = change(&old(), &new(), (true, true)).unwrap();
        let url = "https://court.example/opinions/24-18";
        let label = |number: i32| format!("{url} (version {number})");
        let shown = plain::unified(&change, &label(3), &label(4));
        assert!(DOCUMENTATION.contains(&shown), "{shown}");
    }

    #[test]
    fn on_a_terminal_words_that_differ_are_marked() {
        let change = change(&old(), &new(), (true, true)).unwrap();
        let shown = coloured::coloured(&change, "a", "b");
        assert!(
            shown.contains("\u{1b}[31m-The judgment is \u{1b}[7maffirmed\u{1b}[27m.\u{1b}[0m\n"),
            "{shown:?}"
        );
        assert!(
            shown.contains("\u{1b}[32m+The judgment is \u{1b}[7mreversed\u{1b}[27m.\u{1b}[0m\n"),
            "{shown:?}"
        );
        assert!(shown.contains("\n It is so ordered.\n"), "{shown:?}");
        assert!(
            shown.starts_with("docket: \u{1b}[31m24-17\u{1b}[0m → \u{1b}[32m24-18\u{1b}[0m\n"),
            "{shown:?}"
        );
    }

    #[test]
    fn a_page_escapes_what_it_shows() {
        let change = change(&content("a", "1"), &content("<script>", "1"), (true, true)).unwrap();
        let page = plain::page(&change, "https://court.example/?a=1&b=<2>", "b");
        assert!(page.starts_with("<!doctype html>\n<meta charset=\"utf-8\">\n"), "{page}");
        assert!(page.contains("?a=1&amp;b=&lt;2&gt;") && page.contains("&lt;"), "{page}");
        assert!(!page.contains("<script>"), "{page}");
    }
}
