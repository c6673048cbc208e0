//! CoreDNS: the names of the cluster's services. It is the name server of pods under the node's own address.

use std::net::SocketAddrV4;

use super::{ControlPlane, Place};
use crate::{Part, StackError, build::Artifact, files, health::Health, service::Plan};

pub(super) const DOMAIN: &str = "cluster.local";

const PORT: u16 = 53;
const READY_PORT: u16 = 8181;

pub(crate) async fn coredns(
    place: &Place,
    plane: &ControlPlane,
    apiserver: SocketAddrV4,
) -> Result<Plan, StackError> {
    let folder = place.new_folder(Part::Coredns)?;
    let node = place.network()?.node();
    // It lists services and what stands behind them, in all namespaces.
    let kubeconfig =
        plane.certificates.write_kubeconfig("coredns", apiserver, "coredns", &["system:masters"])?;
    let settings = folder.join("Corefile");
    let text = format!(
        "\
. {{
    bind {node}
    ready {node}:{READY_PORT}
    errors
    kubernetes {DOMAIN} {{
        kubeconfig {}
    }}
}}
",
        kubeconfig.display()
    );
    files::write_private(&settings, &text)?;
    let arguments = vec!["-conf".to_owned(), settings.display().to_string()];
    let ready = format!("--server=http://{node}:{READY_PORT}");
    Ok(Plan {
        part: Part::Coredns,
        address: SocketAddrV4::new(node, PORT),
        launch: place.launch_on_node(Part::Coredns, &Artifact::Coredns.path()?, arguments),
        health: Health::Commands { commands: vec![plane.kubectl(&[&ready, "get", "--raw", "/ready"])?] },
    })
}
