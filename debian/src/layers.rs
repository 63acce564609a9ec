//! Distributes packages over layers: one for the base, and one for each requested package with its dependencies.

use std::collections::BTreeMap;

use vcstore::Tree;

use super::deb::Package;
use super::{Error, Pinned};

/// Returns the trees of the layers, the lowest first: the base, then the changes of each further package to the system
/// that `system_of` creates from the packages so far. A package without changes has no layer.
pub(crate) fn per_set<'a>(
    pinned: &Pinned,
    mut packages: BTreeMap<&'a str, Package>,
    system_of: impl Fn(&BTreeMap<&'a str, Package>) -> Result<Tree, Error>,
) -> Result<Vec<Tree>, Error> {
    let set_of: BTreeMap<&str, Option<&str>> =
        pinned.packages.iter().map(|pin| (pin.name.as_str(), pin.set.as_deref())).collect();
    let mut here: BTreeMap<&str, Package> = BTreeMap::new();
    let mut below = Tree::new();
    let mut layers = Vec::new();
    for set in std::iter::once(None).chain(pinned.include.iter().map(|name| Some(name.as_str()))) {
        let (more, rest) = packages.into_iter().partition(|(name, _)| set_of.get(name).copied().flatten() == set);
        let more: BTreeMap<_, _> = more;
        packages = rest;
        if more.is_empty() {
            continue;
        }
        here.extend(more);
        let tree = system_of(&here)?;
        layers.push(difference(&below, &tree)?);
        below = tree;
    }
    match packages.into_keys().next() {
        None => Ok(layers),
        Some(name) => {
            let why =
                format!("the package that contains it, {:?}, was not requested", set_of[name].unwrap_or_default());
            Err(Error::BadPin { package: name.to_owned(), why })
        }
    }
}

/// Returns the entries of `upper` that are missing from `lower` or different there, each with its parent folders.
/// Packages only add files, so no file of `lower` is missing from `upper`.
fn difference(lower: &Tree, upper: &Tree) -> Result<Tree, Error> {
    let mut difference = Tree::new();
    for (path, entry) in upper.iter().filter(|(path, entry)| lower.get(path) != Some(*entry)) {
        for (end, _) in path.match_indices('/') {
            let folder = &path[..end];
            if let Some(entry) = upper.get(folder).filter(|_| difference.get(folder).is_none()) {
                difference.insert(folder, entry.clone())?;
            }
        }
        difference.insert(path, entry.clone())?;
    }
    Ok(difference)
}

#[cfg(test)]
mod tests {
    use vcstore::{Content, Tree};

    use super::difference;

    #[test]
    fn a_layer_holds_what_is_new_in_the_folders_it_is_in() {
        let mut lower = Tree::new();
        lower.dir("root", 0o700).unwrap();
        lower.dir("usr", 0o755).unwrap();
        for (path, text) in [("root/a", "a"), ("usr/b", "b"), ("usr/c", "c")] {
            lower.file(path, 0o644, Content::Bytes(text.into())).unwrap();
        }
        let mut upper = lower.clone();
        upper.file("root/new", 0o600, Content::Bytes(Vec::new())).unwrap();
        upper.file("usr/c", 0o644, Content::Bytes("changed".into())).unwrap();
        let layer = difference(&lower, &upper).unwrap();
        let shown: Vec<_> = layer.iter().map(|(path, entry)| (path, entry.mode)).collect();
        assert_eq!(shown, [("root", 0o700), ("root/new", 0o600), ("usr", 0o755), ("usr/c", 0o644)]);
        assert!(difference(&upper, &upper).unwrap().is_empty());
    }
}
