//! What the chart tells the programs is what they understand.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use operator::scaling::Workers;
use serde_json::Value;
use stack::Stack;
use tests::program;

use crate::{EVERYTHING, SECURED, container, objects, one, variable};

/// Read by libraries: the logs' filter, PostgreSQL's client, S3's credentials, OpenTelemetry.
const OF_LIBRARIES: [&str; 9] = [
    "RUST_LOG",
    "PGSSLMODE",
    "PGSSLROOTCERT",
    "PGSSLCERT",
    "PGSSLKEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_HEADERS",
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
        let of_roles = workers.roles.values().flat_map(|role| &role.env);
        let all = workers.env.iter().chain(of_roles).map(|variable| variable.name.as_str());
        assert_understood(all.filter(|name| *name != "TIPSTAFF_X"), &help("tipstaff-worker", &[]));
    }
}

/// The programs' variables have the values' values; large numbers are not written as 1e+06.
#[tokio::test(flavor = "multi_thread")]
async fn each_value_is_told_by_its_variable() {
    let stack = Stack::shared().await.unwrap();
    let values = "
fullnameOverride: laws
watchNamespaces: [statutes]
database: {connections: 9}
kafka: {prefix: court., partitions: 7, replication: 3}
s3: {endpoint: 'http://store:9000', region: eu-central-1, virtualHost: true}
log: {format: text, level: debug}
tracing: {endpoint: 'http://collector:4318', existingSecret: collector}
operator: {leaseSeconds: 11, restartAfterSeconds: 1000000, giveUpAfterSeconds: 2000000}
workers: {allowCIDRs: [10.1.2.0/24]}
";
    let made = objects(&stack, "court", values).await;
    let shared = [
        ("KAFKA_BROKERS", "kafka:9092"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318"),
        ("RUST_LOG", "debug"),
        ("TIPSTAFF_DATABASE_CONNECTIONS", "9"),
        ("TIPSTAFF_LOG_FORMAT", "text"),
    ];
    let of_operator = [
        ("KAFKA_PARTITIONS", "7"),
        ("KAFKA_PREFIX", "court."),
        ("KAFKA_REPLICATION", "3"),
        ("TIPSTAFF_GIVE_UP_AFTER_SECONDS", "2000000"),
        ("TIPSTAFF_LEASE_NAME", "laws-operator"),
        ("TIPSTAFF_LEASE_SECONDS", "11"),
        ("TIPSTAFF_LISTEN", "0.0.0.0:8080"),
        ("TIPSTAFF_NAMESPACE", "statutes"),
        ("TIPSTAFF_OWNER_DEPLOYMENT", "laws-operator"),
        ("TIPSTAFF_RESTART_AFTER_SECONDS", "1000000"),
        ("TIPSTAFF_WORKERS_FILE", "/etc/tipstaff/workers/workers.yaml"),
    ];
    let of_workers = [
        ("AWS_ENDPOINT_URL", "http://store:9000"),
        ("AWS_REGION", "eu-central-1"),
        ("S3_BUCKET", "evidence"),
        ("S3_VIRTUAL_HOST", "true"),
        ("TIPSTAFF_ALLOW_CIDRS", "10.1.2.0/24"),
    ];
    let deployment = one(&made, "Deployment", "laws-operator");
    let operator = container(deployment);
    assert_eq!(plain(operator), shared.into_iter().chain(of_operator).collect());
    let file = one(&made, "ConfigMap", "laws-workers");
    let workers: Value = serde_saphyr::from_str(file["data"]["workers.yaml"].as_str().unwrap()).unwrap();
    assert_eq!(plain(&workers), shared.into_iter().chain(of_workers).collect());

    // The file is where the operator looks for it, and the lease is the one that it may hold.
    let mounts = operator["volumeMounts"].as_array().unwrap();
    let mount = mounts.iter().find(|mount| mount["mountPath"] == "/etc/tipstaff/workers").unwrap();
    let volumes = deployment["spec"]["template"]["spec"]["volumes"].as_array().unwrap();
    let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]).unwrap();
    assert_eq!(volume["configMap"]["name"], file["metadata"]["name"]);
    let rules = one(&made, "Role", "laws-operator-own")["rules"].as_array().unwrap();
    assert!(rules.iter().any(|rule| rule["resourceNames"] == serde_json::json!(["laws-operator"])));
}

/// Variables that have a value.
fn plain(container: &Value) -> BTreeMap<&str, &str> {
    let variables = container["env"].as_array().unwrap().iter();
    variables.filter_map(|variable| Some((variable["name"].as_str()?, variable["value"].as_str()?))).collect()
}

