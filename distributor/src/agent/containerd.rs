//! The client of the node's containerd. It finds the socket, and sends requests in one namespace and, if there is one,
//! under one lease.

use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::content_client::ContentClient;
use containerd_client::services::v1::diff_client::DiffClient;
use containerd_client::services::v1::images_client::ImagesClient;
use containerd_client::services::v1::introspection_client::IntrospectionClient;
use containerd_client::services::v1::leases_client::LeasesClient;
use containerd_client::services::v1::snapshots::snapshots_client::SnapshotsClient;
use containerd_client::services::v1::tasks_client::TasksClient;
use containerd_client::services::v1::version_client::VersionClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::protocol::cri::image_service_client::ImageServiceClient;
use crate::protocol::{cri, failure, no_containerd};

/// The sockets of containerd and of the distributions that bundle it.
pub(crate) const SOCKETS: [&str; 4] = [
    "/run/containerd/containerd.sock",
    "/run/k3s/containerd/containerd.sock",
    "/run/k0s/containerd.sock",
    "/var/snap/microk8s/common/run/containerd.sock",
];

/// Docker's own socket.
const DOCKER: &str = "/run/docker.sock";

/// A connection to containerd. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Containerd {
    channel: Channel,
    headers: Headers,
    address: Utf8PathBuf,
}

/// The metadata of requests to containerd: the namespace, and the lease that holds the content that a request creates.
#[derive(Debug, Clone)]
pub(super) struct Headers {
    namespace: MetadataValue<Ascii>,
    lease: Option<MetadataValue<Ascii>>,
}

/// The time limit for an answer of the CRI. A containerd whose CRI is slower serves no kubelet.
const CRI_ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// The maximum size of a response of containerd, in bytes.
const LONGEST_ANSWER: usize = 16 << 20;

/// The help text if no containerd answers.
const CHECK: &str =
    "check that containerd runs there, and name its socket with --containerd-address if it is elsewhere";

type Client = InterceptedService<Channel, Headers>;

impl Containerd {
    /// Connects to the socket at `address`, or else to the first known socket that answers.
    pub(super) async fn connect(address: Option<&Utf8Path>, namespace: &str) -> Result<Self, Status> {
        let namespace = namespace
            .parse()
            .map_err(|_| Status::invalid_argument(format!("{namespace:?} cannot be a namespace of containerd")))?;
        let headers = Headers { namespace, lease: None };
        let candidates: Vec<&Utf8Path> = match address {
            Some(address) => vec![address],
            None => SOCKETS.iter().map(Utf8Path::new).filter(|socket| socket.exists()).collect(),
        };
        let mut said = String::new();
        let mut answering = Vec::new();
        for address in &candidates {
            match containerd_client::connect(address).await {
                Ok(channel) => {
                    answering.push(Self { channel, headers: headers.clone(), address: address.to_path_buf() });
                }
                Err(error) => said = format!("connecting to containerd at {address}: {}", innermost(&error)),
            }
        }
        // If several answer, one may be Docker's containerd, which the kubelet does not use: its CRI is disabled.
        if answering.len() > 1 {
            for one in &answering {
                let mut client = one.cri_images();
                let asked = client.image_fs_info(cri::ImageFsInfoRequest {});
                if matches!(tokio::time::timeout(CRI_ANSWERS_WITHIN, asked).await, Ok(Ok(_))) {
                    return Ok(one.clone());
                }
            }
            let known: Vec<_> = answering.iter().map(|one| one.address.as_str()).collect();
            return Err(failure(
                Code::Unavailable,
                format!("choosing among the containerds at {}: none of them serves Kubernetes", known.join(", ")),
                "name the socket of the kubelet's containerd with --containerd-address",
            ));
        }
        if let Some(only) = answering.pop() {
            if address.is_none() && only.is_dockers().await {
                let said = format!("the containerd at {} is Docker's, and serves no Kubernetes", only.address);
                return Err(no_containerd(said, "name the kubelet's containerd with --containerd-address"));
            }
            return Ok(only);
        }
        if candidates.is_empty() {
            let said = format!("no containerd on this node: none of {} exists", SOCKETS.join(", "));
            return Err(no_containerd(said, CHECK));
        }
        Err(failure(Code::Unavailable, said, CHECK))
    }

