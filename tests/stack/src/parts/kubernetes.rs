//! The API server and the controllers.

use std::path::PathBuf;

use super::Place;
use crate::{
    Part, StackError, build::Artifact, certificates::Certificates, health::Health, port, service::Plan,
};

/// What the API server and the controllers share.
#[derive(Clone, Debug)]
pub(crate) struct ControlPlane {
    pub(crate) certificates: Certificates,
}

impl ControlPlane {
    /// The name of the administrator's kubeconfig.
    pub(crate) const ADMINISTRATOR: &str = "administrator";

    /// kubectl asks as the administrator: it speaks TLS and presents the client certificate.
    fn kubectl(&self, words: &[&str]) -> Result<Vec<String>, StackError> {
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

pub(crate) async fn apiserver(place: &Place, plane: &ControlPlane, etcd: u16) -> Result<Plan, StackError> {
    let port = port::free()?;
    let certificates = &plane.certificates;
    certificates.write_kubeconfig(ControlPlane::ADMINISTRATOR, port, "administrator", &["system:masters"])?;
    let file = |flag: &str, path: PathBuf| format!("--{flag}={}", path.display());
    let arguments = vec![
        format!("--etcd-servers=http://127.0.0.1:{etcd}"),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--secure-port={port}"),
        // No pod reaches the server through the `kubernetes` service, and a loopback address is not allowed in one.
        "--advertise-address=127.0.0.1".to_owned(),
        "--endpoint-reconciler-type=none".to_owned(),
        file("tls-cert-file", certificates.server_certificate()),
        file("tls-private-key-file", certificates.server_key()),
        file("client-ca-file", certificates.authority_certificate()),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        file("service-account-key-file", certificates.token_public_key()),
        file("service-account-signing-key-file", certificates.token_key()),
        "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        "--allow-privileged=true".to_owned(),
        "--profiling=false".to_owned(),
    ];
    Ok(Plan {
        part: Part::KubeApiserver,
        port,
        launch: place.launch(Part::KubeApiserver, &Artifact::KubeApiserver.path()?, arguments),
        health: Health::Commands { commands: vec![plane.kubectl(&["get", "--raw", "/readyz"])?] },
    })
}

pub(crate) async fn controller_manager(
    place: &Place,
    plane: &ControlPlane,
    apiserver: u16,
) -> Result<Plan, StackError> {
    let port = port::free()?;
    let certificates = &plane.certificates;
    let user = "system:kube-controller-manager";
    let kubeconfig = certificates.write_kubeconfig("controller-manager", apiserver, user, &[])?;
    let file = |flag: &str, path: PathBuf| format!("--{flag}={}", path.display());
    let arguments = vec![
        file("kubeconfig", kubeconfig.clone()),
        file("authentication-kubeconfig", kubeconfig.clone()),
        file("authorization-kubeconfig", kubeconfig),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--secure-port={port}"),
        file("tls-cert-file", certificates.server_certificate()),
        file("tls-private-key-file", certificates.server_key()),
        // There is one; without a lease to wait for it works at once, also after it was killed.
        "--leader-elect=false".to_owned(),
        "--use-service-account-credentials=true".to_owned(),
        file("root-ca-file", certificates.authority_certificate()),
        file("service-account-private-key-file", certificates.token_key()),
        "--cluster-cidr=10.244.0.0/16".to_owned(),
        "--allocate-node-cidrs=true".to_owned(),
        "--profiling=false".to_owned(),
    ];
    let server = format!("--server=https://127.0.0.1:{port}");
    Ok(Plan {
        part: Part::KubeControllerManager,
        port,
        launch: place.launch(
            Part::KubeControllerManager,
            &Artifact::KubeControllerManager.path()?,
            arguments,
        ),
        health: Health::Commands {
            commands: vec![
                plane.kubectl(&[&server, "get", "--raw", "/healthz"])?,
                // One of its controllers makes this account: they work.
                plane.kubectl(&["get", "serviceaccount", "default", "--namespace=default"])?,
            ],
        },
    })
}
