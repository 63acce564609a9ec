//! `vcdist clusterversion`: the ClusterVersion from which vc-manager creates tenants' control planes.

use std::io;
use std::time::{Duration, Instant};

use camino::Utf8PathBuf;
use clap::{Args, ValueEnum};
use kube::api::{Api, Patch, PatchParams};
use miette::Diagnostic;
use serde::Serialize;
use thiserror::Error;
use tokio::time::sleep;
use vcmanifests::api::ClusterVersion;
use vcmanifests::{ControlPlane, ImageReference, Storage};
use vcstore::Store;
use vcterminal::{Exit, Output, Text};

use crate::cluster::{self, Cluster, ClusterArgs, is_absent};
use crate::detect::{Detected, Part, detect};
use crate::rollout::FIELD_MANAGER;

/// How long an API server may take to serve a kind whose definition was just applied, perhaps through another API server.
const SERVED_WITHIN: Duration = Duration::from_secs(5);

/// How often that is tried.
const PAUSE: Duration = Duration::from_millis(300);

/// What the help shows of its use.
const EXAMPLES: &str = "\
Examples:
  vcdist clusterversion                        # for the images that the cluster itself runs
  vcdist clusterversion --kubernetes v1.34.4 --etcd-storage 10Gi --apply
  vcdist clusterversion --images | xargs vcdist push";

/// Write a ClusterVersion, from which tenants' control planes are created.
///
/// For the images that the cluster itself runs (`vcdist detect`), unless others are given. An image that the store has is
/// named by its digest.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Clusterversion {
    /// The name of the ClusterVersion [default: cv- and the version]
    #[arg(value_name = "NAME")]
    name: Option<String>,

    /// etcd's image, which has /usr/local/bin/etcdctl [default: detected]
    #[arg(long, value_name = "IMAGE", help_heading = "Images")]
    etcd_image: Option<String>,

    /// The image of kube-apiserver [default: detected]
    #[arg(long, value_name = "IMAGE", help_heading = "Images")]
    apiserver_image: Option<String>,

    /// The image of kube-controller-manager [default: detected]
    #[arg(long, value_name = "IMAGE", help_heading = "Images")]
    controller_manager_image: Option<String>,

    /// Use the images that Kubernetes publishes for this version
    ///
    /// Such as v1.34.4. Images that are given have precedence.
    #[arg(long, value_name = "VERSION", value_parser = kubernetes_version, help_heading = "Images")]
    kubernetes: Option<String>,

    /// The store [default: ~/.cache/vcbuild/store]
    ///
    /// An image that it has is named by its digest, as `vcdist push` sends it.
    #[arg(long, value_name = "DIR", env = "VCBUILD_STORE", hide_env_values = true, help_heading = "Images")]
    store: Option<Utf8PathBuf>,

    /// The type of the Service of tenants' API servers
    #[arg(
        long,
        value_enum,
        value_name = "TYPE",
        default_value_t,
        hide_possible_values = true,
        help_heading = "Control plane"
    )]
    service_type: ServiceType,

    /// The addresses of a tenant's Services
    #[arg(long, value_name = "CIDR", default_value = "10.32.0.0/16", value_parser = range, help_heading = "Control plane")]
    service_cidr: String,

    /// The addresses of pods
    #[arg(long, value_name = "CIDR", default_value = "10.200.0.0/16", value_parser = range, help_heading = "Control plane")]
    pod_cidr: String,

    /// Keep etcd's data in a volume of this size, such as 10Gi
    ///
    /// Without it, a tenant loses all its objects if its etcd pod is deleted.
    #[arg(long, value_name = "SIZE", help_heading = "Control plane")]
    etcd_storage: Option<String>,

    /// The storage class of that volume [default: the cluster's]
    #[arg(long, value_name = "CLASS", requires = "etcd_storage", help_heading = "Control plane")]
    storage_class: Option<String>,

    /// Print the images that workers need for it, one a line
    #[arg(long, conflicts_with = "apply")]
    images: bool,

    /// Apply it to the cluster instead of printing it
    #[arg(long)]
    apply: bool,

    /// What to print
    ///
    /// `text` is YAML.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    output: Output,

    #[command(flatten)]
    cluster: ClusterArgs,
}

/// The types of Services that vc-manager supports.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum ServiceType {
    /// A port of every node.
    #[default]
    Nodeport,
    /// A load balancer of the cloud.
    Loadbalancer,
    /// From within the cluster only.
    Clusterip,
}

