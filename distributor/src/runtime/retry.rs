//! Retries with pauses that grow, and cancellation.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Error;

/// The pause before the first retry; each further pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Runs `work` to its end, or drops it when `cancel` is cancelled.
pub(crate) async fn until_cancelled<T>(
    cancel: &CancellationToken,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::select! {
        result = work => result,
        () = cancel.cancelled() => Err(Error::Interrupted),
    }
}

/// Runs `work` on a node, and again up to `retries` times after transient errors.
pub(crate) async fn with_retries<T, W>(node: &str, retries: u32, work: impl Fn() -> W) -> Result<T, Error>
where
    W: Future<Output = Result<T, Error>>,
{
    let mut attempts = 0;
    loop {
        let why = match work().await {
            Err(why) if attempts < retries && why.is_transient(false) => why,
            ended => return ended,
        };
        let pause = pause(node, attempts);
        if attempts == 0 {
            tracing::warn!("{node}: {}; trying again, {retries} times at most", why.transient_cause());
        }
        tokio::time::sleep(pause).await;
        attempts += 1;
    }
}

/// Returns the pause after this number of failed attempts. It differs between nodes, so that nodes which failed at the
/// same time are not retried at the same time.
pub(crate) fn pause(node: &str, attempts: u32) -> Duration {
    let mut hasher = DefaultHasher::new();
    node.hash(&mut hasher);
    let spread = Duration::from_millis(hasher.finish() % 500);
    FIRST_PAUSE.saturating_mul(1 << attempts.min(16)).min(LONGEST_PAUSE) + spread
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{session, transport};

    #[tokio::test]
    async fn a_node_is_asked_again_as_often_as_is_said_and_not_where_that_cannot_help() {
        let asked = std::cell::Cell::new(0);
        let ask = async |retries: u32, fails: u32, error: fn() -> transport::Error| {
            asked.set(0);
            let work = || async {
                asked.set(asked.get() + 1);
                let fails = asked.get() <= fails;
                if fails { Err(Error::from(session::Error::Transport(error()))) } else { Ok(()) }
            };
            (with_retries("w1", retries, work).await.is_ok(), asked.get())
        };
        let lost = || transport::Error::Lost { host: "w1".into(), message: "words".into() };
        let denied = || transport::Error::Denied { destination: "w1".into(), message: "words".into() };
        assert_eq!(ask(1, 1, lost).await, (true, 2));
        assert_eq!(ask(0, 9, lost).await, (false, 1));
        assert_eq!(ask(3, 9, denied).await, (false, 1));
    }

    #[test]
    fn pauses_grow_to_a_bound_and_differ_between_nodes() {
        let whole = |attempts| pause("w1", attempts).as_secs();
        assert_eq!([0, 1, 2, 3, 4, 5, 60].map(whole), [1, 2, 4, 8, 16, 30, 30]);
        assert_ne!(pause("w1", 0), pause("w2", 0));
    }
}
