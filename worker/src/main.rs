//! `tipstaff-worker`; the library does the work.

use std::{io, process::ExitCode};

use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATOR: service::Allocator = service::Allocator;

fn main() -> io::Result<ExitCode> {
    // Before the runtime: its threads take memory that the reader of PDFs may not have.
    if let Some(code) = worker::pdf_reader::run_if_asked() {
        return Ok(code);
    }
    Ok(Runtime::new()?.block_on(worker::program::main()))
}
