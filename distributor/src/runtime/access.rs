//! Chooses the runtime implementation for a node.

use tokio_util::sync::CancellationToken;

use super::containerd::{self, Containerd};
use super::ctr::Ctr;
use super::engine::{Engine, EngineRuntime};
use super::{Error, Event, NodeRuntime, OnEvent, RetryHint, until_cancelled};
use crate::nodes::{Node, Runtime};
use crate::session::{self, Binary, Session, Settings};
use crate::transport::{self, Transport};

/// Whether nodes run the helper.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
pub enum UseHelper {
    /// Run vcdist on the node if possible, else use the node's ctr.
    #[default]
    Auto,
    /// Use the node's ctr.
    Never,
}

/// What is needed to work on a node.
#[derive(Clone, Copy)]
pub(crate) struct Access<'a> {
    pub(crate) transport: &'a dyn Transport,
    /// The program that becomes the helper.
    pub(crate) binary: &'a Binary,
    /// How containerd is found.
    pub(crate) settings: &'a Settings,
    pub(crate) helper: UseHelper,
    /// The maximum number of connections for blobs, the session's own included.
    pub(crate) connections: usize,
    pub(crate) cancel: &'a CancellationToken,
}

impl<'a> Access<'a> {
    /// The access for queries, which send no blobs: one connection, and the helper wherever it can run.
    pub(crate) fn for_questions(
        transport: &'a dyn Transport,
        binary: &'a Binary,
        settings: &'a Settings,
        cancel: &'a CancellationToken,
    ) -> Self {
        Self { transport, binary, settings, helper: UseHelper::Auto, connections: 1, cancel }
    }

    /// Chooses the runtime of `node`, and runs `work` on it:
    ///
    /// 1. Docker or CRI-O, if the API reports that the kubelet uses it.
    /// 2. containerd through `ctr`, if the helper is disabled or cannot run.
    /// 3. containerd through the helper.
    /// 4. Docker or CRI-O, if the helper finds no containerd and the node has one of them.
    ///
    /// Cancellation drops `work`. That ends the connection, and the node then cleans up by itself.
    pub(crate) async fn work_on<T>(
        self,
        node: &Node,
        on_event: OnEvent<'_>,
        mut work: impl AsyncFnMut(&dyn NodeRuntime) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let Self { transport, binary, settings, cancel, .. } = self;
        if let Some(engine) = declared_engine(node)? {
            return until_cancelled(cancel, work(&EngineRuntime { transport, engine })).await;
        }
        let ctr = Ctr { transport, settings };
        if self.helper == UseHelper::Never {
            return until_cancelled(cancel, work(&ctr)).await;
        }
        let opening = async { Ok(Session::open(transport, binary, settings).await) };
        let session = match until_cancelled(cancel, opening).await? {
            Ok(session) => session,
            Err(why) if why.means_no_helper() => {
                on_event(Event::WithoutHelper { why: &why.to_string() });
                return until_cancelled(cancel, work(&ctr)).await;
            }
            Err(error) => return Err(error.into()),
        };
        let containerd = Containerd { session: &session, transport, binary, connections: self.connections };
        let result = until_cancelled(cancel, work(&containerd)).await;
        if matches!(result, Err(Error::Interrupted)) {
            // The helper releases its lease anyway when the connection ends; the explicit request makes sure that it
            // has done so before this function returns.
            if let Err(error) = containerd::release(&session.client()).await {
                tracing::debug!("{}: {error}", node.name);
            }
        }
        match (result, session.close().await) {
            (Err(why @ Error::Helper { retry: RetryHint::OtherRuntime, .. }), _) => {
                match until_cancelled(cancel, async { Ok(Engine::found(transport).await?) }).await? {
                    Some(engine) => until_cancelled(cancel, work(&EngineRuntime { transport, engine })).await,
                    None => Err(why),
                }
            }
            // The helper's client sees only that a broken connection is silent; ssh reports the cause.
            (Err(Error::Connection(_)), Err(ended)) => Err(session::Error::from(ended).into()),
            (result, Err(ended @ transport::Error::Command { .. })) if result.is_ok() => {
                tracing::debug!("{}: {ended}", node.name);
                result
            }
            (result, _) => result,
        }
    }
}

/// Checks that the runtime which the API reports for a node is supported.
pub(crate) fn check_supported(node: &Node) -> Result<(), Error> {
    declared_engine(node).map(drop)
}

/// Returns the engine that the API reports for a node, or `None` for containerd and for a node without a reported
/// runtime.
fn declared_engine(node: &Node) -> Result<Option<Engine>, Error> {
    match &node.runtime {
        Some(Runtime { name, version }) if name != "containerd" => {
            let unknown = || Error::Runtime { name: name.clone(), version: version.clone() };
            Engine::named(name).map(Some).ok_or_else(unknown)
        }
        _ => Ok(None),
    }
}
