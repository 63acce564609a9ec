//! A chart for Helm from objects: a template for each, and values for what makes sense to change afterwards. Pure: a chart is its
//! files. With the default values, `helm template` prints the objects that `vcdist render` prints.

mod defaults;
mod pages;
mod seal;
mod slots;
mod workload;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::{Component, NamespaceName, Object, Parameters, RELEASE, Stage, YamlError};
use defaults::{Defaults, Shape};
use pages::Page;
pub use seal::is_unchanged_chart;
use slots::{NAMESPACE, Slots};
use workload::Place;

/// Kinds whose removal would delete other objects or data: `helm uninstall` leaves them, and so does an upgrade to a chart without
/// them.
const KEPT: [&str; 4] = ["CustomResourceDefinition", "Namespace", "PersistentVolume", "PersistentVolumeClaim"];

/// The annotation by which Helm leaves an object.
const POLICY: &str = "helm.sh/resource-policy";

/// A chart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chart {
    /// Its name.
    pub name: String,
    /// Its files by their paths in its folder.
    pub files: BTreeMap<String, String>,
    /// What whoever uses it should know beforehand.
    pub notes: Vec<String>,
}

/// Returns the chart of an installation of VirtualCluster, which Helm installs into any namespace.
///
/// # Errors
/// Returns an error if an object cannot be serialized, which does not happen for objects of this crate.
pub fn installation_chart(parameters: &Parameters) -> Result<Chart, YamlError> {
    let everything = Parameters {
        namespace: NamespaceName::placeholder(NAMESPACE),
        syncer_replicas: parameters.syncer_replicas.max(2),
        network_policies: true,
        service_monitors: true,
        ..parameters.clone()
    };
    let mut defaults = Defaults::default();
    let top = |key: &str| vec![key.to_owned()];
    let switch = |key: &str| vec![key.to_owned(), "enabled".to_owned()];
    let policies = defaults.add(&switch("networkPolicy"), json!(parameters.network_policies), Shape::Switch);
    let monitors = defaults.add(&switch("serviceMonitor"), json!(parameters.service_monitors), Shape::Switch);
    let _ = defaults.add(&top("imagePullPolicy"), json!(parameters.pull_policy.as_str()), Shape::PullPolicy);
    let mut draft = Draft::new("virtualcluster", defaults);
    for object in crate::objects(&everything).iter().filter(|object| object.stage() != Stage::Namespace) {
        let condition = match object.kind() {
            "PodDisruptionBudget" => Some("gt (int .Values.syncer.replicas) 1"),
            "NetworkPolicy" => Some(policies.as_str()),
            "Service" | "ServiceMonitor" => Some(monitors.as_str()),
            _ => None,
        };
        let component = Component::ALL.into_iter().find(|one| one.workload() == object.name());
        let place = component.map(|component| Place {
            path: top(match component {
                Component::Manager => "manager",
                Component::Syncer => "syncer",
                Component::VnAgent => "vnAgent",
            }),
            is_flat: true,
            has_replicas: component == Component::Syncer,
            has_pull_policy: true,
        });
        draft.add(object, condition, place.as_ref())?;
    }
    // The objects were made with more where a condition decides.
    let _ =
        draft.defaults.add(&["syncer", "replicas"].map(str::to_owned), json!(parameters.syncer_replicas), Shape::Count);
    draft.finish(&Page::Installation { namespace: parameters.namespace.as_str() })
}

/// Returns the chart of a release of others' manifests. Their objects name its namespace in ways that nobody else knows, so Helm
/// installs it into no other one.
///
/// # Errors
/// Returns an error if an object cannot be serialized.
pub fn release_chart(name: &str, namespace: &str, objects: &[Object]) -> Result<Chart, YamlError> {
    let mut draft = Draft::new(name, Defaults::default());
    let keys = workload_keys(objects);
    let used: BTreeSet<(String, String)> = objects.iter().map(group_and_kind).collect();
    for (object, key) in objects.iter().zip(keys) {
        if object.stage() == Stage::Namespace && object.name() == namespace {
            let note = "the chart leaves out the namespace, which `helm install --create-namespace` makes";
            draft.chart.notes.push(format!("{note}: {namespace}"));
            continue;
        }
        if object.kind() == "CustomResourceDefinition" && used.contains(&defined(&json!(object))) {
            draft.add_definition(object)?;
            continue;
        }
        let place = Place {
            path: vec!["workloads".to_owned(), key],
            is_flat: false,
            has_replicas: true,
            has_pull_policy: false,
        };
        draft.add(object, None, Some(&place))?;
    }
    let check = format!(
        "{{{{- if ne .Release.Namespace {namespace:?} }}}}\n{{{{- fail \"the objects of this chart name the namespace {namespace}: use \
         --namespace {namespace}, or render the chart again for another one\" }}}}\n{{{{- end }}}}\n"
    );
    draft.chart.files.insert("templates/check-namespace.yaml".to_owned(), check);
    draft.finish(&Page::Release { namespace })
}

/// A chart on the way.
struct Draft {
    chart: Chart,
    defaults: Defaults,
    images: BTreeSet<String>,
}

impl Draft {
    fn new(name: &str, mut defaults: Defaults) -> Self {
        let _ = defaults.add(&["imageRegistry".to_owned()], json!(""), Shape::Text);
        let _ = defaults.add(&["imagePullSecrets".to_owned()], json!([]), Shape::Objects);
        let chart = Chart { name: name.to_owned(), files: BTreeMap::new(), notes: Vec::new() };
        Self { chart, defaults, images: BTreeSet::new() }
    }

