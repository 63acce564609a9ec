//! Cargo workspaces: binaries from the source, the crates that Cargo.lock pins, and the installed Rust toolchain.

mod compile;
mod dependencies;
mod toolchain;
mod trust;
mod workspace;

use camino::Utf8Path;

use self::compile::{Compiler, Job};
use self::toolchain::Toolchain;
use self::workspace::{Crates, Workspace};
use crate::build_context::{BuildContext, BuildTarget, BuiltFile, BuiltFiles};
use crate::file_manifest::FileManifest;
use crate::host_inputs;
use crate::project::CargoProgram;

/// Returns the binaries of the Cargo workspace in `dir`, as package and name; an empty list if there is no
/// `Cargo.toml`.
///
/// # Errors
/// When Cargo is not installed, or cannot read the workspace.
pub(crate) fn binaries(dir: &Utf8Path) -> Result<Vec<(String, String)>, crate::Error> {
    if dir.join("Cargo.toml").is_file() { Ok(Workspace::binaries(dir)?) } else { Ok(Vec::new()) }
}

/// Pins the dependencies of a project's workspace, as `Cargo.lock` does.
///
/// # Errors
/// When `Cargo.lock` cannot be read, or a crate differs from the lock.
pub(crate) fn pin(wanted: &[BuildTarget<'_, CargoProgram>], context: &BuildContext<'_>) -> Result<(), crate::Error> {
    if wanted.is_empty() {
        return Ok(());
    }
    workspace::must_have_lock(context.source)?;
    Ok(context.lock.pin_crates(workspace::pins(&context.source.dir)?)?)
}

/// Compiles all binaries, one after another: each keeps all processors busy, and they share compiled crates.
///
/// # Errors
/// When Rust is not installed, a crate is not available, or a binary does not compile. Of several failures, the first
/// binary's is returned; the other binaries are compiled and kept.
pub(crate) fn build<'a>(
    wanted: &[BuildTarget<'a, CargoProgram>],
    context: &BuildContext<'_>,
) -> Result<Vec<BuiltFiles<'a>>, crate::Error> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    context.source.must_have("Cargo.toml")?;
    pin(wanted, context)?;
    context.lock.check()?;
    let dir = &context.source.dir;
    let toolchain = Toolchain::find(dir, context.store, context.lock.network())?;
    let workspace = Workspace::read(&toolchain, dir, &context.source.top)?;
    let mut jobs = Vec::new();
    for one in wanted {
        let (package, target) = (workspace.package(one)?.to_owned(), toolchain.target(one.platform)?);
        jobs.push(Job { wanted: one, package, target });
    }
    let crates = Crates::of(&toolchain, dir, context)?;
    let without = [context.outside.as_slice(), std::slice::from_ref(&workspace.target_dir)].concat();
    // The crates of a workspace may read files above and beside it, anywhere in the source.
    let source_files = FileManifest::of_source(&context.source.top, &without)?;
    let below = dir.strip_prefix(&context.source.top).unwrap_or(Utf8Path::new("")).to_owned();
    let stubs = workspace.stubs.into_iter().map(|(path, content)| (below.join(path), content)).collect();
    let (source, system, own) = (source_files.hash(), host_inputs::system()?, workspace.packages);
    let compiler = Compiler { context, toolchain, source, source_files, below, crates, system, stubs, own };
    let made: Vec<_> = wanted
        .iter()
        .zip(&jobs)
        .map(|(&BuildTarget { component, platform, .. }, job)| {
            let binary = BuiltFile { path: component.binary.clone(), mode: 0o755, content: compiler.realise(job)? };
            Ok(BuiltFiles { component, platform, files: vec![binary] })
        })
        .collect();
    made.into_iter().collect()
}
