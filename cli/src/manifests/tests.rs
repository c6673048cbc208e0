//! Files in, objects and `file:line` problems out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

const SOURCE: &str = "apiVersion: tipstaff.dev/v1alpha1
kind: Source
metadata:
  name: court
spec:
  kind: html
  baseURL: https://court.example/opinions
";

const SUBSCRIPTION: &str = "apiVersion: tipstaff.dev/v1alpha1
kind: Subscription
metadata:
  name: opinions
spec:
  sourceRef:
    name: court
  jurisdiction: US
  schedule: '*/5 * * * *'
";

/// Reads a directory of these files.
fn read(files: &[(&str, &str)]) -> Manifests {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    let mut manifests = Manifests::read(directory.path()).unwrap();
    // Told by file name, as the directory's own is new each time.
    let prefix = format!("{}/", directory.path().display());
    for problem in &mut manifests.problems {
        problem.file = problem.file.file_name().unwrap().into();
        problem.message = problem.message.replace(&prefix, "");
    }
    manifests
}

fn source_names(manifests: &Manifests) -> Vec<&str> {
    manifests.sources.iter().map(|source| source.object.metadata.name.as_deref().unwrap()).collect()
}

fn subscription_names(manifests: &Manifests) -> Vec<&str> {
    manifests.subscriptions.iter().map(|found| found.object.metadata.name.as_deref().unwrap()).collect()
}

/// The files' problems are these, by their beginnings, and nothing else.
fn assert_problems(files: &[(&str, &str)], expected: &[&str]) {
    let problems: Vec<String> = read(files).problems.iter().map(Problem::to_string).collect();
    assert_eq!(problems.len(), expected.len(), "{problems:#?}\nfor {files:?}");
    for (problem, expected) in problems.iter().zip(expected) {
        assert!(problem.starts_with(expected), "{problem}\ndoes not start with\n{expected}");
    }
}

#[test]
fn valid_documents_become_objects() {
    let both = format!("# sources first\n---\n{SOURCE}---\n{SUBSCRIPTION}");
    let manifests = read(&[("all.yaml", &both)]);
    assert_eq!(manifests.problems, []);
    let source = &manifests.sources[0];
    assert_eq!(source.line, 3);
    assert_eq!(source.object.spec.base_url, "https://court.example/opinions");
    assert_eq!(source.object.metadata.namespace.as_deref(), Some("default"));
    let subscription = &manifests.subscriptions[0];
    assert_eq!(subscription.line, 11);
    assert_eq!(subscription.object.spec.schedule, "*/5 * * * *");
}

#[test]
fn a_directory_is_read_by_name_and_ending() {
    let named = |name: &str| SOURCE.replace("name: court", &format!("name: {name}"));
    let json = r#"{"apiVersion": "tipstaff.dev/v1alpha1", "kind": "Source",
        "metadata": {"name": "third"}, "spec": {"baseURL": "https://a.example/"}}"#;
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("b.yml", named("second").as_str()),
        ("a.yaml", &named("first")),
        ("c.json", json),
        ("notes.txt", "not: [a manifest"),
        (".hidden.yaml", "not: [a manifest"),
        ("a.yaml~", "not: [a manifest"),
    ] {
        fs::write(directory.path().join(name), text).unwrap();
    }
    fs::create_dir(directory.path().join("deeper.yaml")).unwrap();
    let manifests = Manifests::read(directory.path()).unwrap();
    assert_eq!(manifests.problems, []);
    assert_eq!(source_names(&manifests), ["first", "second", "third"]);
    // A file that is named is read whatever its ending.
    let error = Manifests::read(&directory.path().join("notes.txt")).unwrap();
    assert_eq!(error.problems.len(), 1);
    assert!(matches!(Manifests::read(&directory.path().join("gone")), Err(ManifestsError::Read { .. })));
}

