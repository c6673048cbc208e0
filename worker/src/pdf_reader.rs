//! The process that reads PDFs: this program, started again. See [`content::pdf`] for why there is one.

use std::{env, ffi::OsString, io, process::ExitCode};

use content::pdf::{self, Limits, PdfError, Program, child_main};
use tokio::sync::Semaphore;

/// The argument that makes a program the reader, whatever it is called by.
const ARGUMENT: &str = "extract-pdf";
/// How many readers a process has at a time. What they may take together has room beside the process itself in the pods of the
/// role parse: a hostile PDF is to end its reader, and not the worker with all that it does.
const AT_A_TIME: usize = 2;
static PERMITS: Semaphore = Semaphore::const_new(AT_A_TIME);

/// How the reader is started.
///
/// # Errors
/// When the system does not tell which program this is.
pub fn program() -> io::Result<Program> {
    Ok(Program { path: env::current_exe()?, arguments: vec![ARGUMENT.into()] })
}

/// The most memory, in bytes, that the readers of a process take together.
pub fn most_memory() -> u64 {
    // A length fits u64 on every platform there is.
    AT_A_TIME as u64 * Limits::default().memory
}

/// The text of a PDF, when it is its turn.
pub(crate) async fn text(program: &Program, bytes: &[u8]) -> Result<String, PdfError> {
    // The semaphore is never closed.
    let _permit = PERMITS.acquire().await;
    pdf::text(program, bytes, Limits::default()).await
}

/// Reads a PDF if this process was started for that, and returns how it ended. To be called before anything else: the
/// reader limits its memory, and needs no runtime.
pub fn run_if_asked() -> Option<ExitCode> {
    let mut arguments = env::args_os().skip(1);
    let is_asked = arguments.next() == Some(OsString::from(ARGUMENT));
    is_asked.then(|| child_main(arguments))
}
