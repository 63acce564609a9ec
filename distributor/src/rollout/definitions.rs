//! Whether the cluster's objects survive a change of their definition. Asked before anything is written: the API server takes a
//! new definition without a look at the objects, which nobody can change any more once they do not fit it.

use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use kube::core::GroupVersionKind;
use serde_json::Value;
use vcmanifests::{Object, Stage};

use super::Error;
use super::plan::{Change, Step, read, title};
use super::schema::violations;
use crate::cluster::{Cluster, is_absent};

/// Objects asked for at once.
const PAGE: u32 = 200;

/// How many objects are named.
const NAMED: usize = 5;

/// Refuses definitions that living objects do not fit.
pub(super) async fn check(cluster: &Cluster, steps: &[Step]) -> Result<(), Error> {
    let changed = steps
        .iter()
        .filter(|step| step.object.stage() == Stage::Definitions && matches!(step.change, Change::Configured(_)));
    for step in changed {
        let object = &step.object;
        let Some(found) = read(cluster, object).await? else { continue };
        let wanted = serde_json::to_value(object).map_err(|source| Error::Prepare { object: title(object), source })?;
        check_one(cluster, object, &found.data, &wanted).await?;
    }
    Ok(())
}

async fn check_one(cluster: &Cluster, object: &Object, live: &Value, wanted: &Value) -> Result<(), Error> {
    let refuse = |why: String, help: String| Error::Definition { object: title(object), why, help };
    let lost = dropped_storage(live, wanted);
    if !lost.is_empty() {
        return Err(refuse(
            format!("objects are stored in the version {}, which the new definition does not have", lost.join(", ")),
            "keep that version in the definition; store every object again in the new one, take the old one out of \
             status.storedVersions, and drop it then"
                .to_owned(),
        ));
    }
    for version in dropped_service(live, wanted) {
        let living = list(cluster, object, live, &version, 1).await?;
        if let Some(one) = living.first() {
            return Err(refuse(
                format!("the new definition does not serve the version {version} any more, and {} exists", name(one)),
                "serve one of the versions that are served now too, so that whoever uses the objects can move to another"
                    .to_owned(),
            ));
        }
    }
    for (version, old, new) in changed_schemas(live, wanted) {
        let mut named = Vec::new();
        for living in list(cluster, object, live, &version, usize::MAX).await? {
            let living_value = serde_json::to_value(&living).unwrap_or_default();
            let before = violations(&old, &living_value);
            let found = violations(&new, &living_value).into_iter().filter(|one| !before.contains(one));
            named.extend(found.map(|one| format!("{}: {one}", name(&living))));
        }
        if !named.is_empty() {
            let further = named.len().saturating_sub(NAMED);
            named.truncate(NAMED);
            let further = if further > 0 { format!("; and {further} more") } else { String::new() };
            return Err(refuse(
                format!("living objects do not fit the new schema of {version}: {}{further}", named.join("; ")),
                "change these objects so that they fit, then deploy again".to_owned(),
            ));
        }
    }
    Ok(())
}

/// Versions that objects are stored in and that the new definition lacks.
fn dropped_storage(live: &Value, wanted: &Value) -> Vec<String> {
    let stored = live["status"]["storedVersions"].as_array().into_iter().flatten().filter_map(Value::as_str);
    stored.filter(|stored| version(wanted, stored).is_none()).map(str::to_owned).collect()
}

/// Versions that are served now and would not be.
fn dropped_service(live: &Value, wanted: &Value) -> Vec<String> {
    let served = versions(live).filter(|one| one["served"] == true).filter_map(|one| one["name"].as_str());
    let served: Vec<&str> = served.collect();
    // Every object can be had in every served version: one that is retired beside another takes nothing away.
    if served.iter().any(|name| version(wanted, name).is_some_and(|one| one["served"] == true)) {
        return Vec::new();
    }
    served.into_iter().map(str::to_owned).collect()
}

/// The versions that are and stay served and whose schema changes: name, old and new schema.
fn changed_schemas(live: &Value, wanted: &Value) -> Vec<(String, Value, Value)> {
    let schema = |version: &Value| version["schema"]["openAPIV3Schema"].clone();
    let mut changed = Vec::new();
    for old in versions(live).filter(|one| one["served"] == true) {
        let name = old["name"].as_str().unwrap_or_default();
        if let Some(new) = version(wanted, name)
            && schema(old) != schema(new)
        {
            changed.push((name.to_owned(), schema(old), schema(new)));
        }
    }
    changed
}

fn versions(definition: &Value) -> impl Iterator<Item = &Value> {
    definition["spec"]["versions"].as_array().into_iter().flatten()
}

fn version<'a>(definition: &'a Value, name: &str) -> Option<&'a Value> {
    versions(definition).find(|one| one["name"] == name)
}

/// The objects of a definition, through one of its versions, `most` at most.
async fn list(
    cluster: &Cluster,
    definition: &Object,
    live: &Value,
    version: &str,
    most: usize,
) -> Result<Vec<DynamicObject>, Error> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (group, names) = (text(&live["spec"]["group"]), &live["spec"]["names"]);
    let kind = GroupVersionKind::gvk(&group, version, &text(&names["kind"]));
    let api: Api<DynamicObject> =
        Api::all_with(cluster.client(), &ApiResource::from_gvk_with_plural(&kind, &text(&names["plural"])));
    let mut found = Vec::new();
    let mut page = ListParams::default().limit(PAGE.min(u32::try_from(most).unwrap_or(PAGE)));
    loop {
        let listed = match api.list(&page).await {
            // The definition is there and not established yet: nothing can be of it.
            Err(error) if is_absent(&error) => return Ok(found),
            listed => listed
                .map_err(|error| cluster.failed(format!("listing the objects of {}", title(definition)), error))?,
        };
        found.extend(listed.items);
        match listed.metadata.continue_.filter(|next| !next.is_empty() && found.len() < most) {
            Some(next) => page.continue_token = Some(next),
            None => return Ok(found),
        }
    }
}

fn name(object: &DynamicObject) -> String {
    let name = object.metadata.name.as_deref().unwrap_or_default();
    object.metadata.namespace.as_ref().map_or_else(|| name.to_owned(), |namespace| format!("{namespace}/{name}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{changed_schemas, dropped_service, dropped_storage};

    fn definition(versions: &[(&str, bool, &str)], stored: &[&str]) -> Value {
        let versions: Vec<Value> = versions
            .iter()
            .map(|(name, served, type_)| json!({ "name": name, "served": served, "schema": { "openAPIV3Schema": { "type": type_ } } }))
            .collect();
        json!({ "spec": { "versions": versions }, "status": { "storedVersions": stored } })
    }

    #[test]
    fn versions_that_go_are_found() {
        let live =
            definition(&[("v1", true, "object"), ("v2", true, "object"), ("v0", false, "object")], &["v1", "v2"]);
        let wanted = definition(&[("v1", false, "object"), ("v3", true, "object")], &[]);
        assert_eq!(dropped_storage(&live, &wanted), ["v2"]);
        assert_eq!(dropped_service(&live, &wanted), ["v1", "v2"]);
        assert!(dropped_storage(&live, &live).is_empty() && dropped_service(&live, &live).is_empty());
    }

    #[test]
    fn only_schemas_that_change_are_looked_at() {
        let live = definition(&[("v1", true, "object"), ("v2", true, "object")], &[]);
        let wanted = definition(&[("v1", true, "array"), ("v2", true, "object")], &[]);
        assert_eq!(
            changed_schemas(&live, &wanted),
            [("v1".to_owned(), json!({ "type": "object" }), json!({ "type": "array" }))]
        );
    }
}
