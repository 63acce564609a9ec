//! The variables as typed values: what a command needs, checked, with the file and line in each complaint.

mod objects;
mod reader;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use objects::{
    ClusterVersion, Namespace, PullPolicy, Resources, Scheme, Size, TenantImage, VirtualCluster, Volume, Volumes,
};

use crate::error::Error;
use crate::resolve::Resolver;
use reader::Reader;

/// Structures of which each field is one variable.
macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty = $variable:literal,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, PartialEq)]
            pub struct $name {
                $(
                    #[doc = concat!("The variable `", $variable, "`.")]
                    pub $field: $type,
                )*
            }

            impl $name {
                fn read(from: &mut Reader<'_, '_>) -> Option<Self> {
                    $(let $field = from.take::<$type>($variable);)*
                    Some(Self { $($field: $field?,)* })
                }
            }
        )*

        /// The variables that have a field.
        #[cfg(test)]
        const VARIABLES: &[&str] = &[$($($variable,)*)*];
    };
}

settings! {
    /// How VirtualCluster's images are made.
    Building {
        from_source: bool = "virtualcluster_build_from_source",
        host: String = "virtualcluster_build_host",
        source_repo: String = "virtualcluster_source_repo",
        source_version: String = "virtualcluster_source_version",
        components: Vec<String> = "virtualcluster_build_components",
        timeout: Duration = "virtualcluster_build_timeout",
    }

    /// How VirtualCluster's images are called, and where they are.
    Images {
        manager: String = "virtualcluster_manager_image",
        syncer: String = "virtualcluster_syncer_image",
        vn_agent: String = "virtualcluster_vn_agent_image",
        unqualified_registry: String = "virtualcluster_unqualified_image_registry",
        pull_policy: PullPolicy = "virtualcluster_image_pull_policy",
        manager_tar: String = "virtualcluster_manager_image_tar_path",
        syncer_tar: String = "virtualcluster_syncer_image_tar_path",
        vn_agent_tar: String = "virtualcluster_vn_agent_image_tar_path",
        cache_dir: String = "virtualcluster_image_cache_dir",
        skip_cache: bool = "virtualcluster_skip_cache_on_clean_build",
    }

    /// How images come to the nodes.
    Distribution {
        ssh_user: Option<String> = "virtualcluster_ssh_user",
        wait_for_ready: bool = "virtualcluster_wait_for_worker_ready_enabled",
        ready_timeout: Duration = "virtualcluster_wait_for_worker_ready_timeout",
        fail_on_ready_timeout: bool = "virtualcluster_wait_for_worker_ready_fail_on_timeout",
        discovery_retry: bool = "virtualcluster_worker_discovery_retry_enabled",
        discovery_retries: u32 = "virtualcluster_worker_discovery_retries",
        discovery_interval: Duration = "virtualcluster_worker_discovery_retry_interval_seconds",
    }

    /// What is applied to the cluster.
    Deployment {
        namespace: Namespace = "virtualcluster_namespace",
        kubeconfig: String = "virtualcluster_supercluster_kubeconfig_path",
        manifest: String = "virtualcluster_all_in_one_manifest_path",
        manager_args: Vec<String> = "virtualcluster_vc_manager_args",
        syncer_args: Vec<String> = "virtualcluster_vc_syncer_args",
        syncer_feature_gates: Vec<String> = "virtualcluster_syncer_feature_gates",
        vn_agent_args: Vec<String> = "virtualcluster_vn_agent_args",
        vn_agent_cert_dir: String = "virtualcluster_vn_agent_cert_dir",
        vn_agent_pki_dir: String = "virtualcluster_vn_agent_pki_dir",
        manager_requests: Resources = "virtualcluster_manager_resource_requests",
        manager_limits: Resources = "virtualcluster_manager_resource_limits",
        syncer_requests: Resources = "virtualcluster_syncer_resource_requests",
        syncer_limits: Resources = "virtualcluster_syncer_resource_limits",
        vn_agent_requests: Resources = "virtualcluster_vn_agent_resource_requests",
        vn_agent_limits: Resources = "virtualcluster_vn_agent_resource_limits",
        etcd_scheme: Scheme = "k8s_virtualcluster_vc_etcd_scheme",
        volumes: Volumes = "virtualcluster_persistent_volumes",
    }

    /// The API server.
    Api {
        timeout: Duration = "k8s_api_wait_timeout",
        retries: u32 = "k8s_api_wait_retries",
        kubeadm_config_store: String = "k8s_kubeadm_config_store",
        admin_kubeconfig: String = "k8s_admin_kubeconfig_path",
        endpoint: Option<String> = "k8s_ctrlplane_endpoint",
        endpoint_port: u16 = "k8s_ctrlplane_port",
        major_minor: String = "k8s_major_minor",
        etcd_major_minor: String = "k8s_etcd_major_minor",
    }

    /// The tenants.
    Instances {
        enabled: bool = "k8s_vcinstances_enabled",
        config_dir: String = "vcinstances_config_dir",
        detect_images: bool = "vcinstances_auto_detect_supercluster_images",
        cluster_versions: Vec<ClusterVersion> = "vcinstances_clusterversions",
        virtual_clusters: Vec<VirtualCluster> = "vcinstances_virtualclusters",
        controller_manager_service: bool = "vcinstances_controller_manager_service_enabled",
        etcd_storage: bool = "vcinstances_etcd_storage_enabled",
        etcd_storage_size: Size = "vcinstances_etcd_storage_size",
        etcd_storage_class: String = "vcinstances_etcd_storage_class",
        default_storage_class: String = "vcinstances_default_storage_class_name",
        create_storage_class: bool = "vcinstances_auto_create_storage_class",
        create_volumes: bool = "vcinstances_auto_create_pv",
        volume_base_path: String = "vcinstances_pv_base_path",
        etcd_volumes: u32 = "vcinstances_etcd_replicas",
        kubeconfig: String = "k8s_supercluster_kubeconfig_path",
    }

    /// The tenants' CoreDNS.
    TenantDns {
        enabled: bool = "k8s_vc_tenant_dns_enabled",
        source_repo: String = "k8s_vc_tenant_dns_coredns_source_url",
        version: String = "k8s_vc_tenant_dns_version",
        port_dns: u16 = "k8s_vc_tenant_dns_port_dns",
        port_metrics: u16 = "k8s_vc_tenant_dns_port_metrics",
        port_health: u16 = "k8s_vc_tenant_dns_port_health",
        port_ready: u16 = "k8s_vc_tenant_dns_port_ready",
        image: String = "k8s_vc_tenant_dns_image",
        image_file: String = "k8s_vc_tenant_dns_image_file",
        build_host: String = "k8s_vc_tenant_dns_build_host",
        go_version: String = "k8s_vc_tenant_dns_go_version",
        unqualified_registry: String = "k8s_vc_tenant_dns_unqualified_image_registry",
        kubeconfig: String = "k8s_vc_tenant_dns_kubeconfig_path",
        manifest_dir_prefix: String = "k8s_vc_tenant_dns_k8s_manifest_dir_prefix",
        manifest_dir: String = "k8s_vc_tenant_dns_k8s_manifest_dir",
        image_registry: String = "k8s_vc_tenant_dns_image_registry",
        register_to_nodes: bool = "k8s_vc_tenant_dns_register_to_k8s_nodes_enabled",
        namespace: Namespace = "k8s_vc_tenant_dns_k8s_namespace",
        pod_name: String = "k8s_vc_tenant_dns_k8s_pod_name",
        virtual_cluster_namespace: String = "k8s_vc_tenant_dns_virtualcluster_namespace",
        supercluster_kubeconfig: String = "k8s_vc_tenant_dns_supercluster_kubeconfig_path",
    }

    /// How images are registered with nodes.
    RegisterImage {
        worker_hosts: Vec<String> = "k8s_register_image_worker_hosts",
        connect_timeout: Duration = "k8s_register_image_connection_preflight_connect_timeout",
        connection_retries: u32 = "k8s_register_image_connection_preflight_retries",
        transfer_retry: bool = "k8s_register_image_transfer_retry_enabled",
        transfer_retries: u32 = "k8s_register_image_transfer_retries",
    }

    /// Whether anything is done, and what the role would delete. It is shown, and never done without an option of vcdist's own.
    Switches {
        enabled: bool = "k8s_virtualcluster_enabled",
        clean_build: bool = "virtualcluster_clean_build",
        cleanup_failed_volumes: bool = "vcinstances_cleanup_failed_pvs",
        force_recreate: bool = "vcinstances_force_recreate_resources",
    }
}

