//! The lists and mappings among the variables: resources, volumes, and what the tenants are made from.

use std::collections::BTreeMap;

use super::reader::{At, Entries, Setting};
use crate::error::Error;
use crate::value::Value;

/// What a container requests, or may use at most.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    /// Processor time, as Kubernetes writes it.
    pub cpu: Option<String>,
    /// Memory, as Kubernetes writes it.
    pub memory: Option<String>,
}

/// A persistent volume that the role creates where it is absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Its size, as Kubernetes writes it.
    pub capacity: String,
    /// The folder on the node.
    pub host_path: String,
    /// The node.
    pub node_name: String,
    /// Its StorageClass.
    pub storage_class: String,
    /// Its access modes.
    pub access_modes: Vec<String>,
    /// What becomes of it once it is released.
    pub reclaim_policy: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The mode of the folder.
    pub mode: Option<String>,
    /// The owner of the folder.
    pub owner: Option<String>,
    /// The group of the folder.
    pub group: Option<String>,
}

/// The volumes; entries that lack something are passed over with a warning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Volumes(pub Vec<Volume>);

/// An image of a tenant's control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantImage {
    /// Its name without a tag.
    pub image: Option<String>,
    /// Its tag.
    pub tag: String,
}

/// A ClusterVersion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterVersion {
    /// Its name.
    pub name: String,
    /// The image of etcd.
    pub etcd: Option<TenantImage>,
    /// The image of the API server.
    pub api_server: Option<TenantImage>,
    /// The image of the controller manager.
    pub controller_manager: Option<TenantImage>,
}

/// A VirtualCluster: a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualCluster {
    /// Its name.
    pub name: String,
    /// The ClusterVersion that it runs.
    pub cluster_version_name: String,
    /// Its namespace; the installation's where it names none.
    pub namespace: Option<String>,
    /// The domain of its services.
    pub cluster_domain: Option<String>,
    /// The Secret that its kubeconfig would be in; VirtualCluster does not create it.
    pub kubeconfig_secret_name: Option<String>,
    /// Prefixes of labels and annotations that both clusters see.
    pub transparent_meta_prefixes: Vec<String>,
    /// Prefixes of labels and annotations that the tenant does not see.
    pub opaque_meta_prefixes: Vec<String>,
}

/// When the kubelet pulls an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullPolicy {
    /// Whenever a container starts.
    Always,
    /// When the node does not have it.
    IfNotPresent,
    /// Never.
    Never,
}

/// How the tenants' etcd is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// In clear text.
    Http,
    /// Over TLS.
    Https,
}

/// A size as Kubernetes writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Size(pub String);

/// A name that a namespace may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace(pub String);

impl Setting for Resources {
    fn read(value: &Value, at: &mut At<'_>) -> Result<Self, Error> {
        let mut entries = Entries::of(value, at, &["cpu", "memory"])?;
        Ok(Self { cpu: entries.get("cpu")?, memory: entries.get("memory")? })
    }
}

impl Setting for Option<Volume> {
    fn read(value: &Value, at: &mut At<'_>) -> Result<Self, Error> {
        let needed = ["name", "capacity", "host_path", "node_name"];
        let others = ["storage_class", "access_modes", "reclaim_policy", "labels", "mode", "owner", "group"];
        let mut entries = Entries::of(value, at, &[needed.as_slice(), &others].concat())?;
        let missing: Vec<&str> = needed.into_iter().filter(|name| !entries.has(name)).collect();
        if !missing.is_empty() {
            entries.pass_over(&format!("{} is missing", missing.join(", ")));
            return Ok(None);
        }
        let labels = || BTreeMap::from([("type".to_owned(), "local".to_owned())]);
        Ok(Some(Volume {
            name: entries.need("name")?,
            capacity: entries.need("capacity")?,
            host_path: entries.need("host_path")?,
            node_name: entries.need("node_name")?,
            storage_class: entries.get("storage_class")?.unwrap_or_else(|| "local-storage".to_owned()),
            access_modes: entries.get("access_modes")?.unwrap_or_else(|| vec!["ReadWriteOnce".to_owned()]),
            reclaim_policy: entries.get("reclaim_policy")?.unwrap_or_else(|| "Delete".to_owned()),
            labels: entries.get("labels")?.unwrap_or_else(labels),
            mode: entries.get("mode")?,
            owner: entries.get("owner")?,
            group: entries.get("group")?,
        }))
    }
}

