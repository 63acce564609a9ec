//! Compares the configurations and manifests of two images, setting by setting.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use vcstore::{PlatformImage, Store};

use crate::Error;

/// A setting that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// The path of the setting, such as `config.Env.PATH`.
    pub name: String,
    /// The value in the first image; null if it is unset.
    pub before: Value,
    /// The value in the second image; null if it is unset.
    pub after: Value,
}

/// Compares the configurations and the manifest annotations of two images.
///
/// # Errors
/// When a document is missing or damaged.
pub(super) fn compare(
    before: (&Store, &PlatformImage),
    after: (&Store, &PlatformImage),
) -> Result<Vec<Setting>, Error> {
    let (before, after) = (settings(before.0, before.1)?, settings(after.0, after.1)?);
    Ok(differences(&before, after))
}

fn differences(before: &BTreeMap<String, Value>, mut after: BTreeMap<String, Value>) -> Vec<Setting> {
    let mut found = Vec::new();
    for (name, old) in before {
        let new = after.remove(name).unwrap_or(Value::Null);
        if *old != new {
            found.push(Setting { name: name.clone(), before: old.clone(), after: new });
        }
    }
    found.extend(after.into_iter().map(|(name, after)| Setting { name, before: Value::Null, after }));
    found.sort_by(|one, other| one.name.cmp(&other.name));
    found
}

/// Returns all settings of an image by name.
fn settings(store: &Store, image: &PlatformImage) -> Result<BTreeMap<String, Value>, Error> {
    let mut settings = BTreeMap::new();
    let mut config: Value = store.document(&image.config_digest())?;
    if let Some(config) = config.as_object_mut() {
        // Layers are compared separately.
        config.remove("rootfs");
    }
    flatten("", &config, &mut settings);
    let manifest: Value = store.document(&image.manifest_digest())?;
    if let Some(annotations) = manifest.get("annotations") {
        flatten("annotations", annotations, &mut settings);
    }
    Ok(settings)
}

fn flatten(name: &str, value: &Value, settings: &mut BTreeMap<String, Value>) {
    let below = |key: &str| if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                flatten(&below(key), value, settings);
            }
        }
        // Environment variables are compared by name, in any order.
        Value::Array(lines) if name.ends_with(".Env") => {
            for line in lines.iter().filter_map(Value::as_str) {
                let (variable, value) = line.split_once('=').unwrap_or((line, ""));
                settings.insert(below(variable), Value::from(value));
            }
        }
        Value::Array(entries) if name == "history" => {
            for (number, entry) in entries.iter().enumerate() {
                flatten(&format!("history[{number}]"), entry, settings);
            }
        }
        // A null value equals an unset one.
        Value::Null => {}
        value => {
            settings.insert(name.to_owned(), value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::{differences, flatten};

    fn settings(value: &Value) -> BTreeMap<String, Value> {
        let mut settings = BTreeMap::new();
        flatten("", value, &mut settings);
        settings
    }

    #[test]
    fn settings_are_compared_by_name() {
        let before =
            json!({"os": "linux", "config": {"Env": ["A=1", "B=2"], "User": "", "Cmd": ["a"], "Labels": {"x": "1"}}});
        let after =
            json!({"os": "linux", "config": {"Env": ["B=2", "A=9"], "User": "1", "Cmd": null, "Labels": {"x": "1"}}});
        let found = differences(&settings(&before), settings(&after));
        let shown: Vec<_> = found.iter().map(|one| format!("{} {} {}", one.name, one.before, one.after)).collect();
        assert_eq!(shown, [r#"config.Cmd ["a"] null"#, r#"config.Env.A "1" "9""#, r#"config.User "" "1""#]);
    }
}
