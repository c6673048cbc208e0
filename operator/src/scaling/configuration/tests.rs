#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;

use super::*;

const SMALLEST: &str = "image: example.org/tipstaff:1\nroles:\n  crawl: { min: 0, max: 4, targetLag: 100 }\n";

fn problems(text: &str) -> Vec<(String, String)> {
    match Workers::parse(text) {
        Err(WorkersError::Invalid(problems)) => {
            problems.into_iter().map(|problem| (problem.field, problem.message)).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_example_is_valid_and_shows_every_field() {
    let text = include_str!("../../../../examples/operator/workers.yaml");
    let workers = Workers::parse(text).unwrap();
    let written: serde_json::Value = serde_saphyr::from_str(text).unwrap();
    let understood = serde_json::to_value(&workers).unwrap();
    let fields =
        |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(fields(&written), fields(&understood));
    assert_eq!(fields(&written["roles"]["crawl"]), fields(&understood["roles"]["crawl"]));
}

#[test]
fn what_is_left_out_has_a_default() {
    let workers = Workers::parse(SMALLEST).unwrap();
    assert_eq!((workers.instance.as_str(), workers.drain_seconds), ("tipstaff", 20));
    assert_eq!((workers.stabilisation_seconds, workers.spool_size_limit.0.as_str()), (300, "2Gi"));
    assert_eq!(workers.roles.keys().map(|role| role.0).collect::<Vec<_>>(), [Role::Crawl]);
    // As a chart writes what is not set.
    let nulls = format!("{SMALLEST}affinity: null\nresources: ~\nimagePullPolicy:\n");
    assert_eq!(Workers::parse(&nulls).unwrap(), workers);
    assert!(Workers::parse("image: a:1\nroles: {}\n").unwrap().roles.is_empty());
}

#[test]
fn what_is_no_workers_file_says_where_and_why() {
    let rows = [
        ("", "end of input"),
        ("image: a:1\n", "roles"),
        ("image: a:1\nroles: { crawl: { min: 0, max: 1 } }", "targetLag"),
        ("image: a:1\nroles: { crawler: { min: 0, max: 1, targetLag: 1 } }", "the roles are schedule, crawl"),
        ("image: a:1\nimages: b\nroles: {}", "images"),
        ("image: a:1\nroles: { crawl: { min: 0, max: 1, targetLag: 1, target: 2 } }", "target"),
        ("image: a:1\nroles: { crawl: { min: -1, max: 1, targetLag: 1 } }", "-1"),
        ("image: a:1\nroles: { crawl: { min: few, max: 1, targetLag: 1 } }", "few"),
        ("image: a:1\nimage: b:1\nroles: {}", "image"),
        ("image: [", "line"),
    ];
    for (text, part) in rows {
        match Workers::parse(text) {
            Err(WorkersError::Unreadable(message)) => {
                assert!(message.contains(part), "{part:?} in {message:?}");
            }
            other => panic!("{text:?}: {other:?}"),
        }
    }
}

#[test]
fn a_value_that_cannot_be_names_its_field_and_what_to_do() {
    let with = |line: &str| format!("{SMALLEST}{line}\n");
    let with_crawl = |text: &str| format!("image: a:1\nroles:\n  crawl: {text}\n");
    let rows = [
        (with("instance: Tipstaff"), "instance", "\"Tipstaff\""),
        (with("instance: a23456789-123456789-123456789-123456789-1"), "instance", "at most 40"),
        (with("imagePullPolicy: Sometimes"), "imagePullPolicy", "IfNotPresent"),
        ("image: ''\nroles: {}".to_owned(), "image", "repository:tag"),
        (with("drainSeconds: 0"), "drainSeconds", "between 1"),
        (with("stabilisationSeconds: 90000"), "stabilisationSeconds", "day"),
        (with("spoolSizeLimit: much"), "spoolSizeLimit", "512Mi"),
        (with("podLabels: { app.kubernetes.io/name: mine }"), "podLabels.app.kubernetes.io/name", "remove"),
        (with("volumes: [{ name: spool }]"), "volumes[0].name", "another name"),
        (with("env: [{ name: A, value: b }, { name: A, value: c }]"), "env[1].name", "twice"),
        (with("env: [{ name: '', value: b }]"), "env[0].name", "variable's name"),
        (with("env: [{ name: TIPSTAFF_LISTEN, value: b }]"), "env[0].name", "operator sets"),
        (with("env: [{ name: KAFKA_PREFIX, value: b }]"), "env[0].name", "operator sets"),
        (
            with("env: [{ name: A, value: b, valueFrom: { fieldRef: { fieldPath: metadata.name } } }]"),
            "env[0]",
            "keep one",
        ),
        (
            with("env: [{ name: DATABASE_URL, value: postgres://u:hidden@h/d }]"),
            "env[0].value",
            "secretKeyRef",
        ),
        (
            with("env: [{ name: KAFKA_PROPERTIES, value: sasl.password=hidden }]"),
            "env[0].value",
            "secretKeyRef",
        ),
        (with("env: [{ name: KAFKA_SASL_PASSWORD, value: hidden }]"), "env[0].value", "secretKeyRef"),
        (
            with_crawl(
                "{ min: 0, max: 1, targetLag: 1, env: [{ name: TIPSTAFF_SMTP_URL, value: 'smtps://u:hidden@h' }] }",
            ),
            "roles.crawl.env[0].value",
            "secretKeyRef",
        ),
        (with("resources: { limits: { memory: 1 GB } }"), "resources.limits.memory", "\"1 GB\""),
        // Kubernetes' own types let these pass.
        (with("resources: { limit: { memory: 1Gi } }"), "resources.limit", "no such field"),
        (with("env: [{ name: A, valeu: b }]"), "env[0].valeu", "no such field"),
        (with("tolerations: [{ keys: a }]"), "tolerations[0].keys", "no such field"),
        (with_crawl("{ min: 5, max: 4, targetLag: 1 }"), "roles.crawl.min", "5 is more than max, 4"),
        (with_crawl("{ min: 0, max: 0, targetLag: 1 }"), "roles.crawl.max", "remove it"),
        (with_crawl("{ min: 0, max: 1001, targetLag: 1 }"), "roles.crawl.max", "1000"),
        (with_crawl("{ min: 0, max: 1, targetLag: 0 }"), "roles.crawl.targetLag", "endless"),
        (
            with_crawl("{ min: 0, max: 1, targetLag: 1, automountServiceAccountToken: true }"),
            "roles.crawl.serviceAccountName",
            "whose token",
        ),
        (
            with_crawl("{ min: 0, max: 1, targetLag: 1, env: [{ name: TIPSTAFF_ROLES, value: all }] }"),
            "roles.crawl.env[0].name",
            "operator sets",
        ),
        (
            with_crawl("{ min: 0, max: 1, targetLag: 1, resources: { requests: { cpu: '' } } }"),
            "roles.crawl.resources.requests.cpu",
            "no quantity",
        ),
    ];
    for (text, field, part) in rows {
        let found = problems(&text);
        let [(at, message)] = found.as_slice() else { panic!("{text}: {found:?}") };
        assert_eq!(at, field, "{text}");
        assert!(message.contains(part) && !message.contains("hidden"), "{part:?} in {message:?}");
    }
}

#[test]
fn every_role_can_be_scaled() {
    for role in Role::ALL {
        let text = format!("image: a:1\nroles: {{ {role}: {{ min: 0, max: 1, targetLag: 1 }} }}");
        assert!(Workers::parse(&text).unwrap().role(role).is_some());
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let text = "image: ''\nroles: { crawl: { min: 2, max: 1, targetLag: 0 } }";
    let message = Workers::parse(text).unwrap_err().to_string();
    for field in ["\n  image: ", "\n  roles.crawl.min: ", "\n  roles.crawl.targetLag: "] {
        assert!(message.contains(field), "{field:?} in {message}");
    }
}

#[test]
fn quantities_are_those_of_kubernetes() {
    for good in ["1", "0.5", "250m", "1Gi", "512Mi", "1e3", "2E-1", "1E", "3Ei", "10G", ".5"] {
        let text = format!("{SMALLEST}resources: {{ limits: {{ cpu: '{good}' }} }}\n");
        assert!(Workers::parse(&text).is_ok(), "{good}");
    }
    // A number as a person writes it.
    let workers = Workers::parse(&format!("{SMALLEST}resources: {{ limits: {{ cpu: 2 }} }}\n")).unwrap();
    assert_eq!(workers.resources.unwrap().limits.unwrap()["cpu"].0, "2");
    for bad in ["", "-1", "1 Gi", "1gi", "1GiB", "1e", "Mi", "1..5", "."] {
        let found = problems(&format!("{SMALLEST}resources: {{ limits: {{ cpu: '{bad}' }} }}\n"));
        assert_eq!(found[0].0, "resources.limits.cpu", "{bad}");
    }
}