    /// Adds the template of an object.
    fn add(&mut self, object: &Object, condition: Option<&str>, place: Option<&Place>) -> Result<(), YamlError> {
        let mut value = unmarked(object);
        let mut slots = Slots::default();
        if KEPT.contains(&object.kind()) {
            value["metadata"]["annotations"][POLICY] = json!("keep");
        }
        if let Some(place) = place.filter(|_| workload::is_workload(&value)) {
            collect_images(&value, &mut self.images);
            let image = format!("{}.image", self.chart.name);
            workload::open(&mut value, place, &image, &mut slots, &mut self.defaults);
        }
        keep_what_is_filled_in(&mut value, &mut slots);
        let template = slots.template(value)?;
        let template = match condition {
            Some(condition) => format!("{{{{- if {condition} }}}}\n{template}{{{{- end }}}}\n"),
            None => template,
        };
        let path = self.path("templates", object);
        self.chart.files.insert(path, template);
        Ok(())
    }

    /// Adds a definition of which the chart has objects. Helm looks up the kinds of all templates before it applies the first.
    fn add_definition(&mut self, object: &Object) -> Result<(), YamlError> {
        let yaml = crate::to_yaml(&unmarked(object))?;
        let path = self.path("crds", object);
        self.chart.notes.push(format!(
            "Helm never upgrades {path}, because the chart has objects of this kind: before an upgrade, apply the file with \
             `kubectl apply --server-side`"
        ));
        self.chart.files.insert(path, yaml);
        Ok(())
    }

    /// A path of its own for an object.
    fn path(&self, folder: &str, object: &Object) -> String {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        let name: String = object.name().chars().map(|c| if is_plain(c) { c } else { '-' }).collect();
        let stem = format!("{folder}/{}-{name}", object.kind().to_lowercase());
        let numbered = (2..).map(|number| format!("{stem}-{number}.yaml"));
        let mut paths = std::iter::once(format!("{stem}.yaml")).chain(numbered);
        paths.find(|path| !self.chart.files.contains_key(path)).unwrap_or(stem)
    }

    fn finish(mut self, page: &Page<'_>) -> Result<Chart, YamlError> {
        let files = &mut self.chart.files;
        files.insert("templates/_helpers.tpl".to_owned(), pages::helpers(&self.chart.name));
        files.insert("templates/NOTES.txt".to_owned(), page.notes());
        files.insert("README.md".to_owned(), page.readme(&self.chart.name, &self.chart.notes));
        files.insert("values.yaml".to_owned(), page.values(&crate::to_yaml(self.defaults.values())?));
        let schema = format!("{:#}\n", self.defaults.schema());
        files.insert("values.schema.json".to_owned(), schema);
        let description = page.description(&self.chart.name);
        seal::seal(&mut self.chart, &description, &self.images)?;
        Ok(self.chart)
    }
}

/// An object without the mark of a release of vcdist: Helm has its own.
fn unmarked(object: &Object) -> Value {
    let mut value = json!(object);
    if let Some(metadata) = value["metadata"].as_object_mut()
        && let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut)
    {
        annotations.remove(RELEASE);
        if annotations.is_empty() {
            metadata.remove("annotations");
        }
    }
    value
}

/// A Secret whose values are all empty is there for somebody to fill in. An upgrade must not empty it again.
fn keep_what_is_filled_in(value: &mut Value, slots: &mut Slots) {
    let data = value["data"].as_object().filter(|data| !data.is_empty() && data.values().all(|one| one == ""));
    let (true, Some(data)) = (value["kind"] == "Secret", data) else { return };
    let empty: Vec<String> = data.keys().map(|key| format!(" {key:?} \"\"")).collect();
    let namespace = match value["metadata"]["namespace"].as_str() {
        Some(NAMESPACE) | None => ".Release.Namespace".to_owned(),
        Some(fixed) => format!("{fixed:?}"),
    };
    let name = value["metadata"]["name"].as_str().unwrap_or_default();
    let found = format!("get (lookup \"v1\" \"Secret\" {namespace} {name:?}) \"data\" | default dict");
    value["data"] = slots.value(format!("toJson (merge ({found}) (dict{}))", empty.concat()));
}

fn collect_images(value: &Value, images: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Value::String(name) if key == "image" => {
                        images.insert(name.clone());
                    }
                    value => collect_images(value, images),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_images(item, images)),
        _ => {}
    }
}

/// A key for the values of each object: its name, with its kind and then its namespace where another object has the same.
fn workload_keys(objects: &[Object]) -> Vec<String> {
    let is_workload: Vec<bool> = objects.iter().map(|object| workload::is_workload(&json!(object))).collect();
    let short = |object: &Object| object.name().to_owned();
    let kind = |object: &Object| format!("{}-{}", object.kind().to_lowercase(), object.name());
    let full = |object: &Object| format!("{}-{}", object.namespace().unwrap_or_default(), kind(object));
    let among = |object: &Object, key: &dyn Fn(&Object) -> String| {
        let same = objects.iter().zip(&is_workload).filter(|(other, is)| **is && key(other) == key(object));
        same.count() > 1
    };
    let key = |object: &Object| match object {
        object if !among(object, &short) => short(object),
        object if !among(object, &kind) => kind(object),
        object => full(object),
    };
    objects.iter().map(key).collect()
}

fn group_and_kind(object: &Object) -> (String, String) {
    let group = object.api_version().split_once('/').map_or("", |(group, _)| group);
    (group.to_owned(), object.kind().to_owned())
}

fn defined(definition: &Value) -> (String, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&definition["spec"]["group"]), text(&definition["spec"]["names"]["kind"]))
}

#[cfg(test)]
mod tests;
