//! Which kinds the cluster serves of the versions that manifests name.

use std::collections::BTreeSet;

use vcmanifests::{Document, ServedKind, ServedKinds};

use crate::cluster::{self, Cluster, is_absent};

/// Every kind of the versions that documents are of.
pub(super) async fn served(cluster: &Cluster, documents: &[Document]) -> Result<ServedKinds, cluster::Error> {
    let versions: BTreeSet<&str> = documents.iter().filter_map(|one| one.value["apiVersion"].as_str()).collect();
    let client = cluster.client();
    let mut kinds = ServedKinds::new();
    for version in versions {
        let listed = if version.contains('/') {
            client.list_api_group_resources(version).await
        } else {
            client.list_core_api_resources(version).await
        };
        let listed = match listed {
            // A group that a definition among the manifests makes is not there yet.
            Err(error) if is_absent(&error) => continue,
            listed => listed.map_err(|error| cluster.failed(format!("listing the kinds of {version}"), error))?,
        };
        // Subresources are listed too.
        for one in listed.resources.into_iter().filter(|one| !one.name.contains('/')) {
            let served = ServedKind { plural: one.name, is_namespaced: one.namespaced };
            kinds.insert((version.to_owned(), one.kind), served);
        }
    }
    Ok(kinds)
}
