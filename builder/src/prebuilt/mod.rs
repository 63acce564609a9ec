//! Prebuilt files: checked against the declared or pinned digest, and used unchanged.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use rayon::prelude::*;
use vcsandbox::elf::Machine;
use vcsandbox::plain::Plain;
use vcstore::{Action, Blob, Outputs, Platform, Store};

use crate::build_context::{BuildContext, BuildTarget, BuiltFile, BuiltFiles};
use crate::error::PrebuiltError;
use crate::project::Prebuilt;
use crate::source::{Source, is_lfs_pointer};

/// The version of the action. Increment it when its outputs change; it is part of every action key.
const RECIPE: u32 = 1;

/// The verified prebuilt files of a component for a platform.
pub(crate) struct Checked<'a> {
    wanted: &'a BuildTarget<'a, Prebuilt>,
    /// The files by their paths in the image.
    files: BTreeMap<&'a str, Found>,
}

/// A file with its verified content.
struct Found {
    path: Utf8PathBuf,
    mode: u32,
    content: Blob,
}

/// Pins the files without copying them to the store.
///
/// # Errors
/// When a file is missing, does not match its digest, or is a program for another platform.
pub(crate) fn pin(wanted: &[BuildTarget<'_, Prebuilt>], context: &BuildContext<'_>) -> Result<(), crate::Error> {
    wanted.iter().try_for_each(|wanted| check(wanted, context).map(drop))
}

/// Copies the files into the store.
///
/// # Errors
/// As [`pin`]; also when a file changes during the build, or the store cannot be written.
pub(crate) fn build<'a>(
    wanted: &'a [BuildTarget<'a, Prebuilt>],
    context: &BuildContext<'_>,
) -> Result<Vec<BuiltFiles<'a>>, crate::Error> {
    let checked = wanted.iter().map(|wanted| check(wanted, context)).collect::<Result<Vec<_>, _>>()?;
    context.lock.check()?;
    let made: Vec<Result<_, crate::Error>> = checked.par_iter().map(|one| one.take(context)).collect();
    made.into_iter().collect()
}

/// Verifies the files by the digests that the project declares, or else by those that the lock pins. Pins files that
/// have neither, unless the source was fetched: its version pins its files.
fn check<'a>(wanted: &'a BuildTarget<'a, Prebuilt>, context: &BuildContext<'_>) -> Result<Checked<'a>, crate::Error> {
    let mut files = BTreeMap::new();
    for (path, file) in &wanted.program.files {
        let file = Utf8PathBuf::from(file.fill(&[("arch", &wanted.platform.architecture)]));
        let component = || wanted.component.name.clone();
        let found = find(wanted, context.source, &file)?;
        let digest = found.content.digest;
        if let Some(&declared) = wanted.program.sha256.get(&file) {
            if declared != digest {
                return Err(PrebuiltError::Undeclared { component: component(), file, declared, found: digest }.into());
            }
        } else if context.source.revision.is_none() {
            if let Some(pinned) = context.lock.prebuilt(&file)?.filter(|pinned| *pinned != digest) {
                let lock = context.lock.path().to_owned();
                return Err(PrebuiltError::Drift { component: component(), file, lock, pinned, found: digest }.into());
            }
            context.lock.pin_prebuilt(&file, digest);
        }
        files.insert(path.as_str(), found);
    }
    Ok(Checked { wanted, files })
}

impl<'a> Checked<'a> {
    fn take(&self, context: &BuildContext<'_>) -> Result<BuiltFiles<'a>, crate::Error> {
        let BuildTarget { component, platform, .. } = *self.wanted;
        let digests: BTreeMap<_, _> = self.files.iter().map(|(path, found)| (path, found.content.digest)).collect();
        let action = Action::new("prebuilt", format!("{} {platform}", component.name))
            .input("recipe", RECIPE)?
            .input("files", digests)?;
        context.progress.realise(context.store, &action, || {
            let mut outputs = Outputs::new();
            for (path, found) in &self.files {
                outputs = outputs.with_blob(path, found.copy(context.store)?);
            }
            Ok(outputs)
        })?;
        let file = |(path, found): (&&str, &Found)| BuiltFile {
            path: (*path).to_owned(),
            mode: found.mode,
            content: found.content,
        };
        Ok(BuiltFiles { component, platform, files: self.files.iter().map(file).collect() })
    }
}

impl Found {
    fn copy(&self, store: &Store) -> Result<Blob, crate::Error> {
        let changed = || crate::Error::source_changed(self.path.as_path());
        let file = Plain::open(&self.path).map_err(|why| crate::Error::io("reading", &self.path)(why.into()))?;
        match file.into_store(store)?.commit_expecting(&self.content.digest) {
            Err(vcstore::Error::DigestMismatch { .. }) => Err(changed()),
            committed => Ok(committed?),
        }
    }
}

/// Finds a file of the source, which must be in the source's folder and fit the platform.
fn find(wanted: &BuildTarget<'_, Prebuilt>, source: &Source, file: &Utf8Path) -> Result<Found, crate::Error> {
    let (component, platform) = (wanted.component.name.as_str(), wanted.platform);
    // Read it from the user's folder: git seldom tracks build output, and the digest identifies the file.
    let top = source.named.canonicalize_utf8().map_err(crate::Error::io("finding", &source.named))?;
    let edited = || PrebuiltError::Edited { component: component.to_owned(), file: file.to_owned() };
    if source.edited.contains(&top.join(file)) {
        return Err(edited().into());
    }
    let path = top.join(file).canonicalize_utf8().map_err(|why| PrebuiltError::Missing {
        component: component.to_owned(),
        file: file.to_owned(),
        source_dir: top.clone(),
        source: why,
    })?;
    let unusable =
        |why: &str| PrebuiltError::Unusable { component: component.to_owned(), file: file.to_owned(), why: why.into() };
    if !path.starts_with(&top) {
        return Err(unusable("points outside the source").into());
    }
    if source.edited.contains(&path) {
        return Err(edited().into());
    }
    let mut plain = Plain::open(&path).map_err(|why| unusable(&why.to_string()))?;
    if is_lfs_pointer(&path, plain.size()).map_err(crate::Error::io("reading", &path))? {
        return Err(PrebuiltError::Pointer { component: component.to_owned(), file: file.to_owned() }.into());
    }
    let machine = plain.machine()?;
    check_machine(component, platform, file, &machine)?;
    // A program may have lost its executable bit, for example in a download.
    let runs = machine != Machine::NoProgram || plain.is_executable();
    Ok(Found { content: vcstore::archive::hash(&path)?, path, mode: if runs { 0o755 } else { 0o644 } })
}

fn check_machine(
    component: &str,
    platform: &Platform,
    file: &Utf8Path,
    machine: &Machine,
) -> Result<(), PrebuiltError> {
    match machine {
        Machine::Elf(found) if !machine.runs_on(platform) => Err(PrebuiltError::Machine {
            component: component.to_owned(),
            file: file.to_owned(),
            platform: platform.clone(),
            found: found.clone(),
        }),
        _ => Ok(()),
    }
}
