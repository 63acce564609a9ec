//! Landlock as the second protection of files: if a mount is writable by mistake, the program still cannot write there.
//! Kernels before 5.19, and kernels that were booted without Landlock, run programs without it.

use std::error::Error;
use std::io;

use camino::Utf8Path;
use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, Scope,
};

use super::mounts::MEMORY;
use super::spec::{Mount, SetupError};

/// The newest version of Landlock that is used.
const KNOWN: ABI = ABI::V6;

/// Restricts this thread and its descendants to the writable `mounts`. Must be called when the file system of the
/// sandbox is complete, because Landlock forbids further mounts.
pub(super) fn restrict(mounts: &[Mount]) -> Result<(), SetupError> {
    rules(mounts).map_err(|error| SetupError::on("restrict files with Landlock")(io::Error::other(plain(&*error))))
}

fn rules(mounts: &[Mount]) -> Result<(), Box<dyn Error>> {
    // Without this right of the second version, files could not be moved between folders.
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement).handle_access(AccessFs::Refer)?;
    let ruleset = ruleset.set_compatibility(CompatLevel::BestEffort).handle_access(AccessFs::from_all(KNOWN))?;
    let mut ruleset = ruleset.scope(Scope::from_all(KNOWN))?.create()?;
    let devices = AccessFs::from_file(KNOWN) & !AccessFs::Execute;
    let given = [(Utf8Path::new("/"), AccessFs::from_read(KNOWN)), (Utf8Path::new("/dev"), devices)];
    let memory = MEMORY.map(|(folder, _)| (Utf8Path::new(folder), AccessFs::from_all(KNOWN)));
    let written = mounts.iter().filter(|mount| mount.writable);
    let written = written.map(|mount| (mount.inside.as_path(), AccessFs::from_all(KNOWN)));
    for (place, access) in given.into_iter().chain(memory).chain(written) {
        ruleset = ruleset.add_rule(PathBeneath::new(PathFd::new(place)?, fitting(place, access)))?;
    }
    ruleset.restrict_self()?;
    Ok(())
}

/// Returns those of the rights that apply to a file, or all of them for a folder.
fn fitting(place: &Utf8Path, access: BitFlags<AccessFs>) -> BitFlags<AccessFs> {
    if place.is_dir() { access } else { access & AccessFs::from_file(KNOWN) }
}

/// Returns the innermost cause.
fn plain(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::ErrorKind;

    use camino::Utf8PathBuf;

    use super::super::spec::Mount;
    use super::restrict;

    #[test]
    fn only_where_a_mount_is_writable_is_anything_written() {
        // Neither folder is below one that is writable for all programs.
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        let top = Utf8PathBuf::try_from(folder.path().to_owned()).unwrap();
        let (open, closed) = (top.join("open"), top.join("closed"));
        for place in [open.join("a"), open.join("b"), closed.clone()] {
            fs::create_dir_all(place).unwrap();
        }
        fs::write(closed.join("file"), "kept").unwrap();
        let mount = |inside: &Utf8PathBuf, writable| Mount { host: "/".into(), inside: inside.clone(), writable };
        let mounts = [mount(&open, true), mount(&closed, false)];
        // Restricts only this thread.
        let tried = std::thread::spawn(move || {
            // Without Landlock in the kernel, there is nothing to test.
            restrict(&mounts).ok()?;
            fs::write(open.join("a/file"), "new").unwrap();
            fs::rename(open.join("a/file"), open.join("b/file")).unwrap();
            fs::write("/dev/null", "lost").unwrap();
            assert_eq!(fs::read(closed.join("file")).unwrap(), b"kept");
            let refused = [
                fs::write(closed.join("file"), "lost"),
                fs::write(closed.join("new"), ""),
                fs::create_dir(closed.join("folder")),
                fs::remove_file(closed.join("file")),
                fs::rename(open.join("b/file"), closed.join("moved")),
            ];
            Some(refused.map(|result| result.unwrap_err().kind()))
        });
        if let Some(kinds) = tried.join().unwrap() {
            let [writing @ .., moving] = kinds;
            assert_eq!(writing, [ErrorKind::PermissionDenied; 4]);
            assert!(matches!(moving, ErrorKind::PermissionDenied | ErrorKind::CrossesDevices), "{moving:?}");
        }
    }
}
