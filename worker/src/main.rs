//! `tipstaff-worker`; the library does the work.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    worker::program::main().await
}