/// No program of a new release meets the old schema, and a node that is drained waits for nobody but those that work.
#[tokio::test(flavor = "multi_thread")]
async fn the_migration_comes_first_and_the_operator_is_looked_after() {
    let stack = Stack::shared().await.unwrap();
    let made = objects(&stack, "court", "").await;
    let migration = &one(&made, "Job", "tipstaff-migrate")["metadata"]["annotations"];
    assert_eq!(migration["helm.sh/hook"], "pre-install,pre-upgrade");
    let deployment = one(&made, "Deployment", "tipstaff-operator");
    let budget = &one(&made, "PodDisruptionBudget", "tipstaff-operator")["spec"];
    assert_eq!(budget["maxUnavailable"], 1);
    assert_eq!(budget["unhealthyPodEvictionPolicy"], "AlwaysAllow");
    assert_eq!(budget["selector"], deployment["spec"]["selector"]);
    let spread = deployment["spec"]["template"]["spec"]["topologySpreadConstraints"].as_array().unwrap();
    assert!(!spread.is_empty());
    for constraint in spread {
        assert_eq!(constraint["maxSkew"], 1, "{constraint}");
        assert_eq!(constraint["labelSelector"], deployment["spec"]["selector"], "{constraint}");
    }
    let operator = container(deployment);
    for (probe, path) in
        [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")]
    {
        assert_eq!(
            operator[probe]["httpGet"],
            serde_json::json!({ "path": path, "port": "health" }),
            "{probe}"
        );
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
            let name = flag.split('=').next().unwrap();
            assert!(help.contains(&format!("{name} <")), "{program} {subcommand} has no {flag}");
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
    // Only roles that read Secrets get a token.
    for role in events::Role::ALL {
        let account = match role {
            events::Role::Crawl => Some("tipstaff-worker-crawl"),
            events::Role::Deliver => Some("tipstaff-worker-deliver"),
            events::Role::Schedule | events::Role::Parse | events::Role::Version => None,
        };
        let settings = plain.role(role).unwrap();
        assert_eq!(settings.service_account_name.as_deref(), account, "{role}");
        assert_eq!(settings.automount_service_account_token, account.is_some(), "{role}");
        assert!(settings.env.is_empty(), "{role}");
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
    // What is handed on as it is.
    let handed_on = serde_json::json!({
        "imagePullPolicy": "Always",
        "imagePullSecrets": [{ "name": "registry" }],
        "nodeSelector": { "kubernetes.io/os": "linux" },
        "tolerations": [{ "key": "a", "operator": "Exists" }],
        "podAnnotations": { "c": "d" },
        "resources": { "requests": { "cpu": "100m", "memory": "128Mi" }, "limits": { "memory": "512Mi" } },
        "volumes": [{ "name": "extra", "emptyDir": {} }],
        "volumeMounts": [{ "name": "extra", "mountPath": "/extra" }],
        "spoolSizeLimit": "2Gi",
        "drainSeconds": 20,
        "stabilisationSeconds": 300,
    });
    let made = objects(&stack, "court", EVERYTHING).await;
    let file = one(&made, "ConfigMap", "tipstaff-workers")["data"]["workers.yaml"].as_str().unwrap();
    let file: Value = serde_saphyr::from_str(file).unwrap();
    for (name, value) in handed_on.as_object().unwrap() {
        assert_eq!(&file[name], value, "{name}");
    }
    assert_eq!(variable(&file, "TIPSTAFF_X")["valueFrom"]["secretKeyRef"]["name"], "x");
    let headers = serde_json::json!({ "name": "collector", "key": "all" });
    for program in [container(one(&made, "Deployment", "tipstaff-operator")), &file] {
        let variable = variable(program, "OTEL_EXPORTER_OTLP_HEADERS");
        assert_eq!(variable["valueFrom"]["secretKeyRef"], headers);
    }
    assert_eq!(variable(&file["roles"]["crawl"], "TIPSTAFF_CONCURRENCY")["value"], "64");
    // The mail server is told to the role that delivers, besides what it is given, and to nobody else.
    for (role, settings) in file["roles"].as_object().unwrap() {
        assert_eq!(settings.to_string().contains("TIPSTAFF_SMTP_URL"), role == "deliver", "{role}");
    }
    let deliver = &file["roles"]["deliver"];
    let url = &variable(deliver, "TIPSTAFF_SMTP_URL")["valueFrom"]["secretKeyRef"];
    assert_eq!(url, &serde_json::json!({ "name": "mail", "key": "smtp-url" }));
    assert_eq!(variable(deliver, "TIPSTAFF_EMAIL_FROM")["value"], "Tipstaff <tipstaff@example.org>");
    assert_eq!(variable(deliver, "TIPSTAFF_X")["value"], "z");
    assert_eq!(variable(&file, "TIPSTAFF_SMTP_URL"), &Value::Null);
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
    let processes = roles.map(|role| i64::from(role.max) + 1).sum::<i64>()
        + operator["spec"]["replicas"].as_i64().unwrap()
        + 1;
    assert!(processes * connections <= 97, "{processes} processes with {connections} each");
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
