//! Whether the guards that `make chaos-guards` takes out can still be taken out, and whether the documentation tells of them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::{collections::BTreeSet, fs, path::Path, process::Command};

/// All but the one that no fault bears on.
const INVARIANTS: [u8; 6] = [1, 2, 3, 4, 5, 7];

#[test]
fn each_guard_can_be_taken_out_and_each_invariant_has_one() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = own.ancestors().nth(2).unwrap();
    let documented = fs::read_to_string(root.join("docs/chaos.md")).unwrap();
    let mut guarded = BTreeSet::new();
    for patch in fs::read_dir(own.join("guards")).unwrap() {
        let patch = patch.unwrap().path();
        let name = patch.file_stem().unwrap().to_str().unwrap();
        let applied =
            Command::new("git").args(["apply", "--check"]).arg(&patch).current_dir(root).output().unwrap();
        assert!(applied.status.success(), "{name}: {}", String::from_utf8_lossy(&applied.stderr));
        let text = fs::read_to_string(&patch).unwrap();
        let broken = text.lines().find_map(|line| line.strip_prefix("Breaks: ")).unwrap();
        let broken: Vec<u8> = broken.split(',').map(|number| number.parse().unwrap()).collect();
        assert!(text.lines().any(|line| line.starts_with("Program: tipstaff-")), "whose guard is {name}?");
        assert!(name.starts_with(&format!("{}-", broken[0])), "{name} breaks {broken:?}");
        assert!(documented.contains(&format!("`{name}`")), "docs/chaos.md does not tell of {name}");
        guarded.insert(broken[0]);
    }
    assert_eq!(guarded, BTreeSet::from(INVARIANTS));
}
