//! Writes the JSON Schema of deliveries, generated from the Rust types, to `docs/delivery.schema.json`; with `--check`, says
//! whether it is there as it should be.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool")]

use std::{fs, path::PathBuf, process::ExitCode};

fn main() -> ExitCode {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/delivery.schema.json");
    let schema = changes::delivery_schema();
    if std::env::args_os().nth(1).is_some_and(|argument| argument == "--check") {
        if fs::read_to_string(&path).is_ok_and(|documented| documented == schema) {
            return ExitCode::SUCCESS;
        }
        eprintln!("schemagen: {} is not what the types say; run `make schema`", path.display());
        return ExitCode::FAILURE;
    }
    match fs::write(&path, schema) {
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
