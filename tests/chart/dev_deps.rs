//! The parts for trials, and that the values for Tipstaff beside them name what they make.

use std::{
    collections::BTreeSet,
    io::Write as _,
    process::{Command, Stdio},
};

use serde_json::Value;
use stack::Artifact;

use crate::{Place, container, manifests, one, parsed, variable};

const VALUES: &str = include_str!("../../charts/dev-deps/tipstaff-values.yaml");

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_takes_the_parts_for_trials_under_the_restricted_profile() {
    let place = Place::new().await;
    for values in ["{}", "storage: {enabled: false}", "storage: {className: fast, size: 1Gi}"] {
        let made = parsed(&manifests(&place.stack, "dev-deps", &place.namespace, values).await.unwrap());
        place.check(&made).await.unwrap_or_else(|error| panic!("{values}: {error}"));
    }
    for (values, part) in [("kafaka: {}", "kafaka"), ("storage: {enable: true}", "enable")] {
        let made = manifests(&place.stack, "dev-deps", &place.namespace, values).await;
        let error = made.err().unwrap_or_else(|| panic!("{values} is taken"));
        assert!(error.contains(part), "{error}");
    }
    place.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn their_values_for_tipstaff_name_what_they_make() {
    let place = Place::new().await;
    let parts = parsed(&manifests(&place.stack, "dev-deps", &place.namespace, "{}").await.unwrap());
    let made = parsed(&manifests(&place.stack, "tipstaff", &place.namespace, VALUES).await.unwrap());
    let file = one(&made, "ConfigMap", "tipstaff-workers")["data"]["workers.yaml"].as_str().unwrap();
    let workers: Value = serde_saphyr::from_str(file).unwrap();
    let operator = container(one(&made, "Deployment", "tipstaff-operator"));
    let mut secrets = 0;
    for variable in operator["env"].as_array().unwrap().iter().chain(workers["env"].as_array().unwrap()) {
        let reference = &variable["valueFrom"]["secretKeyRef"];
        if let Some(name) = reference["name"].as_str() {
            let secret = one(&parts, "Secret", name);
            assert!(secret["stringData"][reference["key"].as_str().unwrap()].is_string(), "{variable}");
            secrets += 1;
        }
        let host = match variable["name"].as_str().unwrap() {
            "KAFKA_BROKERS" | "AWS_ENDPOINT_URL" => variable["value"].as_str().unwrap(),
            _ => continue,
        };
        let (name, port) = host.trim_start_matches("http://").split_once(':').unwrap();
        let service = one(&parts, "Service", name);
        assert_eq!(service["spec"]["ports"][0]["port"].to_string(), port);
    }
    assert_eq!(secrets, 4, "the database's URL twice, the access key's two parts");
    // Each part is one that a Service finds.
    for part in ["kafka", "postgres", "minio"] {
        let name = format!("deps-{part}");
        let set = one(&parts, "StatefulSet", &name);
        let labels = &set["spec"]["template"]["metadata"]["labels"];
        let service = &one(&parts, "Service", &name)["spec"];
        for (label, value) in service["selector"].as_object().unwrap() {
            assert_eq!(&labels[label], value);
        }
        assert_eq!(service["ports"][0]["targetPort"], container(set)["ports"][0]["name"]);
        assert_eq!(container(set)["ports"][0]["containerPort"], service["ports"][0]["port"]);
        assert_eq!(set["spec"]["template"]["spec"]["automountServiceAccountToken"], false);
    }
    // What is at the addresses is what the values say.
    let domain = format!("{}.svc", place.namespace);
    let secret = &one(&parts, "Secret", "deps-postgres")["stringData"];
    let url = secret["database-url"].as_str().unwrap();
    let password = secret["password"].as_str().unwrap();
    let begin = format!("postgres://tipstaff:{password}@deps-postgres.{domain}:5432/tipstaff");
    assert!(url.split('?').next() == Some(begin.as_str()), "another user, password, host or database");
    let postgres = container(one(&parts, "StatefulSet", "deps-postgres"));
    for name in ["POSTGRES_USER", "POSTGRES_DB"] {
        assert_eq!(variable(postgres, name)["value"], "tipstaff", "{name}");
    }
    let kafka = container(one(&parts, "StatefulSet", "deps-kafka"));
    let advertised = format!("PLAINTEXT://deps-kafka.{domain}:9092");
    assert_eq!(variable(kafka, "KAFKA_ADVERTISED_LISTENERS")["value"], advertised);
    let minio = &one(&parts, "StatefulSet", "deps-minio")["spec"]["template"]["spec"];
    let drive = minio["containers"][0]["args"][1].as_str().unwrap();
    let bucket = variable(&workers, "S3_BUCKET")["value"].as_str().unwrap();
    assert_eq!(minio["initContainers"][0]["command"][2], format!("{drive}/{bucket}"));
    place.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_image_is_pinned() {
    let place = Place::new().await;
    let parts = manifests(&place.stack, "dev-deps", &place.namespace, "{}").await.unwrap();
    let images: BTreeSet<_> = parts.lines().filter_map(|line| line.trim().strip_prefix("image: ")).collect();
    assert_eq!(images.len(), 3);
    for image in images {
        let (_, tag) = image.trim_matches('"').rsplit_once(':').unwrap();
        let names_a_release = tag.contains('.') && tag.contains(|digit: char| digit.is_ascii_digit());
        assert!(names_a_release && !tag.contains('/'), "{image}");
    }
    place.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kind_takes_the_cluster_s_configuration() {
    stack::build(&[Artifact::KindConfig]).await.unwrap();
    let config = include_str!("../../kind-config.yaml");
    kind(config).unwrap();
    for (from, to, part) in [
        ("nodes:", "node:", "node"),
        ("control-plane", "worker", "control-plane"),
        ("v1alpha4", "v1alpha9", "v1alpha9"),
    ] {
        let error = kind(&config.replace(from, to)).unwrap_err();
        assert!(error.contains(part), "{part:?} in {error}");
    }
}

/// Has kind read a configuration; an error is what it says.
fn kind(config: &str) -> Result<(), String> {
    let mut process = Command::new(Artifact::KindConfig.path().unwrap())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    process.stdin.take().unwrap().write_all(config.as_bytes()).unwrap();
    let output = process.wait_with_output().unwrap();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}
