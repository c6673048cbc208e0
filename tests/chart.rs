//! The Helm charts: what they make, as the real API server and the programs take it. There is no node: pods do not start.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "chart/dev_deps.rs"]
mod dev_deps;
#[path = "chart/permissions.rs"]
mod permissions;
#[path = "chart/programs.rs"]
mod programs;
#[path = "chart/release.rs"]
mod release;
#[path = "chart/rendered.rs"]
mod rendered;
#[path = "chart/values.rs"]
mod values;

use rendered::{
    RELEASE, REQUIRED, container, folder, manifests, merged, names, objects, one, parsed, variable,
};
use serde_json::Value;
use stack::Stack;
use uuid::Uuid;

/// Kafka, PostgreSQL and the object store as they are in earnest: encrypted, and with certificates and passwords.
const SECURED: &str = "
database:
  tls: {caSecret: catalog-ca, caKey: root.pem, clientCertificateSecret: catalog-client}
kafka:
  brokers: 'a:9093,b:9093'
  prefix: court.
  tls: {enabled: true, caSecret: brokers-ca, caKey: root.pem, clientCertificateSecret: brokers-client}
  sasl: {mechanism: SCRAM-SHA-512, existingSecret: kafka-user}
  properties: {socket.keepalive.enable: true}
s3:
  endpoint: 'https://store:9000'
  tls: {caSecret: store-ca}
";

/// Everything on.
const EVERYTHING: &str = "
commonLabels: {team: archive}
email: {existingSecret: mail, from: 'Tipstaff <tipstaff@example.org>'}
imagePullSecrets: [{name: registry}]
image: {digest: 'sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', pullPolicy: Always}
tracing: {endpoint: 'https://collector:4318', existingSecret: collector, headersKey: all}
kafka: {properties: {client.rack: a}}
s3: {endpoint: 'http://store:9000', virtualHost: true}
operator:
  env: [{name: TIPSTAFF_X, value: z}]
  podLabels: {a: b}
  podAnnotations: {c: d}
  serviceAccountAnnotations: {e: f}
  nodeSelector: {kubernetes.io/os: linux}
  tolerations: [{key: a, operator: Exists}]
  affinity: {nodeAffinity: {}}
  priorityClassName: system-cluster-critical
workers:
  allowCIDRs: [10.1.2.0/24, 'fd00::/8']
  roles:
    schedule: {min: 0, targetLag: 2000000}
    crawl: {resources: {limits: {memory: 1Gi}}, env: [{name: TIPSTAFF_CONCURRENCY, value: '64'}]}
    deliver: {env: [{name: TIPSTAFF_X, value: z}]}
  env: [{name: TIPSTAFF_X, valueFrom: {secretKeyRef: {name: x, key: y}}}]
  volumes: [{name: extra, emptyDir: {}}]
  volumeMounts: [{name: extra, mountPath: /extra}]
  podLabels: {a: b}
  podAnnotations: {c: d}
  serviceAccountAnnotations: {e: f}
  nodeSelector: {kubernetes.io/os: linux}
  tolerations: [{key: a, operator: Exists}]
  affinity: {nodeAffinity: {}}
  priorityClassName: system-cluster-critical
networkPolicy:
  enabled: true
  clusterCIDRs: [198.18.0.0/15, '2001:db8::/32']
  services: [{to: [{namespaceSelector: {}}], ports: [{port: 9092}]}]
  apiServer: [{to: [{ipBlock: {cidr: 192.0.2.10/32}}], ports: [{port: 6443}]}]
  metricsFrom: [{namespaceSelector: {}}]
monitoring:
  podMonitor: {enabled: true, labels: {release: prometheus}}
  prometheusRule: {enabled: true, labels: {release: prometheus}}
  dashboard: {enabled: true, annotations: {grafana_folder: Tipstaff}}
";

