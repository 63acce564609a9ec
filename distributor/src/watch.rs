//! `push --watch`: pushes to nodes that join later, become Ready, get a new address or lose an image. The API server
//! reports changes of nodes; because it does not report all of them, every node is also checked periodically. Uses
//! [`crate::push`] and [`crate::relay`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures::stream::FuturesUnordered;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Node as ApiNode;
use kube::api::Api;
use kube::runtime::watcher::Event as NodeEvent;
use kube::runtime::{WatchStreamExt, watcher};
use tokio_util::sync::CancellationToken;
use vcstore::Digest;

use crate::cluster::{Cluster, WATCH_SECONDS};
use crate::images::push_label::Time;
use crate::nodes::{self, Choice, Node, Reach};
use crate::push::report::{NodeReport, NodeResult, PlanReport, PushReport, RelayReport};
use crate::push::{Outcome, Push, Share};
use crate::relay::{self, RelayOutcome, Via};
use crate::runtime::{self, Event};
use crate::transport::{self, SshOptions};

/// The pause after the first failed push to a node; each further pause is twice as long.
const FIRST_REST: Duration = Duration::from_secs(15);

/// The longest pause.
const LONGEST_REST: Duration = Duration::from_secs(600);

/// The maximum number of images in a node's status, which lists the largest ones. If the list is full, an image that is
/// missing from it may still be present.
const LISTED_AT_MOST: usize = 50;

/// What is watched, and how nodes are pushed to.
#[derive(Debug)]
pub struct Watch<'a> {
    /// The push that nodes receive.
    pub push: &'a Push,
    /// The cluster of the nodes.
    pub cluster: &'a Cluster,
    /// The nodes to watch.
    pub choice: &'a Choice,
    /// The SSH options for the nodes, or for the relay.
    pub ssh: &'a SshOptions,
    /// The relay, if there is one. It serves all nodes that are due at once; nodes that become due meanwhile wait for
    /// the next round.
    pub via: Option<&'a Via>,
    /// The interval after which a node without events is checked again.
    pub recheck: Duration,
}

/// The reason for a push to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushReason {
    /// It joined.
    Joined,
    /// It became Ready.
    Ready,
    /// It is reached at another address than before.
    Moved,
    /// It no longer has one of the images.
    Lost,
    /// The previous push failed.
    Retry,
    /// The interval of the periodic check has passed.
    Check,
}

