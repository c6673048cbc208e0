//! Tipstaff's processes on the shared stack, kept apart from other tests by a namespace, a database, a bucket and a prefix.

use std::{
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use events::{
    Bus, Event, Signal, Topic,
    kafka::{KafkaBus, KafkaOptions},
};
use serde_json::Value;
use sqlx::{PgPool, Row};
use stack::{Part, S3, Stack};
use tempfile::TempDir;
use tokio::time::timeout;
use uuid::Uuid;

use crate::{Process, eventually};

/// How long a step of the pipeline may take on a busy machine.
const STEP: Duration = Duration::from_secs(60);

/// An installation of Tipstaff for one test.
pub struct Installation {
    /// The parts it works with.
    pub stack: Stack,
    /// The namespace of its objects.
    pub namespace: String,
    /// The prefix of its topics and groups.
    pub prefix: String,
    /// Its catalog.
    pub pool: PgPool,
    database_url: String,
    folder: TempDir,
    started: AtomicUsize,
}

/// A run as the catalog has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The run's id.
    pub id: Uuid,
    /// Schedule or Request.
    pub trigger: String,
    /// How far it is.
    pub phase: String,
    /// How it ended.
    pub reason: Option<String>,
}

impl Installation {
    /// Installs the definitions, a namespace and a catalog on the shared stack.
    pub async fn new(test: &str) -> Self {
        Self::on(Stack::shared().await.unwrap(), test).await
    }

    /// Its bus, as a bare client has it.
    pub fn bus(&self) -> KafkaBus {
        KafkaBus::new(KafkaOptions {
            brokers: self.stack.kafka_brokers().unwrap(),
            prefix: self.prefix.clone(),
            properties: [].into(),
            partitions: 1,
            replication: 1,
            revoke: Duration::from_secs(1),
        })
        .unwrap()
    }

    /// The first `count` events of a topic, as they come.
    pub async fn events_of(&self, topic: Topic, count: usize) -> Vec<Event> {
        let mut consumer = self.bus().subscribe(&format!("look-{topic}"), &[topic]).await.unwrap();
        let mut events = Vec::new();
        let reading = async {
            while events.len() < count {
                if let Signal::Received(received) = consumer.receive(true).await.unwrap() {
                    events.push(Event::from_record(&received.record).unwrap());
                }
            }
        };
        timeout(Duration::from_secs(30), reading).await.unwrap();
        consumer.close().await.unwrap();
        events
    }

    /// Starts an operator on a database that nobody has migrated, and returns what became of it.
    pub async fn operator_without_catalog(&self) -> (bool, String) {
        let name = format!("{}_empty", self.namespace.replace('-', "_"));
        let url = self.stack.create_database(&name).await.unwrap();
        let process = self.operator(&[("DATABASE_URL", url)]);
        let log = process.log_path().to_owned();
        let ended = process.wait().await;
        (ended.success(), std::fs::read_to_string(log).unwrap())
    }

    /// The same on a stack of the test's own.
    pub async fn on(stack: Stack, test: &str) -> Self {
        let unique = Uuid::new_v4().simple().to_string();
        let name = format!("{test}-{}", &unique[..8]);
        install_definitions(&stack).await;
        stack.kubectl(&["create", "namespace", &name], "").await.unwrap();
        let database_url = stack.create_database(&name.replace('-', "_")).await.unwrap();
        let installation = Self {
            pool: PgPool::connect(&database_url).await.unwrap(),
            prefix: format!("{name}."),
            namespace: name,
            database_url,
            stack,
            folder: tempfile::tempdir().unwrap(),
            started: AtomicUsize::new(0),
        };
        installation.apply(include_str!("permissions.yaml")).await;
        let migrate = installation.start("tipstaff-operator", &["migrate"], "tipstaff-operator", &[]);
        assert!(migrate.wait().await.success());
        installation
    }

    /// Its bucket, which its workers make: no other test's bodies are in it.
    pub fn s3(&self) -> S3 {
        S3 { bucket: self.namespace.clone(), ..self.stack.s3().unwrap() }
    }

    /// Where its catalog is.
    pub fn database_url(&self) -> &str {
        &self.database_url
    }

    /// Where its processes log.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts an operator. `environment` wins over the installation's own.
    pub fn operator(&self, environment: &[(&str, String)]) -> Process {
        self.start("tipstaff-operator", &["run"], "tipstaff-operator", environment)
    }

    /// Starts a worker with all roles. `environment` wins over the installation's own.
    pub fn worker(&self, environment: &[(&str, String)]) -> Process {
        self.start("tipstaff-worker", &[], "tipstaff-worker-crawl", environment)
    }

