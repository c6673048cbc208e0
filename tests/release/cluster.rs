//! A stack with a node, and what a user has before the release is installed.

use std::{collections::BTreeSet, time::Duration};

use serde_json::Value;
use sqlx::{PgPool, Row};
use stack::{Part, Stack, StackOptions};
use tests::{Origin, corpus, eventually, program, read_blob, sha256};
use tokio::process::Command;

pub(crate) const NAMESPACE: &str = "watching";
/// How long something may take that starts pods, on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(240);

/// What the page's source sends as `X-Api-Key`, from a Secret.
const KEY: &str = "key-of-the-portal";
/// What deliveries are signed with.
const SIGNING: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
/// Where the origin takes them.
const HOOK: &str = "/hook";

const CHECKOUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const IMAGE: &str = "ghcr.io/tipstaff/tipstaff:test";
/// A schedule that is not due during a test.
const NEVER_NOW: &str = "0 0 29 2 *";

pub(crate) struct Cluster {
    pub(crate) stack: Stack,
    pub(crate) origin: Origin,
    pool: PgPool,
    values: String,
}

impl Cluster {
    /// Starts everything, loads the image, and makes the namespace and the Secrets.
    pub(crate) async fn start() -> Self {
        let parts = [&Part::NODE[..], &[Part::Kafka, Part::Postgres, Part::Minio]].concat();
        let stack = Stack::start(&parts, StackOptions::default()).await.unwrap();
        load_image(&stack).await;
        let host = stack.node_host_address().unwrap();
        let origin = Origin::start_on(host, corpus::CA11).await;
        let database_url = stack.create_database("watching").await.unwrap();
        let s3 = stack.s3().unwrap();
        let values = format!(
            "image: {{tag: test, pullPolicy: Never}}
database: {{existingSecret: tipstaff-database, connections: 5}}
kafka: {{brokers: '{brokers}', partitions: 3, replication: 1}}
s3: {{bucket: '{bucket}', endpoint: '{endpoint}', region: '{region}', existingSecret: tipstaff-s3}}
operator: {{leaseSeconds: 5, resources: {{requests: {{cpu: 10m, memory: 32Mi}}}}}}
workers:
  allowCIDRs: [{host}/32]
  stabilisationSeconds: 15
  resources: {{requests: {{cpu: 10m, memory: 32Mi}}}}
  roles:
    schedule: {{min: 1, max: 1}}
    crawl: {{min: 1, max: 3, targetLag: 10}}
test: {{url: '{url}'}}
",
            brokers = stack.kafka_brokers().unwrap(),
            bucket = s3.bucket,
            endpoint = s3.endpoint,
            region = s3.region,
            url = origin.url(),
        );
        stack.kubectl(&["create", "namespace", NAMESPACE], "").await.unwrap();
        let restricted = "pod-security.kubernetes.io/enforce=restricted";
        stack.kubectl(&["label", "namespace", NAMESPACE, restricted], "").await.unwrap();
        let cluster = Self { pool: PgPool::connect(&database_url).await.unwrap(), origin, values, stack };
        cluster.secret("tipstaff-database", &[("database-url", &database_url)]).await;
        let keys = [("access-key-id", s3.access_key.as_str()), ("secret-access-key", s3.secret_key.as_str())];
        cluster.secret("tipstaff-s3", &keys).await;
        cluster.secret("court-portal", &[("key", KEY), ("signing", SIGNING)]).await;
        cluster
    }

    async fn secret(&self, name: &str, values: &[(&str, &str)]) {
        let literals: Vec<String> =
            values.iter().map(|(key, value)| format!("--from-literal={key}={value}")).collect();
        let mut arguments = vec!["create", "secret", "generic", name];
        arguments.extend(literals.iter().map(String::as_str));
        self.kubectl(&arguments, "").await.unwrap();
    }

    /// `helm install` or `helm upgrade` of this checkout's chart.
    pub(crate) async fn helm(&self, verb: &str, more: &[&str]) {
        let chart = format!("{CHECKOUT}/charts/tipstaff");
        let mut arguments = vec![verb, "tipstaff", &chart, "--namespace", NAMESPACE, "--values", "-"];
        arguments.extend_from_slice(more);
        self.stack.helm(&arguments, &self.values).await.unwrap();
    }

    pub(crate) async fn kubectl(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let all = [&["--namespace", NAMESPACE], arguments].concat();
        self.stack.kubectl(&all, input).await.map_err(|error| error.to_string())
    }

