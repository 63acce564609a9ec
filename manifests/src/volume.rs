//! PersistentVolumes on folders of nodes, for the etcd of tenants in clusters without a provisioner.

use std::collections::BTreeMap;

use crate::Error;

/// A folder of a node as a PersistentVolume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalVolume {
    /// Its name.
    pub name: String,
    /// Its size, as a Kubernetes quantity: `10Gi`.
    pub capacity: String,
    /// The absolute path of the folder, which must exist.
    pub path: String,
    /// The node that has it: the value of the label `kubernetes.io/hostname`.
    pub node: String,
    /// Its StorageClass.
    pub storage_class: String,
    /// Its access modes.
    pub access_modes: Vec<String>,
    /// What becomes of it once it is released: `Retain` or `Delete`.
    pub reclaim_policy: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

impl LocalVolume {
    /// A volume with the usual StorageClass, mode, policy and label.
    #[must_use]
    pub fn new(name: &str, capacity: &str, path: &str, node: &str) -> Self {
        Self {
            name: name.to_owned(),
            capacity: capacity.to_owned(),
            path: path.to_owned(),
            node: node.to_owned(),
            storage_class: "local-storage".to_owned(),
            access_modes: vec!["ReadWriteOnce".to_owned()],
            reclaim_policy: "Delete".to_owned(),
            labels: BTreeMap::from([("type".to_owned(), "local".to_owned())]),
        }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.path.starts_with('/') {
            return Ok(());
        }
        Err(Error::BadVolume { name: self.name.clone(), path: self.path.clone() })
    }
}
