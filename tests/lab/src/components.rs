//! The components of the cluster: each one's command line and configuration files. All paths are those on the node; see
//! `node.rs`.

use std::fs;

use serde_json::json;

use crate::binaries::{Containerd, Kubernetes};
use crate::error::{Error, file};
use crate::pause;
use crate::plan::{DNS_ADDRESS, Node, POD_RANGE, Plan, SERVICE_RANGE};

/// The address of each node's containerd.
const CONTAINERD_SOCKET: &str = "unix:///run/containerd/containerd.sock";

/// A daemon: its name in logs and errors, and its command line.
#[derive(Debug, Clone)]
pub(crate) struct Component {
    pub(crate) name: &'static str,
    pub(crate) command: Vec<String>,
}

fn component(name: &'static str, command: &str) -> Component {
    Component { name, command: command.split_whitespace().map(str::to_owned).collect() }
}

/// Its data are in memory: they disappear with the lab, and nothing waits for a disk.
pub(crate) fn etcd() -> Component {
    component(
        "etcd",
        "etcd --data-dir /run/etcd --listen-client-urls http://127.0.0.1:2379 \
         --advertise-client-urls http://127.0.0.1:2379 --listen-peer-urls http://127.0.0.1:2380",
    )
}

pub(crate) fn api_server(node: &Node) -> Component {
    let address = node.address;
    let command = format!(
        "kube-apiserver --etcd-servers=http://127.0.0.1:2379 --advertise-address={address} --bind-address={address} \
         --secure-port=6443 --tls-cert-file=/etc/kubernetes/pki/apiserver.crt \
         --tls-private-key-file=/etc/kubernetes/pki/apiserver.key --client-ca-file=/etc/kubernetes/pki/ca.crt \
         --service-account-key-file=/etc/kubernetes/pki/sa.pub \
         --service-account-signing-key-file=/etc/kubernetes/pki/sa.key \
         --service-account-issuer=https://kubernetes.default.svc --authorization-mode=Node,RBAC \
         --enable-admission-plugins=NodeRestriction --service-cluster-ip-range={SERVICE_RANGE} --allow-privileged \
         --kubelet-preferred-address-types=InternalIP --kubelet-client-certificate=/etc/kubernetes/pki/admin.crt \
         --kubelet-client-key=/etc/kubernetes/pki/admin.key \
         --kubelet-certificate-authority=/etc/kubernetes/pki/ca.crt"
    );
    component("kube-apiserver", &command)
}

/// Its forty controllers request a token each before they start: with the default rate limit, that alone takes four
/// seconds.
pub(crate) fn controller_manager() -> Component {
    component(
        "kube-controller-manager",
        "kube-controller-manager --kubeconfig=/etc/kubernetes/kube-controller-manager.conf --leader-elect=false --kube-api-qps=500 \
         --kube-api-burst=500 --service-account-private-key-file=/etc/kubernetes/pki/sa.key --root-ca-file=/etc/kubernetes/pki/ca.crt \
         --cluster-signing-cert-file=/etc/kubernetes/pki/ca.crt \
         --cluster-signing-key-file=/etc/kubernetes/pki/ca.key --use-service-account-credentials",
    )
}

pub(crate) fn scheduler() -> Component {
    component("kube-scheduler", "kube-scheduler --kubeconfig=/etc/kubernetes/kube-scheduler.conf --leader-elect=false")
}

/// The cluster's DNS is a process beside the API server, not a pod: it needs no image, and serves pods through the
/// Service `kube-dns`, whose only endpoint is the control-plane node's own address (`dns_objects`).
pub(crate) fn coredns() -> Component {
    component("coredns", "coredns -conf /etc/coredns/Corefile")
}

pub(crate) fn sshd() -> Component {
    component("sshd", "/usr/sbin/sshd -D -e -f /etc/ssh/sshd_config")
}

pub(crate) fn containerd() -> Component {
    component("containerd", "containerd --config /etc/containerd/config.toml")
}

/// Before 1.27, the kubelet reads its runtime's address from a flag only.
pub(crate) fn kubelet(kubernetes: Kubernetes, node: &Node) -> Component {
    let runtime = match kubernetes {
        Kubernetes::V1_24 => format!("--container-runtime-endpoint={CONTAINERD_SOCKET}"),
        Kubernetes::V1_30 | Kubernetes::V1_34 | Kubernetes::V1_37 => String::new(),
    };
    let command = format!(
        "kubelet --config /etc/kubernetes/kubelet.json --kubeconfig /etc/kubernetes/kubelet.conf \
         --hostname-override {} --node-ip {} {runtime}",
        node.name, node.address
    );
    component("kubelet", &command)
}

