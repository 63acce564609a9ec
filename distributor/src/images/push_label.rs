//! The labels that a push sets on every image record that it creates on a node: name, digest and time. From them, each
//! node reports what was pushed to it last, and records that a push created are distinguished from all others.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use k8s_openapi::jiff;
use serde::{Serialize, Serializer};
use vcstore::Digest;

use crate::protocol::proto;

/// The label with the name under which an image was pushed. A record with this label was created by a push.
pub(crate) const NAME: &str = "vcdist.name";
/// The label with the digest that was pushed.
pub(crate) const DIGEST: &str = "vcdist.digest";
/// The label with the time of the push.
pub(crate) const AT: &str = "vcdist.pushed-at";

/// The labels of a push on an image record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushLabel {
    /// The name with its tag, even if the record is named by digest.
    pub name: String,
    /// The digest that was pushed under that name.
    pub digest: Digest,
    /// The start time of the push that last changed the record.
    pub at: Time,
}

/// A time by the operator's clock, in whole milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(jiff::Timestamp);

impl Time {
    /// Returns the current time.
    #[must_use]
    pub fn now() -> Self {
        let now = jiff::Timestamp::now();
        Self(jiff::Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now))
    }

    /// Milliseconds since the Unix epoch.
    pub(crate) fn milliseconds(self) -> i64 {
        self.0.as_millisecond()
    }

    /// Converts milliseconds since the Unix epoch. Returns `None` if they are out of range.
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
    /// Reads the labels of a record. Returns `None` if they are missing or malformed.
    pub(crate) fn of<'a>(label: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        Some(Self { name: label(NAME)?.to_owned(), digest: label(DIGEST)?.parse().ok()?, at: label(AT)?.parse().ok()? })
    }

    /// Returns the labels as keys and values.
    pub(crate) fn labels(&self) -> [(&'static str, String); 3] {
        [(NAME, self.name.clone()), (DIGEST, self.digest.to_string()), (AT, self.at.to_string())]
    }

    /// Converts to the helper's message.
    pub(crate) fn wire(&self) -> proto::Pushed {
        proto::Pushed { name: self.name.clone(), digest: self.digest.to_string(), at: self.at.to_string() }
    }

    /// Converts the helper's message.
    pub(crate) fn read(wire: &proto::Pushed) -> Option<Self> {
        Some(Self { name: wire.name.clone(), digest: wire.digest.parse().ok()?, at: wire.at.parse().ok()? })
    }
}

/// An image record that a push created on a node, and its state as the node reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushedImage {
    /// The record's name, by tag or by digest.
    pub name: String,
    /// The labels of the push.
    pub pushed: PushLabel,
    /// The digest that it now refers to.
    pub target: Option<Digest>,
    /// Whether the kubelet's garbage collection skips it.
    pub pinned: bool,
    /// Whether all blobs of the image are present.
    pub complete: bool,
    /// Whether its layers are unpacked.
    pub unpacked: bool,
    /// The digest of its configuration; empty if that is not present.
    pub config: String,
    /// The chain id of its layers; empty if they are not unpacked.
    pub chain: String,
}

impl PushedImage {
    /// Converts the helper's message. Returns `None` for a record that no push created.
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

/// Returns the latest push of each name, to an image or to several nodes. A label whose time is later than `now` comes
/// from a clock that is ahead and says nothing about the order, so any other label takes precedence.
pub(crate) fn last<'a>(said: impl IntoIterator<Item = &'a PushLabel>, now: Time) -> BTreeMap<&'a str, &'a PushLabel> {
    let mut last: BTreeMap<&str, &PushLabel> = BTreeMap::new();
    // Within one millisecond, the digest decides, so that the result does not depend on the order of the labels.
    let order = |pushed: &PushLabel| (pushed.at <= now, pushed.at, pushed.digest);
    for pushed in said {
        let known = last.entry(&pushed.name).or_insert(pushed);
        if order(pushed) > order(known) {
            *known = pushed;
        }
    }
    last
}

/// Returns the latest push of each name to one node. Each push rewrites the record of its name, so this record is
/// decisive regardless of the operators' clocks; without it, the latest label is.
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
        // The name was pushed again; the record by digest of its former image still has the old label.
        let node = [standing(&by_digest, ahead.clone()), standing("a:v1", right.clone())];
        assert_eq!(last_on_node(&node, now)["a:v1"], &right);
        // The reverse: the clock of the first push was ahead, and that of the second was right.
        let node = [standing("a:v1", ahead.clone()), standing("a@x", right.clone())];
        assert_eq!(last_on_node(&node, now)["a:v1"], &ahead);
        // The record of the name was removed: the remaining record decides.
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
