//! Which revision a rollback goes to.

use super::Error;
use super::revision::Revision;

/// The revision to go back to: `wanted`, or else the newest before the current one that is another and got ready. A rollback
/// that was interrupted goes on.
///
/// # Errors
/// When there is no such revision.
pub fn rollback_target<'a>(
    revisions: &'a [Revision],
    wanted: Option<i64>,
    namespace: &str,
) -> Result<&'a Revision, Error> {
    let none = || Error::NoRevisions { namespace: namespace.to_owned() };
    let (current, earlier) = revisions.split_last().ok_or_else(none)?;
    let Some(number) = wanted else {
        if current.rollback_to.is_some() && current.never_ready() {
            return Ok(current);
        }
        let fits = |revision: &&Revision| !revision.never_ready() && revision.objects != current.objects;
        let nothing = || Error::NoEarlier { number: current.number, namespace: namespace.to_owned() };
        return earlier.iter().rev().find(fits).ok_or_else(nothing);
    };
    find(revisions, number, namespace)
}

/// The revision of this number.
///
/// # Errors
/// When there is none.
pub fn find<'a>(revisions: &'a [Revision], number: i64, namespace: &str) -> Result<&'a Revision, Error> {
    let known: Vec<String> = revisions.iter().map(|revision| revision.number.to_string()).collect();
    let unknown = || Error::NoSuchRevision { number, namespace: namespace.to_owned(), known: known.join(", ") };
    revisions.iter().find(|revision| revision.number == number).ok_or_else(unknown)
}

/// The newest revision that got ready, to which a rollout that failed goes back.
#[must_use]
pub fn last_ready(revisions: &[Revision]) -> Option<&Revision> {
    revisions.iter().rev().find(|revision| revision.ready_at.is_some() && revision.objects.is_ok())
}

impl Revision {
    /// The number that a rollback to this revision is recorded with: that of the revision it went back to itself.
    #[must_use]
    pub fn origin(&self) -> i64 {
        if self.never_ready() { self.rollback_to.unwrap_or(self.number) } else { self.number }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{last_ready, rollback_target};
    use crate::rollout::revision::Revision;
    use crate::rollout::revision::tests::{ready, revision};

    fn objects(name: &str) -> Vec<Value> {
        vec![json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } })]
    }

    fn target(revisions: &[Revision]) -> String {
        match rollback_target(revisions, None, "vc") {
            Ok(target) => format!("{} as {}", target.number, target.origin()),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_default_is_the_newest_earlier_revision_that_was_ready_and_differs() {
        let (a, b) = (objects("a"), objects("b"));
        assert!(target(&[]).contains("no revision is recorded"));
        assert!(target(&[ready(1, &a)]).contains("no earlier revision"));
        assert_eq!(target(&[ready(1, &a), ready(2, &b)]), "1 as 1");
        assert_eq!(target(&[ready(1, &a), revision(2, &b)]), "1 as 1", "the current one failed");
        assert_eq!(target(&[ready(1, &a), revision(2, &objects("c")), ready(3, &b)]), "1 as 1", "one before it failed");
        let back = Revision { rollback_to: Some(1), ..ready(3, &a) };
        assert_eq!(target(&[ready(1, &a), ready(2, &b), back.clone()]), "2 as 2", "back and forth");
        let interrupted = Revision { ready_at: None, ..back };
        assert_eq!(target(&[ready(1, &a), ready(2, &b), interrupted]), "3 as 1", "it goes on");
        let older = Revision { version: None, objects: Err("only images".to_owned()), ..revision(1, &[]) };
        assert_eq!(target(&[older, ready(2, &b)]), "1 as 1", "why it cannot be is told later");
    }

    #[test]
    fn a_number_that_is_not_there_is_refused_with_those_that_are() {
        let error = rollback_target(&[ready(1, &[]), ready(2, &[])], Some(7), "vc").unwrap_err();
        assert_eq!(error.to_string(), "there is no revision 7 in the namespace vc");
    }

    #[test]
    fn a_failed_rollout_goes_back_to_what_was_ready_last() {
        assert_eq!(last_ready(&[ready(1, &[]), ready(2, &[]), revision(3, &[])]).map(|one| one.number), Some(2));
        assert!(last_ready(&[revision(1, &[])]).is_none());
    }
}
