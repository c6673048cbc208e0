//! The machine that pods run on: namespaces of its own.

use std::{net::SocketAddrV4, process::Command};

use super::Place;
use crate::{
    Part, StackError, build::Artifact, cgroups, files, health::Health, network::Network, process::Namespaces,
    service::Plan,
};

/// The name of the node in Kubernetes.
pub(super) const NAME: &str = "node";

/// The node has all its ports to itself.
const HEALTH_PORT: u16 = 10_000;

/// What the node's programs are started with, and run themselves.
const PROGRAMS: [&str; 8] = ["unshare", "nsenter", "mount", "ip", "iptables", "containerd", "ctr", "runc"];

/// Whether a node can run here.
///
/// # Errors
/// [`StackError::NoNode`], with the reason, where none can: another system than Linux, another user than root, a program
/// that is missing, or a kernel that refuses root its namespaces or control groups, as in most containers.
pub fn can_run_node() -> Result<(), StackError> {
    let no_node = |reason: String| Err(StackError::NoNode { reason });
    if !cfg!(target_os = "linux") {
        return no_node("it is made of Linux's namespaces and control groups".to_owned());
    }
    if !rustix::process::geteuid().is_root() {
        return no_node("namespaces and control groups are made by root alone".to_owned());
    }
    if let Some(missing) = PROGRAMS.into_iter().find(|program| files::on_path(program).is_none()) {
        return no_node(format!("`{missing}` is missing; `scripts/setup.sh test` installs or names it"));
    }
    // As node.sh begins.
    let tried = Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "--"])
        .args(["ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth1"])
        .output();
    match tried {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return no_node(format!("namespaces with a network of their own are refused: {said}"));
        }
        Err(error) => return no_node(format!("`unshare` could not be started: {error}")),
    }
    let group = format!("tipstaff-stack-tries-{}", std::process::id());
    match cgroups::create(&group).and_then(|()| cgroups::remove(&group)) {
        Ok(()) => Ok(()),
        Err(error) => no_node(format!("control groups are refused: {error}")),
    }
}

/// The node, and the network that it makes.
pub(crate) async fn node(place: &Place) -> Result<(Plan, Network), StackError> {
    let folder = place.new_folder(Part::Node)?;
    let network = Network::choose()?;
    cgroups::create(&place.cgroup())?;
    let script = folder.join("node.sh");
    files::write_script(&script, include_str!("node.sh"))?;
    let arguments = vec![
        folder.display().to_string(),
        Artifact::Pause.path()?.display().to_string(),
        network.host().to_string(),
        network.node().to_string(),
        HEALTH_PORT.to_string(),
        network.pods(),
        network.interface(),
    ];
    let mut launch = place.launch(Part::Node, &script, arguments);
    launch.namespaces = Namespaces::New;
    let plan = Plan {
        part: Part::Node,
        address: SocketAddrV4::new(network.node(), HEALTH_PORT),
        launch,
        health: Health::Http { path: "/".to_owned() },
    };
    Ok((plan, network))
}
