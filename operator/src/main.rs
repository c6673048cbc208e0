//! `tipstaff-operator`; the library does the work.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    operator::program::main().await
}
