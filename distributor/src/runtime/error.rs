//! The errors of work on a node, and whether a retry may help.

use std::io;

use camino::Utf8PathBuf;
use miette::Diagnostic;
use thiserror::Error;
use vcstore::Digest;

use super::{ATTEMPTS, ctr, engine, script};
use crate::images::plan;
use crate::protocol;
use crate::session;
use crate::transport;

/// Why work on a node failed.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum Error {
    /// The node's runtime is not supported.
    #[error("its container runtime is {name} {version}, and images are pushed to containerd, Docker and CRI-O only")]
    #[diagnostic(help("leave the node out (--exclude, --selector), or give it one of these"))]
    Runtime {
        /// Its name.
        name: String,
        /// Its version.
        version: String,
    },
    /// The helper could not be started.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Session(#[from] session::Error),
    /// The node's `ctr` failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Ctr(#[from] ctr::Error),
    /// Docker or CRI-O failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Engine(#[from] engine::Error),
    /// No plan could be made, or the node has too little space for it.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Plan(plan::Error),
    /// The helper reports a failure.
    #[error("{message}")]
    #[diagnostic(help("{help}"))]
    Helper {
        /// The helper's message.
        message: String,
        /// What the operator can do.
        help: String,
        /// Whether another attempt can succeed.
        retry: RetryHint,
    },
    /// The connection to the helper failed.
    #[error("speaking to the helper: {}", .0.message())]
    #[diagnostic(help("try again; what a push has sent is kept and not sent twice"))]
    Connection(Box<tonic::Status>),
    /// The node did not answer in time.
    #[error("the node did not give {what} in time")]
    #[diagnostic(help("see on the node whether containerd answers (`ctr version`), then push again"))]
    Slow {
        /// What was waited for.
        what: &'static str,
    },
    /// The node lost content after each inventory.
    #[error("the node lost blobs between inventory and lease, {ATTEMPTS} times over")]
    #[diagnostic(help("something removes content there: see `journalctl -u containerd -u kubelet` on the node"))]
    Unsteady,
    /// The node changed before each removal.
    #[error("what runs on the node, or its images, changed between question and removal, {times} times over")]
    #[diagnostic(help("prune again when the node has come to rest: nothing was removed"))]
    Changing {
        /// How many times it was queried.
        times: usize,
    },
    /// The operator stopped the command.
    #[error("stopped before all was done")]
    #[diagnostic(help("try again; what a push has sent is kept and not sent twice"))]
    Interrupted,
    /// The store failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Store(Box<vcstore::Error>),
    /// A blob of the store is missing or damaged.
    #[error("reading blob {digest} of the store {store}")]
    #[diagnostic(help(
        "nothing of it stands on the node; build or import the image again (`vcbuild images`), then push"
    ))]
    Blob {
        /// The blob.
        digest: Digest,
        /// The store.
        store: Utf8PathBuf,
        /// Why it cannot be sent.
        #[source]
        source: io::Error,
    },
    /// The thread that reads a blob failed.
    #[error("reading a blob of the store")]
    Reader(#[source] io::Error),
}

/// Whether a request that failed in the helper can succeed later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryHint {
    /// No, unless somebody changes something.
    No,
    /// Yes, at once and from the start of the blob: the node has dropped a damaged part.
    FromStart,
    /// Yes, a little later: containerd was not reachable.
    Later,
    /// Not with containerd: the node has none. It may have another runtime.
    OtherRuntime,
}

impl Error {
    pub(crate) fn slow(what: &'static str) -> Self {
        Self::Slow { what }
    }

    /// The error of the transport, if the transport failed.
    fn of_the_way(&self) -> Option<&transport::Error> {
        match self {
            Self::Session(session::Error::Transport(error))
            | Self::Ctr(ctr::Error::Script(script::Error::Transport(error)))
            | Self::Engine(engine::Error::Script(script::Error::Transport(error))) => Some(error),
            _ => None,
        }
    }

    /// The error as a warning shows it. For a lost connection, only the message of the transport.
    pub(super) fn transient_cause(&self) -> String {
        match self.of_the_way() {
            Some(transport::Error::Lost { message, .. }) => message.clone(),
            _ => self.to_string(),
        }
    }

    /// Whether the failure is likely to pass soon. If the node never answered (`reached` is false), it more likely has
    /// another name or is switched off.
    pub(crate) fn is_transient(&self, reached: bool) -> bool {
        match (self, self.of_the_way()) {
            (Self::Connection(_), _) => true,
            (Self::Helper { retry, .. }, _) => reached && *retry == RetryHint::Later,
            // A host that refuses the connection is up, and its sshd may be starting.
            (
                _,
                Some(transport::Error::Lost { .. } | transport::Error::Hangs { .. } | transport::Error::Refused { .. }),
            ) => true,
            (_, Some(transport::Error::Unreachable { .. })) => reached,
            _ => false,
        }
    }
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        match protocol::details(&status) {
            Some(details) => Self::Helper {
                message: status.message().into(),
                help: details.help,
                retry: match status.code() {
                    _ if details.retry_from_start => RetryHint::FromStart,
                    _ if details.no_containerd => RetryHint::OtherRuntime,
                    tonic::Code::Unavailable => RetryHint::Later,
                    _ => RetryHint::No,
                },
            },
            None => Self::Connection(Box::new(status)),
        }
    }
}

impl From<vcstore::Error> for Error {
    fn from(error: vcstore::Error) -> Self {
        Self::Store(Box::new(error))
    }
}

impl From<plan::Error> for Error {
    fn from(error: plan::Error) -> Self {
        Self::Plan(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_broke_is_tried_again_and_what_was_never_there_is_not() {
        let transport = |error| Error::from(session::Error::Transport(error));
        let (host, message) = (|| "w1".to_owned(), || "words".to_owned());
        let lost = transport(transport::Error::Lost { host: host(), message: message() });
        let in_script = script::Error::Transport(transport::Error::Lost { host: host(), message: message() });
        let of_engine = Error::from(engine::Error::Script(in_script));
        let refused = transport(transport::Error::Refused { host: host(), message: message() });
        let denied = transport(transport::Error::Denied { destination: host(), message: message() });
        let away = Error::Helper { message: message(), help: message(), retry: RetryHint::Later };
        let is_transient = |error: &Error| (error.is_transient(false), error.is_transient(true));
        assert_eq!(is_transient(&lost), (true, true));
        assert_eq!(is_transient(&of_engine), (true, true));
        assert_eq!(is_transient(&refused), (true, true));
        let silent = transport(transport::Error::Unreachable { host: host(), message: message() });
        assert_eq!(is_transient(&silent), (false, true));
        assert_eq!(is_transient(&away), (false, true));
        assert_eq!(is_transient(&denied), (false, false));
    }
}
