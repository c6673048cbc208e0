//! A role's Deployment and PodDisruptionBudget, as they shall be.

use std::collections::BTreeMap;

use events::Role;
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec},
        core::v1::{
            Capabilities, Container, ContainerPort, EmptyDirVolumeSource, EnvVar, HTTPGetAction,
            PodSecurityContext, PodSpec, PodTemplateSpec, Probe, SeccompProfile, SecurityContext,
            TopologySpreadConstraint, Volume, VolumeMount,
        },
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    },
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference},
        util::intstr::IntOrString,
    },
};

use super::configuration::{RoleName, RoleWorkers, Workers};

/// Where a role's state is shown: see [`super::state`].
pub const STATE_ANNOTATION: &str = "tipstaff.dev/scaling";
/// The labels that tell a role's objects and pods from others.
pub(super) const OWN_LABELS: [&str; 5] = [NAME, INSTANCE, COMPONENT, PART_OF, MANAGED_BY];
/// The volume for bodies that are arriving.
pub(super) const SPOOL: &str = "spool";

const NAME: &str = "app.kubernetes.io/name";
const INSTANCE: &str = "app.kubernetes.io/instance";
const COMPONENT: &str = "app.kubernetes.io/component";
const PART_OF: &str = "app.kubernetes.io/part-of";
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

const SPOOL_PATH: &str = "/var/spool/tipstaff";
const HEALTH: &str = "health";
const HEALTH_PORT: i32 = 8080;
/// What a worker does after its handlers have ended: the group is left within 5 s, probes end within 2 s.
const END_SECONDS: u32 = 10;

/// What all roles' objects have in common.
#[derive(Clone, Debug)]
pub struct Place {
    /// The objects' namespace.
    pub namespace: String,
    /// What the objects go with.
    pub owner: Option<OwnerReference>,
    /// Stands before the names of topics and groups: the workers' must be those whose lag is read.
    pub kafka_prefix: String,
}

/// The name of a role's objects.
pub fn object_name(workers: &Workers, role: Role) -> String {
    format!("{}-worker-{role}", workers.instance)
}

/// Selects the objects of an installation, of all roles.
pub fn objects_selector(workers: &Workers) -> String {
    let labels = shared_labels(workers);
    let pairs: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join(",")
}

/// A role's Deployment. `state` says how it came to so many replicas.
pub fn deployment(
    workers: &Workers,
    role: Role,
    settings: &RoleWorkers,
    place: &Place,
    replicas: u32,
    state: &str,
) -> Deployment {
    let mut metadata = metadata(workers, role, place);
    metadata.annotations = Some(BTreeMap::from([(STATE_ANNOTATION.to_owned(), state.to_owned())]));
    let mut pod_labels = workers.pod_labels.clone();
    pod_labels.extend(labels(workers, role));
    Deployment {
        metadata,
        spec: Some(DeploymentSpec {
            // Validation keeps replicas far below.
            replicas: Some(i32::try_from(replicas).unwrap_or(i32::MAX)),
            selector: selector(workers, role),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(pod_labels),
                    annotations: unless_empty(workers.pod_annotations.clone()),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod(workers, role, settings, place)),
            },
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}

/// A role's PodDisruptionBudget: one pod at a time goes, so that the only one does not keep a node from being drained,
/// and one that does not work anyway never does.
pub fn disruption_budget(workers: &Workers, role: Role, place: &Place) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: metadata(workers, role, place),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(selector(workers, role)),
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }
}

/// The role whose object this is, by its labels.
pub fn role_of(labels: Option<&BTreeMap<String, String>>) -> Option<Role> {
    labels?.get(COMPONENT)?.parse().ok()
}

impl Workers {
    /// How a role is scaled, if it is.
    pub fn role(&self, role: Role) -> Option<&RoleWorkers> {
        self.roles.get(&RoleName(role))
    }
}

fn metadata(workers: &Workers, role: Role, place: &Place) -> ObjectMeta {
    ObjectMeta {
        name: Some(object_name(workers, role)),
        namespace: Some(place.namespace.clone()),
        labels: Some(labels(workers, role)),
        owner_references: place.owner.clone().map(|owner| vec![owner]),
        ..ObjectMeta::default()
    }
}

