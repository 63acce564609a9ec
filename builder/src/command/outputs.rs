//! The outputs of a command: collected from its working directory, copied into the store, and assigned to components.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use vcsandbox::elf::Machine;
use vcsandbox::plain::{Folder, Plain};
use vcstore::Outputs;
use walkdir::WalkDir;

use super::Task;
use crate::build_context::{BuildContext, BuildTarget, BuiltFile, BuiltFiles};
use crate::error::CommandError;
use crate::project::CommandBuild;

/// The prefix of the note that records the permissions of an output file; the file's path follows.
const MODE: &str = "mode ";

/// Returns the outputs that the command of a component must produce, by their paths in the image.
pub(super) fn wanted<'a>(wanted: &BuildTarget<'a, CommandBuild>) -> BTreeMap<&'a str, String> {
    let arch = [("arch", wanted.platform.architecture.as_str())];
    wanted.program.outputs.iter().map(|(path, output)| (path.as_str(), output.fill(&arch))).collect()
}

impl<'a> Task<'a> {
    /// Stores the outputs that the command produced in the folder `from`.
    pub(super) fn keep(&self, context: &BuildContext<'_>, from: &Utf8Path) -> Result<Outputs, crate::Error> {
        let (store, folder) = (context.store, Folder::open(from)?);
        // The size limit of the command applies to all outputs together.
        let mut left = context.sandbox.largest();
        let mut outputs = Outputs::new();
        for output in &self.outputs {
            for (path, place) in self.files(context, from, output)? {
                let mut file = folder.file(&place, left).map_err(|why| self.unusable(&path, &why.to_string()))?;
                left -= file.size();
                let runs = self.runs(&mut file, &path)?;
                outputs = outputs.with_blob(path.as_str(), file.into_store(store)?.commit()?);
                outputs = outputs.with_note(&format!("{MODE}{path}"), if runs { "755" } else { "644" });
            }
        }
        Ok(outputs)
    }

    /// Returns the files of a component among the stored outputs.
    pub(super) fn made(
        &self,
        one: &BuildTarget<'a, CommandBuild>,
        outputs: &Outputs,
    ) -> Result<BuiltFiles<'a>, crate::Error> {
        let mut files = Vec::new();
        for (path, output) in wanted(one) {
            for (made, content) in outputs.blobs() {
                let Ok(below) = Utf8Path::new(made).strip_prefix(&output) else { continue };
                let path = if below.as_str().is_empty() { path.to_owned() } else { format!("{path}/{below}") };
                let mode = outputs.note(&format!("{MODE}{made}")).and_then(|mode| u32::from_str_radix(mode, 8).ok());
                let mode = mode.ok_or_else(|| crate::Error::Internal(format!("no permissions of {made}")))?;
                files.push(BuiltFile { path, mode, content: *content });
            }
        }
        Ok(BuiltFiles { component: one.component, platform: one.platform, files })
    }

    /// Returns the file of an output, or all files if it is a folder: their output paths, and their real paths relative
    /// to `from`. The output itself may be a symbolic link to something that the command produced.
    fn files(
        &self,
        context: &BuildContext<'_>,
        from: &Utf8Path,
        output: &str,
    ) -> Result<Vec<(Utf8PathBuf, Utf8PathBuf)>, crate::Error> {
        let top = from.join(output);
        let real = top.canonicalize_utf8().map_err(|_| CommandError::NotMade {
            command: self.command(),
            component: self.component(),
            platform: self.invocation.platform.clone(),
            output: output.to_owned(),
            why: context.source.excluded.why(Utf8Path::new(output)).map(|why| format!("; {why}")).unwrap_or_default(),
        })?;
        let unusable = |output: &Utf8Path, why: &str| self.unusable(output, why);
        let from = from.canonicalize_utf8().map_err(crate::Error::io("finding", from))?;
        if !real.starts_with(&from) {
            return Err(unusable(output.into(), "is a symbolic link that points outside the source's folder").into());
        }
        let mut files = Vec::new();
        for entry in WalkDir::new(&real).sort_by_file_name() {
            let entry = entry.map_err(|error| crate::Error::io("reading", &real)(error.into()))?;
            let path = Utf8Path::from_path(entry.path()).and_then(|path| path.strip_prefix(&real).ok());
            let path = path.ok_or_else(|| unusable(&vcstore::lossy(entry.path()), "has a name that is not UTF-8"))?;
            let path = if path.as_str().is_empty() { output.into() } else { Utf8Path::new(output).join(path) };
            match entry.file_type() {
                kind if kind.is_file() => {
                    let place = Utf8Path::from_path(entry.path()).and_then(|path| path.strip_prefix(&from).ok());
                    let place = place.ok_or_else(|| unusable(&path, "is outside the source's folder"))?;
                    files.push((path, place.to_owned()));
                }
                kind if kind.is_dir() => {}
                kind if kind.is_symlink() => {
                    return Err(unusable(&path, "is a symbolic link, which could point elsewhere").into());
                }
                _ => return Err(unusable(&path, "is not a file or folder").into()),
            }
        }
        if files.is_empty() {
            return Err(unusable(output.into(), "is an empty folder").into());
        }
        Ok(files)
    }

    /// Returns whether a file is executable. A program must be executable on the platform.
    fn runs(&self, file: &mut Plain, output: &Utf8Path) -> Result<bool, crate::Error> {
        let platform = &self.invocation.platform;
        match file.machine()? {
            machine @ Machine::Elf(_) if machine.runs_on(platform) => Ok(true),
            Machine::Elf(found) => Err(CommandError::Machine {
                command: self.command(),
                component: self.component(),
                platform: platform.clone(),
                output: output.to_owned(),
                found,
            }
            .into()),
            Machine::NoProgram => Ok(file.is_executable()),
        }
    }

    fn unusable(&self, output: &Utf8Path, why: &str) -> CommandError {
        CommandError::Unusable {
            command: self.command(),
            component: self.component(),
            platform: self.invocation.platform.clone(),
            output: output.to_owned(),
            why: why.to_owned(),
        }
    }
}
