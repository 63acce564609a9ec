//! What of a workload can be changed by values of a chart: images, arguments, resources, replicas and the choice of nodes.

use serde_json::{Map, Value, json};

use super::defaults::{Defaults, Shape};
use super::slots::Slots;

/// Where the values of a workload are.
#[derive(Debug)]
pub(super) struct Place {
    /// The path of its own values.
    pub path: Vec<String>,
    /// Whether its only container has no path of its own.
    pub is_flat: bool,
    /// Whether its number of replicas may be changed.
    pub has_replicas: bool,
    /// Whether one value holds the pull policy of all images.
    pub has_pull_policy: bool,
}

impl Place {
    fn under(&self, keys: &[&str]) -> Vec<String> {
        self.path.iter().cloned().chain(keys.iter().map(|key| (*key).to_owned())).collect()
    }
}

/// Whether objects of a kind make pods.
pub(super) fn is_workload(value: &Value) -> bool {
    pod_path(value).is_some()
}

/// Makes places of what can be changed; `image` is the name of the template that joins the parts of an image's name.
pub(super) fn open(value: &mut Value, place: &Place, image: &str, slots: &mut Slots, defaults: &mut Defaults) {
    if place.has_replicas && value["spec"]["replicas"].is_u64() {
        let count = defaults.add(&place.under(&["replicas"]), value["spec"]["replicas"].take(), Shape::Count);
        value["spec"]["replicas"] = slots.value(count);
    }
    let Some(path) = pod_path(value) else { return };
    let pod = path.iter().try_fold(value, |value, key| value.get_mut(*key));
    let Some(pod) = pod.and_then(Value::as_object_mut) else { return };
    for list in ["containers", "initContainers"] {
        for container in pod.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let name = container["name"].as_str().unwrap_or_default().to_owned();
            let Some(container) = container.as_object_mut() else { continue };
            let at = if place.is_flat { place.under(&[]) } else { place.under(&[list, &name]) };
            open_container(container, &Place { path: at, ..*place }, image, slots, defaults);
        }
    }
    optional(pod, "nodeSelector", place, Shape::Mapping, slots, defaults);
    optional(pod, "tolerations", place, Shape::Objects, slots, defaults);
    pull_secrets(pod, place, slots, defaults);
}

fn open_container(
    container: &mut Map<String, Value>,
    place: &Place,
    image: &str,
    slots: &mut Slots,
    defaults: &mut Defaults,
) {
    if let Some(name) = container.get("image").and_then(Value::as_str) {
        let parts = parts(name);
        for (key, part) in ["registry", "repository", "tag", "digest"].into_iter().zip(parts) {
            let shape = match key {
                "tag" => Shape::Tag,
                "digest" => Shape::Digest,
                _ => Shape::Text,
            };
            let _ = defaults.add(&place.under(&["image", key]), json!(part), shape);
        }
        let at = super::defaults::expression(&place.under(&["image"]));
        let name = format!("include {image:?} (dict \"image\" {at} \"root\" $) | quote");
        container.insert("image".to_owned(), slots.value(name));
    }
    if place.has_pull_policy && container.contains_key("imagePullPolicy") {
        container.insert("imagePullPolicy".to_owned(), slots.value(".Values.imagePullPolicy"));
    }
    let args = defaults.add(&place.under(&["args"]), json!([]), Shape::Texts);
    match container.get_mut("args").and_then(Value::as_array_mut) {
        Some(list) if !list.is_empty() => slots
            .items(list, [format!("{{{{- range {args} }}}}"), "- {{ toJson . }}".to_owned(), "{{- end }}".to_owned()]),
        _ => {
            container.remove("args");
            slots.entries(container, with(&args, "args"));
        }
    }
    optional(container, "resources", place, Shape::Mapping, slots, defaults);
}

/// An entry that is there only where its value is not empty, or where the manifest has an empty one too.
fn optional(
    mapping: &mut Map<String, Value>,
    key: &str,
    place: &Place,
    shape: Shape,
    slots: &mut Slots,
    defaults: &mut Defaults,
) {
    let empty = if matches!(shape, Shape::Objects) { json!([]) } else { json!({}) };
    let given = mapping.remove(key).filter(|value| !value.is_null());
    let is_empty = given.as_ref() == Some(&empty);
    let value = defaults.add(&place.under(&[key]), given.unwrap_or(empty), shape);
    if is_empty {
        mapping.insert(key.to_owned(), slots.value(format!("toJson {value}")));
    } else {
        slots.entries(mapping, with(&value, key));
    }
}

/// Those of the pod and those of all pods.
fn pull_secrets(pod: &mut Map<String, Value>, place: &Place, slots: &mut Slots, defaults: &mut Defaults) {
    const KEY: &str = "imagePullSecrets";
    let all = super::defaults::expression(&[KEY.to_owned()]);
    let value = match pod.remove(KEY).filter(|own| own.as_array().is_some_and(|own| !own.is_empty())) {
        Some(own) => format!("concat {} {all}", defaults.add(&place.under(&[KEY]), own, Shape::Objects)),
        None => all,
    };
    slots.entries(pod, with(&value, KEY));
}

fn with(value: &str, key: &str) -> [String; 3] {
    [format!("{{{{- with {value} }}}}"), format!("{key}: {{{{ toJson . }}}}"), "{{- end }}".to_owned()]
}

/// Where the pod's specification is in an object that makes pods.
fn pod_path(value: &Value) -> Option<&'static [&'static str]> {
    let text = |key: &str| value[key].as_str().unwrap_or_default();
    let group = text("apiVersion").split_once('/').map_or("", |(group, _)| group);
    match (group, text("kind")) {
        ("", "Pod") => Some(&["spec"]),
        ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet") | ("batch", "Job") => {
            Some(&["spec", "template", "spec"])
        }
        ("batch", "CronJob") => Some(&["spec", "jobTemplate", "spec", "template", "spec"]),
        _ => None,
    }
}

/// The registry, repository, tag and digest of an image's name; what it does not have is empty.
fn parts(name: &str) -> [&str; 4] {
    let (rest, digest) = name.split_once('@').unwrap_or((name, ""));
    let path = rest.rfind('/').map_or(0, |slash| slash + 1);
    let (rest, tag) = rest[path..].find(':').map_or((rest, ""), |at| (&rest[..path + at], &rest[path + at + 1..]));
    match rest.split_once('/') {
        Some((registry, repository)) if registry.contains(['.', ':']) || registry == "localhost" => {
            [registry, repository, tag, digest]
        }
        _ => ["", rest, tag, digest],
    }
}

#[cfg(test)]
mod tests {
    use super::parts;

    #[test]
    fn names_of_images_have_four_parts() {
        for (name, expected) in [
            ("busybox", ["", "busybox", "", ""]),
            ("shop/web:1", ["", "shop/web", "1", ""]),
            ("localhost:5000/a", ["localhost:5000", "a", "", ""]),
            ("docker.io/shop/web:1@sha256:aa", ["docker.io", "shop/web", "1", "sha256:aa"]),
        ] {
            assert_eq!(parts(name), expected);
        }
    }
}
