//! The variables of `k8s-virtual-cluster`.

use super::Effect::{Destroys, Does, Nothing};
use super::Kind::{Boolean, Number, Resources, Seconds, Switch, Text, Texts, Volumes};
use super::{Effect, Kind, Role, Row};

const fn row(name: &'static str, kind: Kind, default: &'static str, effect: Effect) -> Row {
    super::row(Role::VirtualCluster, name, kind, default, effect)
}

const DETECTED: Effect =
    Nothing("the role prints the images and uses them nowhere; a tenant's images are those of its ClusterVersion");
const OF_TENANTS: Effect =
    Nothing("newer versions of the role do not read it; a tenant's image is that of its ClusterVersion");
const DISK_FIRST: Effect =
    Nothing("vcbuild keeps each image in its store, by its content, so there is nothing to fetch again");
const TOOLS: Effect = Nothing(
    "the role's scripts work in the super cluster and not in the tenant; use kubectl with the tenant's kubeconfig",
);
const PATCHED_COMMAND: Effect = Nothing("the image's own entry point is run");
const PLUGIN: Effect = Nothing(
    "vcdist does not need kubectl-vc, which creates VirtualClusters without the cluster's CA; `go build ./cmd/kubectl-vc` makes it",
);
const UNREAD: Effect = Nothing("the role reads it nowhere");

