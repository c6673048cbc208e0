//! The parts a stack is made of, and which of them need which.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::build::Artifact;

/// One server of the stack.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Part {
    /// The machine that pods run on: namespaces of its own for processes, mounts and the network. To kill it is to cut
    /// its power: all that runs on it ends too, and is to be started again after it, containerd first.
    Node,
    /// The Kubernetes API server's database.
    Etcd,
    /// The Kubernetes API server.
    KubeApiserver,
    /// The Kubernetes controllers: namespaces, service accounts, garbage collection.
    KubeControllerManager,
    /// One Kafka broker that is its own controller (KRaft).
    Kafka,
    /// A second Kafka broker of the same cluster, which does not vote: what is given to it alone has no leader while it is away.
    SecondBroker,
    /// One PostgreSQL server, of the version that the machine has installed.
    Postgres,
    /// An S3-compatible object store.
    Minio,
    /// What gives pods to nodes.
    KubeScheduler,
    /// What runs containers on the node. They go on when it ends.
    Containerd,
    /// What runs pods on the node. They go on when it ends.
    Kubelet,
    /// What makes the addresses of services lead to pods, on the node.
    KubeProxy,
    /// What tells pods the addresses of services by their names.
    Coredns,
}

impl Part {
    /// Every part, in an order in which they can start.
    pub const ALL: [Part; 13] = [
        Part::Node,
        Part::Etcd,
        Part::KubeApiserver,
        Part::KubeControllerManager,
        Part::Kafka,
        Part::SecondBroker,
        Part::Postgres,
        Part::Minio,
        Part::KubeScheduler,
        Part::Containerd,
        Part::Kubelet,
        Part::KubeProxy,
        Part::Coredns,
    ];

    /// The parts that Tipstaff speaks to. They need no particular rights.
    pub const SERVERS: [Part; 6] = [
        Part::Etcd,
        Part::KubeApiserver,
        Part::KubeControllerManager,
        Part::Kafka,
        Part::Postgres,
        Part::Minio,
    ];

    /// The parts that let pods run. They need Linux and root.
    pub const NODE: [Part; 6] =
        [Part::Node, Part::KubeScheduler, Part::Containerd, Part::Kubelet, Part::KubeProxy, Part::Coredns];

    /// The part's name in files, messages and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Part::Node => "node",
            Part::Etcd => "etcd",
            Part::KubeApiserver => "kube-apiserver",
            Part::KubeControllerManager => "kube-controller-manager",
            Part::Kafka => "kafka",
            Part::SecondBroker => "second-broker",
            Part::Postgres => "postgres",
            Part::Minio => "minio",
            Part::KubeScheduler => "kube-scheduler",
            Part::Containerd => "containerd",
            Part::Kubelet => "kubelet",
            Part::KubeProxy => "kube-proxy",
            Part::Coredns => "coredns",
        }
    }

    /// What must run before this part can.
    fn needs(self) -> &'static [Part] {
        match self {
            Part::KubeApiserver => &[Part::Etcd],
            Part::KubeControllerManager | Part::KubeScheduler => &[Part::Etcd, Part::KubeApiserver],
            Part::Containerd => &[Part::Node],
            Part::SecondBroker => &[Part::Kafka],
            // The controllers make the account that pods run under.
            Part::Kubelet => {
                &[Part::Node, Part::Etcd, Part::KubeApiserver, Part::KubeControllerManager, Part::Containerd]
            }
            // It looks itself up as the node that the kubelet has made known.
            Part::KubeProxy => &[
                Part::Node,
                Part::Etcd,
                Part::KubeApiserver,
                Part::KubeControllerManager,
                Part::Containerd,
                Part::Kubelet,
            ],
            Part::Coredns => &[Part::Node, Part::Etcd, Part::KubeApiserver],
            Part::Node | Part::Etcd | Part::Kafka | Part::Postgres | Part::Minio => &[],
        }
    }

    /// What must be built before this part can start.
    pub(crate) fn artifacts(self) -> &'static [Artifact] {
        match self {
            Part::Etcd => &[Artifact::Etcd],
            // kubectl also asks the two whether they are ready.
            Part::KubeApiserver => &[Artifact::KubeApiserver, Artifact::Kubectl],
            Part::KubeControllerManager => &[Artifact::KubeControllerManager, Artifact::Kubectl],
            Part::Kafka | Part::SecondBroker => &[Artifact::Kafka],
            Part::Postgres => &[],
            Part::Minio => &[Artifact::Minio],
            Part::KubeScheduler => &[Artifact::KubeScheduler, Artifact::Kubectl],
            // It is the first process of the node, and of every pod.
            Part::Node | Part::Containerd => &[Artifact::Pause],
            Part::Kubelet => &[Artifact::Kubelet, Artifact::Kubectl],
            Part::KubeProxy => &[Artifact::KubeProxy],
            Part::Coredns => &[Artifact::Coredns, Artifact::Kubectl],
        }
    }

    /// The given parts and all that they need, each once, in an order in which they can start.
    pub(crate) fn with_needs(parts: &[Part]) -> Vec<Part> {
        Part::ALL
            .into_iter()
            .filter(|candidate| {
                parts.iter().any(|part| part == candidate || part.needs().contains(candidate))
            })
            .collect()
    }
}

impl fmt::Display for Part {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// What must be built for the parts and all that they need, each once.
#[must_use]
pub fn needed(parts: &[Part]) -> Vec<Artifact> {
    let mut needed = Vec::new();
    for artifact in Part::with_needs(parts).into_iter().flat_map(Part::artifacts) {
        if !needed.contains(artifact) {
            needed.push(*artifact);
        }
    }
    needed
}

pub(crate) fn names(parts: impl IntoIterator<Item = Part>) -> String {
    let names: Vec<_> = parts.into_iter().map(Part::name).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_a_part_needs_comes_with_it_and_before_it() {
        assert_eq!(
            Part::with_needs(&[Part::Postgres, Part::KubeControllerManager]),
            [Part::Etcd, Part::KubeApiserver, Part::KubeControllerManager, Part::Postgres]
        );
        assert_eq!(Part::with_needs(&[Part::Kafka]), [Part::Kafka]);
        assert_eq!(
            Part::with_needs(&[Part::Kubelet]),
            [
                Part::Node,
                Part::Etcd,
                Part::KubeApiserver,
                Part::KubeControllerManager,
                Part::Containerd,
                Part::Kubelet
            ]
        );
        assert_eq!(Part::with_needs(&Part::SERVERS), Part::SERVERS);
        assert_eq!(Part::with_needs(&Part::ALL), Part::ALL);
    }

    #[test]
    fn a_part_is_a_server_or_of_the_node() {
        for part in Part::ALL.into_iter().filter(|part| *part != Part::SecondBroker) {
            assert_ne!(Part::SERVERS.contains(&part), Part::NODE.contains(&part), "{part}");
        }
    }

    #[test]
    fn names_are_the_same_in_files_and_on_the_command_line() {
        use clap::ValueEnum as _;
        for part in Part::ALL {
            assert_eq!(Part::from_str(part.name(), false), Ok(part));
            assert_eq!(serde_json::to_string(&part).unwrap(), format!("\"{}\"", part.name()));
        }
    }
}
