//! Rebuilds the images of an archive from its provenance, and compares them with the images in the archive.

use std::collections::BTreeSet;

use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;
use vcinspect::compare::{self, Change, FileChange, ImageChanges, PlatformChanges, Side};
use vcinspect::image_fs::{self, Layers};
use vcstore::{PlatformImage, Record, Store};

use super::difference::{Difference, LayerFile};
use super::shadow::Shadow;
use crate::Error;
use crate::build;
use crate::error::ProvenanceError;
use crate::file_manifest::FileManifest;
use crate::lock::Lock;
use crate::progress::Progress;
use crate::provenance::Provenance;
use crate::request::Request;
use crate::source::{Source, hash_file};

/// The maximum number of files that are compared byte by byte, and of source files that an error names.
const LOOKED_INTO: usize = 20;
const NAMED: usize = 8;

/// The result of the check of an archive.
#[derive(Debug, Serialize)]
pub(crate) struct CheckedArchive {
    pub(crate) archive: Utf8PathBuf,
    /// The number of actions that ran.
    pub(crate) actions: usize,
    /// The files whose content differs; `before` is the archive's, `after` the rebuilt one.
    pub(crate) differences: Vec<Difference>,
    /// The images that differ, with all differences.
    pub(crate) images: Vec<ImageChanges>,
    /// The images of the archive that the rebuild did not produce.
    pub(crate) not_made: Vec<String>,
    /// If images differ, the actions whose inputs differ from the provenance.
    pub(crate) otherwise: Vec<ChangedInputs>,
}

/// An action whose inputs differ from the provenance.
#[derive(Debug, Serialize)]
pub(crate) struct ChangedInputs {
    pub(crate) action: String,
    /// The labels of the inputs.
    pub(crate) inputs: Vec<String>,
}

impl CheckedArchive {
    /// Returns whether the rebuilt images equal those of the archive.
    pub(crate) fn is_same(&self) -> bool {
        self.images.is_empty() && self.not_made.is_empty()
    }
}

/// Checks the archive at `path`. `request` is the build that `claimed`, its provenance, describes.
///
/// # Errors
/// When the archive is damaged, the source differs from the archive's, or the build fails.
pub(crate) fn check_archive(
    path: &Utf8Path,
    claimed: &Provenance,
    request: &Request<'_>,
    store: &Store,
    lock: &Lock,
    progress: &Progress,
) -> Result<CheckedArchive, Error> {
    let folder = store.temp_dir()?;
    let place = vcstore::utf8("using", folder.path())?;
    let theirs = Store::open(&place)?;
    let images = vcstore::archive::import(&theirs, path)?;
    if request.source.revision.is_none() {
        check_source(path, claimed, request)?;
    }
    let step = progress.step(&format!("rebuilding the images of {path}"));
    let shadow = Shadow::of(store)?;
    let second = Progress::start();
    let built = build::images(request, &shadow.store, lock, &second)?;
    drop(step);
    let mut checked = CheckedArchive {
        archive: path.to_owned(),
        actions: second.actions().run,
        differences: Vec::new(),
        images: Vec::new(),
        not_made: Vec::new(),
        otherwise: Vec::new(),
    };
    let layers = Layers::default();
    for image in &images {
        let Some(again) = built.iter().map(|built| &built.image).find(|again| again.name == image.name) else {
            checked.not_made.push(image.name.clone());
            continue;
        };
        let sides = (Side { store: &theirs, image }, Side { store: &shadow.store, image: again });
        let changes = compare::images(sides.0, sides.1, &layers)?;
        if changes.identical {
            continue;
        }
        for platform in &changes.platforms {
            look_into(platform, sides, &layers, &mut checked.differences)?;
        }
        checked.images.push(changes);
    }
    if !checked.is_same() {
        checked.otherwise = otherwise(claimed, &shadow.store, &second)?;
    }
    Ok(checked)
}