    /// Whether Docker is present and this containerd has no CRI that a kubelet could use.
    async fn is_dockers(&self) -> bool {
        let mut client = self.cri_images();
        let asked = client.image_fs_info(cri::ImageFsInfoRequest {});
        let Ok(answer) = tokio::time::timeout(CRI_ANSWERS_WITHIN, asked).await else { return false };
        Utf8Path::new(DOCKER).exists() && answer.is_err_and(|status| status.code() == Code::Unimplemented)
    }

    /// Returns the same connection with `lease` set, which then holds everything that is created through it.
    pub(super) fn under(&self, lease: &str) -> Result<Self, Status> {
        let lease = lease.parse().map_err(|_| Status::internal("a lease needs a printable name"))?;
        let headers = Headers { lease: Some(lease), ..self.headers.clone() };
        Ok(Self { headers, ..self.clone() })
    }

    /// The socket in use.
    pub(super) fn address(&self) -> &Utf8Path {
        &self.address
    }

    pub(super) fn content(&self) -> ContentClient<Client> {
        ContentClient::with_interceptor(self.channel.clone(), self.headers.clone())
    }

    pub(super) fn images(&self) -> ImagesClient<Client> {
        ImagesClient::with_interceptor(self.channel.clone(), self.headers.clone())
            .max_decoding_message_size(LONGEST_ANSWER)
    }

    pub(super) fn snapshots(&self) -> SnapshotsClient<Client> {
        SnapshotsClient::with_interceptor(self.channel.clone(), self.headers.clone())
    }

    pub(super) fn diff(&self) -> DiffClient<Client> {
        DiffClient::with_interceptor(self.channel.clone(), self.headers.clone())
    }

    pub(super) fn leases(&self) -> LeasesClient<Client> {
        LeasesClient::with_interceptor(self.channel.clone(), self.headers.clone())
    }

    pub(super) fn containers(&self) -> ContainersClient<Client> {
        let client = ContainersClient::with_interceptor(self.channel.clone(), self.headers.clone());
        // Each container is listed with its whole specification: a few hundred exceed gRPC's default limit.
        client.max_decoding_message_size(LONGEST_ANSWER)
    }

    pub(super) fn tasks(&self) -> TasksClient<Client> {
        TasksClient::with_interceptor(self.channel.clone(), self.headers.clone())
    }

    pub(super) fn introspection(&self) -> IntrospectionClient<Client> {
        IntrospectionClient::with_interceptor(self.channel.clone(), self.headers.clone())
    }

    pub(super) fn version(&self) -> VersionClient<Channel> {
        VersionClient::new(self.channel.clone())
    }

    /// Returns a client of the CRI that the kubelet uses, which containerd serves on the same socket.
    pub(super) fn cri_images(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(self.channel.clone())
    }
}

impl Interceptor for Headers {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("containerd-namespace", self.namespace.clone());
        if let Some(lease) = &self.lease {
            request.metadata_mut().insert("containerd-lease", lease.clone());
        }
        Ok(request)
    }
}

/// Returns a function that prefixes containerd's message with what was attempted, and adds a help text for the errors
/// that an operator can correct.
pub(super) fn refused(attempt: impl std::fmt::Display) -> impl FnOnce(Status) -> Status {
    move |status| {
        let message = format!("{attempt}: {}", status.message());
        let help = match status.message() {
            message if message.contains("no space left on device") => {
                "the node's disk is full: free space where containerd keeps its content (usually /var/lib/containerd), \
                 then push again; what has arrived is kept and not sent twice"
            }
            message if message.contains("read-only file system") => {
                "the file system under containerd is read-only: look at the node's kernel log"
            }
            _ => "see containerd's log on the node (`journalctl -u containerd`)",
        };
        // A connection that broke carries its cause; a status that containerd returned carries none.
        let broke = std::error::Error::source(&status).is_some();
        failure(if broke { Code::Unavailable } else { status.code() }, message, help)
    }
}

/// Turns a "not found" status into `None`.
pub(super) fn found<T>(result: Result<T, Status>) -> Result<Option<T>, Status> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(status),
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
