//! The helper: this program on a node, for the duration of one push. It serves one operator over stdin and stdout,
//! works on the node's containerd, and ends when its stdin ends. It leaves no process and no incomplete image behind,
//! and at most one lease, which keeps the blobs of incomplete images.
//!
//! `gc_refs`, `removal_plan` and `containers` are pure; the operator's side also uses them where no helper runs. Uses
//! `crate::protocol` and `crate::images`.

mod containerd;
pub(crate) mod containers;
pub(crate) mod extra_connections;
mod finish;
pub(crate) mod gc_refs;
mod lease;
mod probe;
pub(crate) mod reassembly;
mod removal;
pub(crate) mod removal_plan;
mod repair;
mod socket_dir;
pub(crate) mod stdio;
mod write;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use camino::Utf8PathBuf;
use miette::Diagnostic;
use thiserror::Error;
use tokio::sync::{Mutex, OnceCell};
use tokio::time::{sleep, timeout};
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use crate::agent::reassembly::IncomingBlobs;
use crate::protocol::proto::helper_server::{Helper, HelperServer};
use crate::protocol::proto::{
    ContainersRequest, ContainersResponse, FinishRequest, FinishResponse, HelloRequest, HelloResponse, HoldRequest,
    HoldResponse, InventoryRequest, InventoryResponse, PushesRequest, PushesResponse, ReleaseRequest, ReleaseResponse,
    RemoveRequest, RemoveResponse, WriteRequest, WriteResponse,
};
pub(crate) use containerd::SOCKETS;

use containerd::Containerd;
use lease::Lease;
use probe::Facts;
use write::ReceiveLog;

/// The time limit for deleting the lease: a containerd that was killed is back within a few seconds.
const RELEASE_WITHIN: Duration = Duration::from_secs(12);

/// The pause before the deletion is retried.
const RELEASE_AGAIN_AFTER: Duration = Duration::from_millis(300);

/// The settings of the helper from its command line.
#[derive(Debug, Clone)]
pub struct Settings {
    /// containerd's socket; without it, the known paths are tried.
    pub address: Option<Utf8PathBuf>,
    /// containerd's namespace.
    pub namespace: String,
    /// How long the connection may be silent before the push is considered gone.
    pub stall_timeout: Duration,
}

