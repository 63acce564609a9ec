//! The lease of a push: while it lasts, containerd's garbage collection takes nothing the push has brought or counts on.
//! It is given back when the push ends, however it ends; should the helper be killed, it expires.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use containerd_client::services::v1::{AddResourceRequest, CreateRequest, DeleteRequest, Resource};
use tonic::{Code, Status};

use super::containerd::{Containerd, refused};
use super::probe;
use super::write;
use crate::protocol::proto::{HoldRequest, HoldResponse};

/// How long a lease nobody gives back keeps things: as long as containerd keeps unfinished blobs.
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
        let expires = prost_types::Timestamp::from(now + LIFETIME).to_string();
        let labels = [("containerd.io/gc.expire".to_owned(), expires)].into();
        let request = CreateRequest { id: id.clone(), labels };
        containerd.leases().create(request).await.map_err(refused("taking a lease"))?;
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
            self.add("content".into(), &digest).await?;
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

    /// Gives the lease back. Blobs that did not arrive whole (`unfinished`, by their ingests' names) are left to
    /// containerd, which keeps them for a day for the next push to go on from.
    pub(super) async fn release(self, unheld: &Containerd, unfinished: &[String]) -> Result<(), Status> {
        for name in unfinished {
            if let Err(status) = write::leave(unheld, name).await {
                tracing::warn!("what came of {name} may have to be sent again: {}", status.message());
            }
        }
        match unheld.leases().delete(DeleteRequest { id: self.id, sync: false }).await {
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
