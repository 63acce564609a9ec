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
use crate::project::{Edit, Kind, Project, SourceTable};
use crate::request::Request;
use crate::{Error, provenance_header};

/// The version of the document.
const FORMAT: u32 = 1;

/// The provenance of images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Provenance {
    format: u32,
    /// The version of the vcbuild that made them.
    vcbuild: String,
    /// The project's file, with what the command line chose in it, and without what other images are made of.
    project: Value,
    /// The patches that the project's edits name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    patches: BTreeMap<String, String>,
    /// Where the source is from; a folder when it says nothing.
    pub(crate) source: SourceTable,
    /// What inputs were resolved to, as in a lock.
    pins: Value,
    pub(crate) about: About,
    pub(crate) epoch: u64,
    /// What made the images, each action after those whose outputs it took.
    pub(crate) actions: Vec<ProvenanceStep>,
}

impl Provenance {
    /// The provenance of `images`, which `request` asked for and actions of `records` made.
    ///
    /// # Errors
    /// When something of it cannot be written as JSON.
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
                    // What was noted, such as what confined the compiler, is of the machine.
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

    /// The bytes of the document.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        Ok(vcstore::canonical_json(self)?)
    }

    /// The provenance that the archive at `path` contains; it is not verified.
    ///
    /// # Errors
    /// When the archive cannot be read, or says nothing that can be understood.
    pub(crate) fn read(path: &Utf8Path) -> Result<Self, Error> {
        let none = || ProvenanceError::None { archive: path.to_string() };
        Ok(Self::of_archive(path)?.ok_or_else(none)?)
    }

    /// The same, for archives that may contain no provenance.
    ///
    /// # Errors
    /// When the archive cannot be read, or says what cannot be understood.
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

    /// The project, with the patches that it names in `folder`.
    ///
    /// # Errors
    /// When it is none, or the patches cannot be written.
    pub(crate) fn project(&self, archive: &Utf8Path, folder: &Utf8Path) -> Result<Project, Error> {
        let mut table = self.project.clone();
        if let Some(debian) = table.get_mut("debian") {
            // Neither is ever written. Where packages come from, and who must have signed for them, is the user's to say.
            remove(debian, "mirror");
            remove(debian, "keyring");
        }
        let project = Project::of_table(table, archive)?;
        let mut edits = Vec::new();
        for edit in project.edits {
            edits.push(match edit {
                Edit::Patch(name) => {
                    let unknown = || ProvenanceError::Unreadable {
                        archive: archive.to_string(),
                        made_by: self.vcbuild.clone(),
                        why: format!("it lacks the patch {name}"),
                    };
                    let text = self.patches.get(name.as_str()).ok_or_else(unknown)?;
                    // Its name is the archive's, and is made no path.
                    let path = folder.join(format!("{}.patch", edits.len()));
                    fs::write(&path, text).map_err(Error::io("writing", &path))?;
                    Edit::Patch(path)
                }
                other @ Edit::Replace { .. } => other,
            });
        }
        Ok(Project { edits, ..project })
    }

    /// How many patches it has.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn patches(&self) -> usize {
        self.patches.len()
    }

    /// The lock that pins what was used, to be kept at `path`.
    ///
    /// # Errors
    /// When it cannot be understood.
    pub(crate) fn lock(&self, archive: &Utf8Path, path: &Utf8Path, network: Network) -> Result<Lock, Error> {
        let unreadable = |why: serde_json::Error| ProvenanceError::Unreadable {
            archive: archive.to_string(),
            made_by: self.vcbuild.clone(),
            why: format!("its pins: {why}"),
        };
        Ok(Lock::of_excerpt(self.pins.clone(), path, network).map_err(unreadable)?)
    }

    /// The actions of `others` that do the same for the same component as one of these, and were given something else that
    /// no other of these made: by kind and name, with the labels of the inputs that differ.
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
