//! Compiles the dependencies of a workspace separately: with only the manifests, lock and settings of the workspace,
//! and empty programs and libraries in place of its own. No code of the workspace runs meanwhile, so every source with
//! the same manifests can start from the result.

use std::fs::{self, File, FileTimes};
use std::os::unix::fs::symlink;
use std::time::SystemTime;

use camino::{Utf8Path, Utf8PathBuf};
use vcstore::utf8;
use walkdir::WalkDir;

use super::compile::{Compiler, Job, entries, short};
use super::trust::is_setting;
use crate::Error;

/// The number of results to keep for a source: one for each component and platform of most projects.
const KEPT: usize = 8;

/// The folders of a result, and the file that marks it as complete.
const SOURCE: &str = "source";
const TARGET: &str = "target";
const DONE: &str = "done";

impl Compiler<'_> {
    /// Fills `target`, which is new, with the compiled dependencies of a job; leaves it empty if they cannot be
    /// compiled separately. `folder` holds the results of the source, and `given` describes the other inputs.
    pub(super) fn fill_with_dependencies(
        &self,
        job: &Job<'_>,
        folder: &Utf8Path,
        given: &str,
        target: &Utf8Path,
    ) -> Result<(), Error> {
        fs::create_dir_all(folder).map_err(Error::io("making", folder))?;
        let lock = folder.join("lock");
        let lock =
            File::create(&lock).and_then(|file| file.lock().map(|()| file)).map_err(Error::io("locking", &lock))?;
        let key = short(&format!("{}\n{given}", self.order_of(job)?));
        let compiled = folder.join(&key);
        if !compiled.join(DONE).is_file() {
            self.compile_dependencies(job, &compiled)?;
            fs::write(compiled.join(DONE), "").map_err(Error::io("writing", &compiled))?;
        }
        let _ = File::open(&compiled).and_then(|compiled| compiled.set_modified(SystemTime::now()));
        copy(&compiled.join(TARGET), target)?;
        prune(folder)?;
        drop(lock);
        Ok(())
    }

    /// Compiles the dependencies. A failure is not an error: some crates compile only together with the workspace.
    fn compile_dependencies(&self, job: &Job<'_>, compiled: &Utf8Path) -> Result<(), Error> {
        if compiled.exists() {
            vcstore::remove_tree(compiled)?;
        }
        let (source, target) = (compiled.join(SOURCE), compiled.join(TARGET));
        fs::create_dir_all(&target).map_err(Error::io("making", &target))?;
        self.source_files.only(is_setting).sync_to(&source, self.context.sandbox)?;
        for (path, content) in &self.stubs {
            let place = source.join(path);
            let parent = place.parent().unwrap_or(&source);
            fs::create_dir_all(parent).map_err(Error::io("making", parent))?;
            fs::write(&place, content).map_err(Error::io("writing", &place))?;
        }
        let ran = self.ran(job, &source, &target)?;
        vcstore::remove_tree(&source)?;
        if let Err(failure) = ran {
            tracing::debug!("compiling the dependencies separately: {failure}");
            vcstore::remove_tree(&target)?;
            return fs::create_dir_all(&target).map_err(Error::io("making", &target));
        }
        self.forget_own(&target)
    }

    /// Makes Cargo recompile the packages of the workspace itself. Cargo decides by file times, so it could mistake the
    /// output of the placeholders for up to date.
    fn forget_own(&self, target: &Utf8Path) -> Result<(), Error> {
        for entry in WalkDir::new(target).min_depth(1).max_depth(4) {
            let entry = entry.map_err(|error| Error::io("reading", target)(error.into()))?;
            let of = |name: &str| {
                self.own.iter().any(|own| name.strip_prefix(own.as_str()).is_some_and(|rest| rest.starts_with('-')))
            };
            let is_print =
                entry.path().parent().and_then(|folder| folder.file_name()).is_some_and(|name| name == ".fingerprint");
            if is_print && entry.file_name().to_str().is_some_and(of) {
                vcstore::remove_tree(&utf8("removing", entry.path())?)?;
            }
        }
        Ok(())
    }
}

/// Copies Cargo's output with the file times, by which Cargo detects changes. The folders share no files, because a
/// build could change a shared file for both.
fn copy(from: &Utf8Path, to: &Utf8Path) -> Result<(), Error> {
    for entry in WalkDir::new(from).min_depth(1) {
        let entry = entry.map_err(|error| Error::io("reading", from)(error.into()))?;
        let path = utf8("reading", entry.path())?;
        let place = to.join(path.strip_prefix(from).unwrap_or(&path));
        let done = if entry.file_type().is_dir() {
            fs::create_dir_all(&place)
        } else if entry.file_type().is_symlink() {
            fs::read_link(&path).and_then(|target| symlink(target, &place))
        } else if entry.file_type().is_file() {
            fs::copy(&path, &place).and_then(|_| {
                let times = FileTimes::new().set_modified(fs::metadata(&path)?.modified()?);
                File::open(&place)?.set_times(times)
            })
        } else {
            Ok(())
        };
        done.map_err(Error::io("copying", &path))?;
    }
    Ok(())
}

/// Removes the least recently used results.
fn prune(folder: &Utf8Path) -> Result<(), Error> {
    let seeds = entries(folder)?.into_iter().filter(|path| path.is_dir());
    let mut seeds: Vec<(SystemTime, Utf8PathBuf)> = seeds
        .map(|path| (path.metadata().and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH), path))
        .collect();
    seeds.sort();
    let over = seeds.len().saturating_sub(KEPT);
    for (_, path) in seeds.into_iter().take(over) {
        vcstore::remove_tree(&path)?;
    }
    Ok(())
}
