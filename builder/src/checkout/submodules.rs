//! The submodules of a git revision: other repositories at commits that the revision's tree pins.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use camino::Utf8Path;
use vcnetwork::Network;
use vcsandbox::process;
use vcstore::Store;

use super::git::Repository;
use crate::Error;

/// The maximum number of submodules of a revision, and the maximum nesting depth.
const MOST: usize = 1000;
const DEEPEST: usize = 10;

const LIMIT: Duration = Duration::from_secs(60);

/// The prefix of a submodule entry in the output of `git ls-tree`.
const LINK: &str = "160000 commit ";

/// Writes the files of a commit into `files`, and those of its submodules at their paths.
///
/// # Errors
/// When git fails, a submodule has no address, or there are too many.
pub(super) fn lay(
    repository: &Repository<'_>,
    commit: &str,
    files: &Utf8Path,
    network: &Network,
    store: &Store,
) -> Result<(), Error> {
    lay_at(repository, commit, files, network, store, 0)
}

fn lay_at(
    repository: &Repository<'_>,
    commit: &str,
    files: &Utf8Path,
    network: &Network,
    store: &Store,
    depth: usize,
) -> Result<(), Error> {
    repository.lay(commit, files, store)?;
    let links = links(repository, commit)?;
    if links.is_empty() {
        return Ok(());
    }
    let refuse = |why: String| repository.failed(commit)(process::Failure::Other(why));
    if depth >= DEEPEST || links.len() > MOST {
        return Err(refuse(format!("it has more than {MOST} submodules, or nests them deeper than {DEEPEST}")));
    }
    let addresses = addresses(repository, files).map_err(repository.failed(commit))?;
    for (path, commit) in links {
        let Some(address) = addresses.get(&path) else {
            return Err(refuse(format!("its submodule {path} has no address in .gitmodules")));
        };
        let url = resolve(repository.url, address);
        let submodule = Repository::of(&url, false, store)?;
        let found = submodule.get(&commit, network)?;
        lay_at(&submodule, &found.commit, &files.join(&path), network, store, depth + 1)?;
    }
    Ok(())
}

/// Returns the submodule commits in the tree of a commit, by path.
fn links(repository: &Repository<'_>, commit: &str) -> Result<BTreeMap<String, String>, Error> {
    let listed = repository.git(commit, &["ls-tree", "-r", "-z", "--full-tree", commit]);
    let listed = listed.map_err(repository.failed(commit))?;
    let mut links = BTreeMap::new();
    for entry in listed.split(|byte| *byte == 0) {
        if let Some((commit, path)) =
            std::str::from_utf8(entry).ok().and_then(|entry| entry.strip_prefix(LINK)?.split_once('\t'))
        {
            links.insert(path.to_owned(), commit.to_owned());
        }
    }
    Ok(links)
}

/// Returns the submodule addresses in the `.gitmodules` of a folder, by path.
fn addresses(repository: &Repository<'_>, files: &Utf8Path) -> Result<BTreeMap<String, String>, process::Failure> {
    let path = files.join(".gitmodules");
    // Like git, ignore a symbolic link: it could point to any file.
    if !fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file()) {
        return Ok(BTreeMap::new());
    }
    let mut git = repository.git.isolated();
    git.args(["config", "--file", path.as_str(), "--null", "--list"]);
    let listed = process::run(&mut git, LIMIT)?;
    let mut told: BTreeMap<String, [Option<String>; 2]> = BTreeMap::new();
    for setting in String::from_utf8_lossy(&listed).split('\0') {
        let Some((name, value)) = setting.split_once('\n') else { continue };
        for (number, what) in [".path", ".url"].into_iter().enumerate() {
            if let Some(name) = name.strip_prefix("submodule.").and_then(|name| name.strip_suffix(what)) {
                told.entry(name.to_owned()).or_default()[number] = Some(value.to_owned());
            }
        }
    }
    Ok(told.into_values().filter_map(|[path, url]| Some((path?.trim_end_matches('/').to_owned(), url?))).collect())
}

/// Resolves the address of a submodule, which may be relative to that of its repository.
fn resolve(base: &str, address: &str) -> String {
    if !address.starts_with("./") && !address.starts_with("../") {
        return address.to_owned();
    }
    let (mut base, mut rest) = (base.trim_end_matches('/'), address);
    loop {
        if let Some(after) = rest.strip_prefix("./") {
            rest = after;
        } else if let Some(after) = rest.strip_prefix("../") {
            rest = after;
            // git's short form, HOST:PATH, keeps its host.
            base = match base.rfind('/').or_else(|| base.rfind(':').map(|colon| colon + 1)) {
                Some(end) => &base[..end],
                None => "",
            };
        } else {
            let joint = if base.is_empty() || base.ends_with(':') { "" } else { "/" };
            return format!("{base}{joint}{rest}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::resolve;

    #[test]
    fn an_address_beside_a_repository_is_found_as_git_finds_it() {
        for (base, address, found) in [
            ("https://example.org/team/app.git", "../lib.git", "https://example.org/team/lib.git"),
            ("https://example.org/team/app.git/", "../../other/lib", "https://example.org/other/lib"),
            ("https://example.org/app", "./lib", "https://example.org/app/lib"),
            ("git@example.org:team/app", "../lib", "git@example.org:team/lib"),
            ("git@example.org:app", "../lib", "git@example.org:lib"),
            ("/srv/app", "https://example.org/lib", "https://example.org/lib"),
        ] {
            assert_eq!(resolve(base, address), found, "{base} {address}");
        }
    }
}