/// What `--output json` prints.
#[derive(Debug, Serialize)]
struct Document<'a> {
    name: &'a str,
    applied: bool,
    images: Vec<ImageDocument<'a>>,
    object: &'a ClusterVersion,
}

/// An image that workers need.
#[derive(Debug, Serialize)]
struct ImageDocument<'a> {
    name: &'a str,
    reference: &'a str,
}

/// An image for tenants.
struct Chosen {
    /// The name by which `vcdist push` finds it.
    name: String,
    /// The reference in the ClusterVersion.
    reference: String,
}

/// Why there is no ClusterVersion.
#[derive(Debug, Error, Diagnostic)]
pub(crate) enum Error {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Cluster(#[from] cluster::Error),

    #[error("looking for the image {name} in the store")]
    #[diagnostic(help(
        "`vcbuild store verify` checks the store; name the image as NAME@sha256:DIGEST to do without it"
    ))]
    Store { name: String, source: vcstore::Error },

    #[error("{name:?} is not a valid name of a ClusterVersion")]
    #[diagnostic(help("use lowercase letters, digits, dashes and dots, with a letter or digit at both ends"))]
    Name { name: String },

    #[error("applying clusterversion/{name}: the API server does not serve ClusterVersions")]
    #[diagnostic(help("`vcdist deploy` installs their definition with VirtualCluster"))]
    NotServed { name: String },

    #[error("writing the ClusterVersion as YAML: {0}")]
    Yaml(String),

    #[error("printing the ClusterVersion")]
    Print(#[from] io::Error),
}

impl Clusterversion {
    pub(crate) async fn run(self) -> Result<Exit, Error> {
        let given = [&self.etcd_image, &self.apiserver_image, &self.controller_manager_image];
        let needs_cluster = self.apply || (self.kubernetes.is_none() && given.iter().any(|image| image.is_none()));
        let cluster = if needs_cluster { Some(Cluster::connect(&self.cluster).await?) } else { None };
        let (parameters, chosen) = self.parameters(cluster.as_ref()).await?;
        let object = vcmanifests::cluster_version(&parameters);
        if let (Some(cluster), true) = (&cluster, self.apply) {
            apply(cluster, &object).await?;
        }
        let images = chosen.iter().map(|one| ImageDocument { name: &one.name, reference: &one.reference }).collect();
        let yaml = vcmanifests::to_yaml(&object).map_err(|error| Error::Yaml(error.to_string()))?;
        let document = Document { name: &parameters.name, applied: self.apply, images, object: &object };
        self.output.print(&document, |document| {
            let mut text = Text::default();
            match (self.images, self.apply) {
                (true, _) => document.images.iter().for_each(|image| {
                    text.line(image.name);
                }),
                (_, true) => {
                    text.line(format_args!("applied clusterversion/{}", document.name));
                }
                _ => {
                    text.program(&yaml);
                }
            }
            text
        })?;
        Ok(Exit::Done)
    }

    async fn parameters(&self, cluster: Option<&Cluster>) -> Result<(ControlPlane, [Chosen; 3]), Error> {
        let detected = match (&self.kubernetes, cluster) {
            (Some(version), _) => Some(crate::detect::conclude(&[], version)),
            (None, Some(cluster)) => Some(detect(cluster).await?),
            (None, None) => None,
        };
        let image = |given: &Option<String>, part| {
            let named = given.as_deref().or_else(|| detected.as_ref().and_then(|detected| detected.image(part)));
            self.choose(named.unwrap_or_default())
        };
        let chosen = [
            image(&self.etcd_image, Part::Etcd)?,
            image(&self.apiserver_image, Part::KubeApiserver)?,
            image(&self.controller_manager_image, Part::KubeControllerManager)?,
        ];
        let name = self.name.clone().unwrap_or_else(|| default_name(detected.as_ref(), &chosen[1].name));
        if !is_object_name(&name) {
            return Err(Error::Name { name });
        }
        let storage = self.etcd_storage.clone().map(|size| Storage { size, class: self.storage_class.clone() });
        let [etcd, api_server, controller_manager] = chosen.each_ref().map(|one| one.reference.clone());
        let parameters = ControlPlane {
            name,
            etcd,
            api_server,
            controller_manager,
            service_type: self.service_type.name().to_owned(),
            service_range: self.service_cidr.clone(),
            pod_range: self.pod_cidr.clone(),
            storage,
        };
        Ok((parameters, chosen))
    }