/// Values besides the required ones, each a way to install.
fn installations(namespace: &str) -> Vec<(&'static str, String)> {
    vec![
        ("only what is required", String::new()),
        ("encrypted and authenticated", SECURED.to_owned()),
        ("one namespace", format!("watchNamespaces: [{namespace}-laws]")),
        ("everything", EVERYTHING.to_owned()),
        (
            "as little as there can be",
            "workers: {enabled: false}\nmigration: {enabled: false}\ncrds: {install: false}\noperator: {podDisruptionBudget: false}"
                .to_owned(),
        ),
        ("another name", "fullnameOverride: court".to_owned()),
        ("some Secrets", "workers: {secrets: {names: [portal]}}".to_owned()),
    ]
}

/// Namespaces under the strictest profile, gone when the test is.
struct Place {
    stack: Stack,
    namespace: String,
}

impl Place {
    async fn new() -> Self {
        let stack = Stack::shared().await.unwrap();
        let namespace = format!("chart-{}", &Uuid::new_v4().simple().to_string()[..8]);
        for name in [namespace.clone(), format!("{namespace}-laws")] {
            let labels =
                ["enforce", "warn"].map(|mode| format!("pod-security.kubernetes.io/{mode}=restricted"));
            stack.kubectl(&["create", "namespace", &name], "").await.unwrap();
            stack.kubectl(&["label", "namespace", &name, &labels[0], &labels[1]], "").await.unwrap();
        }
        Self { stack, namespace }
    }

    async fn remove(self) {
        let laws = format!("{}-laws", self.namespace);
        self.stack
            .kubectl(&["delete", "namespace", &self.namespace, &laws, "--wait=false"], "")
            .await
            .unwrap();
    }

    /// A pod is refused where its account is not there.
    async fn make_accounts(&self, objects: &[Value]) {
        for account in objects.iter().filter(|object| object["kind"] == "ServiceAccount") {
            self.stack.kubectl(&["apply", "-f", "-"], &account.to_string()).await.unwrap();
        }
    }

