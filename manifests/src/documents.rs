//! Manifests of others: YAML streams and JSON as `kubectl`, kustomize and `helm template` write them, read into objects. Kubernetes
//! reads YAML 1.1, and so does this.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{Error, Object};

/// The annotation by which an object names the release that it belongs to, as `NAMESPACE/NAME`.
pub const RELEASE: &str = "vcdist.virtualcluster.io/release";

/// The annotation by which a chart says when Helm handles an object beside the others.
const HOOK: &str = "helm.sh/hook";

/// What the API server writes into the metadata of each object. Nobody applies it.
const WRITTEN_BY_SERVER: [&str; 6] =
    ["creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid"];

/// One object as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// The object.
    pub value: Value,
    /// Where it is: the file, and which of its documents.
    pub origin: String,
}

/// How the API server serves a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedKind {
    /// Its plural name, as in request paths.
    pub plural: String,
    /// Whether its objects are in namespaces.
    pub is_namespaced: bool,
}

/// The kinds of a cluster by `apiVersion` and `kind`.
pub type ServedKinds = BTreeMap<(String, String), ServedKind>;

/// Reads the documents of a YAML stream or of JSON; the items of lists become documents of their own.
///
/// # Errors
/// Returns an error for text that is neither, or a document that is not a Kubernetes object with a name.
pub fn documents(text: &str, origin: &str) -> Result<Vec<Document>, Error> {
    let failed = |why: String| Error::Manifest { origin: origin.to_owned(), why };
    // YAML may begin with a brace too, and several JSON documents in a row are not YAML.
    let stream = serde_json::Deserializer::from_str(text).into_iter();
    let values: Vec<Value> = match stream.collect::<Result<_, _>>() {
        Ok(values) => values,
        Err(_) => {
            serde_saphyr::from_multiple_with_options(text, options()).map_err(|error| failed(error.to_string()))?
        }
    };
    let is_one = values.len() == 1;
    let mut all = Vec::new();
    for (at, value) in values.into_iter().enumerate() {
        let origin = if is_one { origin.to_owned() } else { format!("{origin}, document {}", at + 1) };
        flatten(value, origin, &mut all);
    }
    all.iter().try_for_each(check)?;
    Ok(all)
}

/// Whether Helm runs an object only as a test, when somebody calls `helm test`.
#[must_use]
pub fn is_helm_test(value: &Value) -> bool {
    let hooks = hook(value).unwrap_or_default().split(',').map(str::trim);
    hooks.into_iter().any(|hook| matches!(hook, "test" | "test-success" | "test-failure"))
}

/// When Helm handles an object beside the others; none for an object without a hook.
#[must_use]
pub fn hook(value: &Value) -> Option<&str> {
    value["metadata"]["annotations"][HOOK].as_str()
}

/// The kinds that the definitions among the documents define.
#[must_use]
pub fn defined_kinds(documents: &[Document]) -> ServedKinds {
    let mut kinds = ServedKinds::new();
    for spec in
        documents.iter().filter(|one| one.value["kind"] == "CustomResourceDefinition").map(|one| &one.value["spec"])
    {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        for version in spec["versions"].as_array().into_iter().flatten() {
            let api_version = format!("{}/{}", text(&spec["group"]), text(&version["name"]));
            let served =
                ServedKind { plural: text(&spec["names"]["plural"]), is_namespaced: spec["scope"] != "Cluster" };
            kinds.insert((api_version, text(&spec["names"]["kind"])), served);
        }
    }
    kinds
}