#[test]
fn problems_name_file_and_line() {
    let source = |from: &str, to: &str| SOURCE.replace(from, to);
    let subscription = |from: &str, to: &str| {
        assert!(SUBSCRIPTION.contains(from));
        format!("{SOURCE}---\n{}", SUBSCRIPTION.replace(from, to))
    };
    let cases: Vec<(String, Vec<&str>)> = vec![
        // Syntax.
        (
            source("  kind: html\n", "  kind: html\n   fetch: {}\n"),
            vec!["f.yaml:7: mapping values are not allowed"],
        ),
        (
            subscription("'*/5 * * * *'", "* * * * *"),
            vec![
                "f.yaml:17: while scanning an anchor or alias, did not find expected alphabetic or numeric character (a value that starts with * needs quotes)",
            ],
        ),
        (
            subscription("'*/5 * * * *'", "@hourly"),
            vec!["f.yaml:17: unexpected character: `@' (a value that starts with @ needs quotes)"],
        ),
        (
            source("  kind: html\n", "  kind: html\n  kind: feed\n"),
            vec!["f.yaml:7: duplicate mapping key `kind`"],
        ),
        // Another kind of thing.
        ("hello\n".into(), vec!["f.yaml:1: a manifest has the fields"]),
        ("\n\n- a\n".into(), vec!["f.yaml:3: a manifest has the fields"]),
        (source("kind: Source", "kind: Sauce"), vec!["f.yaml:2: kind must be Source or Subscription"]),
        (source("v1alpha1", "v9"), vec!["f.yaml:1: apiVersion must be tipstaff.dev/v1alpha1"]),
        // Fields.
        (
            source("baseURL", "baseUrl"),
            vec!["f.yaml:5: spec.baseURL is required", "f.yaml:7: spec.baseUrl is not a field"],
        ),
        (source("kind: html", "kind: htm"), vec!["f.yaml:6: spec.kind must be one of"]),
        (
            source("  kind: html\n", "  suspend: 'no'\n"),
            vec!["f.yaml:6: spec.suspend must be of type boolean"],
        ),
        (source("https://court.example", "gopher://court.example"), vec!["f.yaml:7: spec.baseURL must be"]),
        (
            source("  kind: html\n", "  fetch:\n    maxBytes: 10\n    timeout: soon\n"),
            vec!["f.yaml:8: spec.fetch.timeout"],
        ),
        (subscription("'*/5 * * * *'", "'61 * * * *'"), vec!["f.yaml:17: spec.schedule"]),
        (
            subscription(
                "  jurisdiction: US\n",
                "  selectors:\n    title: h1\n    body:\n      css: 'div['\n",
            ),
            vec!["f.yaml:19: spec.selectors.body.css is not a CSS selector"],
        ),
        (
            subscription(
                "  jurisdiction: US\n",
                "  remove:\n  - .ads\n  - '!!'\n  timeZone: Europe/Nowhere\n",
            ),
            vec!["f.yaml:18: spec.remove[1]", "f.yaml:19: spec.timeZone"],
        ),
        // Metadata.
        (source("  name: court\n", "  labels: {}\n"), vec!["f.yaml:3: metadata.name is required"]),
        (source("metadata:\n  name: court\n", ""), vec!["f.yaml:1: metadata.name is required"]),
        (source("name: court", "name: Court_1"), vec!["f.yaml:4: metadata.name must be lower-case"]),
        (
            source("name: court", "name: court\n  namespace: a.b"),
            vec!["f.yaml:5: metadata.namespace must be"],
        ),
        (
            source("name: court", "name: court\n  annotations:\n    tipstaff.dev/requestedAt: 5"),
            vec!["f.yaml:6: metadata.annotations.tipstaff.dev/requestedAt must be of type string"],
        ),
        (
            source("name: court", "name: court\n  anotations: {}"),
            vec!["f.yaml:5: metadata.anotations is not a field"],
        ),
    ];
    for (text, expected) in cases {
        assert_problems(&[("f.yaml", &text)], &expected);
    }
}

#[test]
fn one_bad_document_disturbs_no_other() {
    let text = format!("{SOURCE}---\nbroken: [\n---\nkind: Other\n---\n{SUBSCRIPTION}");
    let manifests = read(&[("a.yaml", &text), ("b.yaml", "\u{0}")]);
    assert_eq!(source_names(&manifests), ["court"]);
    assert_eq!(subscription_names(&manifests), ["opinions"]);
    assert_eq!(manifests.subscriptions[0].line, 13);
    let places: Vec<(String, usize)> =
        manifests.problems.iter().map(|problem| (problem.file.display().to_string(), problem.line)).collect();
    assert!(places.contains(&("a.yaml".to_owned(), 9)), "{places:?}");
    assert!(places.contains(&("a.yaml".to_owned(), 11)), "{places:?}");
    assert!(places.contains(&("b.yaml".to_owned(), 1)), "{places:?}");
}

#[test]
fn objects_are_compared_across_files() {
    let other_namespace = SOURCE.replace("name: court", "name: court\n  namespace: other");
    let invalid = SOURCE.replace("https:", "gopher:");
    assert_problems(&[("a.yaml", SOURCE), ("b.yaml", &other_namespace)], &[]);
    assert_problems(
        &[("a.yaml", SOURCE), ("b.yaml", SOURCE)],
        &["b.yaml:4: Source default/court is declared already, at a.yaml:1"],
    );
    assert_problems(
        &[("a.yaml", SUBSCRIPTION), ("b.yaml", &other_namespace)],
        &["a.yaml:7: spec.sourceRef.name: Source default/court is not among the manifests"],
    );
    // The order of files does not matter.
    assert_problems(&[("a.yaml", SUBSCRIPTION), ("b.yaml", SOURCE)], &[]);
    assert_problems(
        &[("a.yaml", SUBSCRIPTION), ("b.yaml", &invalid)],
        &[
            "a.yaml:7: spec.sourceRef.name: Source default/court has problems of its own, see b.yaml:1",
            "b.yaml:7: spec.baseURL must be",
        ],
    );
}