    /// `user` has the permissions that the program is documented to need, and no others.
    fn start(
        &self,
        program: &str,
        arguments: &[&str],
        user: &str,
        environment: &[(&str, String)],
    ) -> Process {
        let number = self.started.fetch_add(1, Ordering::SeqCst);
        let log = self.folder.path().join(format!("{number}-{program}.log"));
        let mut all = self.environment();
        if self.stack.service(Part::KubeApiserver).is_ok() {
            let kubeconfig = self.stack.kubeconfig_for(user, &[]).unwrap();
            all.push(("KUBECONFIG", kubeconfig.display().to_string()));
        }
        all.extend_from_slice(environment);
        Process::start(program, arguments, &all, &log)
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        let mut all = vec![
            ("DATABASE_URL", self.database_url.clone()),
            ("KAFKA_PREFIX", self.prefix.clone()),
            ("KAFKA_PARTITIONS", "2".to_owned()),
            ("TIPSTAFF_NAMESPACE", self.namespace.clone()),
            ("POD_NAMESPACE", self.namespace.clone()),
            ("TIPSTAFF_LEASE_SECONDS", "5".to_owned()),
            ("TIPSTAFF_LISTEN", "127.0.0.1:0".to_owned()),
            ("TIPSTAFF_ALLOW_CIDRS", "127.0.0.1/32".to_owned()),
            ("TIPSTAFF_SPOOL_DIR", self.folder.path().join("spool").display().to_string()),
            ("NO_COLOR", "1".to_owned()),
            ("RUST_LOG", "info,operator=debug,events=debug".to_owned()),
        ];
        if self.stack.service(Part::Kafka).is_ok() {
            all.push(("KAFKA_BROKERS", self.stack.kafka_brokers().unwrap()));
        }
        if self.stack.service(Part::Minio).is_ok() {
            let s3 = self.s3();
            all.extend([
                ("AWS_ENDPOINT_URL", s3.endpoint),
                ("AWS_REGION", s3.region),
                ("AWS_ACCESS_KEY_ID", s3.access_key),
                ("AWS_SECRET_ACCESS_KEY", s3.secret_key),
                ("S3_BUCKET", s3.bucket),
            ]);
        }
        all
    }

    /// Runs kubectl in the namespace.
    pub async fn kubectl(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let all: Vec<&str> = arguments.iter().copied().chain(["--namespace", &self.namespace]).collect();
        self.stack.kubectl(&all, input).await.map_err(|error| error.to_string())
    }

    /// Applies manifests.
    pub async fn apply(&self, manifests: &str) {
        self.kubectl(&["apply", "-f", "-"], manifests).await.unwrap();
    }

    /// An object of the namespace.
    pub async fn object(&self, name: &str) -> Value {
        serde_json::from_str(&self.kubectl(&["get", name, "-o", "json"], "").await.unwrap()).unwrap()
    }

    /// Asks for a run of a subscription now.
    pub async fn request(&self, subscription: &str, token: &str) {
        let annotation = format!("tipstaff.dev/requestedAt={token}");
        self.kubectl(&["annotate", "--overwrite", &format!("tsub/{subscription}"), &annotation], "")
            .await
            .unwrap();
    }

    /// Waits until a condition of an object has a status and, where it is given, a reason; returns its message.
    pub async fn condition(&self, object: &str, kind: &str, status: &str, reason: Option<&str>) -> String {
        eventually(&format!("{kind}={status} {reason:?} of {object}"), STEP, async || {
            let object = self.object(object).await;
            let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions
                .iter()
                .find(|condition| {
                    condition["type"] == kind
                        && condition["status"] == status
                        && reason.is_none_or(|reason| condition["reason"] == reason)
                })
                .map(|condition| condition["message"].as_str().unwrap_or_default().to_owned())
                .ok_or(conditions)
        })
        .await
    }

    /// The runs of a subscription, skipped ones left out, oldest first.
    pub async fn runs(&self, subscription: &str) -> Vec<Run> {
        sqlx::query(
            "select r.id, r.trigger, r.phase, r.reason from runs r join subscriptions s on s.id = r.subscription_id
             where s.name = $1 and r.phase <> 'Skipped' order by r.created_at",
        )
        .bind(subscription)
        .fetch_all(&self.pool)
        .await
        .unwrap()
        .iter()
        .map(|row| Run {
            id: row.get("id"),
            trigger: row.get("trigger"),
            phase: row.get("phase"),
            reason: row.get("reason"),
        })
        .collect()
    }

    /// Waits until a subscription has `count` runs and all of them have ended.
    pub async fn ended_runs(&self, subscription: &str, count: usize) -> Vec<Run> {
        eventually(&format!("{count} ended runs of {subscription}"), STEP + STEP, async || {
            let runs = self.runs(subscription).await;
            let all_ended = runs.iter().all(|run| run.phase != "Pending" && run.phase != "Running");
            if runs.len() >= count && all_ended { Ok(runs) } else { Err(runs) }
        })
        .await
    }

    /// One value of the catalog.
    pub async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }

    /// Removes what the API server holds; the sources' finalizers need no operator for that.
    pub async fn remove(self) {
        let names = self.kubectl(&["get", "tsrc", "-o", "name"], "").await.unwrap_or_default();
        for name in names.lines() {
            let patch = r#"{"metadata":{"finalizers":null}}"#;
            let _ = self.kubectl(&["patch", name, "--type=merge", "-p", patch], "").await;
        }
        let namespace = self.namespace.clone();
        self.stack.kubectl(&["delete", "namespace", &namespace, "--wait=false"], "").await.unwrap();
    }
}

/// Brings the custom resource definitions to the stack's API server and waits until they are served.
pub async fn install_definitions(stack: &Stack) {
    for definition in [include_str!("../../crds/source.yaml"), include_str!("../../crds/subscription.yaml")] {
        stack.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", "-"], definition).await.unwrap();
    }
    let names = ["crd/sources.tipstaff.dev", "crd/subscriptions.tipstaff.dev"];
    stack
        .kubectl(&["wait", "--for=condition=Established", "--timeout=30s", names[0], names[1]], "")
        .await
        .unwrap();
}
