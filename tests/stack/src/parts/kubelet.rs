//! The kubelet and kube-proxy, which run on the node.

use std::net::SocketAddrV4;

use serde_json::json;

use super::{ControlPlane, Place, containerd, coredns::DOMAIN, node::NAME};
use crate::{Part, StackError, build::Artifact, files, health::Health, service::Plan};

// The node has all its ports to itself: these are the usual ones.
const KUBELET_PORT: u16 = 10_250;
const PROXY_HEALTH_PORT: u16 = 10_256;
const PROXY_METRICS_PORT: u16 = 10_249;

pub(crate) async fn kubelet(
    place: &Place,
    plane: &ControlPlane,
    apiserver: SocketAddrV4,
) -> Result<Plan, StackError> {
    let folder = place.new_folder(Part::Kubelet)?;
    let address = SocketAddrV4::new(place.network()?.node(), KUBELET_PORT);
    let certificates = &plane.certificates;
    let user = format!("system:node:{NAME}");
    let kubeconfig = certificates.write_kubeconfig("kubelet", apiserver, &user, &["system:nodes"])?;
    // What pods know beside the names of the cluster.
    let names = folder.join("resolv.conf");
    files::write_private(&names, "")?;
    let none = "0%";
    let configuration = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": address.ip(),
        "port": address.port(),
        "healthzPort": 0,
        "authentication": { "x509": { "clientCAFile": certificates.authority_certificate() } },
        "containerRuntimeEndpoint": format!("unix://{}", containerd::socket(&place.data).display()),
        "podLogsDir": folder.join("logs"),
        "clusterDNS": [address.ip()],
        "clusterDomain": DOMAIN,
        "resolvConf": names,
        "cgroupRoot": format!("/{}", place.cgroup()),
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": false,
        "failSwapOn": false,
        // Its own default is one that root may be forbidden to set.
        "oomScoreAdj": 0,
        // A full disk of the machine is no matter of the pods', and what was imported cannot be pulled again.
        "evictionHard": {
            "imagefs.available": none,
            "imagefs.inodesFree": none,
            "memory.available": none,
            "nodefs.available": none,
            "nodefs.inodesFree": none,
        },
        "imageGCHighThresholdPercent": 100,
    });
    let configuration_file = folder.join("configuration.json");
    files::write_private(&configuration_file, &configuration.to_string())?;
    let arguments = vec![
        format!("--config={}", configuration_file.display()),
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--root-dir={}", folder.join("root").display()),
        format!("--cert-dir={}", folder.join("certificates").display()),
        format!("--hostname-override={NAME}"),
        format!("--node-ip={}", address.ip()),
    ];
    let node = format!("node/{NAME}");
    Ok(Plan {
        part: Part::Kubelet,
        address,
        launch: place.launch_on_node(Part::Kubelet, &Artifact::Kubelet.path()?, arguments),
        health: Health::Commands {
            commands: vec![
                plane.kubectl(&["get", "--raw", &format!("/api/v1/nodes/{NAME}/proxy/healthz")])?,
                plane.kubectl(&["wait", "--for=condition=Ready", &node, "--timeout=1s"])?,
            ],
        },
    })
}

pub(crate) async fn kube_proxy(
    place: &Place,
    plane: &ControlPlane,
    apiserver: SocketAddrV4,
) -> Result<Plan, StackError> {
    let folder = place.new_folder(Part::KubeProxy)?;
    let network = place.network()?;
    let address = SocketAddrV4::new(network.node(), PROXY_HEALTH_PORT);
    let user = "system:kube-proxy";
    let kubeconfig = plane.certificates.write_kubeconfig("kube-proxy", apiserver, user, &[])?;
    let configuration = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": { "kubeconfig": kubeconfig },
        "mode": "iptables",
        "clusterCIDR": network.pods(),
        "hostnameOverride": NAME,
        "healthzBindAddress": address,
        "metricsBindAddress": SocketAddrV4::new(network.node(), PROXY_METRICS_PORT),
        "oomScoreAdj": 0,
        // These are the whole machine's.
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    });
    let configuration_file = folder.join("configuration.json");
    files::write_private(&configuration_file, &configuration.to_string())?;
    let arguments = vec![format!("--config={}", configuration_file.display())];
    Ok(Plan {
        part: Part::KubeProxy,
        address,
        launch: place.launch_on_node(Part::KubeProxy, &Artifact::KubeProxy.path()?, arguments),
        health: Health::Http { path: "/healthz".to_owned() },
    })
}