/// Refuses a source folder that differs from the archive's source, as far as the recorded actions identify its files.
fn check_source(archive: &Utf8Path, claimed: &Provenance, request: &Request<'_>) -> Result<(), Error> {
    let source: &Source = &request.source;
    let mut differing = BTreeSet::new();
    for step in &claimed.actions {
        match (step.kind.as_str(), step.inputs.get("files"), step.inputs.get("source")) {
            ("compile", Some(files), _) => {
                // Paths are relative to the common parent folder of the module and its local dependencies.
                let module = Utf8Path::new(step.inputs.get("module").and_then(|module| module.as_str()).unwrap_or(""));
                let top = source.dir.ancestors().nth(module.components().count()).unwrap_or(&source.dir);
                for (path, hash) in files.as_object().into_iter().flatten() {
                    let found = hash_file(&top.join(path)).map(|found| found.to_string());
                    match found {
                        Ok(found) if hash.as_str() == Some(&found) => {}
                        Ok(_) => drop(differing.insert(format!("{path} differs"))),
                        Err(_) => drop(differing.insert(format!("{path} is missing"))),
                    }
                }
            }
            ("command", _, Some(hash)) => {
                let found = FileManifest::of_source(&source.dir, &request.outside)?.hash();
                if hash.as_str() != Some(&found.to_string()) {
                    differing.insert(format!("its files hash to {found}, not to {}", hash.as_str().unwrap_or("any")));
                }
            }
            _ => {}
        }
    }
    if differing.is_empty() {
        return Ok(());
    }
    let more = differing.len().saturating_sub(NAMED);
    let mut differing: Vec<_> = differing.into_iter().take(NAMED).collect();
    differing.extend((more > 0).then(|| format!("and {more} more")));
    Err(ProvenanceError::OtherSource { archive: archive.to_string(), differing }.into())
}

/// Finds where the files that differ begin to differ.
fn look_into(
    changes: &PlatformChanges,
    (before, after): (Side<'_>, Side<'_>),
    layers: &Layers,
    differences: &mut Vec<Difference>,
) -> Result<(), Error> {
    let one = |side: Side<'_>| {
        let found = side.image.platforms.iter().find(|one| one.platform == changes.platform);
        found
            .cloned()
            .ok_or_else(|| Error::Internal(format!("{} has no platform {}", side.image.name, changes.platform)))
    };
    let content = |file: &&FileChange| file.changes.contains(&Change::Content);
    let files: Vec<_> = changes.files.changed.iter().filter(content).take(LOOKED_INTO).collect();
    if files.is_empty() {
        return Ok(());
    }
    let (old, new) = (one(before)?, one(after)?);
    let wanted: BTreeSet<&str> = files.iter().map(|file| file.path.trim_start_matches('/')).collect();
    let folder = before.store.temp_dir()?;
    let scratch = Store::open(&vcstore::utf8("using", folder.path())?)?;
    for (side, image) in [(before, &old), (after, &new)] {
        // A layer that both images have contains no differences.
        let others = if std::ptr::eq(image, &old) { &new } else { &old };
        for layer in image.layers.iter().filter(|layer| !others.layers.iter().any(|other| other == *layer)) {
            image_fs::extract(side.store, layer, &scratch, |path| wanted.contains(path))?;
        }
    }
    for file in files {
        let action = format!("image {} {}", before.image.name, changes.platform);
        let mut difference = Difference::of(action, file.path.clone());
        difference.before = file.shape.before.digest;
        difference.after = file.shape.after.digest;
        difference.files = layer_of(&file.path, before.store, &old, layers)?;
        if let (Some(was), Some(is)) = (difference.before, difference.after)
            && scratch.contains(&was)
            && scratch.contains(&is)
        {
            difference.look_into((&scratch, was), (&scratch, is))?;
        }
        differences.push(difference);
    }
    Ok(())
}

/// Returns the layer of an image that provides a file.
fn layer_of(path: &str, store: &Store, image: &PlatformImage, layers: &Layers) -> Result<Vec<LayerFile>, Error> {
    let files = layers.files(store, &image.layers)?;
    let layer = files.entries.get(path.trim_start_matches('/')).and_then(|placed| image.layers.get(placed.layer));
    Ok(layer.map(|layer| LayerFile { path: path.to_owned(), layer: layer.digest }).into_iter().collect())
}

/// Returns the actions whose inputs differ from the provenance.
fn otherwise(claimed: &Provenance, store: &Store, progress: &Progress) -> Result<Vec<ChangedInputs>, Error> {
    let mut records: Vec<(vcstore::ActionKey, Record)> = Vec::new();
    for key in progress.used() {
        records.extend(store.record(&key)?.map(|record| (key, record)));
    }
    let records: Vec<_> = records.iter().map(|(key, record)| (*key, record)).collect();
    let found = claimed.otherwise(&records).into_iter();
    let labels = |labels: Vec<&str>| labels.into_iter().map(ToOwned::to_owned).collect();
    Ok(found.map(|(action, inputs)| ChangedInputs { action, inputs: labels(inputs) }).collect())
}