/// The objects of documents, in the order of a rollout: in `namespace` where they name none and their kind has one, and marked as
/// objects of `release`.
///
/// # Errors
/// Returns an error for a kind that is not among `kinds`, and for an object that is there twice.
pub fn placed(
    documents: Vec<Document>,
    kinds: &ServedKinds,
    namespace: &str,
    release: &str,
) -> Result<Vec<Object>, Error> {
    let mut seen: BTreeMap<(String, String, Option<String>), String> = BTreeMap::new();
    let mut objects = Vec::new();
    for Document { mut value, origin } in documents {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (api_version, kind, name) =
            (text(&value["apiVersion"]), text(&value["kind"]), text(&value["metadata"]["name"]));
        let served = kinds.get(&(api_version.clone(), kind.clone()));
        let unknown =
            || Error::UnknownKind { kind: kind.clone(), api_version: api_version.clone(), origin: origin.clone() };
        let served = served.ok_or_else(unknown)?;
        clean(&mut value, release);
        if !served.is_namespaced {
            value["metadata"].as_object_mut().map(|metadata| metadata.remove("namespace"));
        } else if value["metadata"]["namespace"].as_str().is_none_or(str::is_empty) {
            value["metadata"]["namespace"] = json!(namespace);
        }
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let within = value["metadata"]["namespace"].as_str().map(str::to_owned);
        let title = format!("{}/{name}", kind.to_lowercase());
        if let Some(first) = seen.insert((format!("{group}/{kind}"), name, within), origin.clone()) {
            return Err(Error::TwoObjects { title, first, second: origin });
        }
        objects.push(typed(&value).unwrap_or_else(|| Object::other(value, &served.plural)));
    }
    objects.sort_by_key(Object::stage);
    Ok(objects)
}

/// Puts digests into the images that an object names in fields `image`: `digest` completes a reference, or leaves it.
pub fn complete_images(value: &mut Value, digest: &mut impl FnMut(&str) -> Option<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Value::String(reference) if key == "image" => {
                        if let Some(complete) = digest(reference) {
                            *reference = complete;
                        }
                    }
                    value => complete_images(value, digest),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| complete_images(item, digest)),
        _ => {}
    }
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        // Kubernetes reads `defaultMode: 0644` as octal.
        legacy_octal_numbers: true,
        // Definitions of large operators come to some hundred thousand nodes.
        budget: serde_saphyr::budget! {
            max_depth: 120,
            max_documents: 16_384,
            max_events: 8_000_000,
            max_nodes: 4_000_000,
        },
    }
}

fn flatten(value: Value, origin: String, all: &mut Vec<Document>) {
    let kind = value["kind"].as_str().unwrap_or_default();
    let (Some(of), Some(items)) = (kind.strip_suffix("List"), value["items"].as_array()) else {
        all.push(Document { value, origin });
        return;
    };
    for (at, item) in items.iter().enumerate() {
        let mut item = item.clone();
        // Items of a typed list, such as a ConfigMapList, need not name their kind.
        if !of.is_empty() && item.is_object() && item["kind"].is_null() {
            item["apiVersion"] = value["apiVersion"].clone();
            item["kind"] = json!(of);
        }
        flatten(item, format!("{origin}, item {}", at + 1), all);
    }
}

fn check(document: &Document) -> Result<(), Error> {
    let Document { value, origin } = document;
    let is_text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    let failed = |why: &str| Err(Error::Manifest { origin: origin.clone(), why: why.to_owned() });
    if !value.is_object() {
        return failed("it is not a mapping");
    }
    if !is_text(&value["apiVersion"]) || !is_text(&value["kind"]) {
        return failed("it is not a Kubernetes object: apiVersion and kind are needed");
    }
    if value["metadata"]["name"].is_null() && !value["metadata"]["generateName"].is_null() {
        return Err(Error::GeneratedName { origin: origin.clone() });
    }
    if is_text(&value["metadata"]["name"]) { Ok(()) } else { failed("the object has no metadata.name") }
}

/// Takes away what the server writes, and marks the object.
fn clean(value: &mut Value, release: &str) {
    if let Some(object) = value.as_object_mut() {
        object.remove("status");
    }
    if let Some(metadata) = value["metadata"].as_object_mut() {
        metadata.retain(|key, _| !WRITTEN_BY_SERVER.contains(&key.as_str()));
        if metadata.get("annotations").is_none_or(Value::is_null) {
            metadata.insert("annotations".to_owned(), json!({}));
        }
    }
    value["metadata"]["annotations"][RELEASE] = json!(release);
}

