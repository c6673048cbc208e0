//! What the chart tells the programs is what they understand.

use std::{collections::BTreeSet, process::Command};

use operator::scaling::Workers;
use serde_json::Value;
use stack::Stack;
use tests::program;

use crate::{EVERYTHING, SECURED, container, objects, one, variable};

/// Read by libraries: the logs' filter, PostgreSQL's client, S3's credentials.
const OF_LIBRARIES: [&str; 7] = [
    "RUST_LOG",
    "PGSSLMODE",
    "PGSSLROOTCERT",
    "PGSSLCERT",
    "PGSSLKEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
];

fn help(name: &str, subcommand: &[&str]) -> String {
    let output = Command::new(program(name)).args(subcommand).arg("--help").output().unwrap();
    assert!(output.status.success(), "{name} {subcommand:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The file of a rendered chart.
fn workers(made: &[Value]) -> Workers {
    let file = one(made, "ConfigMap", "tipstaff-workers")["data"]["workers.yaml"].as_str().unwrap();
    Workers::parse(file).unwrap_or_else(|error| panic!("{error}\n{file}"))
}

fn assert_understood<'a>(names: impl Iterator<Item = &'a str>, help: &str) {
    let mut seen = BTreeSet::new();
    for name in names.filter(|name| !OF_LIBRARIES.contains(name)) {
        // Values are shown beside most names.
        let is_there = ["=", "]"].iter().any(|end| help.contains(&format!("[env: {name}{end}")));
        assert!(is_there, "no flag is set by {name}");
        assert!(seen.insert(name), "{name} is there twice");
    }
    assert!(!seen.is_empty());
}

fn names(container: &Value) -> impl Iterator<Item = &str> {
    let variables = container["env"].as_array().unwrap().iter();
    variables.map(|variable| variable["name"].as_str().unwrap()).filter(|name| *name != "TIPSTAFF_X")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_variable_is_one_that_the_program_reads() {
    let stack = Stack::shared().await.unwrap();
    for values in ["", SECURED, EVERYTHING, "watchNamespaces: [laws]"] {
        let made = objects(&stack, "court", values).await;
        let operator = container(one(&made, "Deployment", "tipstaff-operator"));
        assert_understood(names(operator), &help("tipstaff-operator", &["run"]));
        let migration = container(one(&made, "Job", "tipstaff-migrate"));
        assert_understood(names(migration), &help("tipstaff-operator", &["migrate"]));
        let workers = workers(&made);
        let shared = workers.env.iter().map(|variable| variable.name.as_str());
        assert_understood(shared.filter(|name| *name != "TIPSTAFF_X"), &help("tipstaff-worker", &[]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_program_and_flag_is_there() {
    let stack = Stack::shared().await.unwrap();
    let made = objects(&stack, "court", "").await;
    let rows = [
        ("Deployment", "tipstaff-operator", "tipstaff-operator", "run"),
        ("Job", "tipstaff-migrate", "tipstaff-operator", "migrate"),
        ("Pod", "tipstaff-self-test", "tipstaff", "self-test"),
    ];
    for (kind, name, program, subcommand) in rows {
        let container = container(one(&made, kind, name));
        assert_eq!(container["command"], serde_json::json!([program]));
        let arguments: Vec<_> =
            container["args"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
        assert_eq!(arguments[0], subcommand);
        let help = help(program, &[subcommand]);
        for flag in &arguments[1..] {
            assert!(help.contains(flag.split('=').next().unwrap()), "{program} {subcommand} has no {flag}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_workers_file_is_one_that_the_operator_takes() {
    let stack = Stack::shared().await.unwrap();
    let plain = workers(&objects(&stack, "court", "").await);
    assert_eq!(plain.instance, "tipstaff");
    assert_eq!(plain.image, format!("ghcr.io/tipstaff/tipstaff:{}", env!("CARGO_PKG_VERSION")));
    assert_eq!(plain.service_account_name.as_deref(), Some("tipstaff-worker"));
    assert_eq!(plain.roles.len(), 2);
    // Only the role that reads Secrets gets a token.
    for (role, account) in
        [(events::Role::Schedule, None), (events::Role::Crawl, Some("tipstaff-worker-crawl"))]
    {
        let settings = plain.role(role).unwrap();
        assert_eq!(settings.service_account_name.as_deref(), account, "{role}");
        assert_eq!(settings.automount_service_account_token, account.is_some(), "{role}");
    }
    let without = workers(&objects(&stack, "court", "workers: {secrets: {read: false}}").await);
    assert!(without.roles.values().all(|role| !role.automount_service_account_token));
    assert!(without.roles.values().all(|role| role.service_account_name.is_none()));
    assert!(plain.volumes.is_empty());

    let secured = workers(&objects(&stack, "court", SECURED).await);
    let volumes: Vec<_> = secured.volumes.iter().map(|volume| volume.name.as_str()).collect();
    assert_eq!(volumes, ["database-ca", "database-client", "kafka-ca", "kafka-client", "s3-ca"]);
    let mounts: Vec<_> = secured.volume_mounts.iter().map(|mount| mount.mount_path.as_str()).collect();
    assert_eq!(mounts, volumes.iter().map(|name| format!("/etc/tipstaff/{name}")).collect::<Vec<_>>());

    let store_ca = secured.env.iter().find(|variable| variable.name == "AWS_CA_BUNDLE").unwrap();
    assert_eq!(store_ca.value.as_deref(), Some("/etc/tipstaff/s3-ca/ca.crt"));

    let full = workers(&objects(&stack, "court", EVERYTHING).await);
    let schedule = full.role(events::Role::Schedule).unwrap();
    assert_eq!((schedule.min, schedule.max, schedule.target_lag), (0, 2, 2_000_000));
    assert!(full.role(events::Role::Crawl).unwrap().resources.is_some());
    let allowed = full.env.iter().find(|variable| variable.name == "TIPSTAFF_ALLOW_CIDRS").unwrap();
    assert_eq!(allowed.value.as_deref(), Some("10.1.2.0/24,fd00::/8"));
    assert!(full.image.contains("@sha256:") && full.affinity.is_some());
    assert_eq!(full.priority_class_name.as_deref(), Some("system-cluster-critical"));
    assert_eq!(full.pod_labels.len(), 2);
    // A role that is taken out.
    let fewer = workers(&objects(&stack, "court", "workers: {roles: {schedule: null}}").await);
    assert!(fewer.role(events::Role::Schedule).is_none() && fewer.role(events::Role::Crawl).is_some());
}

/// PostgreSQL has 100 by default and keeps 3 of them for the superuser. In an upgrade, one pod more of each Deployment.
#[tokio::test(flavor = "multi_thread")]
async fn all_programs_together_take_fewer_connections_than_postgresql_has() {
    let stack = Stack::shared().await.unwrap();
    let made = objects(&stack, "court", "").await;
    let operator = one(&made, "Deployment", "tipstaff-operator");
    let connections = variable(container(operator), "TIPSTAFF_DATABASE_CONNECTIONS")["value"].clone();
    let connections: i64 = connections.as_str().unwrap().parse().unwrap();
    let workers = workers(&made);
    let roles = events::Role::ALL.into_iter().filter_map(|role| workers.role(role));
    let replicas = roles.map(|role| i64::from(role.max) + 1).sum::<i64>()
        + operator["spec"]["replicas"].as_i64().unwrap()
        + 1;
    assert!(replicas * connections <= 97, "{replicas} processes with {connections} each");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_workers_file_starts_a_new_operator() {
    let stack = Stack::shared().await.unwrap();
    let mut seen = BTreeSet::new();
    for values in ["", "workers: {drainSeconds: 30}", "kafka: {brokers: 'other:9092'}"] {
        let made = objects(&stack, "court", values).await;
        let operator = one(&made, "Deployment", "tipstaff-operator");
        let annotations = &operator["spec"]["template"]["metadata"]["annotations"];
        assert!(
            seen.insert(annotations["tipstaff.dev/workers-file"].as_str().unwrap().to_owned()),
            "{values}"
        );
        let container = container(operator);
        assert_eq!(variable(container, "TIPSTAFF_OWNER_DEPLOYMENT")["value"], operator["metadata"]["name"]);
    }
}
