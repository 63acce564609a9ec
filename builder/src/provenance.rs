//! The provenance of an archive's images: all information that another user needs to rebuild and compare them. It is a separate
//! document in the archive, does not change the images, and contains no paths or times of the machine that built them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use camino::Utf8Path;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use vcinspect::graph::{self, ProvenanceStep, Records};
use vcnetwork::Network;
use vcstore::{ActionKey, Digest, Image, Platform, Record};

use crate::base::Spec;
use crate::error::ProvenanceError;
use crate::image::About;
use crate::lock::Lock;
use crate::project::{Change, Edit, Kind, Project, SourceTable};
use crate::request::Request;
use crate::{Error, provenance_header};

/// The version of the document format.
const FORMAT: u32 = 1;

/// The provenance of the images in an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Provenance {
    format: u32,
    /// The version of vcbuild that built the images.
    vcbuild: String,
    /// The project file with the options of the command line, without components that are not in the archive.
    project: Value,
    /// The patches that the project's edits refer to, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    patches: BTreeMap<String, String>,
    /// The origin of the source; empty for a folder.
    pub(crate) source: SourceTable,
    /// The pins of the inputs, as an excerpt of the lock.
    pins: Value,
    pub(crate) about: About,
    pub(crate) epoch: u64,
    /// The actions that built the images, each after the actions whose outputs it uses.
    pub(crate) actions: Vec<ProvenanceStep>,
}

impl Provenance {
    /// Creates the provenance of `images`, which the build of `request` produced with actions of `records`.
    ///
    /// # Errors
    /// When the document cannot be serialised as JSON.
    pub(crate) fn of(
        request: &Request<'_>,
        images: &[Image],
        components: &BTreeSet<&str>,
        lock: &Lock,
        records: &Records,
    ) -> Result<Self, Error> {
        let platforms: BTreeSet<&Platform> =
            images.iter().flat_map(|image| &image.platforms).map(|one| &one.platform).collect();
        let mut project = request.recipe.project.clone();
        if let Some(tables) = project.get_mut("components").and_then(Value::as_object_mut) {
            tables.retain(|name, _| components.contains(name.as_str()));
        }
        set(&mut project, "base", &request.base.to_string())?;
        match &request.base {
            Spec::Debian(options) | Spec::Static(options) => set(&mut project, "debian", options)?,
            Spec::Registry(_) | Spec::Oci(_) | Spec::DockerArchive(_) | Spec::Scratch => remove(&mut project, "debian"),
        }
        set(&mut project, "platforms", &platforms.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        set(&mut project, "compression", &request.compression)?;
        set(&mut project, "version", &request.version)?;
        let is_go =
            |name: &&str| request.components.iter().any(|one| one.name == **name && matches!(one.kind, Kind::Go(_)));
        let go = components.iter().any(is_go);
        match request.go.as_ref().filter(|_| go) {
            Some(go) => set(&mut project, "go", go)?,
            None => remove(&mut project, "go"),
        }
        let mut actions: Vec<ProvenanceStep> = Vec::new();
        for one in images.iter().flat_map(|image| &image.platforms) {
            for step in graph::provenance(&one.manifest_digest(), records) {
                if !actions.iter().any(|known| known.key == step.key) {
                    // Notes, such as the confinement of the compiler, are specific to the machine.
                    actions.push(ProvenanceStep { notes: BTreeMap::new(), ..step });
                }
            }
        }
        Ok(Self {
            format: FORMAT,
            vcbuild: env!("CARGO_PKG_VERSION").to_owned(),
            project,
            patches: request.recipe.patches.clone(),
            source: request.recipe.source.clone(),
            pins: lock.excerpt(&platforms, go)?,
            about: request.about.clone(),
            epoch: request.epoch,
            actions,
        })
    }

    /// Returns the serialised document.
    ///
    /// # Errors
    /// When it cannot be serialised as JSON.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        Ok(vcstore::canonical_json(self)?)
    }

    /// Reads the unverified provenance in the archive at `path`.
    ///
    /// # Errors
    /// When the archive cannot be read, or contains no valid provenance.
    pub(crate) fn read(path: &Utf8Path) -> Result<Self, Error> {
        let none = || ProvenanceError::None { archive: path.to_string() };
        Ok(Self::of_archive(path)?.ok_or_else(none)?)
    }

    /// Reads the provenance of an archive; `None` if it contains none.
    ///
    /// # Errors
    /// When the archive or its provenance cannot be read.
    pub(crate) fn of_archive(path: &Utf8Path) -> Result<Option<Self>, Error> {
        let Some(bytes) = provenance_header::document(path)? else { return Ok(None) };
        let refuse = |made_by: &str, why: String| ProvenanceError::Unreadable {
            archive: path.to_string(),
            made_by: made_by.to_owned(),
            why,
        };
        let made: provenance_header::Header =
            serde_json::from_slice(&bytes).map_err(|error| refuse("unknown", error.to_string()))?;
        if made.format != FORMAT {
            let why = format!("its format is {}, but this version supports format {FORMAT}", made.format);
            return Err(refuse(&made.vcbuild, why).into());
        }
        Ok(Some(serde_json::from_slice(&bytes).map_err(|error| refuse(&made.vcbuild, error.to_string()))?))
    }