/// Why the helper could not serve.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum Error {
    /// stdin or stdout cannot be used.
    #[error("using stdin and stdout as a connection")]
    #[diagnostic(help("`vcdist push` starts the helper on nodes; there is no other use for it"))]
    Stdio(#[source] io::Error),
    /// A further connection could not join a process.
    #[error("joining {name}")]
    #[diagnostic(help("`vcdist push` joins the helpers it has started; there is no other use for it"))]
    Join {
        /// The socket of the process to join.
        name: String,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The protocol failed.
    #[error("serving the push")]
    Serve(#[source] tonic::transport::Error),
}

/// Serves one push over stdin and stdout, until stdin ends.
///
/// # Errors
/// Returns an error if stdin and stdout are not a connection.
pub async fn serve(settings: Settings) -> Result<(), Error> {
    let stall_timeout = settings.stall_timeout;
    let push = Arc::new(Push::new(settings));
    let served = stdio::serve(Routes::new(HelperServer::from_arc(Arc::clone(&push))), stall_timeout).await;
    let giving_back = async {
        while let Err(status) = push.give_back().await {
            tracing::warn!("{}", status.message());
            sleep(RELEASE_AGAIN_AFTER).await;
        }
    };
    if timeout(RELEASE_WITHIN, giving_back).await.is_err() {
        tracing::warn!("containerd does not take the lease back; it expires by itself");
    }
    served
}

/// One push, from the node's perspective.
struct Push {
    settings: Settings,
    containerd: OnceCell<Containerd>,
    facts: OnceCell<Facts>,
    lease: Mutex<Option<Lease>>,
    received: ReceiveLog,
    arriving: IncomingBlobs,
    /// Serializes the finishing of images: they share layers, which are then unpacked only once.
    finishing: Mutex<()>,
}

impl Push {
    fn new(settings: Settings) -> Self {
        Self {
            settings,
            containerd: OnceCell::new(),
            facts: OnceCell::new(),
            lease: Mutex::new(None),
            received: ReceiveLog::default(),
            arriving: IncomingBlobs::default(),
            finishing: Mutex::new(()),
        }
    }

    async fn containerd(&self) -> Result<&Containerd, Status> {
        let Settings { address, namespace, .. } = &self.settings;
        self.containerd.get_or_try_init(|| Containerd::connect(address.as_deref(), namespace)).await
    }

    async fn facts(&self) -> Result<&Facts, Status> {
        let containerd = self.containerd().await?;
        self.facts.get_or_try_init(|| probe::facts(containerd)).await
    }

    async fn lease(&self) -> Result<Lease, Status> {
        let lease = self.lease.lock().await;
        lease.clone().ok_or_else(|| Status::failed_precondition("Hold comes before anything is changed"))
    }

    /// Deletes the lease. If containerd refuses, the lease stays in place for another attempt.
    async fn give_back(&self) -> Result<(), Status> {
        let (_settled, received) = self.received.settled().await;
        let mut held = self.lease.lock().await;
        if let Some(lease) = held.as_ref() {
            lease.release(self.containerd().await?, &received).await?;
            *held = None;
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl Helper for Push {
    async fn hello(&self, _: Request<HelloRequest>) -> Result<Response<HelloResponse>, Status> {
        Ok(Response::new(self.facts().await?.hello.clone()))
    }

    async fn inventory(&self, request: Request<InventoryRequest>) -> Result<Response<InventoryResponse>, Status> {
        let (containerd, facts) = (self.containerd().await?, self.facts().await?);
        let answer = probe::inventory(containerd, facts, request.get_ref()).await?;
        Ok(Response::new(answer))
    }

    async fn containers(&self, _: Request<ContainersRequest>) -> Result<Response<ContainersResponse>, Status> {
        Ok(Response::new(containers::list(self.containerd().await?).await?))
    }

    async fn pushes(&self, _: Request<PushesRequest>) -> Result<Response<PushesResponse>, Status> {
        let (containerd, facts) = (self.containerd().await?, self.facts().await?);
        Ok(Response::new(removal::pushes(containerd, facts).await?))
    }

    async fn remove(&self, request: Request<RemoveRequest>) -> Result<Response<RemoveResponse>, Status> {
        let (containerd, facts) = (self.containerd().await?, self.facts().await?);
        let _turn = self.finishing.lock().await;
        Ok(Response::new(removal::remove(containerd, facts, request.get_ref()).await?))
    }

    async fn hold(&self, request: Request<HoldRequest>) -> Result<Response<HoldResponse>, Status> {
        let (containerd, facts) = (self.containerd().await?, self.facts().await?);
        let mut lease = self.lease.lock().await;
        let taken = match lease.take() {
            Some(lease) => lease,
            None => Lease::take(containerd).await?,
        };
        let damaged = request.get_ref().drop.clone();
        let answer = lease.insert(taken).hold(facts.snapshotter(), request.into_inner()).await?;
        // The lease must be held first: otherwise, deleting a damaged manifest would also remove what it refers to.
        repair::drop(containerd, facts, &damaged).await?;
        Ok(Response::new(answer))
    }

    async fn write(&self, request: Request<Streaming<WriteRequest>>) -> Result<Response<WriteResponse>, Status> {
        let answer = match self.arriving.receive(request.into_inner()).await? {
            Some((header, parts)) => {
                let _writing = self.received.writing().await;
                write::write(&self.lease().await?.containerd, &self.received, &header, parts).await?
            }
            None => WriteResponse::default(),
        };
        Ok(Response::new(answer))
    }

    async fn finish(&self, request: Request<FinishRequest>) -> Result<Response<FinishResponse>, Status> {
        let (lease, facts) = (self.lease().await?, self.facts().await?);
        let _turn = self.finishing.lock().await;
        let answer = finish::finish(&lease, facts, request.get_ref()).await?;
        self.received.finished(request.get_ref().blobs.iter().map(|blob| &blob.digest));
        Ok(Response::new(answer))
    }

    async fn release(&self, _: Request<ReleaseRequest>) -> Result<Response<ReleaseResponse>, Status> {
        self.give_back().await?;
        Ok(Response::new(ReleaseResponse {}))
    }
}
