//! What a rollout would change, field by field, without ending at what it would be refused for: fields that other managers own
//! and fields that can never be changed are differences too.

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use vcmanifests::{Object, Stage};

use super::defined::DefinedKinds;
use super::diff::FieldChange;
use super::foreign::foreign_fields;
use super::plan::{Change, absent_namespaces, read, removals, step};
use super::{Error, RecordedObject, Revision};
use crate::cluster::Cluster;

/// Objects asked about at once.
const AT_ONCE: usize = 8;

/// How one object differs from what it would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: Option<String>,
    /// How.
    #[serde(flatten)]
    pub change: Change,
    /// The fields that a rollout takes over only when told to, with their managers.
    pub conflicts: Vec<ForeignField>,
    /// Why it stays though no revision needs it; null where it does not.
    pub kept: Option<String>,
}

/// A field that another manager owns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ForeignField {
    /// Where, as the API server says it.
    pub field: String,
    /// Whose.
    pub manager: String,
}

impl Difference {
    /// Whether there is any.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.kept.is_none() && (self.change != Change::Unchanged || !self.conflicts.is_empty())
    }

    /// Whether it is the difference of this object.
    pub(super) fn is_of(&self, object: &Object) -> bool {
        self.kind == object.kind() && self.name == object.name() && self.namespace.as_deref() == object.namespace()
    }

    pub(super) fn new(object: &Object, change: Change) -> Self {
        Self {
            kind: object.kind().to_owned(),
            name: object.name().to_owned(),
            namespace: object.namespace().map(str::to_owned),
            change,
            conflicts: Vec::new(),
            kept: None,
        }
    }
}

/// How each of `objects` differs in the cluster, and what of earlier revisions would go.
///
/// # Errors
/// When the API server cannot be asked, or refuses an object for another reason than the fields that would change.
pub async fn differences(
    cluster: &Cluster,
    objects: Vec<Object>,
    prune_definitions: bool,
) -> Result<Vec<Difference>, Error> {
    compare(cluster, objects, &[], false, prune_definitions).await
}

/// How the cluster differs from a revision; what others have added counts too, which no rollout takes away. Secrets whose values
/// are not recorded are not compared.
///
/// # Errors
/// As [`differences()`]; when this version does not know all objects of the revision.
pub async fn drift(cluster: &Cluster, from: &Revision, prune_definitions: bool) -> Result<Vec<Difference>, Error> {
    compare(cluster, from.to_apply()?, &from.withheld(), true, prune_definitions).await
}

async fn compare(
    cluster: &Cluster,
    objects: Vec<Object>,
    withheld: &[(usize, RecordedObject)],
    drift: bool,
    prune_definitions: bool,
) -> Result<Vec<Difference>, Error> {
    let absent = absent_namespaces(cluster, &objects).await?;
    let (removals, kept) = removals(cluster, &objects, withheld, &absent, prune_definitions).await?;
    let (first, of_defined_kinds): (Vec<_>, Vec<_>) =
        objects.into_iter().partition(|object| object.stage() < Stage::Custom);
    let none = DefinedKinds::default();
    let each = stream::iter(&first).map(|object| one(cluster, object, &absent, &none, drift)).buffered(AT_ONCE);
    let mut found: Vec<Difference> = each.try_collect().await?;
    let changed = first.iter().zip(&found).filter(|(_, found)| found.change != Change::Unchanged);
    let defined = DefinedKinds::of(changed.map(|(object, _)| object));
    let each = stream::iter(&of_defined_kinds).map(|object| one(cluster, object, &absent, &defined, drift));
    found.extend(each.buffered(AT_ONCE).try_collect::<Vec<_>>().await?);
    found.extend(removals.iter().map(|removal| Difference::new(&removal.object, Change::Removed)));
    found.extend(kept.into_iter().map(|kept| Difference {
        kind: kept.kind,
        name: kept.name,
        namespace: kept.namespace,
        change: Change::Unchanged,
        conflicts: Vec::new(),
        kept: Some(kept.why),
    }));
    Ok(found)
}

async fn one(
    cluster: &Cluster,
    object: &Object,
    absent: &BTreeSet<String>,
    defined: &DefinedKinds,
    drift: bool,
) -> Result<Difference, Error> {
    let mut conflicts = Vec::new();
    let mut stepped = step(cluster, object.clone(), false, absent, defined).await;
    if let Err(Error::Conflict(found)) = &stepped {
        conflicts =
            found.0.iter().map(|one| ForeignField { field: one.field.clone(), manager: one.manager.clone() }).collect();
        stepped = step(cluster, object.clone(), true, absent, defined).await;
    }
    let mut change = match stepped {
        Ok(step) => step.change,
        // One that no rollout deletes.
        Err(Error::Immutable { fields, .. }) => {
            Change::Recreated(fields.into_iter().map(|field| FieldChange { field, from: None, to: None }).collect())
        }
        Err(error) => return Err(error),
    };
    if drift
        && matches!(change, Change::Unchanged | Change::Configured(_))
        && let Some(before) = read(cluster, object).await?
    {
        change = with(change, foreign_fields(&before));
    }
    Ok(Difference { conflicts, ..Difference::new(object, change) })
}

/// A change with further fields, unless it speaks of them already.
fn with(change: Change, further: Vec<FieldChange>) -> Change {
    let mut fields = if let Change::Configured(fields) = change { fields } else { Vec::new() };
    for one in further {
        if !fields.iter().any(|known| one.field.starts_with(&known.field) || known.field.starts_with(&one.field)) {
            fields.push(one);
        }
    }
    if fields.is_empty() { Change::Unchanged } else { Change::Configured(fields) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use vcmanifests::Object;

    use super::{Change, Difference, FieldChange, with};

    fn field(path: &str) -> FieldChange {
        FieldChange { field: path.to_owned(), from: None, to: None }
    }

    #[test]
    fn what_others_added_joins_what_changed_once() {
        let changed = Change::Configured(vec![field("spec.a")]);
        let found = with(changed, vec![field("spec.a"), field("spec.a.b"), field("spec.c")]);
        assert_eq!(found, Change::Configured(vec![field("spec.a"), field("spec.c")]));
        assert_eq!(with(Change::Unchanged, vec![]), Change::Unchanged);
    }

    #[test]
    fn what_stays_is_told_and_is_no_difference() {
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "n" } });
        let object = Object::from_value(&namespace).unwrap().unwrap();
        let removed = Difference::new(&object, Change::Removed);
        assert!(removed.is_any() && !Difference::new(&object, Change::Unchanged).is_any());
        let kept = Difference { kept: Some("why".to_owned()), ..Difference::new(&object, Change::Unchanged) };
        assert!(!kept.is_any());
        assert_eq!(
            serde_json::to_value(&removed).unwrap(),
            json!({ "kind": "Namespace", "name": "n", "namespace": null,
            "change": "removed", "conflicts": [], "kept": null })
        );
    }
}
