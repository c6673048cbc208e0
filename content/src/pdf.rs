//! The text of PDFs, in a child process.
//!
//! Parsers of PDF panic, overflow their stacks and take all memory on damaged or hostile files. The child is this program
//! started again: it limits itself before it reads a byte, and its end, whatever it is, is that of one document alone.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, setrlimit};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

/// How the child is started: this program, with the arguments after which [`child_main`] is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The program's path.
    pub path: PathBuf,
    /// The arguments that come first, such as `extract-pdf`.
    pub arguments: Vec<OsString>,
}

/// What one PDF may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Address space of the child, in bytes.
    pub memory: u64,
    /// Time of the processor, and time that passes.
    pub time: Duration,
    /// Bytes of text.
    pub text: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: 512 << 20, time: Duration::from_secs(30), text: crate::MAX_TEXT }
    }
}

/// Why a PDF's text could not be had.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PdfError {
    /// The child could not be started, or not be talked to.
    #[error("the process that reads PDFs could not be run")]
    Process(#[source] io::Error),
    /// It took too long.
    #[error("reading the PDF took longer than {0:?}")]
    Timeout(Duration),
    /// Its text is too long.
    #[error("the PDF's text is longer than {0} bytes")]
    TooLarge(usize),
    /// It is damaged, encrypted, or no PDF.
    #[error("the PDF cannot be read: it is damaged or needs a password")]
    Unreadable,
    /// The child ended on the way: a crash, or out of memory.
    #[error("the process that reads PDFs ended on this one: {0}")]
    Crashed(ExitStatus),
}

impl PdfError {
    /// The kind of failure, as runs, statuses and events name it.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Process(_) => "PdfNotRun",
            Self::Timeout(_) => "Timeout",
            Self::TooLarge(_) => "TooLarge",
            Self::Unreadable => "UnreadableDocument",
            Self::Crashed(_) => "PdfCrashed",
        }
    }
}

/// The child's exit code for a PDF that cannot be read.
const UNREADABLE: u8 = 65;

/// The text of a PDF, not yet normalised. The child inherits no environment.
///
/// # Errors
///
/// [`PdfError`]; only [`PdfError::Process`] says nothing about the document.
pub async fn text(program: &Program, bytes: &[u8], limits: Limits) -> Result<String, PdfError> {
    let mut child = Command::new(&program.path)
        .args(&program.arguments)
        .args([limits.memory.to_string(), limits.time.as_secs().max(1).to_string()])
        .env_clear()
        // An allocator that reserves addresses before there is a limit would have them beyond it.
        .env("MIMALLOC_ARENA_RESERVE", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(PdfError::Process)?;
    let text = tokio::time::timeout(limits.time, exchange(&mut child, bytes, limits)).await;
    // Where it was given up: it has its memory until it has ended. One that has ended cannot be killed, and need not be.
    let _ = child.kill().await;
    text.unwrap_or(Err(PdfError::Timeout(limits.time)))
}

async fn exchange(child: &mut Child, bytes: &[u8], limits: Limits) -> Result<String, PdfError> {
    let gone = || PdfError::Process(io::ErrorKind::BrokenPipe.into());
    let mut input = child.stdin.take().ok_or_else(gone)?;
    let output = child.stdout.take().ok_or_else(gone)?;
    let give = async move {
        // A child that ended early says why by its exit code.
        let _ = input.write_all(bytes).await;
    };
    let mut text = Vec::new();
    // A length fits u64 on every platform there is.
    let mut limited = output.take(limits.text as u64 + 1);
    let ((), read) = tokio::join!(give, limited.read_to_end(&mut text));
    read.map_err(PdfError::Process)?;
    if text.len() > limits.text {
        return Err(PdfError::TooLarge(limits.text));
    }
    let status = child.wait().await.map_err(PdfError::Process)?;
    match status.code() {
        Some(0) => Ok(String::from_utf8_lossy(&text).into_owned()),
        Some(code) if code == i32::from(UNREADABLE) => Err(PdfError::Unreadable),
        _ => Err(PdfError::Crashed(status)),
    }
}

/// What the child does: reads a PDF from its standard input and writes its text to its standard output. `arguments` are
/// those behind the ones of [`Program`]: bytes of memory, seconds of the processor. What an allocator has reserved before is beyond
/// the first limit: [`text`] sees to it that there is nothing.
pub fn child_main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    match limit(arguments).and_then(|()| convert()) {
        Ok(code) => code,
        Err(_) => ExitCode::FAILURE,
    }
}

fn limit(arguments: impl IntoIterator<Item = OsString>) -> io::Result<()> {
    let mut numbers = arguments.into_iter().filter_map(|argument| argument.to_str()?.parse::<u64>().ok());
    for resource in [Resource::As, Resource::Cpu] {
        let limit = Some(numbers.next().ok_or(io::ErrorKind::InvalidInput)?);
        setrlimit(resource, Rlimit { current: limit, maximum: limit })?;
    }
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(())
}

fn convert() -> io::Result<ExitCode> {
    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes)?;
    let Some(text) = text_in_this_process(&bytes) else { return Ok(ExitCode::from(UNREADABLE)) };
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// The text of a PDF; `None` where it cannot be read. It may panic, overflow the stack, take all memory, or never return:
/// only for a process that has nothing else to do.
#[doc(hidden)]
pub fn text_in_this_process(bytes: &[u8]) -> Option<String> {
    pdf_extract::extract_text_from_mem(bytes).ok()
}
