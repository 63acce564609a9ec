//! The variables of `k8s-register-image`.

use super::Effect::{Does, Nothing};
use super::Kind::{Map, Number, Seconds, Switch, Text, Texts};
use super::{Effect, Kind, Role, Row};

const fn row(name: &'static str, kind: Kind, default: &'static str, effect: Effect) -> Row {
    super::row(Role::RegisterImage, name, kind, default, effect)
}

const NO_TAR: Effect = Nothing("images are written to the node's containerd; no archive is written on a node");
const CONNECT: Effect = Does("vcdist push --connect-timeout");
const RETRIES: Effect = Does("vcdist push --retries");
const PAUSE: Effect = Nothing("vcdist waits longer after each attempt that failed");
const READY: Effect = Does("whether and how long vcdist push waits for workers to be Ready first");
const DISCOVERY: Effect = Does("vcdist push --api-timeout");

pub(super) const ROWS: &[Row] = &[
    row("k8s_register_image_components", Map, "{}", Does("vcdist push ARCHIVE …")),
    row("k8s_register_image_expected_images", Map, "{}", Does("the names of images in vcdist push")),
    row("k8s_register_image_control_plane_hosts", Texts, "[]", Does("vcdist push --include-control-plane, --nodes")),
    row("k8s_register_image_worker_hosts", Texts, "[]", Does("vcdist push --nodes")),
    row(
        "k8s_register_image_auto_discover_worker_hosts",
        Switch,
        "false",
        Does("vcdist push: the workers that the API lists"),
    ),
    row(
        "k8s_register_image_control_plane_group_name",
        Text,
        "k8s_ctrl_plane",
        Does("vcdist --host: the group whose first host is meant"),
    )
    .elsewhere(&[(Role::VirtualCluster, "k8s_ctrlplane")]),
    row(
        "k8s_kubeconfig_to_discover_workers_path",
        Text,
        "\"\"",
        Does("vcdist push --kubeconfig; the path is one on the control plane"),
    ),
    row(
        "k8s_register_image_skip_discovery",
        Switch,
        "false",
        Does("vcdist push --host or --inventory, without asking the API"),
    ),
    row("k8s_register_image_remote_cache_dir", Text, "/tmp/k8s-register-image", NO_TAR),
    row(
        "k8s_register_image_unqualified_image_registry",
        Text,
        "docker.io",
        Does("the registry of a name without one in vcdist push"),
    ),
    row("k8s_register_image_cleanup_remote_tar", Switch, "true", NO_TAR),
    row(
        "k8s_register_image_connection_preflight_enabled",
        Switch,
        "true",
        Nothing("each connection is checked when it is made"),
    ),
    row("k8s_register_image_connection_preflight_timeout", Seconds, "300", CONNECT),
    row("k8s_register_image_connection_preflight_connect_timeout", Seconds, "15", CONNECT),
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
