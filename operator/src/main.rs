//! `tipstaff-operator`; the library does the work.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: service::Allocator = service::Allocator;

#[tokio::main]
async fn main() -> ExitCode {
    operator::program::main().await
}
