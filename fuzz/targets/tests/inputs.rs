//! Each target holds over its seeds, and over what was found and mended. A target has a program, and seeds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::BTreeSet,
    fs, panic,
    path::{Path, PathBuf},
};

use fuzz_targets::TARGETS;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn every_target_has_its_program_and_its_seeds_and_nothing_else_has() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(targets.len(), TARGETS.len());
    assert!(TARGETS.is_sorted_by_key(|target| target.name));
    let programs = names(&folder("fuzz_targets"));
    assert_eq!(programs, targets.iter().map(|name| format!("{name}.rs")).collect());
    let manifest = fs::read_to_string(folder("Cargo.toml")).unwrap();
    for name in &targets {
        assert!(
            manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")),
            "{name} is not in fuzz/Cargo.toml"
        );
        let program = fs::read_to_string(folder("fuzz_targets").join(format!("{name}.rs"))).unwrap();
        assert!(program.contains(&format!("run(\"{name}\", input)")), "{name} runs another target");
    }
    assert_eq!(names(&folder("corpus")), targets);
    assert!(names(&folder("regressions")).is_subset(&targets));
}

#[test]
fn every_target_holds_over_its_seeds_and_what_was_found_before() {
    let mut failed = Vec::new();
    for target in TARGETS {
        let folders = ["corpus", "regressions"].map(|kind| folder(kind).join(target.name));
        let files = folders
            .iter()
            .filter(|folder| folder.exists())
            .flat_map(|folder| names(folder).into_iter().map(move |name| folder.join(name)));
        let files: Vec<PathBuf> = files.collect();
        assert!(!files.is_empty(), "{} has no seeds", target.name);
        for file in files {
            let input = fs::read(&file).unwrap();
            if panic::catch_unwind(|| (target.run)(&input)).is_err() {
                failed.push(file);
            }
        }
    }
    assert!(failed.is_empty(), "properties do not hold over {failed:#?}");
}
