//! The process that reads PDFs: this program, started again. See [`content::pdf`] for why there is one.

use std::{env, ffi::OsString, io, process::ExitCode};

use content::pdf::{Program, child_main};

/// The argument that makes a program the reader, whatever it is called by.
const ARGUMENT: &str = "extract-pdf";

/// How the reader is started.
///
/// # Errors
/// When the system does not tell which program this is.
pub fn program() -> io::Result<Program> {
    Ok(Program { path: env::current_exe()?, arguments: vec![ARGUMENT.into()] })
}

/// Reads a PDF if this process was started for that, and returns how it ended. To be called before anything else: the
/// reader limits its memory, and needs no runtime.
pub fn run_if_asked() -> Option<ExitCode> {
    let mut arguments = env::args_os().skip(1);
    let is_asked = arguments.next() == Some(OsString::from(ARGUMENT));
    is_asked.then(|| child_main(arguments))
}