#[test]
fn identity_and_spec_hash_are_stable() {
    let first = read(&[("a.yaml", SOURCE)]).sources.remove(0);
    let uid = first.object.metadata.uid.clone().unwrap();
    assert_eq!(uid, Uuid::parse_str(&uid).unwrap().to_string());
    let cases = [
        // Spelling, place, metadata and defaults written out change nothing.
        ("kind: html\n", "kind: \"html\" # a page\n", true, true),
        ("spec:\n", "spec:\n  suspend: false\n", true, true),
        ("name: court", "name: court\n  labels: {a: b}", true, true),
        ("/opinions", "/decisions", true, false),
        ("kind: html", "kind: feed", true, false),
        ("name: court", "name: court2", false, true),
        ("name: court", "name: court\n  namespace: other", false, true),
    ];
    for (from, to, same_uid, same_spec) in cases {
        let other = read(&[("b.yml", &format!("# moved\n\n{}", SOURCE.replace(from, to)))]).sources.remove(0);
        assert_eq!(other.object.metadata.uid.unwrap() == uid, same_uid, "{to}");
        assert_eq!(other.spec_hash == first.spec_hash, same_spec, "{to}");
    }
}

#[test]
fn what_a_cluster_added_is_accepted_and_dropped() {
    let saved = SOURCE.replace(
        "  name: court\n",
        "  name: court\n  uid: 6f2c1a52-0000-4000-8000-000000000000\n  resourceVersion: '12'\n  generation: 3\n  creationTimestamp: 2026-01-01T00:00:00Z\n",
    ) + "status:\n  observedGeneration: 3\n";
    let manifests = read(&[("saved.yaml", &saved)]);
    assert_eq!(manifests.problems, []);
    assert!(manifests.sources[0].object.status.is_none());
    assert_ne!(
        manifests.sources[0].object.metadata.uid.as_deref(),
        Some("6f2c1a52-0000-4000-8000-000000000000")
    );
}

#[test]
fn unreadable_files_are_problems_of_their_own() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("a.yaml"), b"kind: Source\nname: \xff\n").unwrap();
    fs::write(directory.path().join("b.yaml"), " ".repeat((MAX_FILE_BYTES + 1) as usize)).unwrap();
    std::os::unix::fs::symlink("nowhere", directory.path().join("c.yaml")).unwrap();
    fs::write(directory.path().join("d.yaml"), SOURCE).unwrap();
    let manifests = Manifests::read(directory.path()).unwrap();
    let told: Vec<String> = manifests.problems.iter().map(Problem::to_string).collect();
    assert!(told[0].ends_with("a.yaml:2: the text is not UTF-8"), "{told:?}");
    assert!(told[1].ends_with("b.yaml:1: the file is larger than 4 MiB"), "{told:?}");
    assert!(told[2].contains("c.yaml:1: the file cannot be read: "), "{told:?}");
    assert_eq!(source_names(&manifests), ["court"]);
}

#[test]
fn the_example_is_valid() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/sample.yaml");
    let manifests = Manifests::read(&example).unwrap();
    assert_eq!(manifests.problems, []);
    assert_eq!(manifests.sources[0].object.spec.base_url, "http://127.0.0.1:4780/opinions");
    let subscription = &manifests.subscriptions[0].object;
    assert_eq!(subscription.spec.schedule, "* * * * *");
    let annotations = subscription.metadata.annotations.as_ref().unwrap();
    assert_eq!(annotations[crds::REQUESTED_AT_ANNOTATION], "first-run");
}

const SECRET: &str = "apiVersion: v1
kind: Secret
metadata:
  name: portal
data:
  key: aGlkZGVu
stringData:
  token: hidden
";

#[test]
fn secrets_that_a_source_names_are_held_and_no_others() {
    let naming = |namespace: &str| {
        let header = "{name: A, valueFrom: {secretKeyRef: {name: portal, key: token}}}";
        SOURCE
            .replace("  name: court\n", &format!("  name: court\n  namespace: {namespace}\n"))
            .replace("  kind: html\n", &format!("  kind: html\n  fetch: {{headers: [{header}]}}\n"))
    };
    let elsewhere = SECRET.replace("name: portal", "name: portal\n  namespace: laws");
    let others = SECRET.replace("name: portal", "name: other");
    for (source, found) in [
        (naming("default"), vec!["default/portal"]),
        (naming("laws"), vec!["laws/portal"]),
        (naming("courts"), vec![]),
        (SOURCE.to_owned(), vec![]),
    ] {
        let manifests =
            read(&[("a.yaml", SECRET), ("b.yaml", &elsewhere), ("c.yaml", &others), ("d.yaml", &source)]);
        assert_eq!(manifests.problems, []);
        let names: Vec<String> = manifests.secrets.keys().map(ToString::to_string).collect();
        assert_eq!(names, found, "{source}");
        for (secret, values) in &manifests.secrets {
            for key in ["key", "token"] {
                assert_eq!(values.get(secret, key).unwrap(), "hidden");
            }
        }
        assert!(!format!("{manifests:?}").contains("hidden"), "{manifests:?}");
    }
}

