//! Checks, if there is no project file, that the source is that of the built-in project: otherwise users of other projects
//! would get errors about programs that they do not know.

use crate::Error;
use crate::project::{Component, FILE_NAME, Kind, Project};
use crate::source::{Source, folders_with};

/// Checks that the source has the programs of the components, where the project is built in.
///
/// # Errors
/// When it lacks its `go.mod`, or one of them.
pub(super) fn check(project: &Project, components: &[&Component], source: &Source) -> Result<(), Error> {
    if project.path.is_some() {
        return Ok(());
    }
    let packages = components.iter().filter_map(|component| match &component.kind {
        Kind::Go(program) => Some(program.package.as_str()),
        _ => None,
    });
    let missing = |package: &&str| !source.dir.join(package).is_dir();
    let (what, folders) = if source.dir.join("go.mod").is_file() {
        let missing: Vec<_> = packages.filter(missing).collect();
        if missing.is_empty() {
            return Ok(());
        }
        (missing.join(", "), Vec::new())
    } else {
        ("go.mod".to_owned(), folders_with("go.mod", &source.dir))
    };
    let above = source.named.canonicalize_utf8().ok().filter(|_| source.revision.is_none());
    let above = above.iter().flat_map(|real| real.ancestors().skip(1)).map(|folder| folder.join(FILE_NAME));
    let above = { above }.find(|file| file.is_file());
    Err(Error::OtherProject { path: source.named.clone(), what, above, folders })
}
