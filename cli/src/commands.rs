//! Commands that show what there is, and try what is not there yet. Each has its arguments, does its reading and writing
//! here, and leaves to functions without either what is shown.

pub mod artifacts;
mod catalog;
pub mod deliveries;
pub mod diff;
pub mod dlq;
mod list;
pub mod runs;
mod show;
pub mod trace;
pub mod try_page;
pub mod versions;

pub use catalog::CatalogArguments;
pub use list::{ListArguments, ListFormat};
pub use show::ReportFormat;
