//! The variables of `k8s-vc-tenant-dns`.

use super::Effect::{Does, Nothing};
use super::Kind::{Boolean, Port, Switch, Text};
use super::{Effect, Kind, Role, Row};

const fn row(name: &'static str, kind: Kind, default: &'static str, effect: Effect) -> Row {
    super::row(Role::TenantDns, name, kind, default, effect)
}

const PORT: Effect = Does("a port of the tenants' CoreDNS");
const WORK: Effect = Nothing("vcbuild works in its own folders");

pub(super) const ROWS: &[Row] = &[
    row("k8s_vc_tenant_dns_enabled", Boolean, "false", Does("vcdist: whether tenants have a CoreDNS")),
    row(
        "k8s_vc_tenant_dns_coredns_source_url",
        Text,
        "https://github.com/coredns/coredns.git",
        Does("vcbuild images --source-repo, for CoreDNS"),
    ),
    row("k8s_vc_tenant_dns_version", Text, "v1.11.3", Does("vcbuild images --source-version, for CoreDNS")),
    row("k8s_vc_tenant_dns_port_dns", Port, "53", PORT),
    row("k8s_vc_tenant_dns_port_metrics", Port, "9153", PORT),
    row("k8s_vc_tenant_dns_port_health", Port, "8080", PORT),
    row("k8s_vc_tenant_dns_port_ready", Port, "8181", PORT),
    row(
        "k8s_vc_tenant_dns_image",
        Text,
        "\"vc-tenant-dns:{{ k8s_vc_tenant_dns_version }}\"",
        Does("the name of CoreDNS's image in vcdist push"),
    ),
    row(
        "k8s_vc_tenant_dns_image_file",
        Text,
        "\"vc-tenant-dns-{{ k8s_vc_tenant_dns_version }}.tar\"",
        Does("vcdist push ARCHIVE: CoreDNS's"),
    ),
    row("k8s_vc_tenant_dns_build_host", Text, "localhost", Does("vcbuild images --build-host, for CoreDNS")),
    row("k8s_vc_tenant_dns_work_dir", Text, "/tmp/k8s-vc-tenant-dns-work", WORK),
    row("k8s_vc_tenant_dns_build_dir", Text, "\"{{ k8s_vc_tenant_dns_work_dir }}/build\"", WORK),
    row("k8s_vc_tenant_dns_output_dir", Text, "\"{{ k8s_vc_tenant_dns_work_dir }}/output\"", WORK),
    row("k8s_vc_tenant_dns_output_dir_on_control_host", Text, "\"{{ k8s_vc_tenant_dns_work_dir }}/artifacts\"", WORK),
    row("k8s_vc_tenant_dns_go_version", Text, "\"1.22\"", Does("vcbuild images --go, for CoreDNS")),
    row(
        "k8s_vc_tenant_dns_alpine_version",
        Text,
        "\"{{ alpine_version | default('3.20', true) }}\"",
        Nothing("the image has no Alpine in it: vcbuild images --base says what is under it"),
    ),
    row("k8s_vc_tenant_dns_docker_build_network", Text, "host", Nothing("vcbuild compiles without network")),
    row(
        "k8s_vc_tenant_dns_unqualified_image_registry",
        Text,
        "docker.io",
        Does("the registry of a name without one in vcdist push"),
    ),
    row(
        "k8s_vc_tenant_dns_remote_cache_dir",
        Text,
        "/tmp/k8s-vc-tenant-dns-register",
        Nothing("images are written to the node's containerd and to no folder"),
    ),
    row(
        "k8s_vc_tenant_dns_kubeconfig_path",
        Text,
        "\"{{ k8s_admin_kubeconfig_path }}\"",
        Does("vcdist --kubeconfig; the path is one on the control plane"),
    ),
    row("k8s_vc_tenant_dns_cleanup_remote_tar", Switch, "true", Nothing("no archive is written on a node")),
    row(
        "k8s_vc_tenant_dns_k8s_manifest_dir_prefix",
        Text,
        "\"{{ k8s_node_setup_tools_prefix | default('/opt/k8snodes', true) }}\"",
        Does("the folder above that of the tenants' DNS objects"),
    ),
    row(
        "k8s_vc_tenant_dns_k8s_manifest_dir",
        Text,
        "\"{{ k8s_vc_tenant_dns_k8s_manifest_dir_prefix }}/vc-tenant-dns/manifests\"",
        Does("the folder that the tenants' DNS objects are written to"),
    ),
    row("k8s_vc_tenant_dns_image_registry", Text, "\"\"", Does("vcbuild push: the registry for CoreDNS's image")),
    row(
        "k8s_vc_tenant_dns_register_to_k8s_nodes_enabled",
        Switch,
        "\"{{ (k8s_vc_tenant_dns_image_registry | default('', true) | trim | length) == 0 }}\"",
        Does("vcdist push: whether CoreDNS's image goes to the nodes"),
    ),
    row("k8s_vc_tenant_dns_k8s_namespace", Text, "default", Does("the namespace of the tenants' CoreDNS")),
    row("k8s_vc_tenant_dns_k8s_pod_name", Text, "vc-tenant-dns", Does("the name of the tenants' CoreDNS")),
    row(
        "k8s_vc_tenant_dns_virtualcluster_namespace",
        Text,
        "\"{{ virtualcluster_namespace | default('vc-manager', true) }}\"",
        Does("the namespace of the VirtualClusters"),
    ),
    row(
        "k8s_vc_tenant_dns_supercluster_kubeconfig_path",
        Text,
        "\"{{ virtualcluster_supercluster_kubeconfig_path | default(k8s_admin_kubeconfig_path, true) }}\"",
        Does("vcdist --kubeconfig; the path is one on the control plane"),
    ),
];
