//! The workers file: which roles are scaled, how, and what their pods look like.

use std::collections::BTreeMap;

use events::{Role, error_chain};
use k8s_openapi::{
    api::core::v1::{
        Affinity, EnvFromSource, EnvVar, LocalObjectReference, ResourceRequirements, Toleration, Volume,
        VolumeMount,
    },
    apimachinery::pkg::api::resource::Quantity,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

mod validation;

/// The workers file, whole and valid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Workers {
    /// Begins the names of the Deployments and tells installations in one namespace apart.
    #[serde(default = "default_instance")]
    pub instance: String,
    /// An image with the program `tipstaff-worker` on its `PATH`.
    pub image: String,
    /// Always, IfNotPresent or Never; Kubernetes chooses without it.
    #[serde(default)]
    pub image_pull_policy: Option<String>,
    /// Secrets for the image's registry.
    #[serde(default)]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// Whose pods the workers are of the roles that name none.
    #[serde(default)]
    pub service_account_name: Option<String>,
    /// Environment of every role.
    #[serde(default)]
    pub env: Vec<EnvVar>,
    /// Environment of every role, from ConfigMaps and Secrets.
    #[serde(default)]
    pub env_from: Vec<EnvFromSource>,
    /// Resources of the roles that name none.
    #[serde(default)]
    pub resources: Option<ResourceRequirements>,
    /// Volumes besides the spool.
    #[serde(default)]
    pub volumes: Vec<Volume>,
    /// Where they are mounted.
    #[serde(default)]
    pub volume_mounts: Vec<VolumeMount>,
    /// Which nodes may run workers.
    #[serde(default)]
    pub node_selector: BTreeMap<String, String>,
    /// Which taints workers tolerate.
    #[serde(default)]
    pub tolerations: Vec<Toleration>,
    /// Where pods go by affinity.
    #[serde(default)]
    pub affinity: Option<Affinity>,
    /// The pods' priority.
    #[serde(default)]
    pub priority_class_name: Option<String>,
    /// Labels of the pods besides the operator's.
    #[serde(default)]
    pub pod_labels: BTreeMap<String, String>,
    /// Annotations of the pods.
    #[serde(default)]
    pub pod_annotations: BTreeMap<String, String>,
    /// How much the bodies that are arriving may take on the node's disk; a pod that takes more is evicted.
    #[serde(default = "default_spool_size_limit")]
    pub spool_size_limit: Quantity,
    /// How long, in seconds, running handlers get to finish when a pod ends.
    #[serde(default = "default_drain_seconds")]
    pub drain_seconds: u32,
    /// For how long, in seconds, every reading must have allowed fewer replicas before there are fewer.
    #[serde(default = "default_stabilisation_seconds")]
    pub stabilisation_seconds: u32,
    /// The roles that the operator runs. What is not here it does not run, and removes.
    pub roles: BTreeMap<RoleName, RoleWorkers>,
}

/// How one role is scaled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RoleWorkers {
    /// The fewest replicas; 0 lets the role sleep while nothing is to be done.
    pub min: u32,
    /// The most replicas. There are never more than partitions either, unless `min` asks for them.
    pub max: u32,
    /// How many events one replica may be behind before there are more replicas.
    pub target_lag: u64,
    /// Resources; those of the whole file without it.
    #[serde(default)]
    pub resources: Option<ResourceRequirements>,
    /// Environment; it wins over that of the whole file.
    #[serde(default)]
    pub env: Vec<EnvVar>,
    /// Whose pods the role's are; that of the whole file without it.
    #[serde(default)]
    pub service_account_name: Option<String>,
    /// Whether they get its token, with which the roles crawl and deliver read Secrets.
    #[serde(default)]
    pub automount_service_account_token: bool,
}

/// A role as a key of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RoleName(pub Role);

/// The workers file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WorkersError {
    /// It is not what a workers file is.
    #[error("the workers file cannot be read: {0}")]
    Unreadable(String),
    /// It says what cannot be.
    #[error("the workers file is not valid:{}", lines(.0))]
    Invalid(Vec<Problem>),
}

/// One thing that is wrong with the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The field, from the file's top.
    pub field: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl Workers {
    /// Reads the file's text, which is YAML, and checks it as a whole.
    ///
    /// # Errors
    /// When it is no YAML, has a field that does not exist, lacks one, or has values that cannot be: all of the latter at once.
    pub fn parse(text: &str) -> Result<Self, WorkersError> {
        let unreadable = |error: serde_saphyr::Error| WorkersError::Unreadable(error_chain(&error));
        let workers: Self = serde_saphyr::from_str(text).map_err(unreadable)?;
        let written: serde_json::Value = serde_saphyr::from_str(text).map_err(unreadable)?;
        let problems = validation::problems(&workers, &written);
        if problems.is_empty() { Ok(workers) } else { Err(WorkersError::Invalid(problems)) }
    }
}

impl<'de> Deserialize<'de> for RoleName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

impl Serialize for RoleName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name())
    }
}

fn default_instance() -> String {
    "tipstaff".to_owned()
}

fn default_spool_size_limit() -> Quantity {
    Quantity("2Gi".to_owned())
}

fn default_drain_seconds() -> u32 {
    20
}

fn default_stabilisation_seconds() -> u32 {
    300
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("\n  {}: {}", problem.field, problem.message)).collect()
}

#[cfg(test)]
mod tests;
