//! What a person who waits is told, on standard error: standard output belongs to the results of commands.

/// Prints one line.
#[allow(clippy::print_stderr, reason = "progress is for a person at a terminal, in tests too")]
pub(crate) fn say(line: &str) {
    eprintln!("stack: {line}");
}
