//! The connections over which the blobs of a push go to one place: one at first, further ones while they pay. A connection on
//! a long or lossy link carries what TCP and SSH let be under way on it, and several carry as many times that.

use std::convert::Infallible;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tonic::transport::Channel;

use crate::push::Error;
use crate::session::{Binary, Session};
use crate::transfer::Sent;
use crate::transport::Transport;

/// How many connections a push opens by itself, to all nodes that are under way at once.
const IN_ALL: usize = 8;

/// How many to one node.
const TO_ONE: usize = 4;

/// How long what flows is watched before another connection is thought of.
const LOOK_FOR: Duration = Duration::from_secs(1);

/// How long what is left must take at the present rate for another connection to pay: a login takes some round trips and
/// some time of the processors at both ends.
const PAYS_FROM: Duration = Duration::from_secs(3);

/// How many connections may go to each node, if nobody says otherwise. Nodes that are served at once share the link that
/// several connections would fill.
pub(crate) fn most(nodes_at_once: usize) -> usize {
    (IN_ALL / nodes_at_once.max(1)).clamp(1, TO_ONE)
}

/// How a session is reached once more.
#[derive(Clone, Copy)]
pub(crate) struct Way<'a> {
    pub(crate) session: &'a Session,
    pub(crate) transport: &'a dyn Transport,
    pub(crate) binary: &'a Binary,
    /// How many connections it may have, the first among them.
    pub(crate) most: usize,
}

/// The connections that are open.
pub(crate) struct Lines(watch::Sender<Vec<Channel>>);

impl Lines {
    /// The session's own.
    pub(crate) fn new(session: &Session) -> Self {
        Self(watch::Sender::new(vec![session.channel()]))
    }

    /// Gives the connections one after another, those that are open and those that will be.
    pub(crate) fn one_by_one(&self) -> OneByOne {
        OneByOne { open: self.0.subscribe(), given: 0 }
    }

    /// Opens further ones while they pay, with `bytes` to be sent as of now. They are closed when this is dropped.
    pub(crate) async fn widen(&self, way: Way<'_>, bytes: u64, sent: &Sent) -> Infallible {
        let last = sent.bytes() + bytes;
        let mut further = Vec::new();
        while 1 + further.len() < way.most && !sent.is_limited() {
            let before = sent.bytes();
            sleep(LOOK_FOR).await;
            let now = sent.bytes();
            if !pays(now - before, last.saturating_sub(now)) {
                continue;
            }
            let session = match self.join(way).await {
                Ok(Some(session)) => session,
                Ok(None) => break,
                Err(error) => {
                    tracing::debug!("no further connection to {}: {error}", way.transport.destination());
                    break;
                }
            };
            tracing::info!("connection {} to {}", 2 + further.len(), way.transport.destination());
            self.0.send_modify(|open| open.push(session.channel()));
            further.push(session);
        }
        std::future::pending().await
    }

    async fn join(&self, way: Way<'_>) -> Result<Option<Session>, Error> {
        let Some(transport) = way.transport.apart() else { return Ok(None) };
        let name = way.session.offer().await?;
        Ok(Some(way.session.join(&name, transport.as_ref(), way.binary).await?))
    }
}

/// Whether another connection pays where so many bytes went in [`LOOK_FOR`] and so many are left. Where none went, no more
/// would over another.
fn pays(went: u64, left: u64) -> bool {
    went > 0 && u128::from(left) * LOOK_FOR.as_millis() > u128::from(went) * PAYS_FROM.as_millis()
}

/// Connections one after another.
pub(crate) struct OneByOne {
    open: watch::Receiver<Vec<Channel>>,
    given: usize,
}

impl OneByOne {
    /// The next one, once it is open.
    pub(crate) async fn next(&mut self) -> Channel {
        let given = self.given;
        let next = self.open.wait_for(|open| open.len() > given).await.ok().and_then(|open| open.get(given).cloned());
        match next {
            Some(channel) => {
                self.given += 1;
                channel
            }
            // Nobody opens any more.
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{most, pays};

    #[test]
    fn another_connection_pays_where_much_is_left_and_some_flows() {
        assert!(pays(100_000, 1_000_000));
        assert!(!pays(100_000, 300_000) && !pays(100_000_000, 200_000_000));
        assert!(!pays(0, 1_000_000), "a link that is down");
        assert!(pays(u64::MAX / 4, u64::MAX));
    }

    #[test]
    fn many_nodes_have_one_connection_each() {
        assert_eq!([0, 1, 2, 3, 4, 7, 8, 9, 100].map(most), [4, 4, 4, 2, 2, 1, 1, 1, 1]);
    }
}