    /// Returns the project. Writes the patches of its edits to `folder`.
    ///
    /// # Errors
    /// When the project is invalid, or a patch cannot be written.
    pub(crate) fn project(&self, archive: &Utf8Path, folder: &Utf8Path) -> Result<Project, Error> {
        let mut table = self.project.clone();
        if let Some(debian) = table.get_mut("debian") {
            // vcbuild never writes these keys. The origin of packages and the trusted keys are the user's choice, not
            // the archive's.
            remove(debian, "mirror");
            remove(debian, "keyring");
        }
        let project = Project::of_table(table, archive)?;
        let mut edits = Vec::new();
        for edit in project.edits {
            let change = match edit.change {
                Change::Patch(name) => {
                    let unknown = || ProvenanceError::Unreadable {
                        archive: archive.to_string(),
                        made_by: self.vcbuild.clone(),
                        why: format!("it lacks the patch {name}"),
                    };
                    let text = self.patches.get(name.as_str()).ok_or_else(unknown)?;
                    // The patch name is untrusted, so it is not used as a path.
                    let path = folder.join(format!("{}.patch", edits.len()));
                    fs::write(&path, text).map_err(Error::io("writing", &path))?;
                    Change::Patch(path)
                }
                other @ (Change::Replace { .. } | Change::Create { .. }) => other,
            };
            edits.push(Edit { name: edit.name, change });
        }
        Ok(Project { edits, ..project })
    }

    /// Returns the number of patches.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn patches(&self) -> usize {
        self.patches.len()
    }

    /// Returns a lock with the recorded pins, with the file path `path`.
    ///
    /// # Errors
    /// When the pins are invalid.
    pub(crate) fn lock(&self, archive: &Utf8Path, path: &Utf8Path, network: Network) -> Result<Lock, Error> {
        let unreadable = |why: serde_json::Error| ProvenanceError::Unreadable {
            archive: archive.to_string(),
            made_by: self.vcbuild.clone(),
            why: format!("its pins: {why}"),
        };
        Ok(Lock::of_excerpt(self.pins.clone(), path, network).map_err(unreadable)?)
    }

    /// Compares the inputs of the recorded actions with those of `others`, matched by kind and name. Returns the
    /// actions with different inputs, and the labels of these inputs. Omits actions that use outputs of other recorded
    /// actions.
    pub(crate) fn otherwise<'a>(&'a self, others: &[(ActionKey, &'a Record)]) -> Vec<(String, Vec<&'a str>)> {
        let mut found = Vec::new();
        for step in &self.actions {
            let taken: BTreeSet<Digest> = step.inputs.values().flat_map(graph::digests).collect();
            let follows = self.actions.iter().any(|one| one.outputs.values().any(|blob| taken.contains(&blob.digest)));
            let same = |record: &&Record| record.kind() == step.kind && record.name() == step.name;
            let other = others.iter().map(|(_, record)| *record).find(same);
            let Some(other) = other.filter(|_| !follows && others.iter().all(|(key, _)| *key != step.key)) else {
                continue;
            };
            let labels: BTreeSet<&str> = step.inputs.keys().chain(other.inputs().keys()).map(String::as_str).collect();
            let differs = |label: &&str| step.inputs.get(*label) != other.inputs().get(*label);
            found.push((format!("{} {}", step.kind, step.name), labels.into_iter().filter(differs).collect()));
        }
        found
    }
}

fn set<T: Serialize + ?Sized>(table: &mut Value, name: &str, value: &T) -> Result<(), Error> {
    let value = serde_json::to_value(value).map_err(|why| Error::Internal(format!("writing {name}: {why}")))?;
    table[name] = value;
    Ok(())
}

fn remove(table: &mut Value, name: &str) {
    if let Some(table) = table.as_object_mut() {
        table.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{FORMAT, Provenance};

    #[test]
    fn an_archive_does_not_say_where_packages_come_from() {
        let debian = json!({"suite": "trixie", "mirror": "http://192.0.2.1/debian", "keyring": "/etc/other.gpg"});
        let components = json!({"x": {"image": "registry.example/x:v1", "package": "."}});
        let provenance: Provenance = serde_json::from_value(json!({
            "format": FORMAT, "vcbuild": "0", "source": {}, "pins": {}, "about": {}, "epoch": 0, "actions": [],
            "project": {"base": "debian", "debian": debian, "components": components},
        }))
        .unwrap();
        let project = provenance.project("x.tar".into(), "folder".into()).unwrap();
        assert_eq!(project.debian.suite, "trixie");
        assert_eq!((&project.debian.mirror, &project.debian.keyring), (&None, &None));
        assert!(!project.table.to_string().contains("192.0.2.1"), "{}", project.table);
    }
}