/// An event of the watch.
#[derive(Debug)]
#[non_exhaustive]
pub enum WatchEvent<'a> {
    /// A push to a node begins.
    Begins(&'a Node, PushReason),
    /// A node is not Ready: the watch waits for it.
    Waits(&'a Node),
    /// An event of the push to a node.
    Push(&'a Node, Event<'a>),
    /// A push to a node has ended; if it failed, it is retried after a pause.
    Ended(&'a NodePush, PushReason, Option<Duration>),
    /// A node is gone.
    Left(&'a str),
    /// The API server does not report the nodes; it is queried again.
    ApiError(&'a watcher::Error),
}

/// The result of a push to a node.
#[derive(Debug)]
pub struct NodePush {
    /// The outcome.
    pub outcome: Outcome,
    /// Its report.
    pub report: NodeReport,
}

/// The results of a round of pushes, and what was sent to the relay for them.
type PushRound = (Vec<(NodePush, PushReason)>, Option<RelayReport>);

/// The state of a node in the watch.
#[derive(Debug)]
struct WatchedNode {
    snapshot: NodeSnapshot,
    node: Node,
    /// The time of the next push and its reason, or `None` while the node is not Ready or is being pushed to.
    due: Option<(Instant, PushReason)>,
    busy: bool,
    failures: u32,
    last: Option<NodePush>,
}

/// The facts in the API about a node whose change is a reason to push.
#[derive(Debug, Clone, PartialEq, Eq)]
struct NodeSnapshot {
    uid: String,
    ready: bool,
    reach: Reach,
    /// The pushed images that it lists, or `None` if its list may be incomplete.
    lists: Option<BTreeSet<Digest>>,
}

impl Watch<'_> {
    /// Watches until it is interrupted. Returns the last result of each node that is still present, ordered by name.
    pub async fn run(&self, notify: impl Fn(WatchEvent<'_>) + Sync, cancel: &CancellationToken) -> RelayOutcome {
        let begun = Instant::now();
        let targets: BTreeSet<Digest> = self.push.images.iter().filter_map(target).collect();
        let share = self.push.share(self.push.parallel);
        let config = watcher::Config::default().timeout(WATCH_SECONDS);
        let config = self.choice.selector.iter().fold(config, |config, selector| config.labels(selector));
        let events = watcher(Api::<ApiNode>::all(self.cluster.client()), config).default_backoff();
        tokio::pin!(events);
        let mut known: BTreeMap<String, WatchedNode> = BTreeMap::new();
        let mut under_way = FuturesUnordered::new();
        // The nodes in the current list so far: a known node that is missing at its end has left meanwhile.
        let mut listed: BTreeSet<String> = BTreeSet::new();
        let mut lists = true;
        let mut relayed = self.via.map(|via| RelayReport { name: via.node.name.clone(), ..RelayReport::default() });
        let (notify, share) = (&notify, &share);
        loop {
            // A relay is given all nodes of a list at once.
            let most = if self.via.is_some() { 1 } else { self.push.parallel.max(1) };
            let waits = self.via.is_some() && lists;
            while under_way.len() < most && !waits {
                let take = if self.via.is_some() { usize::MAX } else { 1 };
                let due: Vec<(Node, PushReason)> =
                    std::iter::from_fn(|| next(&mut known, Instant::now())).take(take).collect();
                if due.is_empty() {
                    break;
                }
                due.iter().for_each(|(node, why)| notify(WatchEvent::Begins(node, *why)));
                under_way.push(self.serve(due, share, notify, cancel));
            }
            let soonest = known.values().filter(|node| !node.busy).filter_map(|node| node.due).map(|(at, _)| at).min();
            tokio::select! {
                () = cancel.cancelled() => break,
                Some(round) = under_way.next(), if !under_way.is_empty() => {
                    self.ended(&mut known, round, &mut relayed, notify, false);
                }
                event = events.try_next() => match event {
                    Ok(Some(NodeEvent::Init)) => {
                        listed.clear();
                        lists = true;
                    }
                    Ok(Some(NodeEvent::InitApply(node))) => {
                        listed.insert(node.metadata.name.clone().unwrap_or_default());
                        self.applied(&mut known, &node, &targets, notify);
                    }
                    Ok(Some(NodeEvent::Apply(node))) => self.applied(&mut known, &node, &targets, notify),
                    Ok(Some(NodeEvent::Delete(node))) => left(&mut known, &node.metadata.name.unwrap_or_default(), notify),
                    Ok(Some(NodeEvent::InitDone)) => {
                        lists = false;
                        let gone: Vec<String> = known.keys().filter(|name| !listed.contains(*name)).cloned().collect();
                        gone.iter().for_each(|name| left(&mut known, name, notify));
                    }
                    Ok(None) => break,
                    Err(error) => {
                        // Until the API server answers again, the known state is used.
                        lists = false;
                        notify(WatchEvent::ApiError(&error));
                    }
                },
                () = sleep_until(soonest), if soonest.is_some() && under_way.len() < most && !waits => {}
            }
        }
        // The pushes that are still running were cancelled too, and clean up their nodes.
        while let Some(round) = under_way.next().await {
            self.ended(&mut known, round, &mut relayed, notify, true);
        }
        let (reports, outcomes) = known
            .into_values()
            .filter_map(|node| node.last)
            .map(|node_push| (node_push.report, node_push.outcome))
            .unzip();
        let pushed = PushReport::of(reports, relayed, begun.elapsed());
        RelayOutcome { outcomes, pushed, planned: PlanReport::of(Vec::new()) }
    }

    /// Pushes to these nodes: to a single node directly, or to all through the relay.
    async fn serve(
        &self,
        due: Vec<(Node, PushReason)>,
        share: &Share,
        notify: &(impl Fn(WatchEvent<'_>) + Sync),
        cancel: &CancellationToken,
    ) -> PushRound {
        let on_event = |node: &Node, event: Event<'_>| notify(WatchEvent::Push(node, event));
        // Each round is a push of its own.
        let push = &Push { at: Time::now(), ..self.push.clone() };
        if let Some(via) = self.via {
            return self.relay(push, via, due, &on_event, cancel).await;
        }
        let connect = |node: &Node| transport::to_node(node, self.ssh);
        let one = |(node, why)| async move {
            let outcome = push.one(node, share, &connect, &on_event, cancel).await;
            (NodePush { report: NodeReport::new(&outcome), outcome }, why)
        };
        (futures::future::join_all(due.into_iter().map(one)).await, None)
    }

    /// Pushes to these nodes through the relay. A node that it cannot serve does not affect the others.
    async fn relay(
        &self,
        push: &Push,
        via: &Via,
        due: Vec<(Node, PushReason)>,
        on_event: &impl Fn(&Node, Event<'_>),
        cancel: &CancellationToken,
    ) -> PushRound {
        let begun = Instant::now();
        let fail = |(node, why): (Node, PushReason), error: &relay::Error| {
            let outcome = Outcome {
                node,
                planned: None,
                via: None,
                blobs_sent: 0,
                bytes_sent: 0,
                elapsed: begun.elapsed(),
                error: Some(error.of_node()),
            };
            (NodePush { report: NodeReport::new(&outcome), outcome }, why)
        };
        let (mut round, mut meant) = (Vec::new(), Vec::new());
        for (node, why) in due {
            match relay::check(&node) {
                Ok(()) => meant.push((node, why)),
                Err(error) => round.push(fail((node, why), &error)),
            }
        }
        if meant.is_empty() {
            return (round, None);
        }
        let nodes = meant.iter().map(|(node, _)| node.clone()).collect();
        match relay::push(push, via, nodes, self.ssh, on_event, cancel).await {
            Ok(RelayOutcome { outcomes, pushed, .. }) => {
                let node_push = outcomes.into_iter().zip(pushed.nodes).zip(meant);
                round.extend(node_push.map(|((outcome, report), (_, why))| (NodePush { outcome, report }, why)));
                (round, pushed.relay)
            }
            Err(error) => {
                round.extend(meant.into_iter().map(|one| fail(one, &error)));
                (round, None)
            }
        }
    }

    /// Processes the present state of a node in the API.
    fn applied(
        &self,
        known: &mut BTreeMap<String, WatchedNode>,
        api: &ApiNode,
        targets: &BTreeSet<Digest>,
        notify: &impl Fn(WatchEvent<'_>),
    ) {
        let Some(node) = nodes::meant(api, self.choice) else {
            return left(known, api.metadata.name.as_deref().unwrap_or_default(), notify);
        };
        let snapshot = NodeSnapshot::of(api, &node, targets);
        let before = known.get(&node.name);
        let why = snapshot.reason(before.map(|known| &known.snapshot));
        let waits =
            !snapshot.ready && before.is_none_or(|known| known.snapshot.ready || known.snapshot.uid != snapshot.uid);
        if waits {
            notify(WatchEvent::Waits(&node));
        }
        let fresh =
            |node| WatchedNode { snapshot: snapshot.clone(), node, due: None, busy: false, failures: 0, last: None };
        let this = known.entry(node.name.clone()).or_insert_with(|| fresh(node.clone()));
        this.node = node;
        match why {
            Some(why) => this.due = Some((Instant::now(), why)),
            None if !snapshot.ready => this.due = None,
            None => {}
        }
        this.snapshot = snapshot;
    }

    /// Processes the results of pushes. If `stops` is set, none is retried.
    fn ended(
        &self,
        known: &mut BTreeMap<String, WatchedNode>,
        (round, sent): PushRound,
        relayed: &mut Option<RelayReport>,
        notify: &impl Fn(WatchEvent<'_>),
        stops: bool,
    ) {
        if let (Some(all), Some(sent)) = (relayed.as_mut(), sent) {
            all.blobs_sent += sent.blobs_sent;
            all.bytes_sent += sent.bytes_sent;
        }
        for (node_push, why) in round {
            let outcome = &node_push.outcome;
            let Some(this) = known.get_mut(&outcome.node.name) else { continue };
            this.busy = false;
            this.failures = if outcome.error.is_some() { this.failures + 1 } else { 0 };
            let (pause, next) = match this.failures {
                0 => (self.recheck, PushReason::Check),
                failures => (rest(failures), PushReason::Retry),
            };
            // An event that arrived meanwhile takes precedence.
            if this.due.is_none() && this.snapshot.ready {
                this.due = Some((Instant::now() + pause, next));
            }
            let is_over = stops || matches!(outcome.error, None | Some(runtime::Error::Interrupted));
            notify(WatchEvent::Ended(&node_push, why, (!is_over).then_some(pause)));
            this.last = Some(node_push);
        }
    }
}

/// Returns the pause after this number of consecutive failures.
fn rest(failures: u32) -> Duration {
    FIRST_REST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST_REST)
}

/// Takes the node that has been due for the longest time, if one is due at `now`.
fn next(known: &mut BTreeMap<String, WatchedNode>, now: Instant) -> Option<(Node, PushReason)> {
    let due = |known: &WatchedNode| known.due.filter(|(at, _)| !known.busy && *at <= now).map(|(at, _)| at);
    let this = known.values_mut().filter(|node| due(node).is_some()).min_by_key(|node| due(node))?;
    let (_, why) = this.due.take()?;
    this.busy = true;
    Some((this.node.clone(), why))
}

fn left(known: &mut BTreeMap<String, WatchedNode>, name: &str, notify: &impl Fn(WatchEvent<'_>)) {
    if known.remove(name).is_some() {
        notify(WatchEvent::Left(name));
    }
}

async fn sleep_until(moment: Option<Instant>) {
    if let Some(moment) = moment {
        tokio::time::sleep_until(moment.into()).await;
    }
}

fn target(image: &vcstore::Image) -> Option<Digest> {
    Digest::try_from(image.target.digest()).ok()
}

impl NodePush {
    /// Whether nothing had to be done.
    #[must_use]
    pub fn was_done(&self) -> bool {
        self.report.result == NodeResult::UpToDate
    }
}

impl NodeSnapshot {
    fn of(api: &ApiNode, node: &Node, targets: &BTreeSet<Digest>) -> Self {
        let images = api.status.as_ref().and_then(|status| status.images.as_deref()).unwrap_or_default();
        let digest = |name: &str| name.split_once('@').and_then(|(_, digest)| digest.parse().ok());
        let named = images.iter().flat_map(|image| image.names.iter().flatten()).filter_map(|name| digest(name));
        let lists = (images.len() < LISTED_AT_MOST).then(|| named.filter(|digest| targets.contains(digest)).collect());
        Self {
            uid: api.metadata.uid.clone().unwrap_or_default(),
            ready: node.ready == Some(true),
            reach: node.reach.clone(),
            lists,
        }
    }

    /// Returns why the node should be pushed to, if it should, by comparison with its state `before`.
    fn reason(&self, before: Option<&Self>) -> Option<PushReason> {
        if !self.ready {
            return None;
        }
        let Some(before) = before.filter(|before| before.uid == self.uid) else { return Some(PushReason::Joined) };
        let lost = |(before, now): (&BTreeSet<Digest>, &BTreeSet<Digest>)| !before.is_subset(now);
        if !before.ready {
            Some(PushReason::Ready)
        } else if before.reach != self.reach {
            Some(PushReason::Moved)
        } else if before.lists.as_ref().zip(self.lists.as_ref()).is_some_and(lost) {
            Some(PushReason::Lost)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::{Address, Machine};

    fn snapshot(uid: &str, ready: bool, host: &str, lists: Option<&[&str]>) -> NodeSnapshot {
        let lists = lists.map(|all| all.iter().map(|one| Digest::of(one.as_bytes())).collect());
        NodeSnapshot { uid: uid.into(), ready, reach: Reach::Ssh(Address::of(host.into())), lists }
    }

    #[test]
    fn a_node_is_pushed_to_when_it_may_lack_something_and_not_for_any_other_change() {
        let node = snapshot("1", true, "a", Some(&["x", "y"]));
        assert_eq!(node.reason(None), Some(PushReason::Joined));
        assert_eq!(node.reason(Some(&node)), None);
        assert_eq!(node.reason(Some(&snapshot("1", false, "a", None))), Some(PushReason::Ready));
        assert_eq!(node.reason(Some(&snapshot("2", true, "a", None))), Some(PushReason::Joined), "registered anew");
        assert_eq!(node.reason(Some(&snapshot("1", true, "b", None))), Some(PushReason::Moved));
        assert_eq!(node.reason(Some(&snapshot("1", true, "a", Some(&["x"])))), None, "it has come");
        assert_eq!(snapshot("1", true, "a", Some(&["x"])).reason(Some(&node)), Some(PushReason::Lost));
        assert_eq!(snapshot("1", true, "a", None).reason(Some(&node)), None, "a list that is not whole tells nothing");
        assert_eq!(snapshot("1", false, "b", Some(&[])).reason(Some(&node)), None, "it is waited for");
        assert_eq!(snapshot("1", false, "b", None).reason(None), None);
    }

    #[test]
    fn nodes_take_turns_by_when_they_are_due_and_rest_longer_after_each_failure() {
        let now = Instant::now();
        let node = |name: &str, due: Option<(Instant, PushReason)>, busy: bool| {
            let reach = Reach::Ssh(Address::of(name.into()));
            let node = Node {
                name: name.into(),
                reach,
                ready: None,
                machine: Machine::default(),
                architecture: None,
                runtime: None,
            };
            let snapshot = snapshot("1", true, name, None);
            (name.to_owned(), WatchedNode { snapshot, node, due, busy, failures: 0, last: None })
        };
        let (first, second) = (now - Duration::from_secs(2), now - Duration::from_secs(1));
        let mut known: BTreeMap<String, WatchedNode> = [
            node("a", Some((second, PushReason::Joined)), false),
            node("b", Some((first, PushReason::Retry)), false),
            node("c", Some((first, PushReason::Lost)), true),
            node("d", Some((now + Duration::from_secs(1), PushReason::Check)), false),
            node("e", None, false),
        ]
        .into();
        let mut turns = Vec::new();
        while let Some((node, why)) = next(&mut known, now) {
            turns.push((node.name, why));
        }
        assert_eq!(turns, [("b".to_owned(), PushReason::Retry), ("a".to_owned(), PushReason::Joined)]);
        assert!(known["a"].busy && known["a"].due.is_none());
        assert_eq!([1, 2, 3, 6, 7, 40].map(|failures| rest(failures).as_secs()), [15, 30, 60, 480, 600, 600]);
    }
}
