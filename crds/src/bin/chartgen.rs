//! Writes the tables of values in the READMEs of the Helm charts, from the comments in their `values.yaml`.
//!
//! `chartgen [--check]`: with `--check` nothing is written, and the exit code is 1 when a README is not what would be
//! written. What stands outside of the marks in a README is left as it is.
//!
//! A comment right above a value says what it is. One above a map at the top level heads a table of what is in the map; a
//! map further down that has a comment is one value, a whole. Every value needs a comment.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool")]

use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde_json::Value;

const BEGIN: &str = "<!-- values: generated from values.yaml by `make charts` -->\n";
const END: &str = "<!-- end of values -->\n";
const CHARTS: [&str; 2] = ["tipstaff", "dev-deps"];

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("unknown argument {0}; usage: chartgen [--check]")]
    Argument(String),
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is no YAML", path.display())]
    Yaml {
        path: PathBuf,
        #[source]
        source: Box<serde_saphyr::Error>,
    },
    #[error("{}: {problem}", path.display())]
    Values { path: PathBuf, problem: String },
    #[error("{} lacks the marks between which the table goes:\n{BEGIN}{END}", path.display())]
    NoMarks { path: PathBuf },
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
            eprintln!("chartgen: {error}");
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
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--check" => check = true,
            _ => return Err(Error::Argument(argument)),
        }
    }
    let charts = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../charts");
    let mut drifted = false;
    for chart in CHARTS {
        let path = charts.join(chart).join("README.md");
        let found = read(&path)?;
        let wanted = with_tables(&found, &tables(&charts.join(chart).join("values.yaml"))?)
            .ok_or_else(|| Error::NoMarks { path: path.clone() })?;
        if found == wanted {
            continue;
        }
        if check {
            drifted = true;
            eprintln!("{} is not what values.yaml says: run `make charts`", path.display());
        } else {
            fs::write(&path, wanted).map_err(|source| Error::Write { path: path.clone(), source })?;
            println!("wrote {}", path.display());
        }
    }
    Ok(if drifted { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

fn with_tables(readme: &str, tables: &str) -> Option<String> {
    let (before, rest) = readme.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{tables}\n{END}{after}"))
}

fn tables(path: &Path) -> Result<String, Error> {
    let text = read(path)?;
    let defaults: Value = serde_saphyr::from_str(&text)
        .map_err(|source| Error::Yaml { path: path.to_owned(), source: Box::new(source) })?;
    written(&text, &defaults).map_err(|problem| Error::Values { path: path.to_owned(), problem })
}

/// A line of `values.yaml` that has a key.
struct Key {
    indent: usize,
    name: String,
    has_value: bool,
    comment: String,
}

fn written(text: &str, defaults: &Value) -> Result<String, String> {
    let keys = keys(text);
    let mut tables = String::new();
    let mut path: Vec<(usize, String)> = Vec::new();
    // What stands below a value that is documented as a whole.
    let mut inside: Option<usize> = None;
    let mut in_table = false;
    for Key { indent, name, has_value, comment } in keys {
        if inside.is_some_and(|of| indent > of) {
            continue;
        }
        inside = None;
        path.retain(|(outer, _)| *outer < indent);
        path.push((indent, name.clone()));
        let names: Vec<&str> = path.iter().map(|(_, name)| name.as_str()).collect();
        let dotted = names.join(".");
        if indent == 0 && !has_value {
            if comment.is_empty() {
                return Err(format!("{dotted} has no comment above it"));
            }
            let _ = write!(tables, "\n### {name}\n\n{comment}\n\n");
            head(&mut tables);
            in_table = true;
            continue;
        }
        if comment.is_empty() {
            if has_value {
                return Err(format!("{dotted} has no comment above it"));
            }
            continue;
        }
        if !in_table {
            tables.push('\n');
            head(&mut tables);
            in_table = true;
        }
        let default = names.iter().try_fold(defaults, |value, name| value.get(name));
        let default = default.ok_or_else(|| format!("{dotted} has no default"))?;
        let _ = writeln!(tables, "| `{dotted}` | {} | {} |", cell(&shown(default)), cell(&comment));
        inside = Some(indent);
    }
    Ok(tables)
}

fn head(tables: &mut String) {
    tables.push_str("| value | default | meaning |\n|---|---|---|\n");
}

/// The keys, in the file's order. Comments that an empty line separates from what follows belong to nothing.
fn keys(text: &str) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut comment: Vec<&str> = Vec::new();
    for line in text.lines() {
        let inner = line.trim_start();
        if let Some(words) = inner.strip_prefix('#') {
            comment.push(words.trim());
            continue;
        }
        let documented = std::mem::take(&mut comment).join(" ");
        let Some((name, value)) = inner.split_once(':') else { continue };
        if name.starts_with('-') || name.contains([' ', '"', '{']) {
            continue;
        }
        keys.push(Key {
            indent: line.len() - inner.len(),
            name: name.to_owned(),
            has_value: !value.trim().is_empty(),
            comment: documented,
        });
    }
    keys
}

fn shown(default: &Value) -> String {
    match default {
        Value::String(text) if text.is_empty() => String::new(),
        Value::Array(items) if items.is_empty() => String::new(),
        Value::Object(fields) if fields.is_empty() => String::new(),
        Value::String(text) => format!("`{text}`"),
        other => format!("`{other}`"),
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn tables(text: &str) -> Result<String, String> {
        written(text, &serde_saphyr::from_str(text).unwrap())
    }

    #[test]
    fn a_comment_becomes_the_meaning_of_its_value() {
        let text = "# Nobody's.\n\n# A name,\n# or none.\nname: \"\"\n\n# The parts.\nparts:\n  # How many | at most.\n  \
                    count: 2\n  tls:\n    # Which.\n    mode: full\n  # A whole.\n  labels:\n    a/b: c\n    d: 1\n  # On.\n  on: true\n";
        let expected = "
| value | default | meaning |
|---|---|---|
| `name` |  | A name, or none. |

### parts

The parts.

| value | default | meaning |
|---|---|---|
| `parts.count` | `2` | How many \\| at most. |
| `parts.tls.mode` | `full` | Which. |
| `parts.labels` | `{\"a/b\":\"c\",\"d\":1}` | A whole. |
| `parts.on` | `true` | On. |
";
        assert_eq!(tables(text).unwrap(), expected);
    }

    #[test]
    fn a_value_without_a_comment_is_refused() {
        for (text, named) in
            [("name: a\n", "name"), ("# A.\na:\n  b: 1\n", "a.b"), ("a:\n  # B.\n  b: 1\n", "a ")]
        {
            let problem = tables(text).unwrap_err();
            assert!(problem.starts_with(named), "{problem}");
        }
    }

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let readme = format!("before\n{BEGIN}old\n{END}after\n");
        assert_eq!(with_tables(&readme, "\nnew\n").unwrap(), format!("before\n{BEGIN}\nnew\n\n{END}after\n"));
        assert!(with_tables("before\n", "new").is_none());
    }
}
