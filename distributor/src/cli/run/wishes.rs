//! What a run does, from the options and the variables of the role: an option has precedence over a variable.

use std::collections::BTreeMap;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use vcmanifests::{Component, NamespaceName, Values};
use vcvariables::settings::{Building, Images, RoleSettings};

use super::{Error, Run, deployment};
use crate::cluster::ClusterArgs;
use crate::nodes::Choice;
use crate::run::source::{self, Source, Wanted};
use crate::run::workers::Patience;

/// How often a push retries where nobody says it.
const RETRIES: u32 = 3;

/// What the options and variables come to.
#[derive(Debug)]
pub(super) struct Wishes {
    /// The namespace of the installation.
    pub(super) namespace: NamespaceName,
    /// The values of the deployment where no option says them.
    pub(super) values: Values,
    /// The file whose objects are rolled out instead of vcdist's roles and workloads.
    pub(super) manifest: Option<Utf8PathBuf>,
    /// The cluster.
    pub(super) cluster: ClusterArgs,
    /// Names of images in the store that are not the components' own.
    pub(super) names: BTreeMap<Component, String>,
    /// Where images come from.
    pub(super) source: Source,
    /// How long a build may take.
    pub(super) build_timeout: Option<Duration>,
    /// The nodes to push to.
    pub(super) choice: Choice,
    /// How long to wait for them.
    pub(super) patience: Patience,
    /// How often a push retries.
    pub(super) retries: u32,
}

impl Wishes {
    /// Puts options and variables together.
    pub(super) fn of(run: &Run, role: Option<&RoleSettings>) -> Result<Self, Error> {
        let named = run.manifests.named_namespace().cloned();
        let of_role = || role.and_then(|role| role.deployment.namespace.0.parse().ok());
        let names = role.map(|role| names(&role.images)).unwrap_or_default();
        Ok(Self {
            namespace: named.or_else(of_role).unwrap_or_default(),
            values: role.map(deployment::values).transpose()?.unwrap_or_default(),
            manifest: role
                .map(|role| Utf8PathBuf::from(&role.deployment.manifest))
                .filter(|path| !path.as_str().is_empty()),
            cluster: cluster(run, role),
            source: source(run, role, &names)?,
            names,
            build_timeout: role.map(|role| role.building.timeout),
            choice: choice(run.manifests.choice(), role),
            patience: patience(run, role),
            retries: run.retries.or(role.map(retries)).unwrap_or(RETRIES),
        })
    }
}

/// The name of each component's image, with a registry.
fn names(images: &Images) -> BTreeMap<Component, String> {
    let named = [&images.manager, &images.syncer, &images.vn_agent];
    let full = |name: &String| qualified(name, &images.unqualified_registry);
    Component::ALL.into_iter().zip(named.map(full)).collect()
}

/// A name with a registry: the role gives it one where its first part is no host.
fn qualified(name: &str, registry: &str) -> String {
    let is_host = |(first, _): (&str, &str)| first.contains(['.', ':']) || first == "localhost";
    let name = if name.split_once('/').is_some_and(is_host) { name.to_owned() } else { format!("{registry}/{name}") };
    let has_tag = name.rsplit_once('/').is_some_and(|(_, last)| last.contains(':')) || name.contains('@');
    if has_tag { name } else { format!("{name}:latest") }
}

fn cluster(run: &Run, role: Option<&RoleSettings>) -> ClusterArgs {
    let mut cluster = run.cluster.clone();
    let Some(role) = role else { return cluster };
    // A path of the control plane, which may be this machine.
    let path = Utf8Path::new(&role.deployment.kubeconfig);
    if cluster.kubeconfig.is_none() && std::env::var_os("KUBECONFIG").is_none() && path.is_file() {
        cluster.kubeconfig = Some(path.to_owned());
    }
    let wait = role.api.timeout.saturating_mul(role.api.retries.max(1));
    cluster.api_timeout = cluster.api_timeout.or(Some(wait));
    cluster
}

