//! The Lease that is the lock: what it says, and what follows from that. Pure functions.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::process::Mark;

/// The namespace of the Lease. It exists in every cluster, and only administrators may write to it.
pub const NAMESPACE: &str = "kube-system";

/// Its name.
pub const NAME: &str = "vcdist";

/// For how long a Lease holds without being renewed.
pub(super) const DURATION: Duration = Duration::from_secs(30);

/// The annotation with the holder's process.
const PROCESS: &str = "vcdist.virtualcluster.io/process";

/// Who holds a Lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The user, the host, the process and the command.
    pub name: String,
    /// Since when.
    pub since: Option<Timestamp>,
}

/// What a Lease says at some moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// Somebody else holds it, for so long unless it is renewed.
    Held(Holder, Duration),
    /// This process holds it.
    Ours,
    /// Somebody held it and did not give it back: why it does not hold any more.
    Abandoned(Holder, &'static str),
    /// Nobody holds it.
    Free,
}

/// A Lease that this process holds from `now` on, in the place of `before`.
pub(super) fn taken(before: Option<Lease>, holder: &str, mark: &Mark, now: Timestamp) -> Lease {
    let mut lease = before.unwrap_or_default();
    let transitions = lease.spec.as_ref().and_then(|spec| spec.lease_transitions);
    let annotations = lease.metadata.annotations.take().unwrap_or_default();
    let mine = [(PROCESS.to_owned(), mark.as_str().to_owned())];
    let labels = [("app.kubernetes.io/managed-by".to_owned(), "vcdist".to_owned())];
    lease.metadata = ObjectMeta {
        name: Some(NAME.to_owned()),
        namespace: Some(NAMESPACE.to_owned()),
        annotations: Some(annotations.into_iter().chain(mine).collect()),
        labels: Some(lease.metadata.labels.take().into_iter().flatten().chain(labels).collect()),
        ..lease.metadata
    };
    lease.spec = Some(LeaseSpec {
        holder_identity: Some(holder.to_owned()),
        lease_duration_seconds: Some(i32::try_from(DURATION.as_secs()).unwrap_or(i32::MAX)),
        acquire_time: Some(MicroTime(now)),
        renew_time: Some(MicroTime(now)),
        lease_transitions: transitions.map(|count| count.saturating_add(1)).or(Some(0)),
        ..LeaseSpec::default()
    });
    lease
}

/// The same Lease, renewed.
pub(super) fn renewed(mut lease: Lease, now: Timestamp) -> Lease {
    if let Some(spec) = &mut lease.spec {
        spec.renew_time = Some(MicroTime(now));
    }
    lease
}

/// What a Lease says at the moment `now` of the API server's clock, which all holders renew by.
pub(super) fn state(lease: &Lease, mark: &Mark, now: Timestamp) -> State {
    let Some(spec) = lease.spec.as_ref() else { return State::Free };
    let Some(name) = spec.holder_identity.clone().filter(|name| !name.is_empty()) else { return State::Free };
    let holder = Holder { name, since: spec.acquire_time.as_ref().map(|time| time.0) };
    let theirs = lease.metadata.annotations.as_ref().and_then(|all| all.get(PROCESS)).map(|text| Mark::read(text));
    if theirs.as_ref() == Some(mark) {
        return State::Ours;
    }
    if theirs.is_some_and(|process| process.is_gone()) {
        return State::Abandoned(holder, "its process is gone");
    }
    let length = SignedDuration::from_secs(spec.lease_duration_seconds.map_or(0, i64::from));
    let end = spec.renew_time.as_ref().and_then(|time| time.0.checked_add(length).ok());
    match end.and_then(|end| Duration::try_from(end.duration_since(now)).ok()).filter(|rest| !rest.is_zero()) {
        Some(rest) => State::Held(holder, rest),
        None => State::Abandoned(holder, "it was not renewed in time"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use k8s_openapi::jiff::{SignedDuration, Timestamp};

    use super::{DURATION, Mark, NAME, NAMESPACE, State, renewed, state, taken};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000).unwrap() + SignedDuration::from_secs(seconds)
    }

    #[test]
    fn a_lease_holds_until_it_is_not_renewed_in_time() {
        let (ours, theirs) = (Mark::read("a/b/1/1"), Mark::read("c/d/2/2"));
        let lease = taken(None, "jane@host (pid 2, vcdist deploy)", &theirs, at(0));
        assert_eq!(
            (lease.metadata.name.as_deref(), lease.metadata.namespace.as_deref()),
            (Some(NAME), Some(NAMESPACE))
        );
        assert_eq!(state(&lease, &theirs, at(1000)), State::Ours);
        let State::Held(holder, rest) = state(&lease, &ours, at(10)) else { panic!("held") };
        assert_eq!((holder.name.as_str(), holder.since), ("jane@host (pid 2, vcdist deploy)", Some(at(0))));
        assert_eq!(rest, DURATION - Duration::from_secs(10));
        assert!(matches!(state(&lease, &ours, at(30)), State::Abandoned(_, "it was not renewed in time")));
        assert!(matches!(state(&renewed(lease.clone(), at(25)), &ours, at(30)), State::Held(..)));
        let mut free = lease.clone();
        free.spec.as_mut().unwrap().holder_identity = Some(String::new());
        assert_eq!(state(&free, &ours, at(0)), State::Free);

        let mut marked = lease;
        marked.metadata.resource_version = Some("7".to_owned());
        marked.metadata.annotations.as_mut().unwrap().insert("note".to_owned(), "stays".to_owned());
        let next = taken(Some(marked), "joe@host (pid 1, vcdist run)", &ours, at(40));
        assert_eq!(next.metadata.resource_version.as_deref(), Some("7"), "only this very Lease is taken over");
        assert_eq!(next.metadata.annotations.as_ref().unwrap()["note"], "stays");
        assert_eq!(next.spec.as_ref().unwrap().lease_transitions, Some(1));
        assert_eq!(state(&next, &ours, at(41)), State::Ours);
    }

    #[test]
    fn who_is_known_to_be_gone_is_not_waited_for() {
        let mine = Mark::of_this_process();
        let parts: Vec<&str> = mine.as_str().split('/').collect();
        // The first process of this namespace does not start when this one does.
        let gone = Mark::read(&format!("{}/{}/{}/0", parts[0], parts[1], u32::MAX));
        let lease = taken(None, "jane@host", &gone, at(0));
        assert!(matches!(state(&lease, &mine, at(1)), State::Abandoned(_, "its process is gone")));
    }
}
