//! The lease of a push: while it lasts, containerd's garbage collection takes nothing the push has brought or counts on.
//! It is given back when the push ends, however it ends; should the helper be killed, it expires. What arrived of images that
//! are not whole yet goes over to a lease of its own, for the next push to go on from.

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

/// The lease that keeps blobs which no image refers to yet.
const LEFT: &str = "vcdist-unfinished";

/// What containerd's leases call blobs.
const CONTENT: &str = "content";

/// How long a lease that is not released keeps things: as long as containerd keeps unfinished blobs.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// A lease that is held.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    id: String,
    /// containerd, with everything made through it held.
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

    /// What everything made under this lease and nowhere else is named by.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Holds what the push counts on, and says what of it is still there.
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

    /// Gives the lease back. What arrived and is of no image yet is kept: unfinished blobs are left to containerd, which keeps
    /// them for a day, and whole ones go to a lease that lasts as long.
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

/// Puts blobs that no image refers to under the lease that keeps such.
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

/// Lets go of blobs that an earlier push left, and that images refer to now.
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