/// The first that says where images come from: options, then variables.
fn source(
    run: &Run,
    role: Option<&RoleSettings>,
    names: &BTreeMap<Component, String>,
) -> Result<Source, source::Error> {
    if !run.archive.is_empty() {
        return Ok(Source::Archives(run.archive.iter().map(|path| (None, path.clone())).collect()));
    }
    if run.manifests.given().len() == Component::ALL.len() {
        return Ok(Source::Store("--image names every image".to_owned()));
    }
    if !run.manifests.named().is_empty() {
        return Ok(Source::Store("images of the store are named".to_owned()));
    }
    let Some(role) = role else {
        return Ok(if run.vcbuild.is_empty() {
            Source::Store("no source is named: the images of the store are used".to_owned())
        } else {
            Source::Build(run.vcbuild.clone())
        });
    };
    if !run.vcbuild.is_empty() {
        return Ok(Source::Build(arguments(&role.building, &run.vcbuild)));
    }
    let Images { manager_tar, syncer_tar, vn_agent_tar, .. } = &role.images;
    let tars = [
        ("virtualcluster_manager_image_tar_path", manager_tar),
        ("virtualcluster_syncer_image_tar_path", syncer_tar),
        ("virtualcluster_vn_agent_image_tar_path", vn_agent_tar),
    ];
    let archives = Component::ALL.into_iter().zip(tars);
    let wanted = Wanted {
        archives: archives.map(|(component, (variable, path))| (component, variable, path.clone())).collect(),
        cache: Utf8PathBuf::from(&role.images.cache_dir),
        skip_cache: role.images.skip_cache && role.switches.clean_build && role.building.from_source,
        build: role.building.from_source.then(|| arguments(&role.building, &[])),
    };
    let store = run.manifests.store();
    let lacking = || {
        let open = || vcstore::Store::open_to_give(&store).ok();
        let found = store.join("oci-layout").exists().then(open).flatten();
        let has = |name: &&String| found.as_ref().is_some_and(|store| store.image(name).is_ok());
        let lacks: Vec<&str> = names.values().filter(|name| !has(name)).map(String::as_str).collect();
        if lacks.is_empty() { Ok(()) } else { Err(format!("the store {store} has no {}", lacks.join(", "))) }
    };
    source::choose(&wanted, Utf8Path::is_file, lacking)
}

/// The arguments for `vcbuild images`: those of the variables that `own` does not say otherwise, then `own`.
fn arguments(building: &Building, own: &[String]) -> Vec<String> {
    let is_said = |options: &[&str]| {
        own.iter().any(|argument| {
            options.iter().any(|option| {
                argument.strip_prefix(option).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
            })
        })
    };
    let mut arguments = Vec::new();
    let mut add = |option: &str, value: &str| arguments.extend([option.to_owned(), value.to_owned()]);
    if !is_said(&["--source-dir", "--source-repo", "--project"]) {
        add("--source-repo", &building.source_repo);
        if !is_said(&["--source-version"]) {
            add("--source-version", &building.source_version);
        }
        // The role builds in this folder of the repository.
        if !is_said(&["--source-subdir"]) {
            add("--source-subdir", "virtualcluster");
        }
    }
    if !is_said(&["--components"]) {
        add("--components", &building.components.join(","));
    }
    if !["localhost", "127.0.0.1", "::1"].contains(&building.host.as_str()) && !is_said(&["--build-host"]) {
        let is_address = building.host.contains("://");
        add("--build-host", &if is_address { building.host.clone() } else { format!("ssh://{}", building.host) });
    }
    arguments.into_iter().chain(own.iter().cloned()).collect()
}

fn choice(choice: Choice, role: Option<&RoleSettings>) -> Choice {
    match role {
        Some(role) if choice.names.is_empty() => {
            let register = &role.register_image;
            Choice { names: register.worker_hosts.clone(), ..choice }
        }
        _ => choice,
    }
}

fn patience(run: &Run, role: Option<&RoleSettings>) -> Patience {
    let of_role = role.map(|role| {
        let distribution = &role.distribution;
        let tries = if distribution.discovery_retry { distribution.discovery_retries } else { 0 };
        Patience {
            until_found: distribution.discovery_interval.saturating_mul(tries),
            until_ready: if distribution.wait_for_ready { distribution.ready_timeout } else { Duration::ZERO },
            must_be_ready: distribution.wait_for_ready && distribution.fail_on_ready_timeout,
        }
    });
    let patience = of_role.unwrap_or_default();
    match run.wait_for_workers {
        Some(time) => Patience { until_ready: time, until_found: time, must_be_ready: true },
        None => patience,
    }
}

fn retries(role: &RoleSettings) -> u32 {
    let register = &role.register_image;
    if register.transfer_retry { register.transfer_retries.max(register.connection_retries) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::qualified;

    #[test]
    fn names_get_the_registry_and_tag_that_the_role_gives_them() {
        for (name, full) in [
            ("virtualcluster/manager-amd64:latest", "docker.io/virtualcluster/manager-amd64:latest"),
            ("localhost/a:1", "localhost/a:1"),
            ("r.example:5000/a/b", "r.example:5000/a/b:latest"),
            ("a:v2", "docker.io/a:v2"),
        ] {
            assert_eq!(qualified(name, "docker.io"), full, "{name}");
        }
    }
}