/// All that the roles' variables say of a host, typed.
#[derive(Debug, Clone, PartialEq)]
pub struct RoleSettings {
    /// Whether anything is done, and what the role would delete.
    pub switches: Switches,
    /// How images are made.
    pub building: Building,
    /// How images are called.
    pub images: Images,
    /// How images come to the nodes.
    pub distribution: Distribution,
    /// What is applied to the cluster.
    pub deployment: Deployment,
    /// The API server.
    pub api: Api,
    /// The tenants.
    pub instances: Instances,
    /// The tenants' CoreDNS.
    pub tenant_dns: TenantDns,
    /// How images are registered with nodes.
    pub register_image: RegisterImage,
}

/// Settings, or why there are none, and what a person should know either way.
#[derive(Debug)]
pub struct ReadSettings {
    /// The settings; nothing when there is an error.
    pub settings: Option<RoleSettings>,
    /// What is wrong, each with its file and line.
    pub errors: Vec<Error>,
    /// What has no effect or is passed over.
    pub warnings: Vec<String>,
}

impl ReadSettings {
    /// Reads the settings of the host that a resolver is for. All that is wrong is found at once.
    #[must_use]
    pub fn of(resolver: &Resolver<'_>) -> Self {
        let mut reader = Reader::new(resolver);
        let settings = RoleSettings::read(&mut reader);
        Self { settings, errors: reader.errors, warnings: reader.warnings }
    }
}

impl RoleSettings {
    fn read(from: &mut Reader<'_, '_>) -> Option<Self> {
        let (switches, building, images) = (Switches::read(from), Building::read(from), Images::read(from));
        let (distribution, deployment, api) = (Distribution::read(from), Deployment::read(from), Api::read(from));
        let (instances, tenant_dns, register_image) =
            (Instances::read(from), TenantDns::read(from), RegisterImage::read(from));
        Some(Self {
            switches: switches?,
            building: building?,
            images: images?,
            distribution: distribution?,
            deployment: deployment?,
            api: api?,
            instances: instances?,
            tenant_dns: tenant_dns?,
            register_image: register_image?,
        })
    }
}
