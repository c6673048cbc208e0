//! The addresses of a stack's parts, and the programs that speak to them.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    Image, Part, Stack, StackError,
    build::{self, Artifact},
    certificates::Certificates,
    command, files,
    image::Runtime,
    network::Network,
    parts::{self, ControlPlane, TOOL_OPTIONS},
    stack::{DATABASE, STATE_VARIABLE},
    state::PostgresAccess,
};

/// The longest that a tool may run; one that waits for something is told so by its own arguments.
const TOOL_WITHIN: Duration = Duration::from_secs(120);

/// Kafka's console tools that get a script on `PATH`.
const KAFKA_SCRIPTS: [(&str, &str); 5] = [
    ("kafka-topics", "org.apache.kafka.tools.TopicCommand"),
    ("kafka-console-producer", "org.apache.kafka.tools.ConsoleProducer"),
    ("kafka-console-consumer", "org.apache.kafka.tools.consumer.ConsoleConsumer"),
    ("kafka-consumer-groups", "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"),
    ("kafka-get-offsets", "org.apache.kafka.tools.GetOffsetShell"),
];

/// Where an object store is and how to use it. Path style: the bucket is not part of the host name.
#[derive(Clone, Serialize, Deserialize)]
pub struct S3 {
    /// The URL, without a bucket.
    pub endpoint: String,
    /// The region that requests are signed for.
    pub region: String,
    /// A bucket that exists from the start.
    pub bucket: String,
    /// The access key's id.
    pub access_key: String,
    /// The access key's secret.
    pub secret_key: String,
}

impl std::fmt::Debug for S3 {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("S3")
            .field("endpoint", &self.endpoint)
            .field("bucket", &self.bucket)
            .finish_non_exhaustive()
    }
}

impl Stack {
    /// The administrator's kubeconfig (group `system:masters`).
    ///
    /// # Errors
    /// When the stack has no API server.
    pub fn kubeconfig_path(&self) -> Result<PathBuf, StackError> {
        self.service(Part::KubeApiserver)?;
        Ok(self.certificates().kubeconfig(ControlPlane::ADMINISTRATOR))
    }

    /// A new kubeconfig that authenticates, by a client certificate, as the user of these groups; at most two.
    ///
    /// # Errors
    /// When the stack has no API server, there are more than two groups, or the files cannot be written.
    pub fn kubeconfig_for(&self, user: &str, groups: &[&str]) -> Result<PathBuf, StackError> {
        let apiserver = self.service(Part::KubeApiserver)?.address();
        let name = format!("user-{}", uuid::Uuid::new_v4().simple());
        self.certificates().write_kubeconfig(&name, apiserver, user, groups)
    }

    /// The URL of the API server.
    ///
    /// # Errors
    /// When the stack has no API server.
    pub fn kubernetes_url(&self) -> Result<String, StackError> {
        let address = self.service(Part::KubeApiserver)?.address();
        Ok(format!("https://{address}"))
    }

    /// Kafka's bootstrap servers.
    ///
    /// # Errors
    /// When the stack has no Kafka.
    pub fn kafka_brokers(&self) -> Result<String, StackError> {
        Ok(self.service(Part::Kafka)?.address().to_string())
    }

    /// The URL of a database, with the superuser's password in it.
    ///
    /// # Errors
    /// When the stack has no PostgreSQL.
    pub fn postgres_url(&self, database: &str) -> Result<String, StackError> {
        let address = self.service(Part::Postgres)?.address();
        let PostgresAccess { user, password } = self.postgres_access()?;
        Ok(format!("postgres://{user}:{password}@{address}/{database}?sslmode=disable"))
    }

    /// The object store's address and keys.
    ///
    /// # Errors
    /// When the stack has no object store.
    pub fn s3(&self) -> Result<S3, StackError> {
        self.state.s3.clone().ok_or_else(|| self.without(Part::Minio))
    }

