//! The lease of a push. While it exists, containerd's garbage collection removes nothing that the push has written or
//! relies on. It is deleted when the push ends, however it ends; if the helper is killed, it expires. Blobs of
//! incomplete images are moved to a lease of their own, so that the next push can continue from them.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use containerd_client::services::v1::{
    AddResourceRequest, CreateRequest, DeleteRequest, DeleteResourceRequest, ListResourcesRequest, Resource,
};
use tonic::{Code, Status};

use super::containerd::{Containerd, found, refused};
use super::probe;
use super::write::{self, ReceivedBlobs};
use crate::protocol::proto::{HoldRequest, HoldResponse};

/// The lease that keeps blobs to which no image refers yet.
const LEFT: &str = "vcdist-unfinished";

/// The resource type of blobs in containerd's leases.
const CONTENT: &str = "content";

/// The lifetime of a lease that is not deleted: as long as containerd keeps unfinished blobs.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// A lease that is in use.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    id: String,
    /// The containerd client under this lease.
    pub(super) containerd: Containerd,
}

impl Lease {
    pub(super) async fn take(containerd: &Containerd) -> Result<Self, Status> {
        let now = SystemTime::now();
        let unique = now.duration_since(UNIX_EPOCH).map(|since| since.as_nanos()).unwrap_or_default();
        let id = format!("vcdist-{}-{unique}", std::process::id());
        create(containerd, &id).await.map_err(refused("taking a lease"))?;
        Ok(Self { containerd: containerd.under(&id)?, id })
    }

    /// The lease's id, which is also the prefix of names for what only this lease holds.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Adds the content that the push relies on to the lease. Returns the part of it that is still present.
    pub(super) async fn hold(&self, snapshotter: &str, asked: HoldRequest) -> Result<HoldResponse, Status> {
        let mut held = HoldResponse::default();
        for digest in asked.digests {
            self.add(CONTENT.into(), &digest).await?;
            if probe::blob(&self.containerd, &digest).await?.is_some() {
                held.digests.push(digest);
            }
        }
        for chain in asked.chain_ids {
            self.add(format!("snapshots/{snapshotter}"), &chain).await?;
            if probe::has_snapshot(&self.containerd, snapshotter, &chain).await? {
                held.chain_ids.push(chain);
            }
        }
        Ok(held)
    }

    /// Deletes the lease. Keeps the blobs that arrived and belong to no image yet: unfinished blobs remain as ingests,
    /// which containerd keeps for a day, and complete ones move to a lease that lasts as long.
    pub(super) async fn release(&self, unheld: &Containerd, received: &ReceivedBlobs) -> Result<(), Status> {
        let mut whole = received.whole.clone();
        for digest in &received.begun {
            match write::leave(unheld, digest).await {
                Ok(true) => {}
                Ok(false) => drop(whole.insert(digest.clone())),
                Err(status) => tracing::warn!("what came of {digest} may be sent again: {}", status.message()),
            }
        }
        if let Err(status) = keep(unheld, &whole).await {
            tracing::warn!("blobs that came may be sent again: {}", status.message());
        }
        if let Err(status) = let_go(unheld, &received.used).await {
            tracing::warn!("{}", status.message());
        }
        match unheld.leases().delete(DeleteRequest { id: self.id.clone(), sync: false }).await {
            Err(status) if status.code() != Code::NotFound => Err(refused("giving the lease back")(status)),
            _ => Ok(()),
        }
    }

    async fn add(&self, kind: String, id: &str) -> Result<(), Status> {
        let resource = Some(Resource { id: id.into(), r#type: kind });
        let request = AddResourceRequest { id: self.id.clone(), resource };
        self.containerd.leases().add_resource(request).await.map_err(refused(format_args!("leasing {id}")))?;
        Ok(())
    }
}

async fn create(containerd: &Containerd, id: &str) -> Result<(), Status> {
    let expires = prost_types::Timestamp::from(SystemTime::now() + LIFETIME).to_string();
    let labels = [("containerd.io/gc.expire".to_owned(), expires)].into();
    containerd.leases().create(CreateRequest { id: id.into(), labels }).await.map(drop)
}

fn content(digest: &str) -> Option<Resource> {
    Some(Resource { id: digest.into(), r#type: CONTENT.into() })
}

/// Adds blobs to which no image refers to the lease for such blobs.
async fn keep(containerd: &Containerd, digests: &BTreeSet<String>) -> Result<(), Status> {
    if digests.is_empty() {
        return Ok(());
    }
    match create(containerd, LEFT).await {
        Err(status) if status.code() != Code::AlreadyExists => return Err(refused("taking a lease")(status)),
        _ => {}
    }
    for digest in digests {
        let request = AddResourceRequest { id: LEFT.into(), resource: content(digest) };
        containerd.leases().add_resource(request).await.map_err(refused(format_args!("leasing {digest}")))?;
    }
    Ok(())
}

/// Removes blobs to which images now refer from the lease for blobs of earlier pushes.
async fn let_go(containerd: &Containerd, digests: &BTreeSet<String>) -> Result<(), Status> {
    let mut leases = containerd.leases();
    let listed = found(leases.list_resources(ListResourcesRequest { id: LEFT.into() }).await);
    let Some(listed) = listed.map_err(refused("looking for what an earlier push left"))? else { return Ok(()) };
    let (used, others): (Vec<Resource>, Vec<Resource>) =
        listed.into_inner().resources.into_iter().partition(|resource| digests.contains(&resource.id));
    if others.is_empty() {
        let deleted = leases.delete(DeleteRequest { id: LEFT.into(), sync: false }).await;
        return found(deleted).map(drop).map_err(refused("ending the lease of what an earlier push left"));
    }
    for resource in used {
        let request = DeleteResourceRequest { id: LEFT.into(), resource: Some(resource) };
        found(leases.delete_resource(request).await).map_err(refused("letting go of what an earlier push left"))?;
    }
    Ok(())
}
