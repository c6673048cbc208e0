//! Programs that are run to their end: kubectl, Kafka's tools, psql.

use std::{ffi::OsStr, path::Path, process::Stdio, time::Duration};

use tokio::io::AsyncWriteExt as _;

use crate::StackError;

/// Runs a program with the given standard input and returns its standard output.
///
/// The program is killed at the deadline, and when the caller stops waiting.
pub(crate) async fn run<A: AsRef<OsStr>>(
    program: &Path,
    arguments: &[A],
    environment: &[(&str, &str)],
    input: &str,
    deadline: Duration,
) -> Result<String, StackError> {
    let cannot_run = |source| StackError::CannotRun { program: program.display().to_string(), source };
    let failed = |outcome: String, output: String| StackError::CommandFailed {
        command: command_line(program, arguments),
        outcome,
        output,
    };
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(cannot_run)?;
    let stdin = child.stdin.take();
    let feed = async {
        if let Some(mut stdin) = stdin {
            // A program that does not read its input to the end says by its exit status whether that is wrong.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
    };
    let run = async { tokio::join!(feed, child.wait_with_output()).1 };
    let output = tokio::time::timeout(deadline, run)
        .await
        .map_err(|_| failed(format!("it did not end within {} s", deadline.as_secs()), String::new()))?
        .map_err(cannot_run)?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(printed);
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(failed(crate::error::outcome(output.status), format!("{printed}{complaint}")))
}

fn command_line<A: AsRef<OsStr>>(program: &Path, arguments: &[A]) -> String {
    let name = program.file_name().unwrap_or(program.as_os_str());
    let words: Vec<_> = std::iter::once(name)
        .chain(arguments.iter().map(AsRef::as_ref))
        .map(OsStr::to_string_lossy)
        .collect();
    words.join(" ")
}
