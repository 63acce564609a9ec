//! The connections that carry the blobs of a push to one node: one at first, more while they pay off. On a long or
//! lossy link, TCP and SSH limit how many bytes one connection has in flight, so several connections are faster.

use std::convert::Infallible;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tonic::transport::Channel;

use super::SentCounter;
use crate::protocol::{CHUNK, WINDOW};
use crate::runtime::Error;
use crate::session::{Binary, Session};
use crate::transport::Transport;

/// The default maximum of connections of a push to all nodes that it serves at once.
const IN_ALL: usize = 8;

/// The default maximum of connections to one node.
const TO_ONE: usize = 4;

/// How many bytes of a blob a connection accepts before any of them has arrived.
const TAKES: u64 = WINDOW as u64 + 2 * CHUNK as u64;

/// How often the pool checks whether another connection pays off.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The minimum duration of the remaining transfer, at the present rate, for each further connection to pay off: a login
/// costs some round trips, and CPU time at both ends.
const PAYS_FROM: Duration = Duration::from_secs(3);

/// The default limit of connections to each node. Nodes that are served at once share the link that several connections would
/// fill.
pub(crate) fn connections_per_node(nodes_at_once: usize) -> usize {
    (IN_ALL / nodes_at_once.max(1)).clamp(1, TO_ONE)
}

/// The session that the pool belongs to, and how further connections reach it.
#[derive(Clone, Copy)]
pub(crate) struct PoolTarget<'a> {
    pub(crate) session: &'a Session,
    pub(crate) transport: &'a dyn Transport,
    pub(crate) binary: &'a Binary,
    /// The limit of connections, the first included.
    pub(crate) most: usize,
}

/// The open connections.
pub(crate) struct ConnectionPool(watch::Sender<Vec<Channel>>);

impl ConnectionPool {
    /// Creates a pool of the session's own connection.
    pub(crate) fn new(session: &Session) -> Self {
        Self(watch::Sender::new(vec![session.channel()]))
    }

    /// Yields the connections one after another: those that are open, and those that will be opened.
    pub(crate) fn one_by_one(&self) -> ConnectionCursor {
        ConnectionCursor { open: self.0.subscribe(), given: 0 }
    }

    /// Opens further connections while they pay off, with `bytes` left to send. Dropping the future closes them.
    pub(crate) async fn widen(&self, target: PoolTarget<'_>, bytes: u64, sent: &SentCounter) -> Infallible {
        let mut further = Vec::new();
        if let Err(error) = self.open(target, bytes, sent, &mut further).await {
            tracing::debug!("no further connection to {}: {error}", target.transport.destination());
        }
        std::future::pending().await
    }

    async fn open(
        &self,
        target: PoolTarget<'_>,
        bytes: u64,
        sent: &SentCounter,
        further: &mut Vec<Session>,
    ) -> Result<(), Error> {
        let last = sent.bytes() + bytes;
        // Bytes that new connections have accepted before any of them arrived say nothing about the link.
        let (mut since, mut before) = (Instant::now(), sent.bytes() + TAKES);
        while 1 + further.len() < target.most && !sent.is_limited() {
            sleep(LOOK_EVERY).await;
            let now = sent.bytes();
            let left = last.saturating_sub(now) + TAKES * (1 + further.len() as u64);
            let more = pay(now.saturating_sub(before), since.elapsed(), left).min(target.most - 1 - further.len());
            if more == 0 {
                continue;
            }
            let mut joining: FuturesUnordered<_> = (0..more).map(|_| self.join(target)).collect();
            while let Some(joined) = joining.next().await {
                let Some(session) = joined? else { return Ok(()) };
                self.0.send_modify(|open| open.push(session.channel()));
                further.push(session);
                tracing::info!("another connection to {}", target.transport.destination());
            }
            (since, before) = (Instant::now(), sent.bytes() + TAKES * more as u64);
        }
        Ok(())
    }

    /// Opens another connection. Returns `None` if the transport supports only one.
    async fn join(&self, target: PoolTarget<'_>) -> Result<Option<Session>, Error> {
        let Some(transport) = target.transport.apart() else { return Ok(None) };
        let offer = target.session.offer().await?;
        Ok(Some(target.session.join(&offer, transport.as_ref(), target.binary).await?))
    }
}

/// Returns how many further connections pay off if `went` bytes were sent in the time `within` and `left` bytes remain.
/// If none were sent, another connection would not help.
fn pay(went: u64, within: Duration, left: u64) -> usize {
    if went == 0 {
        return 0;
    }
    let milliseconds = u128::from(left) * within.as_millis() / u128::from(went);
    usize::try_from(milliseconds / PAYS_FROM.as_millis()).unwrap_or(usize::MAX)
}

/// Yields connections one after another.
pub(crate) struct ConnectionCursor {
    open: watch::Receiver<Vec<Channel>>,
    given: usize,
}

impl ConnectionCursor {
    /// Returns the next connection, once it is open.
    pub(crate) async fn next(&mut self) -> Channel {
        let given = self.given;
        let next = self.open.wait_for(|open| open.len() > given).await.ok().and_then(|open| open.get(given).cloned());
        match next {
            Some(channel) => {
                self.given += 1;
                channel
            }
            // No further connection will be opened.
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{connections_per_node, pay};

    #[test]
    fn connections_pay_where_much_is_left_and_some_flows() {
        let pay = |went, left| pay(went, Duration::from_secs(2), left);
        assert_eq!([0, 299_999, 300_000, 1_000_000].map(|left| pay(200_000, left)), [0, 0, 1, 3]);
        assert_eq!(pay(200_000_000, 200_000_000), 0);
        assert_eq!(pay(0, 1_000_000), 0, "a link that is down");
        assert_eq!(pay(u64::MAX, u64::MAX), 0);
    }

    #[test]
    fn many_nodes_have_one_connection_each() {
        assert_eq!([0, 1, 2, 3, 4, 7, 8, 9, 100].map(connections_per_node), [4, 4, 4, 2, 2, 1, 1, 1, 1]);
    }
}
