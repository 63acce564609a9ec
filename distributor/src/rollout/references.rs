//! Which images an object names: in its own image fields, or anywhere at all.

use serde_json::{Map, Value};

/// Longer words are not references: a repository has at most 255 characters, a tag 128, a digest 71.
const LONGEST: usize = 512;

/// Every image that a workload of ours names, in the fields that Kubernetes has for it: `image` of containers, and of
/// volumes (`image.reference`).
pub(super) fn references(object: &Value) -> Box<dyn Iterator<Item = &str> + '_> {
    match object {
        Value::Object(fields) => Box::new(fields.iter().flat_map(|(key, value)| match value {
            Value::String(reference) if key == "image" => {
                Box::new(std::iter::once(reference.as_str())) as Box<dyn Iterator<Item = &str>>
            }
            Value::Object(volume) if key == "image" => {
                Box::new(volume.get("reference").and_then(Value::as_str).into_iter())
            }
            value => references(value),
        })),
        Value::Array(items) => Box::new(items.iter().flat_map(references)),
        _ => Box::new(std::iter::empty()),
    }
}

/// Hands over every image that an object may mean, wherever it says so: fields named like `image`, `proxyImage`, `imageID`;
/// objects of a repository and a tag; and any word of any other text that may be a reference, as arguments and variables
/// have them. Words that are none do no harm: they are compared with the images that were pushed.
pub(super) fn mentions(object: &Value, take: &mut impl FnMut(&str)) {
    visit("", object, take);
}

fn visit(key: &str, value: &Value, take: &mut impl FnMut(&str)) {
    match value {
        Value::Object(fields) => {
            if let Some(reference) = in_parts(fields) {
                take(&reference);
            }
            for (name, value) in fields.iter().filter(|(name, _)| *name != "managedFields") {
                // A volume's image, and whatever else is an image with a reference.
                let name = if name == "reference" && is_image(key) { key } else { name };
                visit(name, value, take);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| visit(key, item, take)),
        // Docker's `imageID` is `docker-pullable://NAME@DIGEST`.
        Value::String(text) if is_image(key) => take(text.split_once("://").map_or(text, |(_, rest)| rest)),
        Value::String(text) => text.split(is_between).filter(|word| may_be_reference(word)).for_each(take),
        _ => {}
    }
}

/// `image`, `images`, `imageID`, `sidecarImage`, `example.com/proxy-image`.
fn is_image(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["image", "images", "imageid"].iter().any(|end| key.ends_with(end))
}

/// The reference that `registry`, `repository`, `tag` and `digest` make together, as custom resources often have them.
fn in_parts(fields: &Map<String, Value>) -> Option<String> {
    let text = |key: &str| fields.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let repository = text("repository")?;
    let registry = text("registry").map(|registry| format!("{registry}/")).unwrap_or_default();
    let tag = text("tag").map(|tag| format!(":{tag}")).unwrap_or_default();
    let digest = text("digest").map(|digest| format!("@{digest}")).unwrap_or_default();
    Some(format!("{registry}{repository}{tag}{digest}"))
}

fn is_between(c: char) -> bool {
    c.is_whitespace() || "=,;\"'`()[]{}<>|&$".contains(c)
}

/// Whether a word has the form of a reference. Without a path, a tag or a digest it would be any word at all.
fn may_be_reference(word: &str) -> bool {
    word.len() <= LONGEST
        && word.contains(['/', ':', '@'])
        && !word.contains("://")
        && word.starts_with(|c: char| c.is_ascii_alphanumeric())
        && word.chars().all(|c| c.is_ascii_alphanumeric() || "._-/:@+".contains(c))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{mentions, references};

    fn mentioned(object: &Value) -> Vec<String> {
        let mut found = Vec::new();
        mentions(object, &mut |reference| found.push(reference.to_owned()));
        found.sort_unstable();
        found
    }

    #[test]
    fn our_own_images_are_those_of_containers_and_volumes() {
        let pod = json!({
            "metadata": {"annotations": {"note": "docker.io/a/note:v1"}},
            "spec": {"containers": [{"image": "a@sha256:1", "args": ["--image=d/e:v1"]}], "initContainers": [{"image": "b"}],
                     "volumes": [{"image": {"reference": "c", "pullPolicy": "Never"}}]},
        });
        let mut found: Vec<&str> = references(&pod).collect();
        found.sort_unstable();
        assert_eq!(found, ["a@sha256:1", "b", "c"]);
    }

    #[test]
    fn every_field_of_a_pod_that_names_an_image_counts() {
        let pod = json!({
            "metadata": {"annotations": {"example.com/proxyImage": "proxy"}, "managedFields": [{"manager": "x/y:z"}]},
            "spec": {
                "containers": [{"name": "one", "image": "busybox", "env": [{"name": "RELATED", "value": "docker.io/a/env:v1"}],
                                "args": ["--reloader=quay.io/a/arg:v1", "--port=80", "/var/lib/x", "https://host/path"]}],
                "initContainers": [{"image": "init"}], "ephemeralContainers": [{"image": "debug"}],
                "volumes": [{"image": {"reference": "models", "pullPolicy": "Never"}}],
            },
            "status": {"containerStatuses": [{"imageID": "docker-pullable://docker.io/a/ran@sha256:1"}]},
        });
        assert_eq!(
            mentioned(&pod),
            [
                "busybox",
                "debug",
                "docker.io/a/env:v1",
                "docker.io/a/ran@sha256:1",
                "init",
                "models",
                "proxy",
                "quay.io/a/arg:v1"
            ]
        );
    }

    #[test]
    fn a_custom_resources_images_are_found_in_any_shape() {
        let object = json!({"spec": {
            "server": {"image": {"repository": "a/server", "tag": "v1"}},
            "agent": {"registry": "quay.io", "repository": "a/agent", "digest": "sha256:1"},
            "imagePullPolicy": "Never", "images": ["one", "two:v1"],
            "template": "containers:\n- image: \"docker.io/a/text:v1\"\n",
        }});
        let found = mentioned(&object);
        for expected in ["a/server:v1", "quay.io/a/agent@sha256:1", "one", "two:v1", "docker.io/a/text:v1"] {
            assert!(found.iter().any(|one| one == expected), "{expected}: {found:?}");
        }
        assert!(!found.iter().any(|one| one == "Never"), "{found:?}");
    }
}