#[test]
fn secrets_that_a_target_names_are_held() {
    let targets = "  delivery:
  - name: hook
    webhook: {url: 'https://example.org/', secretRef: {name: new, key: key}, previousSecretRef: {name: old, key: key}}
  - {name: chat, slack: {urlSecretRef: {name: chat, key: key}}}
";
    let secrets = ["new", "old", "chat", "other"]
        .map(|name| SECRET.replace("name: portal", &format!("name: {name}\n  namespace: courts")))
        .join("---\n");
    let court = SOURCE.replace("  name: court\n", "  name: court\n  namespace: courts\n");
    let subscription =
        SUBSCRIPTION.replace("  name: opinions\n", "  name: opinions\n  namespace: courts\n") + targets;
    let manifests = read(&[("a.yaml", &court), ("b.yaml", &subscription), ("c.yaml", &secrets)]);
    assert_eq!(manifests.problems, []);
    let names: Vec<String> = manifests.secrets.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["courts/chat", "courts/new", "courts/old"]);
}

#[test]
fn plain_text_of_a_secret_wins_and_encoded_lines_may_be_broken() {
    let both =
        SECRET.replace("  token: hidden\n", "  key: plain\n").replace("aGlkZGVu", "|\n    aGlk\n    ZGVu");
    let (values, violations) =
        secret::read(&serde_json::to_value(document::split(&both)[0].parse().unwrap().unwrap()).unwrap());
    assert!(violations.is_empty(), "{violations:?}");
    let name = SecretName { namespace: "default".to_owned(), name: "portal".to_owned() };
    assert_eq!(values.get(&name, "key").unwrap(), "plain");
    let encoded = both.replace("  key: plain\n", "  other: plain\n");
    let root = document::split(&encoded)[0].parse().unwrap().unwrap();
    let (values, _) = secret::read(&serde_json::to_value(root).unwrap());
    assert_eq!(values.get(&name, "key").unwrap(), "hidden");
}

#[test]
fn what_is_wrong_with_a_secret_is_told_without_its_values() {
    let with = |from: &str, to: &str| {
        assert!(SECRET.contains(from));
        SECRET.replace(from, to)
    };
    let cases: Vec<(String, Vec<&str>)> = vec![
        (with("apiVersion: v1", "apiVersion: v2"), vec!["f.yaml:1: apiVersion must be v1"]),
        (with("apiVersion: v1\n", ""), vec!["f.yaml:1: apiVersion must be v1"]),
        (with("aGlkZGVu", "hidden!"), vec!["f.yaml:6: data.key must be base64"]),
        (with("aGlkZGVu", "hidden"), vec!["f.yaml:6: data.key must be base64"]),
        (with("token: hidden", "token: 4711"), vec!["f.yaml:8: stringData.token must be of type string"]),
        (with("token: hidden", "token: [hidden]"), vec!["f.yaml:8: stringData.token must be of type string"]),
        (with("token: hidden", "a/b: hidden"), vec!["f.yaml:8: stringData.a/b must be letters"]),
        (
            with("stringData:\n  token: hidden", "stringData: hidden"),
            vec!["f.yaml:7: stringData must be a map"],
        ),
        (with("stringData", "stringdata"), vec!["f.yaml:7: stringdata is not a field of a Secret"]),
        (with("name: portal", "name: Portal"), vec!["f.yaml:4: metadata.name must be lower-case"]),
        // What only the parser sees: it would quote them.
        (with("token: hidden", "token: *hidden"), vec!["f.yaml:8: this Secret cannot be read"]),
        (with("token: hidden", "token: 47114711471147114711471147114711471147114711"), vec!["f.yaml:8: "]),
        (with("token: hidden", "token: 'hidden"), vec!["f.yaml:"]),
    ];
    for (text, expected) in cases {
        assert_problems(&[("f.yaml", &text)], &expected);
        let manifests = read(&[("f.yaml", &text)]);
        let told = format!("{manifests:?}");
        assert!(!told.contains("hidden") && !told.contains("4711"), "{told}");
    }
    let twice = format!("{SECRET}---\n{SECRET}");
    assert_problems(&[("f.yaml", &twice)], &["f.yaml:13: Secret default/portal is declared already"]);
}
