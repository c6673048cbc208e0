//! containerd, runc and the CNI plugins, of the installed versions.

use std::{
    net::SocketAddrV4,
    path::{Path, PathBuf},
};

use serde_json::json;

use super::Place;
use crate::{Part, StackError, files, health::Health, network::Network, service::Plan};

const STREAM_PORT: u16 = 10_010;

/// Where Debian has the plugins, and where those who bring them along put them.
const PLUGIN_FOLDERS: [&str; 2] = ["/usr/lib/cni", "/opt/cni/bin"];

/// The image of the process that keeps a pod's namespaces.
pub(crate) const PAUSE_IMAGE: &str = "tipstaff.test/pause:1";

/// Where containerd is spoken to. The node shares the machine's files.
pub(crate) fn socket(data: &Path) -> PathBuf {
    data.join(Part::Containerd.name()).join("containerd.sock")
}

pub(crate) async fn containerd(place: &Place) -> Result<Plan, StackError> {
    let folder = place.new_folder(Part::Containerd)?;
    let network = place.network()?;
    let address = SocketAddrV4::new(network.node(), STREAM_PORT);
    let plugins = PLUGIN_FOLDERS.into_iter().find(|folder| Path::new(folder).join("ptp").is_file());
    let plugins = plugins.ok_or_else(|| StackError::NoNode {
        reason: "the CNI plugins are missing; `scripts/setup.sh test` installs or names them".to_owned(),
    })?;
    let networks = folder.join("networks");
    files::create_folder(&networks)?;
    files::write_private(&networks.join("pods.conflist"), &pod_network(network))?;
    let configuration = folder.join("config.toml");
    let socket = socket(&place.data);
    files::write_private(&configuration, &settings(address, &socket, plugins, &networks))?;
    let arguments = vec![format!("--config={}", configuration.display())];
    let version = ["ctr", "--address", &socket.display().to_string(), "version"].map(str::to_owned);
    Ok(Plan {
        part: Part::Containerd,
        address,
        launch: place.launch_on_node(Part::Containerd, "containerd".as_ref(), arguments),
        health: Health::Commands { commands: vec![version.into()] },
    })
}

fn settings(stream: SocketAddrV4, socket: &Path, plugins: &str, networks: &Path) -> String {
    format!(
        r#"
version = 2

[grpc]
address = "{}"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{}"
stream_server_address = "{}"
stream_server_port = "{}"
# Where CAP_SYS_RESOURCE is withheld, no process may lower its own.
restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{}"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
"#,
        socket.display(),
        PAUSE_IMAGE,
        stream.ip(),
        stream.port(),
        networks.display(),
    )
}

/// Every pod has an interface and a route of its own. Over a bridge, the answers of a pod to another of the same node
/// would not pass the address translation of services on all machines.
fn pod_network(network: Network) -> String {
    json!({
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [{
            "type": "ptp",
            "ipMasq": false,
            "ipam": {
                "type": "host-local",
                "ranges": [[{ "subnet": network.pods() }]],
                "routes": [{ "dst": "0.0.0.0/0" }],
            },
        }],
    })
    .to_string()
}
