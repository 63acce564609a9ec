//! A chart's `Chart.yaml`: its version follows its content, and a seal tells whether anybody has changed a file since.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::Chart;
use crate::YamlError;

/// The file that says that a folder is a chart.
const METADATA: &str = "Chart.yaml";

/// The annotation with the hash of all files, which is the last line of `Chart.yaml`.
const SEAL: &str = "annotations:\n  vcdist.virtualcluster.io/content: ";

/// How many hexadecimal digits of a hash a version has.
const SHORT: usize = 12;

/// Adds `Chart.yaml`. Equal files have equal versions, and different ones have different versions.
pub(super) fn seal(chart: &mut Chart, description: &str, images: &BTreeSet<String>) -> Result<(), YamlError> {
    let version = &hash(chart.files.iter().map(|(path, text)| (path.as_str(), text.as_bytes())))[..SHORT];
    let images = &hash(images.iter().map(|image| (image.as_str(), &b""[..])))[..SHORT];
    let metadata = json!({
        "apiVersion": "v2",
        "name": chart.name,
        "description": description,
        "type": "application",
        "version": format!("1.0.0+{version}"),
        "appVersion": format!("images-{images}"),
    });
    chart.files.insert(METADATA.to_owned(), crate::to_yaml(&metadata)?);
    let sealed = hash(chart.files.iter().map(|(path, text)| (path.as_str(), text.as_bytes())));
    if let Some(metadata) = chart.files.get_mut(METADATA) {
        *metadata += &format!("{SEAL}{sealed}\n");
    }
    Ok(())
}

/// Whether these are all files of a chart that was made here, and each is as it was made.
#[must_use]
pub fn is_unchanged_chart(files: &BTreeMap<String, Vec<u8>>) -> bool {
    let metadata = files.get(METADATA).and_then(|metadata| std::str::from_utf8(metadata).ok());
    let Some((before, seal)) = metadata.and_then(|metadata| metadata.rsplit_once(SEAL)) else { return false };
    let unsealed = files.iter().map(|(path, content)| match path.as_str() {
        METADATA => (METADATA, before.as_bytes()),
        path => (path, content.as_slice()),
    });
    seal.strip_suffix('\n') == Some(&hash(unsealed))
}

fn hash<'a>(parts: impl Iterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut hasher = blake3::Hasher::new();
    for (name, content) in parts {
        for bytes in [name.as_bytes(), content] {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        }
    }
    hasher.finalize().to_hex().to_string()
}
