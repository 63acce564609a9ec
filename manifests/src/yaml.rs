//! Objects as YAML, for people and for `kubectl apply`. Kubernetes parses YAML 1.1, so every string that YAML 1.1 would
//! interpret as another type is quoted.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_saphyr::{SerializerOptions, ser_options};

use crate::{Object, Stage};

/// Why a value cannot be serialized as YAML.
pub type YamlError = serde_saphyr::ser::Error;

/// Serializes objects as one YAML stream, a document each.
///
/// # Errors
/// Returns an error if an object cannot be serialized, which does not happen for objects of this crate.
pub fn yaml<'a>(objects: impl IntoIterator<Item = &'a Object>) -> Result<String, YamlError> {
    let mut stream = String::new();
    for object in objects {
        if !stream.is_empty() {
            stream += "---\n";
        }
        stream += &to_yaml(object)?;
    }
    Ok(stream)
}

/// Serializes any value as one YAML document.
///
/// # Errors
/// Returns an error if the value cannot be serialized.
pub fn to_yaml(value: &impl Serialize) -> Result<String, YamlError> {
    serde_saphyr::to_string_with_options(value, options())
}

/// Returns the files of a whole installation, by name: the namespace and each definition separately, as installers need
/// them, and `all-in-one.yaml` with every object in dependency order.
///
/// # Errors
/// Returns an error like [`yaml()`].
pub fn files(objects: &[Object]) -> Result<BTreeMap<String, String>, YamlError> {
    let mut files = BTreeMap::from([("all-in-one.yaml".to_owned(), yaml(objects)?)]);
    for object in objects {
        let name = match (object.stage(), object) {
            (Stage::Namespace, _) => "namespace.yaml".to_owned(),
            (_, Object::CustomResourceDefinition(definition)) => {
                format!("{}-crd.yaml", definition.spec.names.kind.to_lowercase())
            }
            _ => continue,
        };
        files.insert(name, yaml([object])?);
    }
    Ok(files)
}

pub(crate) fn options() -> SerializerOptions {
    ser_options! { yaml_12: false, prefer_block_scalars: false }
}