    /// Returns the image by its digest if the store has it, else as it is named.
    fn choose(&self, name: &str) -> Result<Chosen, Error> {
        let path = self.store.clone().unwrap_or_else(Store::default_path);
        let as_named = || Chosen { name: name.to_owned(), reference: name.to_owned() };
        if name.contains('@') || !path.join("oci-layout").exists() {
            return Ok(as_named());
        }
        let failed = |source| Error::Store { name: name.to_owned(), source };
        let store = Store::open_to_read(&path).map_err(failed)?;
        match store.image(name) {
            Ok(image) => {
                let reference = ImageReference::new(&image.name, &image.digest().to_string());
                let reference = reference.map_or_else(|_| image.name.clone(), |reference| reference.to_string());
                Ok(Chosen { name: image.name, reference })
            }
            Err(vcstore::Error::NoSuchImage { .. }) => Ok(as_named()),
            Err(error) => Err(failed(error)),
        }
    }
}

async fn apply(cluster: &Cluster, object: &ClusterVersion) -> Result<(), Error> {
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let api = Api::<ClusterVersion>::all(cluster.client());
    let deadline = Instant::now() + SERVED_WITHIN;
    loop {
        let applied = api.patch(name, &PatchParams::apply(FIELD_MANAGER), &Patch::Apply(object)).await;
        match applied {
            Ok(_) => return Ok(()),
            Err(error) if !is_absent(&error) => {
                return Err(cluster.failed(format!("applying clusterversion/{name}"), error).into());
            }
            Err(_) if Instant::now() < deadline => sleep(PAUSE).await,
            Err(_) => return Err(Error::NotServed { name: name.to_owned() }),
        }
    }
}

impl ServiceType {
    const fn name(self) -> &'static str {
        match self {
            Self::Nodeport => "NodePort",
            Self::Loadbalancer => "LoadBalancer",
            Self::Clusterip => "ClusterIP",
        }
    }
}

/// The name of a ClusterVersion for these images: by the version of Kubernetes that they are of.
fn default_name(detected: Option<&Detected>, api_server: &str) -> String {
    let tag = api_server.split('@').next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
    let version = match (detected, tag.split_once(':')) {
        (_, Some((_, tag))) => tag,
        (Some(detected), None) => &detected.server_version,
        (None, None) => "tenant",
    };
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c.to_ascii_lowercase() } else { '-' };
    format!("cv-{}", version.chars().map(plain).collect::<String>().trim_matches(['-', '.']))
}

fn is_object_name(name: &str) -> bool {
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let within = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    name.len() <= 253 && ends(name.chars().next()) && ends(name.chars().last()) && name.chars().all(within)
}

fn kubernetes_version(text: &str) -> Result<String, String> {
    let numbers: Vec<&str> = text.strip_prefix('v').unwrap_or_default().split('.').collect();
    let is_number = |number: &&str| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let is_version = numbers.len() == 3 && numbers.iter().all(is_number);
    if is_version { Ok(text.to_owned()) } else { Err("write a version such as v1.34.4".to_owned()) }
}

fn range(text: &str) -> Result<String, String> {
    match text.parse::<ipnet::IpNet>() {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("write a range of addresses such as 10.32.0.0/16".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::{default_name, is_object_name, kubernetes_version, range};
    use crate::detect::conclude;

    #[test]
    fn a_cluster_version_is_named_by_the_version_of_its_api_server() {
        assert_eq!(default_name(None, "registry.k8s.io/kube-apiserver:v1.34.4"), "cv-v1.34.4");
        assert_eq!(default_name(None, "localhost:5000/kube-apiserver:V1_34"), "cv-v1-34");
        let detected = conclude(&[], "v1.34.1+k3s1");
        assert_eq!(default_name(Some(&detected), "example.org/kube-apiserver@sha256:01"), "cv-v1.34.1-k3s1");
        assert!(is_object_name("cv-v1.34.1-k3s1") && !is_object_name("Cv") && !is_object_name("a_b"));
    }

    #[test]
    fn versions_and_ranges_are_checked() {
        assert!(kubernetes_version("v1.34.4").is_ok());
        for text in ["1.34.4", "v1.34", "v1.34.x", ""] {
            assert!(kubernetes_version(text).is_err(), "{text}");
        }
        assert!(range("10.32.0.0/16").is_ok() && range("10.32.0.0").is_err());
    }
}