fn shared_labels(workers: &Workers) -> BTreeMap<String, String> {
    let labels = [
        (NAME, "tipstaff-worker"),
        (INSTANCE, workers.instance.as_str()),
        (PART_OF, "tipstaff"),
        (MANAGED_BY, crds::FIELD_MANAGER),
    ];
    labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

fn labels(workers: &Workers, role: Role) -> BTreeMap<String, String> {
    let mut labels = shared_labels(workers);
    labels.insert(COMPONENT.to_owned(), role.name().to_owned());
    labels
}

/// A Deployment's selector cannot be changed: it has what tells its pods from others, and no more.
fn selector(workers: &Workers, role: Role) -> LabelSelector {
    let mut labels = labels(workers, role);
    labels.retain(|name, _| [NAME, INSTANCE, COMPONENT].contains(&name.as_str()));
    LabelSelector { match_labels: Some(labels), ..LabelSelector::default() }
}

fn pod(workers: &Workers, role: Role, settings: &RoleWorkers, place: &Place) -> PodSpec {
    let mut volumes = vec![Volume {
        name: SPOOL.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            size_limit: Some(workers.spool_size_limit.clone()),
            ..EmptyDirVolumeSource::default()
        }),
        ..Volume::default()
    }];
    volumes.extend(workers.volumes.iter().cloned());
    PodSpec {
        containers: vec![container(workers, role, settings, place)],
        volumes: Some(volumes),
        image_pull_secrets: unless_empty(workers.image_pull_secrets.clone()),
        service_account_name: settings
            .service_account_name
            .clone()
            .or_else(|| workers.service_account_name.clone()),
        // Only a role that reads Secrets asks anything of the API server.
        automount_service_account_token: Some(settings.automount_service_account_token),
        enable_service_links: Some(false),
        node_selector: unless_empty(workers.node_selector.clone()),
        tolerations: unless_empty(workers.tolerations.clone()),
        affinity: workers.affinity.clone(),
        priority_class_name: workers.priority_class_name.clone(),
        topology_spread_constraints: Some(
            ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
                .map(|key| TopologySpreadConstraint {
                    max_skew: 1,
                    topology_key: key.to_owned(),
                    when_unsatisfiable: "ScheduleAnyway".to_owned(),
                    label_selector: Some(selector(workers, role)),
                    ..TopologySpreadConstraint::default()
                })
                .into(),
        ),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                ..SeccompProfile::default()
            }),
            ..PodSecurityContext::default()
        }),
        termination_grace_period_seconds: Some(i64::from(workers.drain_seconds + END_SECONDS)),
        ..PodSpec::default()
    }
}

fn container(workers: &Workers, role: Role, settings: &RoleWorkers, place: &Place) -> Container {
    let args = vec![
        format!("--roles={role}"),
        format!("--listen=0.0.0.0:{HEALTH_PORT}"),
        format!("--drain-seconds={}", workers.drain_seconds),
        format!("--spool-dir={SPOOL_PATH}"),
        format!("--kafka-prefix={}", place.kafka_prefix),
    ];
    let mut volume_mounts = vec![VolumeMount {
        name: SPOOL.to_owned(),
        mount_path: SPOOL_PATH.to_owned(),
        ..VolumeMount::default()
    }];
    volume_mounts.extend(workers.volume_mounts.iter().cloned());
    Container {
        name: "worker".to_owned(),
        image: Some(workers.image.clone()),
        image_pull_policy: workers.image_pull_policy.clone(),
        // One image has all programs.
        command: Some(vec!["tipstaff-worker".to_owned()]),
        args: Some(args),
        env: unless_empty(environment(&workers.env, &settings.env)),
        env_from: unless_empty(workers.env_from.clone()),
        resources: settings.resources.clone().or_else(|| workers.resources.clone()),
        ports: Some(vec![ContainerPort {
            name: Some(HEALTH.to_owned()),
            container_port: HEALTH_PORT,
            // The API server's default, which is part of the key by which ports are merged.
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        volume_mounts: Some(volume_mounts),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                ..Capabilities::default()
            }),
            read_only_root_filesystem: Some(true),
            run_as_non_root: Some(true),
            ..SecurityContext::default()
        }),
        // A worker waits up to 30 s for the catalog before it serves its port.
        startup_probe: Some(probe("/livez", 2, 30)),
        liveness_probe: Some(probe("/livez", 10, 6)),
        readiness_probe: Some(probe("/readyz", 5, 2)),
        ..Container::default()
    }
}

/// A variable of the role replaces that of all roles in its place: later ones may refer to it.
fn environment(shared: &[EnvVar], own: &[EnvVar]) -> Vec<EnvVar> {
    let mut all = shared.to_vec();
    for variable in own {
        match all.iter_mut().find(|other| other.name == variable.name) {
            Some(other) => *other = variable.clone(),
            None => all.push(variable.clone()),
        }
    }
    all
}

fn probe(path: &str, period_seconds: i32, failure_threshold: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String(HEALTH.to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        failure_threshold: Some(failure_threshold),
        // The catalog may take 2 s of it to answer.
        timeout_seconds: Some(4),
        ..Probe::default()
    }
}

/// An empty list that is applied would claim the field.
fn unless_empty<T: IntoIterator + Default + PartialEq>(collection: T) -> Option<T> {
    (collection != T::default()).then_some(collection)
}

#[cfg(test)]
mod tests;
