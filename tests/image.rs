//! The image as `scripts/image.sh` packs it, of a program that is small and always there.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

const CHECKOUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Packs the program that runs this test.
fn pack(folder: &TempDir, most: u64) -> Output {
    Command::new(format!("{CHECKOUT}/scripts/image.sh"))
        .arg(std::env::current_exe().unwrap())
        .arg(folder.path().join("image.tar"))
        .env("IMAGE", "example.org/tipstaff:test")
        .env("IMAGE_MAX_BYTES", most.to_string())
        .output()
        .unwrap()
}

/// A file of an archive.
fn file(folder: &TempDir, archive: &str, name: &str) -> Vec<u8> {
    let read = Command::new("tar")
        .args(["--extract", "--to-stdout", "--file"])
        .arg(folder.path().join(archive))
        .arg(name)
        .output()
        .unwrap();
    assert!(read.status.success(), "{name}: {}", String::from_utf8_lossy(&read.stderr));
    read.stdout
}

#[test]
fn an_image_that_is_too_large_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let refused = pack(&folder, 1_000_000);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success(), "{said}");
    assert!(said.contains("must not be larger than 1000000 bytes"), "{said}");
    assert!(!folder.path().join("image.tar").exists());
}

#[test]
fn an_image_has_one_program_by_three_names_one_user_and_no_shell() {
    let folder = tempfile::tempdir().unwrap();
    let packed = pack(&folder, 1_000_000_000);
    assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
    let config: Value = serde_json::from_slice(&file(&folder, "image.tar", "./config.json")).unwrap();
    assert_eq!(config["config"]["User"], "65532:65532");
    assert_eq!(config["config"]["Entrypoint"], serde_json::json!(["tipstaff"]));
    let labels = config["config"]["Labels"].as_object().unwrap();
    for label in ["title", "source", "licenses", "version", "revision", "created"] {
        let value = labels[&format!("org.opencontainers.image.{label}")].as_str().unwrap();
        assert!(!value.is_empty(), "{label}");
    }
    std::fs::write(folder.path().join("layer.tar"), file(&folder, "image.tar", "./layer.tar")).unwrap();
    let listed = Command::new("tar")
        .args(["--list", "--verbose", "--numeric-owner", "--file"])
        .arg(folder.path().join("layer.tar"))
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.lines().all(|line| line.contains(" 0/0 ")), "{listed}");
    let names: Vec<&str> = listed.lines().filter_map(|line| line.split(" ./").nth(1)).collect();
    let programs: Vec<&&str> = names.iter().filter(|name| name.contains("bin/")).collect();
    let expected = [
        "usr/bin/",
        "usr/bin/tipstaff",
        "usr/bin/tipstaff-operator -> tipstaff",
        "usr/bin/tipstaff-worker -> tipstaff",
    ];
    assert_eq!(programs, expected.iter().collect::<Vec<_>>());
    for name in ["etc/ssl/certs/ca-certificates.crt", "etc/passwd", "usr/share/doc/tipstaff/LICENSE"] {
        assert!(names.contains(&name), "{name} is missing: {listed}");
    }
}
