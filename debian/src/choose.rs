//! Resolves a request to packages, and determines which of the requested packages caused each.

use std::collections::BTreeMap;

use super::index::Index;
use super::{Error, Request, Selection, minimal, solve};

/// A selected package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SelectedPackage {
    /// Its number in the index.
    pub(crate) number: usize,
    /// The requested package that caused it; `None` for packages of the base.
    pub(crate) set: Option<String>,
}

/// Selects packages, by name. Those in `held` keep their version where possible.
pub(crate) fn choose(
    index: &Index,
    request: &Request,
    held: &BTreeMap<String, usize>,
) -> Result<Vec<SelectedPackage>, Error> {
    match request.selection {
        Selection::System => system(index, request, held),
        Selection::Static => minimal::PACKAGES.into_iter().map(|name| newest(index, request, held, name)).collect(),
    }
}

/// Selects the packages of a system. The base is resolved first, and additional packages change it only if necessary,
/// so that the base is the same regardless of what is stacked on it.
fn system(index: &Index, request: &Request, held: &BTreeMap<String, usize>) -> Result<Vec<SelectedPackage>, Error> {
    let include = &request.options.packages;
    let (suite, architecture) = (request.options.suite.as_str(), request.architecture.as_str());
    let base = solve::solve(index, suite, architecture, &[], held)?;
    if include.is_empty() {
        return Ok(base.into_iter().map(|number| SelectedPackage { number, set: None }).collect());
    }
    let unreadable = |why| Error::Unsolvable { suite: suite.to_owned(), why };
    let name = |number: usize| index.candidate(number).map(|one| one.name.clone()).map_err(unreadable);
    let base = base.into_iter().map(|number| Ok((name(number)?, number))).collect::<Result<BTreeMap<_, _>, Error>>()?;
    let mut held = held.clone();
    held.extend(base.clone());
    let all = solve::solve(index, suite, architecture, include, &held)?;
    let mut sets: BTreeMap<usize, String> = BTreeMap::new();
    for root in include {
        for number in solve::needs(index, suite, architecture, &all, root)? {
            if !base.contains_key(&name(number)?) {
                sets.entry(number).or_insert_with(|| root.clone());
            }
        }
    }
    Ok(all.into_iter().map(|number| SelectedPackage { number, set: sets.remove(&number) }).collect())
}

/// Selects the newest package with this name, without its dependencies.
fn newest(
    index: &Index,
    request: &Request,
    held: &BTreeMap<String, usize>,
    name: &str,
) -> Result<SelectedPackage, Error> {
    let suite = &request.options.suite;
    let newest = index.newest(name).map_err(|why| Error::Unsolvable { suite: suite.clone(), why })?;
    let number = held.get(name).copied().or(newest).ok_or_else(|| Error::NoSuchPackage {
        name: name.to_owned(),
        suite: suite.clone(),
        architecture: request.architecture.clone(),
    })?;
    Ok(SelectedPackage { number, set: None })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::choose;
    use crate::solve::tests::index;
    use crate::{Options, Request};

    const PACKAGES: [(&str, &str); 7] = [
        ("dash 1", "Essential: yes\nDepends: libc"),
        ("libc 2", ""),
        ("libc 3", ""),
        ("curl 1", "Depends: libc, libcurl, ssl"),
        ("libcurl 1", "Depends: ssl"),
        ("ssl 1", ""),
        ("wget 1", "Depends: ssl | curl"),
    ];

    fn chosen(packages: &[(&str, &str)], include: &[&str], held: &[(&str, &str)]) -> Vec<String> {
        let index = index(packages);
        let options = Options { packages: include.iter().map(|&name| name.to_owned()).collect(), ..Options::default() };
        let held: BTreeMap<_, _> = held
            .iter()
            .map(|(name, version)| {
                let is = |&one: &usize| index.candidate(one).unwrap().version == *version;
                ((*name).to_owned(), index.named(name).unwrap().into_iter().find(is).unwrap())
            })
            .collect();
        let choices = choose(&index, &Request { options, ..Request::default() }, &held).unwrap();
        let shown = choices.into_iter().map(|choice| {
            let one = index.candidate(choice.number).unwrap();
            format!("{} {}{}", one.name, one.version, choice.set.map(|set| format!(" for {set}")).unwrap_or_default())
        });
        shown.collect()
    }

    #[test]
    fn each_package_is_of_the_base_or_of_the_first_that_needs_it() {
        let base = ["dash 1", "libc 3"];
        assert_eq!(chosen(&PACKAGES, &[], &[]), base);
        let curl = ["curl 1 for curl", "dash 1", "libc 3", "libcurl 1 for curl", "ssl 1 for curl"];
        assert_eq!(chosen(&PACKAGES, &["curl"], &[]), curl);
        let both = chosen(&PACKAGES, &["wget", "curl", "libc"], &[]);
        let expected =
            ["curl 1 for curl", "dash 1", "libc 3", "libcurl 1 for curl", "ssl 1 for wget", "wget 1 for wget"];
        assert_eq!(both, expected, "asking for what the base has changes nothing");
    }

    #[test]
    fn what_is_held_stays_unless_something_needs_another() {
        assert_eq!(chosen(&PACKAGES, &[], &[("libc", "2")]), ["dash 1", "libc 2"]);
        let needy = [&PACKAGES[..], &[("new 1", "Depends: libc (>= 3)")]].concat();
        assert_eq!(chosen(&needy, &["new"], &[("libc", "2")]), ["dash 1", "libc 3", "new 1 for new"]);
    }
}