/// Also runs beside the API server, which calls webhooks by their Service address. If its rules do not apply to packets
/// between two pods of a node (`bridged` is false), it masquerades all traffic, so that answers return through the
/// node.
pub(crate) fn kube_proxy(node: &Node, bridged: bool) -> Component {
    let command = format!(
        "kube-proxy --kubeconfig /etc/kubernetes/kube-proxy.conf --hostname-override {} --proxy-mode iptables \
         --cluster-cidr {POD_RANGE} --conntrack-max-per-core 0 \
         --masquerade-all={}",
        node.name, !bridged
    );
    component("kube-proxy", &command)
}

/// Writes the configuration of everything that runs on a node to its `/etc`.
pub(crate) fn write(plan: &Plan, node: &Node) -> Result<(), Error> {
    let put = |path: &str, text: String| {
        let path = node.etc(path);
        let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
        folder.and_then(|()| fs::write(&path, text)).map_err(file("writing", path))
    };
    put("hostname", format!("{}\n", node.name))?;
    let names = plan.nodes.iter().map(|node| format!("{} {}\n", node.address, node.name));
    put("hosts", format!("127.0.0.1 localhost\n::1 localhost\n{}", names.collect::<String>()))?;
    // The lab must not use a resolver of this machine.
    put("resolv.conf", String::new())?;
    put("containerd/config.toml", containerd_config(plan.containerd))?;
    put("cni/net.d/10-lab.conflist", format!("{:#}\n", network_config(node)))?;
    put("kubernetes/kubelet.json", format!("{:#}\n", kubelet_config(plan, node)))?;
    if node.control_plane {
        put("coredns/Corefile", corefile(node))?;
    }
    Ok(())
}

/// Negative OOM scores are never requested, because they are not permitted everywhere, and runc then fails with "can't
/// get final child's PID from pipe". `AppArmor` is disabled, because its profiles belong to this machine's kernel, not
/// to a node.
fn containerd_config(version: Containerd) -> String {
    match version {
        Containerd::V1_6 | Containerd::V1_7 => format!(
            "version = 2\ndisabled_plugins = [\"io.containerd.internal.v1.opt\"]\n\
             [plugins.\"io.containerd.grpc.v1.cri\"]\n  sandbox_image = \"{}\"\n  disable_apparmor = true\n  \
             restrict_oom_score_adj = true\n\
             [plugins.\"io.containerd.grpc.v1.cri\".cni]\n  bin_dir = \"/usr/lib/cni\"\n",
            pause::IMAGE
        ),
        Containerd::V2 => format!(
            "version = 3\ndisabled_plugins = [\"io.containerd.internal.v1.opt\"]\n\
             [plugins.\"io.containerd.cri.v1.images\".pinned_images]\n  sandbox = \"{}\"\n\
             [plugins.\"io.containerd.cri.v1.runtime\"]\n  disable_apparmor = true\n  restrict_oom_score_adj = true\n\
             [plugins.\"io.containerd.cri.v1.runtime\".cni]\n  bin_dirs = [\"/usr/lib/cni\"]\n",
            pause::IMAGE
        ),
    }
}

fn network_config(node: &Node) -> serde_json::Value {
    json!({"cniVersion": "1.0.0", "name": "lab", "plugins": [
        {
            "type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
            "ipam": {
                "type": "host-local", "ranges": [[{"subnet": node.pod_subnet}]], "routes": [{"dst": "0.0.0.0/0"}],
            },
        },
        {"type": "portmap", "capabilities": {"portMappings": true}},
    ]})
}

