//! Settings of a repository as people have it, and the complaints about values of another kind.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Namespace, PullPolicy, ReadSettings, Resources, Scheme, VARIABLES};
use crate::table::{Effect, rows};
use crate::tests::{environment, folder};
use crate::{Given, Repository, Resolver};

/// What the sample of all-config and the example in `host_vars` amount to.
const ALL: &str =
    "ansible_user: ansible\nansible_home_dir: '/home/{{ ansible_user }}'\nk8s_ctrlplane_endpoint: 192.0.2.41\n";

fn read(vars: &str) -> ReadSettings {
    let (_folder, path) = folder(&[("all.yml", ALL), ("vars.yml", vars)]);
    let given = Given { vars: vec![path.join("all.yml"), path.join("vars.yml")], inventory: None };
    let repository = Repository::open(&given).expect("a repository");
    ReadSettings::of(&Resolver::new(&repository, "localhost", environment).expect("variables"))
}

#[test]
fn each_variable_with_an_effect_has_one_field_and_no_other_has() {
    let with_effect: BTreeSet<&str> =
        rows().iter().filter(|row| !matches!(row.effect, Effect::Nothing(_))).map(|row| row.name).collect();
    let fields: BTreeSet<&str> = VARIABLES.iter().copied().collect();
    assert_eq!(fields.len(), VARIABLES.len());
    assert_eq!(fields, with_effect);
}

#[test]
fn the_defaults_are_settings() {
    let read = read("");
    assert!(read.errors.is_empty() && read.warnings.is_empty(), "{:?} {:?}", read.errors, read.warnings);
    let settings = read.settings.expect("settings");
    assert!(!settings.switches.enabled && settings.switches.clean_build && settings.switches.force_recreate);
    assert_eq!(settings.building.timeout, Duration::from_secs(1800));
    assert_eq!(settings.deployment.namespace, Namespace("vc-manager".into()));
    assert_eq!(settings.instances.config_dir, "/home/ansible/kubeadm/vc-instances");
    assert_eq!(settings.deployment.kubeconfig, "/etc/kubernetes/admin.conf");
    assert_eq!(settings.images.pull_policy, PullPolicy::Never);
    assert_eq!(settings.deployment.etcd_scheme, Scheme::Https);
    assert_eq!(settings.api.endpoint.as_deref(), Some("192.0.2.41"));
    assert_eq!(settings.api.endpoint_port, 6443);
    assert!(settings.tenant_dns.register_to_nodes);
    assert_eq!(settings.tenant_dns.image, "vc-tenant-dns:v1.11.3");
}

#[test]
fn tenants_and_volumes_are_read_with_their_defaults() {
    let read = read(
        "vcinstances_clusterversions:\n  - {name: cv-a, etcd: {image: registry.k8s.io/etcd, imageTag: 3.5.13}, apiServer: {image: api}}\n\
         vcinstances_virtualclusters:\n  - {name: tenant-a, clusterVersionName: cv-a, transparentMetaPrefixes: [k8s.v1.cni.cncf.io]}\n\
         virtualcluster_persistent_volumes:\n  - {name: pv, capacity: 10Gi, host_path: /mnt, node_name: w1, mode: '0700'}\n  - {name: half}\n\
         virtualcluster_manager_resource_limits: {cpu: 2, memory: 1Gi, gpu: 1}\n",
    );
    let settings = read.settings.unwrap_or_else(|| panic!("{:?}", read.errors));
    let version = &settings.instances.cluster_versions[0];
    assert_eq!(version.etcd.as_ref().map(|image| image.tag.as_str()), Some("3.5.13"));
    assert_eq!(version.api_server.as_ref().map(|image| image.tag.as_str()), Some("latest"));
    assert_eq!(settings.instances.virtual_clusters[0].transparent_meta_prefixes, ["k8s.v1.cni.cncf.io"]);
    let [volume] = settings.deployment.volumes.0.as_slice() else { panic!("one volume") };
    assert_eq!((volume.storage_class.as_str(), volume.mode.as_deref()), ("local-storage", Some("0700")));
    assert_eq!(settings.deployment.manager_limits, Resources { cpu: Some("2".into()), memory: Some("1Gi".into()) });
    let expected = ["virtualcluster_manager_resource_limits.gpu (", "virtualcluster_persistent_volumes[1] ("];
    assert_eq!(read.warnings.len(), 2, "{:?}", read.warnings);
    for (warning, begin) in read.warnings.iter().zip(expected) {
        assert!(warning.starts_with(begin), "{warning}");
    }
}

#[test]
fn a_value_of_another_kind_names_its_line() {
    let cases = [
        (
            "k8s_virtualcluster_enabled: 'true'\n",
            "k8s_virtualcluster_enabled (",
            "is the text \"true\", and must be a boolean",
        ),
        ("virtualcluster_enabled: 1\n", "virtualcluster_enabled (", "is 1, and must be a boolean"),
        ("virtualcluster_build_timeout: 30m\n", "virtualcluster_build_timeout (", "must be a whole number of seconds"),
        ("virtualcluster_build_timeout: -1\n", "virtualcluster_build_timeout (", "is -1, and must be a whole number"),
        ("k8s_vc_tenant_dns_port_dns: 70000\n", "k8s_vc_tenant_dns_port_dns (", "must be a port"),
        ("virtualcluster_build_components: manager\n", "virtualcluster_build_components (", "must be a list"),
        (
            "virtualcluster_build_components: [[a]]\n",
            "virtualcluster_build_components[0] (",
            "is a list, and must be text",
        ),
        ("virtualcluster_namespace: VC_Manager\n", "virtualcluster_namespace (", "must be the name of a namespace"),
        (
            "virtualcluster_image_pull_policy: Sometimes\n",
            "virtualcluster_image_pull_policy (",
            "Always, IfNotPresent or Never",
        ),
        ("vcinstances_etcd_storage_size: ten\n", "vcinstances_etcd_storage_size (", "a size such as 10Gi"),
        (
            "vcinstances_virtualclusters: [{name: a}]\n",
            "vcinstances_virtualclusters[0].clusterVersionName (",
            "is null, and must be there",
        ),
        (
            "virtualcluster_tenant_tools_enabled: maybe\nvirtualcluster_build_from_source: maybe\n",
            "virtualcluster_build_from_source (",
            "must be true or false",
        ),
    ];
    for (vars, begin, end) in cases {
        let errors: Vec<String> = read(vars).errors.iter().map(ToString::to_string).collect();
        let [error] = errors.as_slice() else { panic!("{vars}: {errors:?}") };
        assert!(error.starts_with(begin) && error.contains("vars.yml:") && error.contains(end), "{vars}: {error}");
    }
    let both = read("virtualcluster_build_timeout: x\nvirtualcluster_namespace: ''\n");
    assert_eq!((both.errors.len(), both.settings), (2, None));
    // What Ansible takes for a boolean.
    let read = read("virtualcluster_skip_cache_on_clean_build: 'no'\nvirtualcluster_build_from_source: 0\n");
    let settings = read.settings.expect("settings");
    assert!(!settings.images.skip_cache && !settings.building.from_source);
}
