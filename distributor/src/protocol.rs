//! The protocol between vcdist and its helper on a node: gRPC over the one byte stream of a transport. Both ends are the same
//! program, so this module holds what they must agree on. Uses nothing of this crate.

use std::io;

use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status};

/// What both ends say, generated from `proto/helper.proto`, `proto/relay.proto` and `proto/connections.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
pub(crate) mod proto {
    tonic::include_proto!("vcdist.helper.v1");
}

/// The part of the Kubernetes Container Runtime Interface the helper uses, generated from `proto/cri.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
pub(crate) mod cri {
    tonic::include_proto!("runtime.v1");
}

/// The version of the protocol. The helper is placed by content hash, so a difference means a node that runs something
/// else under its name.
pub(crate) const VERSION: u32 = 6;

/// Starts every line that is meant for us among whatever a login shell prints first.
pub(crate) const MARK: &str = "::vcdist:";

/// Blob bytes a message carries at most: enough to make framing free, and little enough that many nodes at once cost
/// little memory.
pub(crate) const CHUNK: usize = 256 << 10;

/// What may be under way of a blob over one connection before the node has answered, in bytes: HTTP/2's flow control window.
/// As much as half of what SSH allows, so that two blobs use all of that, and no more: what waits at the sender can still go
/// over another connection.
pub(crate) const WINDOW: u32 = 1 << 20;

/// How often an end asks whether the other is there, in seconds.
pub(crate) const KEEP_ALIVE_SECONDS: u64 = 30;

/// How long an end waits for that answer, in seconds: on a slow link it queues behind megabytes of blob.
pub(crate) const KEEP_ALIVE_TIMEOUT_SECONDS: u64 = 120;

/// Starts the client's side on `stream`.
///
/// # Errors
/// When the other side does not speak HTTP/2.
pub(crate) async fn connect<S>(stream: S) -> Result<Channel, tonic::transport::Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut stream = Some(TokioIo::new(stream));
    // There is one stream: a second attempt to connect is a connection that broke.
    let connector = tower::service_fn(move |_: Uri| {
        let stream = stream.take();
        async move { stream.ok_or_else(|| io::Error::other("the connection to the node is gone")) }
    });
    Endpoint::from_static("http://helper")
        .http2_keep_alive_interval(std::time::Duration::from_secs(KEEP_ALIVE_SECONDS))
        .keep_alive_timeout(std::time::Duration::from_secs(KEEP_ALIVE_TIMEOUT_SECONDS))
        .connect_with_connector(connector)
        .await
}

/// A status that carries what to do about it.
pub(crate) fn failure(code: Code, message: impl Into<String>, help: impl Into<String>) -> Status {
    with_details(code, message, &proto::Failure { help: help.into(), ..Default::default() })
}

/// A status that says: what was there of this blob was bad and is gone, send it again from its start.
pub(crate) fn retry_from_start(message: impl Into<String>) -> Status {
    with_details(Code::DataLoss, message, &proto::Failure { retry_from_start: true, ..Default::default() })
}

/// A status for a node without containerd, with help.
pub(crate) fn no_containerd(message: impl Into<String>, help: impl Into<String>) -> Status {
    let failure = proto::Failure { help: help.into(), no_containerd: true, ..Default::default() };
    with_details(Code::Unavailable, message, &failure)
}

/// What [`failure`] and [`retry_from_start`] put into a status; nothing for any other status.
pub(crate) fn details(status: &Status) -> Option<proto::Failure> {
    (!status.details().is_empty()).then(|| proto::Failure::decode(status.details()).ok()).flatten()
}

fn with_details(code: Code, message: impl Into<String>, failure: &proto::Failure) -> Status {
    Status::with_details(code, message, failure.encode_to_vec().into())
}