fn kubelet_config(plan: &Plan, node: &Node) -> serde_json::Value {
    let taint = json!({"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"});
    // The nodes share this machine's disk, so its usage says nothing about them.
    let room = if plan.collect_images && !node.control_plane { "99.99%" } else { "1Mi" };
    let mut config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "x509": {"clientCAFile": "/etc/kubernetes/pki/ca.crt"},
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
        },
        "tlsCertFile": "/etc/kubernetes/pki/kubelet.crt",
        "tlsPrivateKeyFile": "/etc/kubernetes/pki/kubelet.key",
        "cgroupDriver": "cgroupfs",
        "enforceNodeAllocatable": [],
        "failSwapOn": false,
        "resolvConf": "/etc/resolv.conf",
        "clusterDNS": [DNS_ADDRESS.to_string()],
        "clusterDomain": "cluster.local",
        "registerWithTaints": if node.control_plane { vec![taint] } else { vec![] },
        "imageGCHighThresholdPercent": 100,
        "imageMinimumGCAge": "1s",
        "evictionHard": {
            "memory.available": "1Mi", "nodefs.available": room, "imagefs.available": room,
            "nodefs.inodesFree": "1", "imagefs.inodesFree": "1",
        },
    });
    if plan.kubernetes >= Kubernetes::V1_30 {
        config["containerRuntimeEndpoint"] = json!(CONTAINERD_SOCKET);
    }
    if plan.kubernetes >= Kubernetes::V1_34 {
        // By default, 1.35 and later do not start on control groups version 1.
        config["failCgroupV1"] = json!(false);
    }
    config
}

/// Serves `cluster.local` and the reverse zones of the lab's ranges. Refuses other names instead of forwarding them,
/// because the lab has no external network.
fn corefile(node: &Node) -> String {
    format!(
        "cluster.local:53 in-addr.arpa:53 {{\n    bind {0}\n    errors\n    health {0}:8081\n    ready {0}:8181\n    \
         cache 5\n    kubernetes {{\n        kubeconfig /etc/kubernetes/admin.conf\n        pods insecure\n        \
         ttl 5\n    }}\n}}\n",
        node.address
    )
}

/// Returns the Service for [`coredns`], and its endpoint.
pub(crate) fn dns_objects(control_plane: &Node) -> serde_json::Value {
    let ports = || {
        let port = |name: &str, protocol: &str| json!({"name": name, "port": 53, "protocol": protocol});
        json!([port("dns", "UDP"), port("dns-tcp", "TCP")])
    };
    let metadata = json!({"name": "kube-dns", "namespace": "kube-system"});
    let slice = json!({"name": "kube-dns-lab", "namespace": "kube-system", "labels": {
        "kubernetes.io/service-name": "kube-dns", "endpointslice.kubernetes.io/managed-by": "lab"}});
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata,
         "spec": {"clusterIP": DNS_ADDRESS.to_string(), "ports": ports()}},
        {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": slice, "addressType": "IPv4",
         "endpoints": [{"addresses": [control_plane.address.to_string()], "conditions": {"ready": true}}],
         "ports": ports()},
    ]})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Options;

    #[test]
    fn only_the_control_plane_is_tainted() {
        let plan = Plan::new(&Options::default(), 0);
        let taints = |node: &Node| kubelet_config(&plan, node)["registerWithTaints"].clone();
        assert_eq!(taints(&plan.nodes[0])[0]["key"], "node-role.kubernetes.io/control-plane");
        assert_eq!(taints(&plan.nodes[1]), json!([]));
    }

    #[test]
    fn each_kubelet_gets_the_options_that_its_version_reads() {
        let of = |kubernetes: Kubernetes| {
            let plan = Plan::new(&Options { kubernetes, ..Options::default() }, 0);
            let flags = kubelet(kubernetes, &plan.nodes[1]).command;
            let config = kubelet_config(&plan, &plan.nodes[1]);
            let runtime = flags.iter().any(|flag| flag == &format!("--container-runtime-endpoint={CONTAINERD_SOCKET}"));
            (runtime, config.get("containerRuntimeEndpoint").is_some(), config.get("failCgroupV1").cloned())
        };
        assert_eq!(of(Kubernetes::V1_24), (true, false, None));
        assert_eq!(of(Kubernetes::V1_30), (false, true, None));
        assert_eq!(of(Kubernetes::V1_37), (false, true, Some(json!(false))));
    }

    #[test]
    fn each_containerd_gets_the_configuration_version_it_reads() {
        assert!(containerd_config(Containerd::V1_6).starts_with("version = 2\n"));
        assert!(containerd_config(Containerd::V2).starts_with("version = 3\n"));
        for version in [Containerd::V1_6, Containerd::V1_7, Containerd::V2] {
            assert!(containerd_config(version).contains(pause::IMAGE));
        }
    }
}