    /// Makes a new, empty database and returns its URL.
    ///
    /// # Errors
    /// When the stack has no PostgreSQL, or the database exists.
    pub async fn create_database(&self, name: &str) -> Result<String, StackError> {
        let quoted = name.replace('"', "\"\"");
        self.psql("postgres", &format!("create database \"{quoted}\"")).await?;
        self.postgres_url(name)
    }

    /// Runs SQL with psql; returns the rows, one a line, their columns separated by `|`.
    ///
    /// # Errors
    /// When psql fails: its message is part of the error.
    pub async fn psql(&self, database: &str, sql: &str) -> Result<String, StackError> {
        let program = parts::client_program("psql").await?;
        let environment = self.postgres_environment(database)?;
        let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let arguments = ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "-"];
        let rows = command::run(&program, &arguments, &environment, sql, TOOL_WITHIN).await?;
        Ok(rows.trim_end().to_owned())
    }

    /// The kubectl that was built with the API server.
    ///
    /// # Errors
    /// When the stack has no API server.
    pub fn kubectl_path(&self) -> Result<PathBuf, StackError> {
        self.service(Part::KubeApiserver)?;
        Artifact::Kubectl.path()
    }

    /// Runs kubectl as the administrator, with something on its standard input (for `apply -f -`); returns what it printed.
    ///
    /// # Errors
    /// When kubectl fails: its message is part of the error.
    pub async fn kubectl(&self, arguments: &[&str], input: &str) -> Result<String, StackError> {
        let kubeconfig = format!("--kubeconfig={}", self.kubeconfig_path()?.display());
        let mut all = vec![kubeconfig.as_str()];
        all.extend(arguments);
        command::run(&self.kubectl_path()?, &all, &[], input, TOOL_WITHIN).await
    }

    /// Runs Helm as the administrator, with something on its standard input (for `--values -`); returns what it printed.
    /// It is built first where it is not yet. What it keeps is kept with the stack.
    ///
    /// # Errors
    /// When Helm cannot be built, or fails: its message is part of the error.
    pub async fn helm(&self, arguments: &[&str], input: &str) -> Result<String, StackError> {
        build::build(&[Artifact::Helm]).await?;
        let kubeconfig = self.kubeconfig_path()?.display().to_string();
        let folder = self.state.folder.join("helm").display().to_string();
        let environment = [
            ("KUBECONFIG", kubeconfig.as_str()),
            ("HELM_CACHE_HOME", folder.as_str()),
            ("HELM_CONFIG_HOME", folder.as_str()),
            ("HELM_DATA_HOME", folder.as_str()),
        ];
        command::run(&Artifact::Helm.path()?, arguments, &environment, input, TOOL_WITHIN).await
    }

    /// The address of this machine that pods reach. A test's own server that listens on it serves both.
    ///
    /// # Errors
    /// When the stack has no node.
    pub fn node_host_address(&self) -> Result<Ipv4Addr, StackError> {
        self.state.node.map(Network::host).ok_or_else(|| self.without(Part::Node))
    }

    /// Makes an image that pods can be made of. One of the same name is replaced.
    ///
    /// # Errors
    /// When the stack has no containerd, the files cannot be read, or the image cannot be imported.
    pub async fn load_image(&self, image: &Image<'_>) -> Result<(), StackError> {
        self.service(Part::Containerd)?;
        Runtime::of(&self.state.folder, &self.state.data).import(image).await
    }

    /// Loads an archive, as `docker save` writes it, that holds the image of this name.
    ///
    /// # Errors
    /// When the stack has no containerd, or the archive cannot be imported or holds another image.
    pub async fn load_archive(&self, name: &str, archive: &Path) -> Result<(), StackError> {
        self.service(Part::Containerd)?;
        Runtime::of(&self.state.folder, &self.state.data).import_archive(name, archive).await
    }

    /// Runs one of Kafka's command line tools by its class, such as `org.apache.kafka.tools.TopicCommand`, against this
    /// broker; returns what it printed. It takes a second or two to start.
    ///
    /// # Errors
    /// When the tool fails: its message is part of the error.
    pub async fn kafka_tool(
        &self,
        class: &str,
        arguments: &[&str],
        input: &str,
    ) -> Result<String, StackError> {
        let words = self.kafka_words(class)?;
        let mut all: Vec<&str> = words.iter().map(String::as_str).collect();
        all.extend(arguments);
        command::run(&parts::java(), &all, &[], input, TOOL_WITHIN).await
    }

    /// What a shell, or a program under test, needs in its environment to find the parts. `state` is the state file.
    ///
    /// # Errors
    /// When a part's address cannot be told.
    pub fn environment(&self, state: &std::path::Path) -> Result<Vec<(&'static str, String)>, StackError> {
        let mut variables = vec![(STATE_VARIABLE, state.display().to_string())];
        if self.service(Part::KubeApiserver).is_ok() {
            variables.push(("KUBECONFIG", self.kubeconfig_path()?.display().to_string()));
        }
        if self.service(Part::Kafka).is_ok() {
            variables.push(("KAFKA_BROKERS", self.kafka_brokers()?));
        }
        if self.service(Part::Postgres).is_ok() {
            variables.extend(self.postgres_environment(DATABASE)?);
            variables.push(("DATABASE_URL", self.postgres_url(DATABASE)?));
        }
        if let Some(s3) = &self.state.s3 {
            variables.extend([
                ("AWS_ENDPOINT_URL", s3.endpoint.clone()),
                ("AWS_REGION", s3.region.clone()),
                ("AWS_ACCESS_KEY_ID", s3.access_key.clone()),
                ("AWS_SECRET_ACCESS_KEY", s3.secret_key.clone()),
                ("S3_BUCKET", s3.bucket.clone()),
            ]);
        }
        Ok(variables)
    }

    /// The folder of programs that know this stack: kubectl, `kafka-topics` and Kafka's other console tools.
    #[must_use]
    pub fn programs(&self) -> PathBuf {
        self.state.folder.join("bin")
    }

    pub(crate) fn write_scripts(&self) -> Result<(), StackError> {
        let folder = self.programs();
        if self.service(Part::KubeApiserver).is_ok() {
            let kubectl = Artifact::Kubectl.path()?;
            let script = format!("#!/bin/sh\nexec {} \"$@\"\n", quote(&kubectl.display().to_string()));
            files::write_script(&folder.join("kubectl"), &script)?;
        }
        if self.service(Part::Kafka).is_ok() {
            for (name, class) in KAFKA_SCRIPTS {
                let java = parts::java().display().to_string();
                let words: Vec<_> =
                    std::iter::once(java).chain(self.kafka_words(class)?).map(|word| quote(&word)).collect();
                let script = format!("#!/bin/sh\nexec {} \"$@\"\n", words.join(" "));
                files::write_script(&folder.join(name), &script)?;
            }
        }
        Ok(())
    }

    fn kafka_words(&self, class: &str) -> Result<Vec<String>, StackError> {
        let mut words: Vec<_> = TOOL_OPTIONS.map(str::to_owned).into();
        words.extend(["-cp".to_owned(), parts::class_path()?, class.to_owned()]);
        words.extend(["--bootstrap-server".to_owned(), self.kafka_brokers()?]);
        Ok(words)
    }

    fn postgres_environment(&self, database: &str) -> Result<Vec<(&'static str, String)>, StackError> {
        let address = self.service(Part::Postgres)?.address();
        let PostgresAccess { user, password } = self.postgres_access()?;
        Ok(vec![
            ("PGHOST", address.ip().to_string()),
            ("PGPORT", address.port().to_string()),
            ("PGUSER", user.clone()),
            ("PGPASSWORD", password.clone()),
            ("PGDATABASE", database.to_owned()),
        ])
    }

    fn postgres_access(&self) -> Result<&PostgresAccess, StackError> {
        self.state.postgres.as_ref().ok_or_else(|| self.without(Part::Postgres))
    }

    fn certificates(&self) -> Certificates {
        Certificates::at(self.state.folder.join("kubernetes"))
    }
}

/// A word as every POSIX shell takes it.
#[must_use]
pub fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
