//! The protocol between vcdist and its helper on a node: gRPC over the single byte stream of a transport. Both ends are
//! the same program, so this module contains what they must agree on. Uses nothing else of this crate.

use std::io;

use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status};

/// The messages and services, generated from `proto/helper.proto`, `proto/relay.proto` and `proto/connections.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
pub(crate) mod proto {
    tonic::include_proto!("vcdist.helper.v1");
}

/// The part of the Kubernetes Container Runtime Interface that the helper uses, generated from `proto/cri.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
pub(crate) mod cri {
    tonic::include_proto!("runtime.v1");
}

/// The version of the protocol. The helper is placed by content hash, so a difference means that the node runs another
/// program under the helper's name.
pub(crate) const VERSION: u32 = 6;

/// The prefix of every line for vcdist, which distinguishes it from other output of a login shell.
pub(crate) const MARK: &str = "::vcdist:";

/// The maximum number of blob bytes in a message: large enough to make the framing overhead negligible, and small
/// enough that many concurrent nodes need little memory.
pub(crate) const CHUNK: usize = 256 << 10;

/// HTTP/2's flow control window in bytes: how much of a blob may be in flight over one connection. It is half of SSH's
/// window, so that two blobs use all of that, and no more, so that the data that waits at the sender can still use
/// another connection.
pub(crate) const WINDOW: u32 = 1 << 20;

/// The interval between keep-alive pings, in seconds.
pub(crate) const KEEP_ALIVE_SECONDS: u64 = 30;

/// The time limit for the answer to a ping, in seconds. On a slow link, the answer queues behind megabytes of blobs.
pub(crate) const KEEP_ALIVE_TIMEOUT_SECONDS: u64 = 120;

/// Starts the client's side on `stream`.
///
/// # Errors
/// Returns an error if the other side does not speak HTTP/2.
pub(crate) async fn connect<S>(stream: S) -> Result<Channel, tonic::transport::Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut stream = Some(TokioIo::new(stream));
    // There is only one stream: a second attempt to connect means that the connection broke.
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

/// Builds a status that contains a help text.
pub(crate) fn failure(code: Code, message: impl Into<String>, help: impl Into<String>) -> Status {
    with_details(code, message, &proto::Failure { help: help.into(), ..Default::default() })
}

/// Builds a status that means: the partial blob was damaged and has been deleted; send it again from the start.
pub(crate) fn retry_from_start(message: impl Into<String>) -> Status {
    with_details(Code::DataLoss, message, &proto::Failure { retry_from_start: true, ..Default::default() })
}

/// Builds a status that means: the node has no containerd. It contains a help text.
pub(crate) fn no_containerd(message: impl Into<String>, help: impl Into<String>) -> Status {
    let failure = proto::Failure { help: help.into(), no_containerd: true, ..Default::default() };
    with_details(Code::Unavailable, message, &failure)
}

/// Returns the details that [`failure`] and [`retry_from_start`] put into a status, or `None` for any other status.
pub(crate) fn details(status: &Status) -> Option<proto::Failure> {
    (!status.details().is_empty()).then(|| proto::Failure::decode(status.details()).ok()).flatten()
}

fn with_details(code: Code, message: impl Into<String>, failure: &proto::Failure) -> Status {
    Status::with_details(code, message, failure.encode_to_vec().into())
}
