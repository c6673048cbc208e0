//! Writes the CustomResourceDefinitions, generated from the Rust types, as YAML.
//!
//! `crdgen [--check] [DIRECTORY]`: with `--check` nothing is written, and the exit code is 1 when a file is not what
//! would be written. Without a directory they go to this crate's own, and to the Helm chart, which takes no files from
//! outside of it.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool")]

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use crds::{Source, Subscription};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::Value;

const HEADER: &str =
    "# Generated from the types in crds/src: edit those, then run `cargo run -p crds --bin crdgen`.\n";

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("unknown argument {0}; usage: crdgen [--check] [DIRECTORY]")]
    Argument(String),
    #[error("cannot write the definition of {file} as JSON")]
    Json {
        file: &'static str,
        #[source]
        source: serde_json::Error,
    },
    #[error("cannot write the definition of {file} as YAML")]
    Yaml {
        file: &'static str,
        #[source]
        source: serde_saphyr::ser::Error,
    },
    #[error("cannot write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("crdgen: {error}");
            let mut cause = std::error::Error::source(&error);
            while let Some(source) = cause {
                eprintln!("  because: {source}");
                cause = source.source();
            }
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<ExitCode, Error> {
    let mut check = false;
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut directories = vec![own.clone(), own.join("../charts/tipstaff/files/crds")];
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--check" => check = true,
            flag if flag.starts_with('-') => return Err(Error::Argument(argument)),
            path => directories = vec![path.into()],
        }
    }
    let files = [
        ("source.yaml", yaml("source.yaml", &Source::crd())?),
        ("subscription.yaml", yaml("subscription.yaml", &Subscription::crd())?),
    ];
    let mut drifted = false;
    for directory in directories {
        for (name, wanted) in &files {
            let path = directory.join(name);
            if check {
                drifted |= report_drift(&path, wanted);
            } else {
                fs::write(&path, wanted).map_err(|source| Error::Write { path: path.clone(), source })?;
                println!("wrote {}", path.display());
            }
        }
    }
    Ok(if drifted { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn yaml(file: &'static str, definition: &CustomResourceDefinition) -> Result<String, Error> {
    let mut definition = serde_json::to_value(definition).map_err(|source| Error::Json { file, source })?;
    join_description_lines(&mut definition);
    // One line for each text: wrapped ones make rules hard to read and to compare.
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    let text = serde_saphyr::to_string_with_options(&definition, options)
        .map_err(|source| Error::Yaml { file, source })?;
    Ok(format!("{HEADER}{text}"))
}

/// Descriptions are doc comments, wrapped for the source file; `kubectl explain` wraps anew, and keeps line breaks.
fn join_description_lines(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::String(text) if name == "description" => {
                        *text = text
                            .split("\n\n")
                            .map(|paragraph| paragraph.replace('\n', " "))
                            .collect::<Vec<_>>()
                            .join("\n\n");
                    }
                    field => join_description_lines(field),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(join_description_lines),
        _ => {}
    }
}

/// Says so when the file is not what is wanted, and where it first differs.
fn report_drift(path: &Path, wanted: &str) -> bool {
    let found = fs::read_to_string(path).unwrap_or_default();
    if found == wanted {
        return false;
    }
    let line = found.lines().zip(wanted.lines()).take_while(|(found, wanted)| found == wanted).count() + 1;
    eprintln!(
        "{} is not what the types in crds/src say (line {line}): run `cargo run -p crds --bin crdgen`",
        path.display()
    );
    true
}
