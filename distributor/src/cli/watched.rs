//! The display of a push that is watched: a line on stderr for each event, as in a log.

use std::time::Duration;

use crate::cli::progress;
use crate::push::report;
use crate::runtime::Event;
use crate::watch::{NodePush, PushReason, WatchEvent};

/// Prints an event, if it is worth a line.
pub(super) fn notify(event: &WatchEvent<'_>) {
    if let Some(line) = line(event) {
        vcterminal::say(line);
    }
}

fn line(event: &WatchEvent<'_>) -> Option<String> {
    Some(match event {
        WatchEvent::Begins(_, PushReason::Check) | WatchEvent::Push(_, Event::Ended { .. }) => return None,
        WatchEvent::Begins(node, why) => format!("{}: {}", node.name, begins(*why)),
        WatchEvent::Waits(node) => format!("{}: not Ready; waiting until it is", node.name),
        WatchEvent::Push(node, event) => format!("{}: {}", node.name, progress::describe(*event)?),
        WatchEvent::Ended(served, why, rest) => {
            format!("{}: {}", served.outcome.node.name, ended(served, *why, *rest)?)
        }
        WatchEvent::Left(node) => format!("{node}: gone"),
        WatchEvent::ApiError(error) => format!("watching the cluster's nodes: {error}; asking again"),
    })
}

fn begins(why: PushReason) -> &'static str {
    match why {
        PushReason::Joined => "there; pushing",
        PushReason::Ready => "has become Ready; pushing",
        PushReason::Moved => "has another address; pushing",
        PushReason::Lost => "has lost an image; pushing",
        PushReason::Retry => "trying again",
        PushReason::Check => "looking again",
    }
}

fn ended(served: &NodePush, why: PushReason, rest: Option<Duration>) -> Option<String> {
    let (outcome, done) = (&served.outcome, served.was_done());
    Some(match &outcome.error {
        Some(error) => {
            let again = rest.map(|rest| format!("; trying again in {} s", rest.as_secs())).unwrap_or_default();
            format!("{}{again}", report::one_line(error))
        }
        None if done && why == PushReason::Check => return None,
        None if done => "has everything".to_owned(),
        None => {
            let (bytes, time) = (vcterminal::bytes(outcome.bytes_sent), vcterminal::duration(outcome.elapsed));
            format!("done: {} blobs, {bytes} in {time}", outcome.blobs_sent)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::{Machine, Node, Reach};
    use crate::push::Outcome;
    use crate::push::report::{NodeReport, NodeResult};
    use crate::runtime::Error;

    #[test]
    fn each_thing_that_happens_has_a_line_and_a_look_that_finds_nothing_has_none() {
        let node = Node {
            name: "w1".into(),
            reach: Reach::Local,
            ready: None,
            machine: Machine::default(),
            architecture: None,
            runtime: None,
        };
        let served = |result: NodeResult, error: Option<Error>| {
            let outcome = Outcome {
                node: node.clone(),
                planned: None,
                via: None,
                blobs_sent: 3,
                bytes_sent: 4_000,
                elapsed: Duration::from_millis(1500),
                error,
            };
            NodePush { report: NodeReport { result, ..NodeReport::new(&outcome) }, outcome }
        };
        let (pushed, same) = (served(NodeResult::Pushed, None), served(NodeResult::UpToDate, None));
        let said = |event: WatchEvent<'_>| line(&event).unwrap_or_default();
        assert_eq!(said(WatchEvent::Begins(&node, PushReason::Joined)), "w1: there; pushing");
        assert_eq!(said(WatchEvent::Begins(&node, PushReason::Check)), "");
        assert_eq!(said(WatchEvent::Waits(&node)), "w1: not Ready; waiting until it is");
        assert_eq!(said(WatchEvent::Push(&node, Event::Ended { succeeded: true })), "");
        assert_eq!(said(WatchEvent::Ended(&pushed, PushReason::Check, None)), "w1: done: 3 blobs, 4.00 kB in 1.50 s");
        assert_eq!(said(WatchEvent::Ended(&same, PushReason::Check, None)), "");
        assert_eq!(said(WatchEvent::Ended(&same, PushReason::Joined, None)), "w1: has everything");
        let failed = served(NodeResult::Failed, Some(Error::Interrupted));
        assert_eq!(said(WatchEvent::Ended(&failed, PushReason::Joined, None)), "w1: stopped before all was done");
        let again = said(WatchEvent::Ended(&failed, PushReason::Joined, Some(Duration::from_secs(15))));
        assert_eq!(again, "w1: stopped before all was done; trying again in 15 s");
        assert_eq!(said(WatchEvent::Left("w1")), "w1: gone");
    }
}
