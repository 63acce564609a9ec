//! The labels that a push sets on every image record that it makes on a node: name, digest and time. By them each node tells what was
//! pushed to it last, and records that a push made are distinguished from all others.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use k8s_openapi::jiff;
use serde::{Serialize, Serializer};
use vcstore::Digest;

use crate::protocol::proto;

/// The label with the name an image was pushed by. Records that have it are ours.
pub(crate) const NAME: &str = "vcdist.name";
/// The label with the digest an image was pushed as.
pub(crate) const DIGEST: &str = "vcdist.digest";
/// The label with the time of the push.
pub(crate) const AT: &str = "vcdist.pushed-at";

/// The labels of a push on an image record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushLabel {
    /// The name with its tag, also where the record is named by digest.
    pub name: String,
    /// What was pushed by that name.
    pub digest: Digest,
    /// When the push began that last changed it there.
    pub at: Time,
}

/// A moment by the operator's clock, in whole milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(jiff::Timestamp);

impl Time {
    /// This moment.
    #[must_use]
    pub fn now() -> Self {
        let now = jiff::Timestamp::now();
        Self(jiff::Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now))
    }

    /// Milliseconds since 1970 began.
    pub(crate) fn milliseconds(self) -> i64 {
        self.0.as_millisecond()
    }

    /// From as many; nothing where they are too many for a date.
    pub(crate) fn of_milliseconds(milliseconds: i64) -> Option<Self> {
        jiff::Timestamp::from_millisecond(milliseconds).ok().map(Self)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Time {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, jiff::Error> {
        text.parse().map(Self)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl PushLabel {
    /// Reads the labels of a record; nothing where they are not ours, or none that we could have written.
    pub(crate) fn of<'a>(label: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        Some(Self { name: label(NAME)?.to_owned(), digest: label(DIGEST)?.parse().ok()?, at: label(AT)?.parse().ok()? })
    }

    /// The labels that say it.
    pub(crate) fn labels(&self) -> [(&'static str, String); 3] {
        [(NAME, self.name.clone()), (DIGEST, self.digest.to_string()), (AT, self.at.to_string())]
    }

    /// As a request to the helper carries it.
    pub(crate) fn wire(&self) -> proto::Pushed {
        proto::Pushed { name: self.name.clone(), digest: self.digest.to_string(), at: self.at.to_string() }
    }

    /// As an answer of the helper carries it.
    pub(crate) fn read(wire: &proto::Pushed) -> Option<Self> {
        Some(Self { name: wire.name.clone(), digest: wire.digest.parse().ok()?, at: wire.at.parse().ok()? })
    }
}

/// An image record of ours on a node, and how it stands by what the node itself knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushedImage {
    /// The record's name, by tag or by digest.
    pub name: String,
    /// What the push noted on it.
    pub pushed: PushLabel,
    /// What it points at by now.
    pub target: Option<Digest>,
    /// Whether kubelet's garbage collection passes it over.
    pub pinned: bool,
    /// Whether everything is there that it consists of.
    pub complete: bool,
    /// Whether its layers are unpacked.
    pub unpacked: bool,
    /// Its configuration's digest; empty where that is not there.
    pub config: String,
    /// The chain id of its layers; empty where they are not unpacked.
    pub chain: String,
}

impl PushedImage {
    /// From the helper's message; none for a record that no push made.
    pub(crate) fn read(wire: proto::PushedImage) -> Option<Self> {
        let record = wire.record?;
        Some(Self {
            pushed: PushLabel::read(record.pushed.as_ref()?)?,
            target: record.target.parse().ok(),
            name: record.name,
            pinned: record.pinned,
            complete: wire.complete,
            unpacked: wire.unpacked,
            config: wire.config,
            chain: wire.chain_id,
        })
    }
}

/// What was pushed last by each name, to an image or to several nodes. A note from a clock that is ahead of `now` tells nothing of
/// the order, so any other counts before it.
pub(crate) fn last<'a>(said: impl IntoIterator<Item = &'a PushLabel>, now: Time) -> BTreeMap<&'a str, &'a PushLabel> {
    let mut last: BTreeMap<&str, &PushLabel> = BTreeMap::new();
    // The digest decides what one millisecond holds, so that everybody finds the same.
    let order = |pushed: &PushLabel| (pushed.at <= now, pushed.at, pushed.digest);
    for pushed in said {
        let known = last.entry(&pushed.name).or_insert(pushed);
        if order(pushed) > order(known) {
            *known = pushed;
        }
    }
    last
}

/// What was pushed last to one node by each name. Each push writes the record of its name anew, so that record tells, whatever the
/// clocks of the operators were; without it, the latest note does.
pub(crate) fn last_on_node(standings: &[PushedImage], now: Time) -> BTreeMap<&str, &PushLabel> {
    let mut last = last(standings.iter().map(|standing| &standing.pushed), now);
    let by_tag = standings.iter().filter(|standing| standing.name == standing.pushed.name);
    last.extend(by_tag.map(|standing| (standing.pushed.name.as_str(), &standing.pushed)));
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::image_name::by_digest;

    fn pushed(name: &str, content: &str, at: &str) -> PushLabel {
        PushLabel { name: name.into(), digest: Digest::of(content.as_bytes()), at: at.parse().expect("a time") }
    }

    #[test]
    fn the_last_push_counts_whatever_its_time_looks_like_as_text() {
        let all = [
            pushed("a", "1", "2026-11-23T13:10:05Z"),
            pushed("a", "2", "2026-11-23T13:10:05.123Z"),
            pushed("b", "3", "2026-11-23T13:10:06Z"),
            pushed("a", "1", "2026-11-23T13:10:04.999Z"),
        ];
        let last = last(&all, "2026-11-24T00:00:00Z".parse().expect("a time"));
        assert_eq!(last.keys().copied().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(last["a"], &all[1]);
    }

    fn standing(name: &str, pushed: PushLabel) -> PushedImage {
        let target = Some(pushed.digest);
        let (config, chain) = (String::new(), String::new());
        PushedImage { name: name.into(), pushed, target, pinned: true, complete: true, unpacked: true, config, chain }
    }

    #[test]
    fn a_clock_that_is_ahead_decides_nothing() {
        let now = "2026-11-23T13:00:00Z".parse().expect("a time");
        let (ahead, right) = (pushed("a:v1", "1", "2027-11-30T00:00:00Z"), pushed("a:v1", "2", "2026-11-23T12:00:00Z"));
        let by_digest = by_digest("a:v1", &ahead.digest);
        // The name was pushed anew; the record by digest of what it was before has its note still.
        let node = [standing(&by_digest, ahead.clone()), standing("a:v1", right.clone())];
        assert_eq!(last_on_node(&node, now)["a:v1"], &right);
        // The same the other way round: the clock of the first push was ahead, and then that of the second was right.
        let node = [standing("a:v1", ahead.clone()), standing("a@x", right.clone())];
        assert_eq!(last_on_node(&node, now)["a:v1"], &ahead);
        // The name was removed: the remaining record counts.
        assert_eq!(last_on_node(&[standing(&by_digest, ahead.clone())], now)["a:v1"], &ahead);
        assert_eq!(last([&ahead, &right], now)["a:v1"], &right, "of two nodes");
    }

    #[test]
    fn labels_are_read_as_they_were_written_and_others_are_none_of_ours() {
        let one = PushLabel { at: Time::now(), ..pushed("docker.io/vc/manager:v1", "1", "2026-01-01T00:00:00Z") };
        let labels: BTreeMap<&str, String> = one.labels().into();
        assert_eq!(PushLabel::of(|key| labels.get(key).map(String::as_str)), Some(one.clone()));
        assert_eq!(PushLabel::read(&one.wire()), Some(one));
        assert_eq!(PushLabel::of(|key| (key == NAME).then_some("docker.io/vc/manager:v1")), None);
    }
}
