//! Cargo workspaces: binaries of exactly the source, the crates that its lock pins, and the Rust that is installed.

mod compile;
mod error;
mod seed;
mod toolchain;
mod trust;
mod workspace;

use camino::Utf8Path;

use self::compile::{Job, Workshop};
pub(crate) use self::error::Error;
use self::toolchain::Toolchain;
use self::workspace::{Crates, Workspace};
use crate::host;
use crate::listing::Listing;
use crate::project::CargoProgram;
use crate::site::{Made, MadeFile, Site, Wanted};

/// The binaries of the Cargo workspace in `dir`, each by its package and name; none where there is no `Cargo.toml`.
///
/// # Errors
/// When there is no Cargo, or it does not understand the workspace.
pub(crate) fn binaries(dir: &Utf8Path) -> Result<Vec<(String, String)>, crate::Error> {
    if dir.join("Cargo.toml").is_file() { Ok(Workspace::binaries(dir)?) } else { Ok(Vec::new()) }
}

/// Pins the crates that the workspace of a project takes from elsewhere, as its own lock does.
///
/// # Errors
/// When that cannot be read, or a crate is not what the lock says.
pub(crate) fn pin(wanted: &[Wanted<'_, CargoProgram>], site: &Site<'_>) -> Result<(), crate::Error> {
    if wanted.is_empty() {
        return Ok(());
    }
    workspace::must_have_lock(site.source)?;
    Ok(site.lock.pin_crates(workspace::pins(&site.source.dir)?)?)
}

/// Compiles every binary that is wanted, one after another: each keeps all processors busy, and they share what they are
/// compiled with.
///
/// # Errors
/// When there is no Rust, a crate cannot be had, or a binary does not compile. Of several failures the first binary's is
/// returned; the others are compiled all the same, and kept.
pub(crate) fn build<'a>(wanted: &[Wanted<'a, CargoProgram>], site: &Site<'_>) -> Result<Vec<Made<'a>>, crate::Error> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    site.source.must_have("Cargo.toml")?;
    pin(wanted, site)?;
    site.lock.save()?;
    let dir = &site.source.dir;
    let toolchain = Toolchain::find(dir, site.store, site.lock.network())?;
    let workspace = Workspace::read(&toolchain, dir, &site.source.top)?;
    let mut jobs = Vec::new();
    for one in wanted {
        let (package, target) = (workspace.package(one)?.to_owned(), toolchain.target(one.platform)?);
        jobs.push(Job { wanted: one, package, target });
    }
    let crates = Crates::of(&toolchain, dir, site)?;
    let without = [site.outside.as_slice(), std::slice::from_ref(&workspace.target_dir)].concat();
    // The crates of a workspace may read what is above and beside it, as far as the source goes.
    let listing = Listing::of_source(&site.source.top, &without)?;
    let below = dir.strip_prefix(&site.source.top).unwrap_or(Utf8Path::new("")).to_owned();
    let stubs = workspace.stubs.into_iter().map(|(path, content)| (below.join(path), content)).collect();
    let (source, system, own) = (listing.hash(), host::system()?, workspace.packages);
    let workshop = Workshop { site, toolchain, source, listing, below, crates, system, stubs, own };
    let made: Vec<_> = wanted
        .iter()
        .zip(&jobs)
        .map(|(&Wanted { component, platform, .. }, job)| {
            let binary = MadeFile { path: component.binary.clone(), mode: 0o755, content: workshop.realise(job)? };
            Ok(Made { component, platform, files: vec![binary] })
        })
        .collect();
    made.into_iter().collect()
}