/// The object as one of the kinds that have a type here, if the type holds every field of it.
fn typed(value: &Value) -> Option<Object> {
    let value = without_nulls(value);
    let object = Object::from_value(&value).ok()??;
    serde_json::to_value(&object).is_ok_and(|same| same == value).then_some(object)
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().filter(|(_, value)| !value.is_null());
            fields.map(|(key, value)| (key.clone(), without_nulls(value))).collect()
        }
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{
        Document, RELEASE, ServedKind, ServedKinds, complete_images, defined_kinds, documents, hook, is_helm_test,
        placed,
    };
    use crate::{Error, Object};

    const CONFIG: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n";

    fn kinds() -> ServedKinds {
        let kind = |api_version: &str, kind: &str, plural: &str, is_namespaced| {
            ((api_version.to_owned(), kind.to_owned()), ServedKind { plural: plural.to_owned(), is_namespaced })
        };
        [
            kind("v1", "ConfigMap", "configmaps", true),
            kind("v1", "Namespace", "namespaces", false),
            kind("apps/v1", "Deployment", "deployments", true),
            kind("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", "v", false),
        ]
        .into()
    }

    fn place(text: &str) -> Result<Vec<Object>, Error> {
        placed(documents(text, "f.yaml")?, &kinds(), "here", "here/shop")
    }

    #[test]
    fn streams_lists_and_json_are_read_with_their_places() {
        let origins = |text: &str| -> Vec<(String, String)> {
            let read = documents(text, "f").unwrap();
            read.into_iter()
                .map(|one| (one.value["metadata"]["name"].as_str().unwrap().to_owned(), one.origin))
                .collect()
        };
        let pair = |name: &str, origin: &str| (name.to_owned(), origin.to_owned());
        assert_eq!(origins(CONFIG), [pair("a", "f")]);
        let stream = format!("---\n# Source: chart\n{CONFIG}---\n---\n{}...\n", CONFIG.replace("name: a", "name: b"));
        assert_eq!(origins(&stream), [pair("a", "f, document 1"), pair("b", "f, document 2")]);
        let list = json!({ "apiVersion": "v1", "kind": "ConfigMapList", "items": [{ "metadata": { "name": "a" } }] });
        assert_eq!(origins(&list.to_string()), [pair("a", "f, item 1")]);
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": [list] });
        assert_eq!(origins(&list.to_string()), [pair("a", "f, item 1, item 1")]);
        assert_eq!(documents(&list.to_string(), "f").unwrap()[0].value["kind"], "ConfigMap");
        assert!(documents("", "f").unwrap().is_empty());
    }

    #[test]
    fn yaml_means_what_it_means_to_kubernetes() {
        let text = format!("{CONFIG}data: {{ a: 0644, b: yes, c: \"yes\", d: 1.10 }}\n");
        let data = documents(&text, "f").unwrap()[0].value["data"].clone();
        assert_eq!(data, json!({ "a": 420, "b": true, "c": "yes", "d": 1.1 }));
    }

    #[test]
    fn what_is_not_an_object_is_refused_with_its_place() {
        let why = |text: &str| documents(text, "f").unwrap_err().to_string();
        for (text, expected) in [
            ("a: [", "f: "),
            ("- 1\n", "not a mapping"),
            ("kind: X\n", "apiVersion and kind"),
            ("apiVersion: v1\nkind: Pod\n", "metadata.name"),
            ("{\"a\": ", "f: "),
        ] {
            assert!(why(text).contains(expected), "{text}: {}", why(text));
        }
        let generated = CONFIG.replace("name: a", "generateName: a-");
        assert!(matches!(documents(&generated, "f"), Err(Error::GeneratedName { origin }) if origin == "f"));
        let second = format!("{CONFIG}---\nkind: X\n");
        assert!(why(&second).contains("f, document 2"), "{}", why(&second));
    }

    #[test]
    fn objects_are_placed_marked_ordered_and_unique() {
        let text = "{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingWebhookConfiguration, metadata: {name: w}}\n\
             ---\n{apiVersion: apps/v1, kind: Deployment, metadata: {name: d}, spec: {selector: {}, template: {}}}\n\
             ---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: there, uid: x, managedFields: []}}\n\
             ---\n{apiVersion: v1, kind: Namespace, metadata: {name: there, namespace: odd, creationTimestamp: null}, status: {}}\n";
        let objects = place(text).unwrap();
        let told: Vec<_> = objects.iter().map(|object| (object.kind(), object.namespace())).collect();
        let expected = [
            ("Namespace", None),
            ("ConfigMap", Some("there")),
            ("Deployment", Some("here")),
            ("ValidatingWebhookConfiguration", None),
        ];
        assert_eq!(told, expected);
        assert!(matches!(objects[2], Object::Deployment(_)), "a type holds it");
        let config = serde_json::to_value(&objects[1]).unwrap();
        let metadata = json!({ "name": "c", "namespace": "there", "annotations": { RELEASE: "here/shop" } });
        assert_eq!(config["metadata"], metadata);
        let namespace = serde_json::to_value(&objects[0]).unwrap();
        assert_eq!(namespace.get("status"), None);

        let twice = place(&format!("{CONFIG}---\n{CONFIG}  namespace: here\n")).unwrap_err();
        assert!(
            twice.to_string().contains("f.yaml, document 1") && twice.to_string().contains("document 2"),
            "{twice}"
        );
        let unknown = place("{apiVersion: e.com/v1, kind: X, metadata: {name: x}}").unwrap_err();
        assert!(unknown.to_string().contains("e.com/v1") && unknown.to_string().contains("f.yaml"), "{unknown}");
    }

    #[test]
    fn fields_that_no_type_here_has_are_kept() {
        let text = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: d}, spec: {selector: {}, template: {}, newer: 1}}";
        let objects = place(text).unwrap();
        assert!(matches!(&objects[0], Object::Other(other) if other.value()["spec"]["newer"] == 1));
        assert_eq!(objects[0].plural(), "deployments");
    }

    #[test]
    fn definitions_define_kinds_in_each_version() {
        let definition = json!({ "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": { "name": "shops.e.com" }, "spec": { "group": "e.com", "scope": "Cluster",
            "names": { "kind": "Shop", "plural": "shops" }, "versions": [{ "name": "v1" }, { "name": "v2" }] } });
        let kinds = defined_kinds(&[Document { value: definition, origin: String::new() }]);
        let served = ServedKind { plural: "shops".to_owned(), is_namespaced: false };
        let key = |version: &str| (format!("e.com/{version}"), "Shop".to_owned());
        assert_eq!(kinds, [(key("v1"), served.clone()), (key("v2"), served)].into());
    }

    #[test]
    fn only_images_that_are_known_get_a_digest() {
        let mut pod = json!({ "spec": { "containers": [{ "image": "a:1" }, { "image": "b:1", "name": "image" }] } });
        let mut seen = Vec::new();
        complete_images(&mut pod, &mut |reference| {
            seen.push(reference.to_owned());
            (reference == "a:1").then(|| "a@sha256:0".to_owned())
        });
        assert_eq!(pod["spec"]["containers"], json!([{ "image": "a@sha256:0" }, { "image": "b:1", "name": "image" }]));
        assert_eq!(seen, ["a:1", "b:1"]);
    }

    #[test]
    fn tests_of_charts_are_told_from_other_hooks() {
        let hooked = |hook: &str| -> Value { json!({ "metadata": { "annotations": { "helm.sh/hook": hook } } }) };
        assert!(is_helm_test(&hooked("test")) && is_helm_test(&hooked("post-install, test-success")));
        assert!(!is_helm_test(&hooked("pre-install,pre-upgrade")) && !is_helm_test(&json!({})));
        assert_eq!((hook(&hooked("pre-install")), hook(&json!({}))), (Some("pre-install"), None));
    }
}