    /// Has the API server check objects as if it were to store them; what it warns of is an error.
    async fn check(&self, objects: &[Value]) -> Result<String, String> {
        let list = serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": objects });
        let arguments = [
            "apply",
            "--server-side",
            "--force-conflicts",
            "--dry-run=server",
            "--warnings-as-errors",
            "-f",
            "-",
        ];
        self.stack.kubectl(&arguments, &list.to_string()).await.map_err(|error| error.to_string())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_takes_everything_under_the_restricted_profile() {
    let place = Place::new().await;
    for (name, values) in installations(&place.namespace) {
        let mut made = objects(&place.stack, &place.namespace, &values).await;
        // What has the label is all that a release is: it is found by it, and gone after an uninstall.
        for object in &made {
            assert_eq!(
                object["metadata"]["labels"]["app.kubernetes.io/part-of"], "tipstaff",
                "{name}: {object}"
            );
        }
        // Their definitions are not Kubernetes' own.
        made.retain(|object| object["apiVersion"] != "monitoring.coreos.com/v1");
        place.make_accounts(&made).await;
        place.check(&made).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    // The check can fail: a pod as it must not be.
    let mut made = objects(&place.stack, &place.namespace, "").await;
    let operator = made.iter_mut().find(|object| object["kind"] == "Deployment").unwrap();
    operator["spec"]["template"]["spec"]["hostNetwork"] = true.into();
    let error = place.check(&made).await.unwrap_err();
    assert!(error.contains("restricted"), "{error}");
    place.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn helm_has_nothing_to_object_to() {
    let stack = Stack::shared().await.unwrap();
    for (chart, values) in [("tipstaff", REQUIRED), ("dev-deps", "{}")] {
        let folder = folder(chart);
        let arguments = ["lint", "--strict", &folder, "--values", "-", "--kube-version", "1.36.3"];
        stack.helm(&arguments, values).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_rendered_and_each_is_referred_to() {
    let stack = Stack::shared().await.unwrap();
    let made = objects(&stack, "court", SECURED).await;
    assert!(made.iter().all(|object| object["kind"] != "Secret"), "{}", names(&made));
    let operator = container(one(&made, "Deployment", "tipstaff-operator"));
    let secrets = [
        ("DATABASE_URL", "catalog", "database-url"),
        ("KAFKA_SASL_USERNAME", "kafka-user", "username"),
        ("KAFKA_SASL_PASSWORD", "kafka-user", "password"),
    ];
    for (name, secret, key) in secrets {
        let reference = &variable(operator, name)["valueFrom"]["secretKeyRef"];
        assert_eq!((&reference["name"], &reference["key"]), (&secret.into(), &key.into()), "{name}");
    }
    assert_eq!(
        variable(operator, "KAFKA_PROPERTIES")["value"],
        "sasl.mechanism=SCRAM-SHA-512;security.protocol=SASL_SSL;socket.keepalive.enable=true;\
         ssl.ca.location=/etc/tipstaff/kafka-ca/root.pem;ssl.certificate.location=/etc/tipstaff/kafka-client/tls.crt;\
         ssl.key.location=/etc/tipstaff/kafka-client/tls.key"
    );
    let deployment = one(&made, "Deployment", "tipstaff-operator");
    let files = [
        ("PGSSLROOTCERT", "root.pem", "catalog-ca"),
        ("PGSSLCERT", "tls.crt", "catalog-client"),
        ("PGSSLKEY", "tls.key", "catalog-client"),
    ];
    for object in [deployment, one(&made, "Job", "tipstaff-migrate")] {
        assert_eq!(variable(container(object), "PGSSLMODE")["value"], "verify-full");
        for (name, file, secret) in files {
            let path = variable(container(object), name)["value"].as_str().unwrap();
            assert!(path.ends_with(&format!("/{file}")), "{name}: {path}");
            assert_mounted(object, path, secret);
        }
    }
    assert_mounted(deployment, "/etc/tipstaff/kafka-ca/root.pem", "brokers-ca");
    assert_mounted(deployment, "/etc/tipstaff/kafka-client/tls.key", "brokers-client");
    let file = one(&made, "ConfigMap", "tipstaff-workers")["data"]["workers.yaml"].as_str().unwrap();
    let workers: Value = serde_saphyr::from_str(file).unwrap();
    let keys = [("AWS_ACCESS_KEY_ID", "access-key-id"), ("AWS_SECRET_ACCESS_KEY", "secret-access-key")];
    for (name, key) in keys {
        let reference = &variable(&workers, name)["valueFrom"]["secretKeyRef"];
        assert_eq!(reference, &serde_json::json!({ "name": "store", "key": key }), "{name}");
    }
    let secrets = workers["volumes"].as_array().unwrap().iter().map(|volume| &volume["secret"]["secretName"]);
    let given = ["catalog-ca", "catalog-client", "brokers-ca", "brokers-client", "store-ca"];
    assert_eq!(secrets.collect::<Vec<_>>(), given);
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_is_told_of_passwords_without_encryption() {
    let stack = Stack::shared().await.unwrap();
    let made = objects(&stack, "court", "kafka: {sasl: {mechanism: PLAIN, existingSecret: user}}").await;
    let operator = container(one(&made, "Deployment", "tipstaff-operator"));
    let properties = &variable(operator, "KAFKA_PROPERTIES")["value"];
    assert_eq!(properties, "sasl.mechanism=PLAIN;security.protocol=SASL_PLAINTEXT");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_property_of_kafka_wins_over_what_follows_from_other_values() {
    let stack = Stack::shared().await.unwrap();
    let values = "kafka: {tls: {enabled: true}, properties: {security.protocol: PLAINTEXT, linger.ms: 5}}";
    let made = objects(&stack, "court", values).await;
    let operator = container(one(&made, "Deployment", "tipstaff-operator"));
    assert_eq!(variable(operator, "KAFKA_PROPERTIES")["value"], "linger.ms=5;security.protocol=PLAINTEXT");
}

/// A file's folder is a volume of the Secret.
fn assert_mounted(object: &Value, path: &str, secret: &str) {
    let folder = path.rsplit_once('/').unwrap().0;
    let mounts = container(object)["volumeMounts"].as_array().unwrap();
    let mount = mounts.iter().find(|mount| mount["mountPath"] == folder);
    let mount = mount.unwrap_or_else(|| panic!("nothing is mounted at {folder}"));
    let volumes = object["spec"]["template"]["spec"]["volumes"].as_array().unwrap();
    let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]).unwrap();
    assert_eq!(volume["secret"]["secretName"], secret, "{volume}");
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_fetch_reach_the_internet_and_nothing_else_of_the_cluster() {
    let stack = Stack::shared().await.unwrap();
    let made = objects(&stack, "court", EVERYTHING).await;
    let policies = made.iter().filter(|object| object["kind"] == "NetworkPolicy").count();
    assert_eq!(policies, 4, "each one opens something: {}", names(&made));
    let all = one(&made, "NetworkPolicy", "tipstaff-worker");
    let internet = one(&made, "NetworkPolicy", "tipstaff-worker-internet");
    let roles = &internet["spec"]["podSelector"]["matchExpressions"][0];
    assert_eq!(roles["values"], serde_json::json!(["crawl", "deliver"]));
    for policy in [all, internet] {
        assert_eq!(policy["spec"]["policyTypes"], serde_json::json!(["Egress"]));
        let selected = serde_json::json!({
            "app.kubernetes.io/name": "tipstaff-worker",
            "app.kubernetes.io/instance": RELEASE,
        });
        assert_eq!(policy["spec"]["podSelector"]["matchLabels"], selected);
    }
    // Name servers, what `networkPolicy.services` has, and nothing else.
    let [dns, services] = all["spec"]["egress"].as_array().unwrap().as_slice() else { panic!("{all}") };
    let port = |protocol: &str| serde_json::json!({ "port": 53, "protocol": protocol });
    assert_eq!(dns["ports"], serde_json::json!([port("UDP"), port("TCP")]));
    assert!(!dns["to"].as_array().unwrap().is_empty());
    let given = serde_json::json!({ "to": [{ "namespaceSelector": {} }], "ports": [{ "port": 9092 }] });
    assert_eq!(services, &given);
    assert_eq!(internet["spec"]["egress"].as_array().unwrap().len(), 1, "{internet}");
    let blocks = internet["spec"]["egress"][0]["to"].as_array().unwrap();
    let cidrs: Vec<_> = blocks.iter().map(|block| block["ipBlock"]["cidr"].as_str().unwrap()).collect();
    assert_eq!(cidrs, ["0.0.0.0/0", "::/0", "10.1.2.0/24", "fd00::/8"]);
    let closed = [
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "198.18.0.0/15",
    ];
    assert_eq!(blocks[0]["ipBlock"]["except"], serde_json::json!(closed));
    let closed = ["fc00::/7", "fe80::/10", "2001:db8::/32"];
    assert_eq!(blocks[1]["ipBlock"]["except"], serde_json::json!(closed));
    // The API server is open to the roles that read Secrets, at its address and port alone.
    let api_server = &one(&made, "NetworkPolicy", "tipstaff-worker-api-server")["spec"];
    let selector = &api_server["podSelector"];
    assert_eq!(selector["matchLabels"], all["spec"]["podSelector"]["matchLabels"]);
    assert_eq!(
        selector["matchExpressions"],
        serde_json::json!([{ "key": "app.kubernetes.io/component", "operator": "In", "values": ["crawl", "deliver"] }])
    );
    assert_eq!(api_server["policyTypes"], serde_json::json!(["Egress"]));
    let rule = serde_json::json!([{ "to": [{ "ipBlock": { "cidr": "192.0.2.10/32" } }], "ports": [{ "port": 6443 }] }]);
    assert_eq!(api_server["egress"], rule);
    let read_off = merged(EVERYTHING, "workers: {secrets: {read: false}}");
    let made_without = objects(&stack, "court", &read_off).await;
    assert!(made_without.iter().all(|object| object["metadata"]["name"] != "tipstaff-worker-api-server"));
    let metrics = &one(&made, "NetworkPolicy", "tipstaff-metrics")["spec"];
    assert_eq!(metrics["policyTypes"], serde_json::json!(["Ingress"]));
    let programs = &metrics["podSelector"]["matchExpressions"][0]["values"];
    assert_eq!(programs, &serde_json::json!(["tipstaff-operator", "tipstaff-worker"]));
    let port = serde_json::json!({ "port": 8080, "protocol": "TCP" });
    let open = serde_json::json!([{ "ports": [port], "from": [{ "namespaceSelector": {} }] }]);
    assert_eq!(metrics["ingress"], open);
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_and_grafana_get_what_they_look_for() {
    let stack = Stack::shared().await.unwrap();
    let made = objects(&stack, "court", EVERYTHING).await;
    for program in ["operator", "worker"] {
        let monitor = one(&made, "PodMonitor", &format!("tipstaff-{program}"));
        assert_eq!(monitor["metadata"]["labels"]["release"], "prometheus");
        // No API server here checks what it does not know.
        let labels = serde_json::json!({
            "app.kubernetes.io/name": format!("tipstaff-{program}"),
            "app.kubernetes.io/instance": RELEASE,
        });
        let spec = serde_json::json!({
            "selector": { "matchLabels": labels },
            "podTargetLabels": ["app.kubernetes.io/component"],
            "podMetricsEndpoints": [{ "port": "health", "path": "/metrics", "interval": "30s" }],
        });
        assert_eq!(monitor["spec"], spec);
    }
    let operator = one(&made, "Deployment", "tipstaff-operator");
    let selected = &one(&made, "PodMonitor", "tipstaff-operator")["spec"]["selector"]["matchLabels"];
    let labels = &operator["spec"]["template"]["metadata"]["labels"];
    for (name, value) in selected.as_object().unwrap() {
        assert_eq!(&labels[name], value);
    }
    let port = serde_json::json!({ "name": "health", "containerPort": 8080, "protocol": "TCP" });
    assert_eq!(container(operator)["ports"], serde_json::json!([port]));
    let rule = one(&made, "PrometheusRule", RELEASE);
    assert_eq!(rule["metadata"]["labels"]["release"], "prometheus");
    let groups = rule["spec"]["groups"].as_array().unwrap();
    let written: Value =
        serde_saphyr::from_str(include_str!("../charts/tipstaff/alerts/tipstaff.yaml")).unwrap();
    assert_eq!(&Value::Array(groups.clone()), &written["groups"]);
    let dashboard = one(&made, "ConfigMap", "tipstaff-dashboard");
    assert_eq!(dashboard["metadata"]["labels"]["grafana_dashboard"], "1");
    assert_eq!(dashboard["metadata"]["annotations"]["grafana_folder"], "Tipstaff");
    let text = dashboard["data"]["tipstaff.json"].as_str().unwrap();
    let written: Value =
        serde_json::from_str(include_str!("../charts/tipstaff/dashboards/tipstaff.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(text).unwrap(), written);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_notes_say_the_next_command_and_what_is_not_done() {
    let place = Place::new().await;
    let folder = folder("tipstaff");
    // The definitions are there already, and not of this release.
    let values = merged(REQUIRED, "crds: {install: false}");
    let notes = async |more: &str| {
        let arguments = [
            "install",
            RELEASE,
            &folder,
            "--namespace",
            &place.namespace,
            "--dry-run=server",
            "--values",
            "-",
        ];
        let shown = place.stack.helm(&arguments, &merged(&values, more)).await.unwrap();
        shown.split("NOTES:").nth(1).unwrap().to_owned()
    };
    let test = format!("helm test tipstaff --namespace {}", place.namespace);
    let status =
        format!("kubectl rollout status deployment/tipstaff-operator --namespace {}", place.namespace);
    let usual = notes("").await;
    for part in ["all namespaces", &status, &test, "/examples/public.yaml\n"] {
        assert!(usual.contains(part), "{part:?} in {usual}");
    }
    assert!(std::path::Path::new(&format!("{folder}/../../examples/public.yaml")).exists());

    let of_some = [
        ("workers.enabled is false", "workers: {enabled: false}"),
        ("migration.enabled is false", "migration: {enabled: false}"),
        ("the namespace courts", "watchNamespaces: [courts]"),
    ];
    for (part, values) in of_some {
        assert!(notes(values).await.contains(part), "{part:?} with {values}");
        assert!(!usual.contains(part), "{part:?} in {usual}");
    }
    assert!(!usual.contains("leaves the definitions"), "{usual}");
    place.remove().await;
}
