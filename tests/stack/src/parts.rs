//! How each part is prepared and what it is started with.

mod containerd;
mod coredns;
mod etcd;
mod kafka;
mod kubelet;
mod kubernetes;
mod minio;
mod node;
mod postgres;

pub(crate) use containerd::{PAUSE_IMAGE, containerd, socket as containerd_socket};
pub(crate) use coredns::coredns;
pub(crate) use etcd::etcd;
pub(crate) use kafka::{TOOL_OPTIONS, class_path, java, kafka, second_broker};
pub(crate) use kubelet::{kube_proxy, kubelet};
pub(crate) use kubernetes::{ControlPlane, apiserver, controller_manager, scheduler};
pub(crate) use minio::minio;
pub use node::can_run_node;
pub(crate) use node::node;
pub(crate) use postgres::{client_program, postgres};

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use crate::{
    Part, StackError, cgroups, files,
    network::Network,
    process::{Launch, Namespaces, StopSignal},
    service,
};

/// What every part is told.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The stack's folder of logs, process ids and keys.
    pub(crate) folder: PathBuf,
    /// The stack's folder of data.
    pub(crate) data: PathBuf,
    /// What the servers that Tipstaff speaks to listen on: loopback, or where pods can reach them too.
    pub(crate) address: Ipv4Addr,
    /// The network of the stack's node, if it has one.
    pub(crate) node: Option<Network>,
    /// Whether the part is killed with the program that started it.
    pub(crate) dies_with_owner: bool,
    /// Arguments that come after the part's own.
    pub(crate) arguments: Vec<(Part, String)>,
}

impl Place {
    /// An empty folder for the part's data: what an earlier attempt left is removed.
    fn new_folder(&self, part: Part) -> Result<PathBuf, StackError> {
        let folder = self.data.join(part.name());
        files::remove_folder(&folder)?;
        files::create_folder(&folder)?;
        Ok(folder)
    }

    fn launch(&self, part: Part, program: &Path, arguments: Vec<String>) -> Launch {
        let more = self.arguments.iter().filter(|(of, _)| *of == part).map(|(_, argument)| argument.clone());
        Launch {
            program: program.to_owned(),
            arguments: arguments.into_iter().chain(more).collect(),
            environment: Vec::new(),
            account: None,
            stop_signal: StopSignal::Terminate,
            leftover: None,
            dies_with_owner: self.dies_with_owner,
            namespaces: Namespaces::Machine,
        }
    }

    /// The same for a program that runs on the node.
    fn launch_on_node(&self, part: Part, program: &Path, arguments: Vec<String>) -> Launch {
        let node = service::process_file(&self.folder, Part::Node);
        Launch { namespaces: Namespaces::Node(node), ..self.launch(part, program, arguments) }
    }

    /// The control group of the pods, in every hierarchy.
    fn cgroup(&self) -> String {
        cgroups::name(&self.data)
    }

    /// The network of the node, for parts that are started only with one.
    fn network(&self) -> Result<Network, StackError> {
        self.node.ok_or(StackError::NotInStack { part: Part::Node, present: String::new() })
    }
}
