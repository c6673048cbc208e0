//! The child process of [`content::pdf`], on its own.

use std::env::args_os;
use std::process::ExitCode;

fn main() -> ExitCode {
    content::pdf::child_main(args_os().skip(1))
}
