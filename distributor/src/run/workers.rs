//! Waits until the nodes of a push are there and Ready. Uses [`crate::cluster`] and [`crate::nodes`].

use std::future::Future;
use std::time::{Duration, Instant};

use miette::Diagnostic;
use thiserror::Error;

use crate::nodes::{self, Node};

/// The interval at which the nodes are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// How long to wait, and what then.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Patience {
    /// For how long there may be no worker.
    pub until_found: Duration,
    /// For how long a worker may not be Ready.
    pub until_ready: Duration,
    /// Whether it is an error if a worker is not Ready by then.
    pub must_be_ready: bool,
}

/// Why the nodes are not to be used.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum Error {
    /// There are none, or the API does not tell.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Nodes(#[from] nodes::Error),

    /// Some do not get Ready.
    #[error("waiting for the workers: {} not Ready after {}", names.join(", "), vcterminal::duration(*after))]
    #[diagnostic(help("see `kubectl describe node NAME`; wait longer, or leave the node out with --exclude"))]
    NotReady {
        /// The nodes.
        names: Vec<String>,
        /// After how long.
        after: Duration,
    },
}

/// Finds the nodes by `find`, again and again until there are some and all are Ready, as long as `patience` lasts.
///
/// # Errors
/// When there are none, or some are not Ready and must be.
pub async fn wait<F>(find: impl Fn() -> F, patience: Patience) -> Result<Vec<Node>, Error>
where
    F: Future<Output = Result<Vec<Node>, nodes::Error>>,
{
    let begun = Instant::now();
    let mut is_said = false;
    loop {
        let unready = match find().await {
            Err(nodes::Error::NoWorker { .. }) if begun.elapsed() < patience.until_found => None,
            Err(error) => return Err(error.into()),
            Ok(nodes) => {
                let unready = nodes.iter().filter(|node| node.ready == Some(false));
                let unready: Vec<String> = unready.map(|node| node.name.clone()).collect();
                let is_over = begun.elapsed() >= patience.until_ready;
                if is_over && patience.must_be_ready && !unready.is_empty() {
                    return Err(Error::NotReady { names: unready, after: patience.until_ready });
                }
                if unready.is_empty() || is_over {
                    return Ok(nodes);
                }
                Some(unready)
            }
        };
        if !std::mem::replace(&mut is_said, true) {
            vcterminal::say(match unready {
                Some(names) => format!("waiting until {} are Ready", names.join(", ")),
                None => "waiting for workers: the cluster has none yet".to_owned(),
            });
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use super::{Error, Patience, wait};
    use crate::nodes::{self, Machine, Node, Reach};

    fn node(ready: bool) -> Node {
        Node {
            name: "w".to_owned(),
            reach: Reach::Local,
            ready: Some(ready),
            machine: Machine::default(),
            architecture: None,
            runtime: None,
        }
    }

    #[tokio::test]
    async fn workers_are_waited_for_until_they_are_there_and_ready_or_patience_ends() {
        let looks = Cell::new(0);
        let find = || {
            looks.set(looks.get() + 1);
            let at = looks.get();
            async move { if at == 1 { Err(nodes::Error::NoWorker { selector: None }) } else { Ok(vec![node(at == 3)]) } }
        };
        let long = Duration::from_secs(600);
        let patience = Patience { until_found: long, until_ready: long, must_be_ready: true };
        assert_eq!(wait(find, patience).await.expect("nodes").len(), 1);
        assert_eq!(looks.get(), 3);

        let unready = || async { Ok(vec![node(false)]) };
        assert_eq!(wait(unready, Patience::default()).await.expect("it is not fatal").len(), 1);
        let strict = Patience { must_be_ready: true, ..Patience::default() };
        assert!(matches!(wait(unready, strict).await, Err(Error::NotReady { .. })));
        let none = || async { Err(nodes::Error::NoWorker { selector: None }) };
        assert!(matches!(wait(none, Patience::default()).await, Err(Error::Nodes(_))));
    }
}
