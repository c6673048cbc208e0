//! The API server, the controllers and the scheduler.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    path::PathBuf,
};

use super::Place;
use crate::{
    Part, StackError,
    build::Artifact,
    certificates::Certificates,
    health::Health,
    network::{self, Network},
    port,
    service::Plan,
};

/// What the API server and the controllers share.
#[derive(Clone, Debug)]
pub(crate) struct ControlPlane {
    pub(crate) certificates: Certificates,
}

impl ControlPlane {
    /// The name of the administrator's kubeconfig.
    pub(crate) const ADMINISTRATOR: &str = "administrator";

    /// What the API server's clients of the control plane are started with.
    fn client_arguments(
        &self,
        name: &str,
        apiserver: SocketAddrV4,
        address: SocketAddrV4,
    ) -> Result<Vec<String>, StackError> {
        let certificates = &self.certificates;
        let kubeconfig = certificates.write_kubeconfig(name, apiserver, &format!("system:{name}"), &[])?;
        Ok(vec![
            file("kubeconfig", kubeconfig.clone()),
            file("authentication-kubeconfig", kubeconfig.clone()),
            file("authorization-kubeconfig", kubeconfig),
            format!("--bind-address={}", address.ip()),
            format!("--secure-port={}", address.port()),
            file("tls-cert-file", certificates.server_certificate()),
            file("tls-private-key-file", certificates.server_key()),
            // There is one; without a lease to wait for it works at once, also after it was killed.
            "--leader-elect=false".to_owned(),
            "--profiling=false".to_owned(),
        ])
    }

    /// kubectl asks as the administrator: it speaks TLS and presents the client certificate.
    pub(super) fn kubectl(&self, words: &[&str]) -> Result<Vec<String>, StackError> {
        let kubeconfig = self.certificates.kubeconfig(Self::ADMINISTRATOR);
        let mut command = vec![
            Artifact::Kubectl.path()?.display().to_string(),
            format!("--kubeconfig={}", kubeconfig.display()),
            "--request-timeout=4s".to_owned(),
        ];
        command.extend(words.iter().map(|word| (*word).to_owned()));
        Ok(command)
    }
}

pub(crate) async fn apiserver(
    place: &Place,
    plane: &ControlPlane,
    etcd: SocketAddrV4,
) -> Result<Plan, StackError> {
    let address = port::free(place.address)?;
    let certificates = &plane.certificates;
    certificates.write_kubeconfig(
        ControlPlane::ADMINISTRATOR,
        address,
        "administrator",
        &["system:masters"],
    )?;
    let mut arguments = vec![
        format!("--etcd-servers=http://{etcd}"),
        format!("--bind-address={}", address.ip()),
        format!("--secure-port={}", address.port()),
        format!("--advertise-address={}", address.ip()),
        file("tls-cert-file", certificates.server_certificate()),
        file("tls-private-key-file", certificates.server_key()),
        file("client-ca-file", certificates.authority_certificate()),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        file("service-account-key-file", certificates.token_public_key()),
        file("service-account-signing-key-file", certificates.token_key()),
        format!("--service-cluster-ip-range={}", network::SERVICES),
        "--allow-privileged=true".to_owned(),
        "--profiling=false".to_owned(),
    ];
    if place.node.is_some() {
        // For logs, commands and ports of pods.
        let (certificate, key) =
            certificates.write_client("kubelet-client", "kube-apiserver", &["system:masters"])?;
        arguments.extend([
            file("kubelet-client-certificate", certificate),
            file("kubelet-client-key", key),
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
        ]);
    } else {
        // No pod reaches the server through the `kubernetes` service, and a loopback address is not allowed in one.
        arguments.push("--endpoint-reconciler-type=none".to_owned());
    }
    Ok(Plan {
        part: Part::KubeApiserver,
        address,
        launch: place.launch(Part::KubeApiserver, &Artifact::KubeApiserver.path()?, arguments),
        health: Health::Commands { commands: vec![plane.kubectl(&["get", "--raw", "/readyz"])?] },
    })
}

pub(crate) async fn controller_manager(
    place: &Place,
    plane: &ControlPlane,
    apiserver: SocketAddrV4,
) -> Result<Plan, StackError> {
    let address = port::free(Ipv4Addr::LOCALHOST)?;
    let certificates = &plane.certificates;
    let mut arguments = plane.client_arguments("kube-controller-manager", apiserver, address)?;
    arguments.extend([
        "--use-service-account-credentials=true".to_owned(),
        file("root-ca-file", certificates.authority_certificate()),
        file("service-account-private-key-file", certificates.token_key()),
    ]);
    if let Some(network) = place.node {
        arguments.extend([
            format!("--cluster-cidr={}", network.pods()),
            format!("--node-cidr-mask-size={}", Network::BITS_OF_PODS),
            "--allocate-node-cidrs=true".to_owned(),
        ]);
    }
    let program = Artifact::KubeControllerManager.path()?;
    Ok(Plan {
        part: Part::KubeControllerManager,
        address,
        launch: place.launch(Part::KubeControllerManager, &program, arguments),
        health: Health::Commands {
            commands: vec![
                plane.kubectl(&[&server(address), "get", "--raw", "/healthz"])?,
                // One of its controllers makes this account: they work.
                plane.kubectl(&["get", "serviceaccount", "default", "--namespace=default"])?,
            ],
        },
    })
}

pub(crate) async fn scheduler(
    place: &Place,
    plane: &ControlPlane,
    apiserver: SocketAddrV4,
) -> Result<Plan, StackError> {
    let address = port::free(Ipv4Addr::LOCALHOST)?;
    let arguments = plane.client_arguments("kube-scheduler", apiserver, address)?;
    Ok(Plan {
        part: Part::KubeScheduler,
        address,
        launch: place.launch(Part::KubeScheduler, &Artifact::KubeScheduler.path()?, arguments),
        health: Health::Commands {
            commands: vec![plane.kubectl(&[&server(address), "get", "--raw", "/readyz"])?],
        },
    })
}

fn file(flag: &str, path: PathBuf) -> String {
    format!("--{flag}={}", path.display())
}

fn server(address: SocketAddrV4) -> String {
    format!("--server=https://{address}")
}
