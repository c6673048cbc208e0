//! Writes the JSON Schema of deliveries, generated from the Rust types, to `docs/delivery.schema.json` or the file that is
//! named.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool")]

use std::{fs, path::PathBuf, process::ExitCode};

fn main() -> ExitCode {
    let documented = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/delivery.schema.json");
    let path = std::env::args_os().nth(1).map_or(documented, PathBuf::from);
    match fs::write(&path, changes::delivery_schema()) {
        Ok(()) => {
            println!("wrote {}", path.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("schemagen: cannot write {}: {error}", path.display());
            ExitCode::from(2)
        }
    }
}
