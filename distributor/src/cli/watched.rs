//! What people see of a push that goes on: a line on stderr for each thing that happens, as a log has it.

use std::time::Duration;

use crate::cli::progress;
use crate::push::report;
use crate::runtime::Event;
use crate::watch::{Heard, Served, Why};

/// Says what was heard, where it is worth a line.
pub(super) fn tell(heard: &Heard<'_>) {
    if let Some(line) = line(heard) {
        vcterminal::say(line);
    }
}

fn line(heard: &Heard<'_>) -> Option<String> {
    Some(match heard {
        Heard::Begins(_, Why::Check) | Heard::Push(_, Event::Ended { .. }) => return None,
        Heard::Begins(node, why) => format!("{}: {}", node.name, begins(*why)),
        Heard::Waits(node) => format!("{}: not Ready; waiting until it is", node.name),
        Heard::Push(node, event) => format!("{}: {}", node.name, progress::words(*event)?),
        Heard::Ended(served, why, rest) => format!("{}: {}", served.outcome.node.name, ended(served, *why, *rest)?),
        Heard::Left(node) => format!("{node}: gone"),
        Heard::Deaf(error) => format!("watching the cluster's nodes: {error}; asking again"),
    })
}

fn begins(why: Why) -> &'static str {
    match why {
        Why::Joined => "there; pushing",
        Why::Ready => "has become Ready; pushing",
        Why::Moved => "has another address; pushing",
        Why::Lost => "has lost an image; pushing",
        Why::Again => "trying again",
        Why::Check => "looking again",
    }
}

fn ended(served: &Served, why: Why, rest: Option<Duration>) -> Option<String> {
    let (outcome, done) = (&served.outcome, served.was_done());
    Some(match &outcome.error {
        Some(error) => {
            let again = rest.map(|rest| format!("; trying again in {} s", rest.as_secs())).unwrap_or_default();
            format!("{}{again}", report::words(error))
        }
        None if done && why == Why::Check => return None,
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
            Served { report: NodeReport { result, ..NodeReport::new(&outcome) }, outcome }
        };
        let (pushed, same) = (served(NodeResult::Pushed, None), served(NodeResult::UpToDate, None));
        let said = |heard: Heard<'_>| line(&heard).unwrap_or_default();
        assert_eq!(said(Heard::Begins(&node, Why::Joined)), "w1: there; pushing");
        assert_eq!(said(Heard::Begins(&node, Why::Check)), "");
        assert_eq!(said(Heard::Waits(&node)), "w1: not Ready; waiting until it is");
        assert_eq!(said(Heard::Push(&node, Event::Ended { succeeded: true })), "");
        assert_eq!(said(Heard::Ended(&pushed, Why::Check, None)), "w1: done: 3 blobs, 4.00 kB in 1.50 s");
        assert_eq!(said(Heard::Ended(&same, Why::Check, None)), "");
        assert_eq!(said(Heard::Ended(&same, Why::Joined, None)), "w1: has everything");
        let failed = served(NodeResult::Failed, Some(Error::Interrupted));
        assert_eq!(said(Heard::Ended(&failed, Why::Joined, None)), "w1: stopped before all was done");
        let again = said(Heard::Ended(&failed, Why::Joined, Some(Duration::from_secs(15))));
        assert_eq!(again, "w1: stopped before all was done; trying again in 15 s");
        assert_eq!(said(Heard::Left("w1")), "w1: gone");
    }
}