pub(super) const ROWS: &[Row] = &[
    // Switches.
    row("k8s_virtualcluster_enabled", Boolean, "false", Does("vcdist run: whether anything is done for this host"))
        .older(&["virtualcluster_enabled"]),
    row(
        "virtualcluster_build_from_source",
        Switch,
        "true",
        Does("vcdist run: whether images are built where neither archives nor a cache have them"),
    ),
    row(
        "virtualcluster_clean_build",
        Switch,
        "true",
        Destroys("at each run the role deletes every tenant, both definitions and the namespace"),
    ),
    row(
        "virtualcluster_skip_cache_on_clean_build",
        Switch,
        "false",
        Does("vcdist run: with clean_build, the cache is passed over and the images are built"),
    ),
    row("virtualcluster_build_kubectl_vc", Switch, "true", PLUGIN),
    row("virtualcluster_auto_detect_supercluster_images", Switch, "true", DETECTED),
    row("virtualcluster_tenant_tools_enabled", Switch, "true", TOOLS),
    row("virtualcluster_tenant_tools_bash_completion_enabled", Switch, "true", TOOLS),
    row("virtualcluster_tenant_tools_zsh_completion_enabled", Switch, "true", TOOLS),
    row("virtualcluster_tenant_tools_install_dir", Text, "/usr/local/bin", TOOLS),
    row("virtualcluster_keep_image_cache", Switch, "false", Nothing("vcbuild gc removes what is no longer needed")),
    // Building.
    row(
        "virtualcluster_build_host",
        Text,
        "localhost",
        Does("vcdist run, vcbuild images --build-host; localhost is this machine"),
    ),
    row(
        "virtualcluster_source_repo",
        Text,
        "https://github.com/kubernetes-retired/cluster-api-provider-nested",
        Does("vcdist run, vcbuild images --source-repo"),
    ),
    row(
        "virtualcluster_source_version",
        Text,
        "main",
        Does("vcdist run, vcbuild images --source-version; vcbuild.lock pins the commit"),
    ),
    row(
        "virtualcluster_source_dir",
        Text,
        "/tmp/cluster-api-provider-nested",
        Nothing("vcbuild keeps its own copy of the source"),
    ),
    row(
        "virtualcluster_build_components",
        Texts,
        "[manager, syncer, vn-agent]",
        Does("vcdist run, vcbuild images --components"),
    ),
    row("virtualcluster_build_timeout", Seconds, "1800", Does("vcdist run: the time limit of the build")),
    row("virtualcluster_kubectl_vc_binary", Text, "kubectl-vc", PLUGIN),
    row("virtualcluster_kubectl_vc_install_dir", Text, "/usr/local/bin", PLUGIN),
    // Images.
    row(
        "virtualcluster_manager_image",
        Text,
        "virtualcluster/manager-amd64:latest",
        Does("vcdist run: the name of the manager's image"),
    ),
    row(
        "virtualcluster_syncer_image",
        Text,
        "virtualcluster/syncer-amd64:latest",
        Does("vcdist run: the name of the syncer's image"),
    ),
    row(
        "virtualcluster_vn_agent_image",
        Text,
        "virtualcluster/vn-agent-amd64:latest",
        Does("vcdist run: the name of vn-agent's image"),
    ),
    row(
        "virtualcluster_unqualified_image_registry",
        Text,
        "docker.io",
        Does("vcdist run: the registry of a name without one"),
    ),
    row(
        "virtualcluster_image_pull_policy",
        Text,
        "Never",
        Does("vcdist run, vcdist deploy --values: imagePullPolicy of the workloads"),
    ),
    row(
        "virtualcluster_manager_image_tar_path",
        Text,
        "\"\"",
        Does("vcdist run: the manager's archive; all three or none"),
    ),
    row(
        "virtualcluster_syncer_image_tar_path",
        Text,
        "\"\"",
        Does("vcdist run: the syncer's archive; all three or none"),
    ),
    row(
        "virtualcluster_vn_agent_image_tar_path",
        Text,
        "\"\"",
        Does("vcdist run: vn-agent's archive; all three or none"),
    ),
    row(
        "virtualcluster_image_cache_dir",
        Text,
        "/opt/virtual-cluster/caches/images",
        Does("vcdist run: its folder latest/images, if it has an archive of each component"),
    ),
    row("virtualcluster_manifest_cache_dir", Text, "\"{{ virtualcluster_image_cache_dir }}/manifests\"", DISK_FIRST),
    row("virtualcluster_local_cache_dir", Text, "\"{{ lookup('env', 'HOME') }}/.ansible/vc-images-cache\"", DISK_FIRST),
    row(
        "virtualcluster_ctrlplane_cache_dir",
        Text,
        "/tmp/vc-images",
        Nothing("images do not pass through the control plane; with vcdist push --via a relay has its own cache"),
    ),
    row("virtualcluster_etcd_image", Text, "\"\"", OF_TENANTS).absent(),
    row("virtualcluster_apiserver_image", Text, "\"\"", OF_TENANTS).absent(),
    row("virtualcluster_controller_manager_image", Text, "\"\"", OF_TENANTS).absent(),
    // Distribution.
    row(
        "virtualcluster_ssh_keyscan_enabled",
        Switch,
        "true",
        Nothing("host keys are checked as vcdist push --host-keys says"),
    )
    .absent(),
    row("virtualcluster_ssh_user", Text, "\"{{ ansible_user }}\"", Does("vcdist run, vcdist push --ssh-user")).absent(),
    row("virtualcluster_fetch_retry_enabled", Switch, "true", DISK_FIRST),
    row("virtualcluster_fetch_retries", Number, "3", DISK_FIRST),
    row("virtualcluster_fetch_retry_interval_seconds", Seconds, "5", DISK_FIRST)
        .older(&["virtualcluster_fetch_retry_delay_seconds"]),
    row(
        "virtualcluster_wait_for_worker_ready_enabled",
        Switch,
        "true",
        Does("vcdist run: whether it waits for workers to be Ready before it pushes"),
    ),
    row(
        "virtualcluster_wait_for_worker_ready_timeout",
        Seconds,
        "180",
        Does("vcdist run: how long it waits for workers to be Ready; --wait-for-workers"),
    ),
    row(
        "virtualcluster_wait_for_worker_ready_fail_on_timeout",
        Switch,
        "false",
        Does("vcdist run: whether it fails if a worker is not Ready in that time"),
    ),
    row(
        "virtualcluster_worker_discovery_retry_enabled",
        Switch,
        "true",
        Does("vcdist run: whether it waits until the cluster has a worker"),
    ),
    row(
        "virtualcluster_worker_discovery_retries",
        Number,
        "3",
        Does("vcdist run: how long it waits for that, in intervals"),
    ),
    row("virtualcluster_worker_discovery_retry_interval_seconds", Seconds, "5", Does("vcdist run: the interval")),
    // Deployment.
    row(
        "virtualcluster_namespace",
        Text,
        "vc-manager",
        Does("vcdist run, vcdist deploy --namespace, vcdist verify --namespace"),
    ),
    row(
        "virtualcluster_supercluster_kubeconfig_path",
        Text,
        "\"{{ k8s_admin_kubeconfig_path }}\"",
        Does("vcdist run --kubeconfig, if this machine has the file, no option names one and KUBECONFIG is not set"),
    ),
    row(
        "virtualcluster_config_dir",
        Text,
        "\"{{ k8s_kubeadm_config_store }}/virtual-cluster\"",
        Nothing("vcdist needs no files there; vcdist deploy --output-dir writes the manifests"),
    ),
    row(
        "virtualcluster_all_in_one_manifest_path",
        Text,
        "\"\"",
        Does("vcdist run: rolls out this file as the release virtualcluster"),
    ),
    row("virtualcluster_manager_cmd_path", Text, "/app", PATCHED_COMMAND),
    row("virtualcluster_syncer_cmd_path", Text, "/app", PATCHED_COMMAND),
    row("virtualcluster_vn_agent_cmd_path", Text, "/app", PATCHED_COMMAND),
    row(
        "virtualcluster_vc_manager_args",
        Texts,
        "[\"--enable-webhook=true\", \"--leader-election=true\"]",
        Does("vcdist run, vcdist deploy --values: arguments of the manager"),
    ),
    row(
        "virtualcluster_vc_syncer_args",
        Texts,
        "[syncer, \"--leader-elect-resource-lock=leases\"]",
        Does("vcdist run, vcdist deploy --values: arguments of the syncer"),
    ),
    row(
        "virtualcluster_syncer_feature_gates",
        Texts,
        "[\"SyncTenantPVCStatusPhase=true\"]",
        Does("vcdist run, vcdist deploy --values: --feature-gates of the syncer"),
    ),
    row(
        "virtualcluster_vn_agent_args",
        Texts,
        "[vn-agent, \"--metrics-addr=:9111\", \"--cert-dir={{ virtualcluster_vn_agent_cert_dir }}\", \
         \"--kubelet-client-certificate={{ virtualcluster_vn_agent_pki_dir }}/client.crt\", \
         \"--kubelet-client-key={{ virtualcluster_vn_agent_pki_dir }}/client.key\"]",
        Does("vcdist run, vcdist deploy --values: arguments of vn-agent; --metrics-addr is --vn-agent-metrics-port"),
    ),
    row(
        "virtualcluster_vn_agent_cert_dir",
        Text,
        "/etc/vn-agent",
        Does("vcdist run, vcdist deploy --values: the folder of vn-agent's certificates"),
    ),
    row(
        "virtualcluster_vn_agent_pki_dir",
        Text,
        "\"{{ virtualcluster_vn_agent_cert_dir }}/pki\"",
        Does("vcdist run, vcdist deploy --values: the folder of the kubelet's client certificate"),
    ),
    row(
        "virtualcluster_manager_resource_requests",
        Resources,
        "{cpu: 500m, memory: 512Mi}",
        Does("vcdist run, vcdist deploy --values: requests of the manager"),
    )
    .older(&["virtualcluster_pod_resource_requests"]),
    row(
        "virtualcluster_manager_resource_limits",
        Resources,
        "{cpu: 1000m, memory: 1Gi}",
        Does("vcdist run, vcdist deploy --values: limits of the manager"),
    )
    .older(&["virtualcluster_pod_resource_limits"]),
    row(
        "virtualcluster_syncer_resource_requests",
        Resources,
        "{}",
        Does("vcdist run, vcdist deploy --values: requests of the syncer"),
    ),
    row(
        "virtualcluster_syncer_resource_limits",
        Resources,
        "{}",
        Does("vcdist run, vcdist deploy --values: limits of the syncer"),
    ),
    row(
        "virtualcluster_vn_agent_resource_requests",
        Resources,
        "{cpu: 100m, memory: 128Mi}",
        Does("vcdist run, vcdist deploy --values: requests of vn-agent"),
    ),
    row(
        "virtualcluster_vn_agent_resource_limits",
        Resources,
        "{cpu: 500m, memory: 512Mi}",
        Does("vcdist run, vcdist deploy --values: limits of vn-agent"),
    ),
    row(
        "k8s_virtualcluster_vc_etcd_scheme",
        Text,
        "https",
        Does(
            "vcdist run, vcdist deploy --values: VIRTUALCLUSTER_ETCD_SCHEME of the manager; http is refused, since the tenants' API servers use https",
        ),
    ),
    row("virtualcluster_etcd_replicas", Number, "1", UNREAD),
    row("virtualcluster_apiserver_replicas", Number, "1", UNREAD),
    row("virtualcluster_controller_manager_replicas", Number, "1", UNREAD),
    row(
        "virtualcluster_tenant_ns_wait_timeout",
        Seconds,
        "60",
        Nothing("it limits the deletion that vcdist does not do"),
    ),
    row("virtualcluster_tenant_ns_wait_delay", Seconds, "5", Nothing("it limits the deletion that vcdist does not do")),
    row(
        "virtualcluster_persistent_volumes",
        Volumes,
        "[]",
        Does("vcdist run, vcdist deploy --values: PersistentVolumes; their folders are not created"),
    )
    .absent(),
    // What the role sets itself.
    row(
        "virtualcluster_crd_apiversion",
        Text,
        "apiextensions.k8s.io/v1",
        Nothing("the definitions that vcdist deploy applies have this version"),
    )
    .constant(),
    row(
        "virtualcluster_api_group",
        Text,
        "tenancy.x-k8s.io",
        Nothing("the definitions that vcdist deploy applies have this group"),
    )
    .constant(),
    row(
        "virtualcluster_api_version",
        Text,
        "v1alpha1",
        Nothing("the definitions that vcdist deploy applies have this version"),
    )
    .constant(),
];
