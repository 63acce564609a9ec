//! The variables of `k8s-vc-instances`.

use super::Effect::{Destroys, Does, Nothing};
use super::Kind::{Boolean, ClusterVersions, Number, Switch, Text, VirtualClusters};
use super::{Effect, Kind, Role, Row};

const fn row(name: &'static str, kind: Kind, default: &'static str, effect: Effect) -> Row {
    super::row(Role::Instances, name, kind, default, effect)
}

const VOLUMES: Effect = Does("vcdist: the PersistentVolumes of the tenants' etcd");

pub(super) const ROWS: &[Row] = &[
    row("k8s_vcinstances_enabled", Boolean, "false", Does("vcdist: whether tenants are created")),
    row(
        "vcinstances_config_dir",
        Text,
        "\"{{ k8s_kubeadm_config_store | default(ansible_user + '/kubeadm', true) }}/vc-instances\"",
        Does("the folder that the tenants' objects are written to; the path is one on the control plane"),
    ),
    row(
        "vcinstances_auto_detect_supercluster_images",
        Switch,
        "true",
        Does("images of a ClusterVersion that names none: those of the super cluster"),
    ),
    row("vcinstances_clusterversions", ClusterVersions, "[]", Does("vcdist: the ClusterVersions to apply")),
    row("vcinstances_virtualclusters", VirtualClusters, "[]", Does("vcdist: the VirtualClusters to apply")),
    row(
        "vcinstances_controller_manager_service_enabled",
        Switch,
        "false",
        Does("vcdist: a Service of the tenants' controller-manager"),
    ),
    row(
        "vcinstances_etcd_storage_enabled",
        Switch,
        "false",
        Does("vcdist: whether the tenants' etcd keeps its data on a volume"),
    ),
    row("vcinstances_etcd_storage_size", Text, "10Gi", VOLUMES),
    row("vcinstances_etcd_storage_class", Text, "\"\"", VOLUMES),
    row("vcinstances_default_storage_class_name", Text, "local-storage", VOLUMES),
    row("vcinstances_auto_create_storage_class", Switch, "true", Does("vcdist: the StorageClass of the tenants' etcd")),
    row("vcinstances_auto_create_pv", Switch, "true", VOLUMES),
    row("vcinstances_pv_base_path", Text, "/mnt/etcd-data", VOLUMES),
    row(
        "vcinstances_etcd_replicas",
        Number,
        "1",
        Does("the number of volumes of each tenant; the number of etcd's members is 1"),
    ),
    row(
        "vcinstances_cleanup_failed_pvs",
        Switch,
        "true",
        Destroys("the role deletes those of its volumes that are Failed"),
    ),
    row(
        "vcinstances_force_recreate_resources",
        Switch,
        "true",
        Destroys(
            "with storage on, at each run the role deletes the tenants that are listed, their namespaces and every volume pv-etcd-*",
        ),
    ),
    row(
        "k8s_supercluster_kubeconfig_path",
        Text,
        "\"{{ k8s_admin_kubeconfig_path }}\"",
        Does("vcdist --kubeconfig; the path is one on the control plane"),
    ),
    row("k8s_supercluster_context", Text, "\"\"", Nothing("the role reads it nowhere; give vcdist --context")),
];