    pub(crate) async fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.kubectl(arguments, "").await.unwrap()).unwrap()
    }

    /// Waits until a Deployment has so many ready pods, and no others.
    pub(crate) async fn ready(&self, deployment: &str, count: u64) {
        eventually(&format!("{count} ready pods of {deployment}"), LONG, async || {
            let found = self.kubectl(&["get", "deployment", deployment, "-o", "json"], "").await?;
            let found: Value = serde_json::from_str(&found).unwrap();
            let status = &found["status"];
            let figures = (&status["replicas"], &status["readyReplicas"], &status["updatedReplicas"]);
            if figures == (&count.into(), &count.into(), &count.into()) {
                Ok(())
            } else {
                Err(status.to_string())
            }
        })
        .await;
    }

    /// Waits until a Deployment shall have so many pods.
    pub(crate) async fn replicas(&self, deployment: &str, count: u64) {
        eventually(&format!("{count} replicas of {deployment}"), LONG, async || {
            let found = self.json(&["get", "deployment", deployment, "-o", "json"]).await;
            let state = found["metadata"]["annotations"]["tipstaff.dev/scaling"].clone();
            if found["spec"]["replicas"] == count { Ok(()) } else { Err(state) }
        })
        .await;
    }

    /// The names of pods that run, and are not on their way out.
    pub(crate) async fn pods(&self, selector: &str) -> Vec<String> {
        let found = self.json(&["get", "pods", "--selector", selector, "-o", "json"]).await;
        let pods = found["items"].as_array().unwrap().iter().map(|pod| &pod["metadata"]);
        let living = pods.filter(|meta| meta["deletionTimestamp"].is_null());
        living.map(|meta| meta["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Applies subscriptions of the page that the test serves.
    pub(crate) async fn create(&self, names: &[String]) {
        let mut objects = format!(
            "apiVersion: tipstaff.dev/v1alpha1\nkind: Source\nmetadata: {{ name: court }}\n\
             spec:\n  kind: html\n  baseURL: '{}'\n  fetch:\n    headers:\n    \
             - {{ name: X-Api-Key, valueFrom: {{ secretKeyRef: {{ name: court-portal, key: key }} }} }}\n",
            self.origin.url()
        );
        for name in names {
            objects += &format!(
                "---\napiVersion: tipstaff.dev/v1alpha1\nkind: Subscription\nmetadata: {{ name: {name} }}\n\
                 spec:\n  sourceRef: {{ name: court }}\n  schedule: '{NEVER_NOW}'\n  delivery:\n  \
                 - name: clerks\n    webhook: {{ url: '{}', secretRef: {{ name: court-portal, key: signing }} }}\n    \
                 when: {{ changes: [Always] }}\n",
                self.origin.at(HOOK)
            );
        }
        self.kubectl(&["apply", "-f", "-"], &objects).await.unwrap();
    }

    pub(crate) async fn request(&self, subscription: &str, token: &str) {
        let annotation = format!("tipstaff.dev/requestedAt={token}");
        let object = format!("tsub/{subscription}");
        let runs = self.count("select count(*) from runs").await;
        self.kubectl(&["annotate", "--overwrite", &object, &annotation], "").await.unwrap();
        eventually("the run that was asked for", LONG, async || {
            let found = self.count("select count(*) from runs").await;
            if found > runs { Ok(()) } else { Err(found) }
        })
        .await;
    }

    /// Waits until there are so many runs and all of them have succeeded.
    pub(crate) async fn ended(&self, count: i64) {
        eventually(&format!("{count} ended runs"), LONG, async || {
            let phases: Vec<(String, i64)> =
                sqlx::query_as("select phase, count(*) from runs group by phase order by phase")
                    .fetch_all(&self.pool)
                    .await
                    .unwrap();
            if phases == [("Succeeded".to_owned(), count)] { Ok(()) } else { Err(phases) }
        })
        .await;
    }

    pub(crate) async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }

    pub(crate) async fn condition(&self, object: &str, kind: &str, status: &str) {
        let condition = format!("--for=condition={kind}={status}");
        self.kubectl(&["wait", object, &condition, "--timeout=60s"], "").await.unwrap();
    }

    /// Every run has an artifact, its own or that of a run due together with it, and every artifact's blob is what was
    /// served, under its hash.
    pub(crate) async fn artifacts_are_what_was_served(&self) {
        let without = "select count(*) from runs r where not exists (
             select from documents d join artifacts a on a.id = d.artifact_id where d.run_id = r.id)";
        assert_eq!(self.count(without).await, 0);
        let rows = sqlx::query("select distinct fetch_hash, blob_uri from artifacts")
            .fetch_all(&self.pool)
            .await
            .unwrap();
        for row in rows {
            let body = read_blob(&self.stack, row.get("blob_uri")).await;
            assert_eq!(body, corpus::CA11.as_bytes());
            assert_eq!(sha256(&body), row.get::<String, _>("fetch_hash"));
        }
    }

    /// Each run's document was parsed and compared, and each version is with its target, signed.
    pub(crate) async fn versions_are_delivered(&self, count: i64) {
        // `helm test` has a subscription of its own, which tells nobody.
        let made = "select count(*) from versions v join subscriptions s on s.id = v.subscription_id
             join extracts e on e.id = v.extract_id where s.settings ->> 'targets' <> '[]'";
        assert_eq!(self.count(made).await, count);
        eventually("the deliveries", LONG, async || {
            let missing = self
                .count(
                    "select count(*) from versions v join subscriptions s on s.id = v.subscription_id
                     where s.settings ->> 'targets' <> '[]' and not exists (
                     select from delivery_versions dv join deliveries d on d.id = dv.delivery_id
                     where dv.version_id = v.id and d.phase = 'Delivered')",
                )
                .await;
            if missing == 0 { Ok(()) } else { Err(missing) }
        })
        .await;
        let hooks: Vec<_> =
            self.origin.all_requests().into_iter().filter(|request| request.path == HOOK).collect();
        assert!(hooks.len() >= usize::try_from(count).unwrap());
        assert!(hooks.iter().all(|request| request.headers.contains_key("webhook-signature")));
    }

    /// Workers have read the Secret with the token of their pods.
    pub(crate) fn the_page_was_asked_for_with_the_key(&self) {
        let requests = self.origin.all_requests();
        let keys: Vec<_> = requests.iter().filter_map(|request| request.headers.get("x-api-key")).collect();
        assert!(!keys.is_empty() && keys.iter().all(|key| *key == KEY), "{requests:?}");
    }

    /// What a ServiceAccount of the release may do, as the API server says, each as `RESOURCE[/NAME] VERBS`; without what
    /// everyone may.
    pub(crate) async fn permissions(&self, account: &str) -> BTreeSet<String> {
        let user = format!("system:serviceaccount:{NAMESPACE}:{account}");
        let groups = ["system:authenticated", "system:serviceaccounts"];
        let mut arguments = vec!["auth", "can-i", "--list", "--no-headers", "--as", &user];
        for group in groups {
            arguments.extend(["--as-group", group]);
        }
        let listed = self.kubectl(&arguments, "").await.unwrap();
        listed
            .lines()
            // Others have URLs in the place of resources. `*.*` is a resource.
            .filter(|line| !line.starts_with(char::is_whitespace))
            .filter(|line| !line.starts_with("self"))
            .map(permission)
            .collect()
    }

    /// Waits until nothing is left in the namespace but these, what every namespace has, Events and custom resources.
    pub(crate) async fn left(&self, expected: &[&str]) {
        let kinds = "all,configmaps,secrets,serviceaccounts,roles,rolebindings,poddisruptionbudgets,\
                     networkpolicies,leases";
        eventually("an empty namespace", LONG, async || {
            let names = self.kubectl(&["get", kinds, "-o", "name"], "").await?;
            let left: BTreeSet<String> = names
                .lines()
                .map(|name| name.replace(".coordination.k8s.io", ""))
                .filter(|name| {
                    !["configmap/kube-root-ca.crt", "serviceaccount/default"].contains(&name.as_str())
                })
                .collect();
            if left == expected.iter().map(|name| (*name).to_owned()).collect() {
                Ok(())
            } else {
                Err(format!("{left:?}"))
            }
        })
        .await;
        let of_cluster =
            self.stack.kubectl(&["get", "clusterroles,clusterrolebindings", "-o", "name"], "").await;
        assert!(!of_cluster.unwrap().contains("tipstaff"));
    }
}

/// `sources.tipstaff.dev  []  []  [get list]` as `sources.tipstaff.dev get list`.
fn permission(line: &str) -> String {
    let (resource, rest) = line.split_once(' ').unwrap();
    let fields: Vec<&str> = rest.split('[').map(|field| field.trim().trim_end_matches(']').trim()).collect();
    // Nothing, URLs, names, verbs.
    let name = if fields[2].is_empty() { String::new() } else { format!("/{}", fields[2]) };
    let mut verbs: Vec<&str> = fields[3].split(' ').collect();
    verbs.sort_unstable();
    format!("{resource}{name} {}", verbs.join(" "))
}

/// The image of this build, put together without Docker.
async fn load_image(stack: &Stack) {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("tipstaff.tar");
    let made = Command::new(format!("{CHECKOUT}/scripts/image.sh"))
        .arg(program("tipstaff"))
        .arg(&archive)
        .env("IMAGE", IMAGE)
        .output()
        .await
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    stack.load_archive(IMAGE, &archive).await.unwrap();
}