impl Setting for Volumes {
    fn absent() -> Option<Self> {
        Some(Self::default())
    }

    fn read(value: &Value, at: &mut At<'_>) -> Result<Self, Error> {
        let volumes: Vec<Option<Volume>> = Setting::read(value, at)?;
        Ok(Self(volumes.into_iter().flatten().collect()))
    }
}

impl Setting for TenantImage {
    fn read(value: &Value, at: &mut At<'_>) -> Result<Self, Error> {
        let mut entries = Entries::of(value, at, &["image", "imageTag"])?;
        Ok(Self { image: entries.get("image")?, tag: entries.get("imageTag")?.unwrap_or_else(|| "latest".to_owned()) })
    }
}

impl Setting for ClusterVersion {
    fn read(value: &Value, at: &mut At<'_>) -> Result<Self, Error> {
        let mut entries = Entries::of(value, at, &["name", "etcd", "apiServer", "controllerManager"])?;
        Ok(Self {
            name: entries.need("name")?,
            etcd: entries.get("etcd")?,
            api_server: entries.get("apiServer")?,
            controller_manager: entries.get("controllerManager")?,
        })
    }
}

impl Setting for VirtualCluster {
    fn read(value: &Value, at: &mut At<'_>) -> Result<Self, Error> {
        let known = [
            "name",
            "clusterVersionName",
            "namespace",
            "clusterDomain",
            "kubeConfigSecretName",
            "transparentMetaPrefixes",
            "opaqueMetaPrefixes",
        ];
        let mut entries = Entries::of(value, at, &known)?;
        Ok(Self {
            name: entries.need("name")?,
            cluster_version_name: entries.need("clusterVersionName")?,
            namespace: entries.get("namespace")?,
            cluster_domain: entries.get("clusterDomain")?,
            kubeconfig_secret_name: entries.get("kubeConfigSecretName")?,
            transparent_meta_prefixes: entries.get("transparentMetaPrefixes")?.unwrap_or_default(),
            opaque_meta_prefixes: entries.get("opaqueMetaPrefixes")?.unwrap_or_default(),
        })
    }
}

impl Setting for PullPolicy {
    fn read(value: &Value, at: &mut At<'_>) -> Result<Self, Error> {
        match value.as_str() {
            Some("Always") => Ok(Self::Always),
            Some("IfNotPresent") => Ok(Self::IfNotPresent),
            Some("Never") => Ok(Self::Never),
            _ => Err(at.wrong("Always, IfNotPresent or Never", value)),
        }
    }
}

impl Setting for Scheme {
    fn read(value: &Value, at: &mut At<'_>) -> Result<Self, Error> {
        match value.as_str() {
            Some("http") => Ok(Self::Http),
            Some("https") => Ok(Self::Https),
            _ => Err(at.wrong("http or https", value)),
        }
    }
}

impl Setting for Size {
    fn read(value: &Value, at: &mut At<'_>) -> Result<Self, Error> {
        let text = String::read(value, at)?;
        let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
        let is_size = unit.len() < text.len()
            && matches!(unit, "" | "k" | "M" | "G" | "T" | "P" | "E" | "Ki" | "Mi" | "Gi" | "Ti" | "Pi" | "Ei");
        if is_size { Ok(Self(text)) } else { Err(at.wrong("a size such as 10Gi", value)) }
    }
}

impl Setting for Namespace {
    fn read(value: &Value, at: &mut At<'_>) -> Result<Self, Error> {
        let text = String::read(value, at)?;
        let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let is_name = (1..64).contains(&text.len())
            && text.starts_with(is_word)
            && text.ends_with(is_word)
            && text.chars().all(|c| is_word(c) || c == '-');
        let expected = "the name of a namespace: lower-case letters, digits and hyphens, 63 at most";
        if is_name { Ok(Self(text)) } else { Err(at.wrong(expected, value)) }
    }
}
