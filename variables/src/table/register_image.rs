//! The variables of `k8s-register-image`.

use super::Effect::{Does, Nothing};
use super::Kind::{Map, Number, Seconds, Switch, Text, Texts};
use super::{Effect, Kind, Role, Row};

const fn row(name: &'static str, kind: Kind, default: &'static str, effect: Effect) -> Row {
    super::row(Role::RegisterImage, name, kind, default, effect)
}

const NO_TAR: Effect = Nothing("images are written to the node's containerd; no archive is written on a node");
const RETRIES: Effect = Does("vcdist push --retries, vcdist run: the larger of the two numbers");
const PASSED: Effect =
    Nothing("the roles pass it themselves; the images are those that virtualcluster_* and k8s_vc_tenant_dns_* name");
const PAUSE: Effect = Nothing("vcdist waits longer after each attempt that failed");
const READY: Effect = Nothing("virtualcluster_wait_for_worker_ready_* says it");
const DISCOVERY: Effect = Nothing("virtualcluster_worker_discovery_* says it");

pub(super) const ROWS: &[Row] = &[
    row("k8s_register_image_components", Map, "{}", PASSED),
    row("k8s_register_image_expected_images", Map, "{}", PASSED),
    row(
        "k8s_register_image_control_plane_hosts",
        Texts,
        "[]",
        Nothing("images go to workers; vcdist push --include-control-plane pushes to the control plane too"),
    ),
    row("k8s_register_image_worker_hosts", Texts, "[]", Does("vcdist push --nodes, vcdist run")),
    row(
        "k8s_register_image_auto_discover_worker_hosts",
        Switch,
        "false",
        Nothing("vcdist finds the workers through the API, unless worker_hosts or --nodes names them"),
    ),
    row(
        "k8s_register_image_control_plane_group_name",
        Text,
        "k8s_ctrl_plane",
        Nothing("vcdist vars --host names the host; the usual names of the group are known"),
    )
    .elsewhere(&[(Role::VirtualCluster, "k8s_ctrlplane")]),
    row(
        "k8s_kubeconfig_to_discover_workers_path",
        Text,
        "\"\"",
        Nothing("virtualcluster_supercluster_kubeconfig_path says it"),
    ),
    row(
        "k8s_register_image_skip_discovery",
        Switch,
        "false",
        Nothing("vcdist run finds the workers through the API; vcdist push --inventory does without it"),
    ),
    row("k8s_register_image_remote_cache_dir", Text, "/tmp/k8s-register-image", NO_TAR),
    row(
        "k8s_register_image_unqualified_image_registry",
        Text,
        "docker.io",
        Nothing("virtualcluster_unqualified_image_registry says it"),
    ),
    row("k8s_register_image_cleanup_remote_tar", Switch, "true", NO_TAR),
    row(
        "k8s_register_image_connection_preflight_enabled",
        Switch,
        "true",
        Nothing("each connection is checked when it is made"),
    ),
    row(
        "k8s_register_image_connection_preflight_timeout",
        Seconds,
        "300",
        Nothing("each attempt ends after connect_timeout, and connection_preflight_retries says how many there are"),
    ),
    row(
        "k8s_register_image_connection_preflight_connect_timeout",
        Seconds,
        "15",
        Does("vcdist push --connect-timeout, vcdist run"),
    ),
    row("k8s_register_image_connection_preflight_delay_seconds", Seconds, "0", PAUSE),
    row("k8s_register_image_connection_preflight_sleep_seconds", Seconds, "5", PAUSE),
    row("k8s_register_image_connection_preflight_retries", Number, "8", RETRIES),
    row("k8s_register_image_connection_preflight_retry_interval_seconds", Seconds, "10", PAUSE),
    row(
        "k8s_register_image_transfer_retry_enabled",
        Switch,
        "true",
        Does("vcdist push --retries: 0 where this is off"),
    ),
    row("k8s_register_image_transfer_retries", Number, "3", RETRIES),
    row("k8s_register_image_transfer_retry_interval_seconds", Seconds, "5", PAUSE),
    row("k8s_register_image_wait_for_worker_ready_enabled", Switch, "true", READY),
    row("k8s_register_image_wait_for_worker_ready_timeout", Seconds, "180", READY),
    row("k8s_register_image_wait_for_worker_ready_fail_on_timeout", Switch, "false", READY),
    row("k8s_register_image_worker_discovery_retry_enabled", Switch, "true", DISCOVERY),
    row("k8s_register_image_worker_discovery_retries", Number, "3", DISCOVERY),
    row("k8s_register_image_worker_discovery_retry_interval_seconds", Seconds, "5", DISCOVERY),
];
