//! Each target holds over its seeds, and over what was found and mended. A target has a program, and seeds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::BTreeSet,
    fs,
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
    for target in TARGETS {
        let mut count = 0;
        for kind in ["corpus", "regressions"] {
            let inputs = folder(kind).join(target.name);
            if !inputs.exists() {
                continue;
            }
            for name in names(&inputs) {
                let path = inputs.join(&name);
                // What a failing test shows names the input.
                println!("{}", path.display());
                (target.run)(&fs::read(&path).unwrap());
                count += 1;
            }
        }
        assert!(count > 0, "{} has no seeds", target.name);
    }
}
