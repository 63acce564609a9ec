//! Variables that several roles read: the API server, and paths on the control plane.

use super::Effect::{Does, Nothing};
use super::Kind::{Number, Port, Seconds, Text};
use super::{Effect, Kind, Role, Row};

const fn row(name: &'static str, kind: Kind, default: &'static str, effect: Effect) -> Row {
    super::row(Role::VirtualCluster, name, kind, default, effect)
}

const API_TIMEOUT: Effect = Does("vcdist run, --api-timeout: how long to wait for the API server");
const INPUT: Effect = Does("an input of other variables");

pub(super) const ROWS: &[Row] = &[
    row("k8s_api_wait_host", Text, "\"{{ k8s_ctrlplane_endpoint }}\"", Nothing("the kubeconfig says it")),
    row("k8s_api_wait_port", Port, "\"{{ k8s_ctrlplane_port }}\"", Nothing("the kubeconfig says it")),
    row("k8s_api_wait_timeout", Seconds, "600", API_TIMEOUT),
    row("k8s_api_wait_delay", Seconds, "2", Nothing("the first attempt is made at once")),
    row("k8s_api_wait_sleep", Seconds, "1", Nothing("vcdist waits longer after each attempt that failed")),
    row("k8s_api_wait_retries", Number, "5", Does("vcdist run, --api-timeout: this many times k8s_api_wait_timeout")),
    row(
        "k8s_api_wait_delegate_to",
        Text,
        "localhost",
        Nothing("requests are sent from the machine that vcdist runs on"),
    ),
    row("k8s_kubeadm_config_store", Text, "\"{{ ansible_home_dir }}/kubeadm\"", INPUT),
    row("k8s_admin_kubeconfig_path", Text, "/etc/kubernetes/admin.conf", INPUT),
    row("k8s_ctrlplane_endpoint", Text, "\"\"", INPUT).absent(),
    row("k8s_ctrlplane_port", Port, "6443", INPUT),
    row("k8s_major_minor", Text, "\"1.31\"", INPUT),
    row("k8s_etcd_major_minor", Text, "\"3.5\"", INPUT),
];
