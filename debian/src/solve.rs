//! Selects the packages of a base: those of every installation, the requested ones, and their dependencies.
//!
//! A SAT solver (resolvo) selects them; this module translates Debian's relations (Debian policy, chapter 7) for it.
//! Recommended packages are not installed.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};

use debian_control::lossy::Relation;
use debian_control::relations::VersionConstraint;
use debversion::Version;
use resolvo::utils::{Pool, Solvable, VersionSet};
use resolvo::{
    Candidates, Condition, ConditionId, ConditionalRequirement, Dependencies, DependencyProvider, Interner,
    KnownDependencies, NameId, Problem, Requirement, SolvableId, Solver, SolverCache, StringId, UnsolvableOrCancelled,
    VersionSetId, VersionSetUnionId,
};

use super::Error;
use super::index::{Candidate, FieldError, Index};

/// The packages of a base in addition to the essential and required ones, if the suite has them: `apt`, as in
/// debian:bookworm-slim; and `usr-is-merged`, because this base has the merged layout from the start and must not get
/// the package that converts a running system and depends on Perl.
const ALWAYS: [&str; 2] = ["apt", "usr-is-merged"];

/// Selects packages. Returns their numbers in the index, sorted by name. The `held` packages keep their version where
/// possible.
pub(crate) fn solve(
    index: &Index,
    suite: &str,
    architecture: &str,
    include: &[String],
    held: &BTreeMap<String, usize>,
) -> Result<Vec<usize>, Error> {
    let unsolvable = |why: String| Error::Unsolvable { suite: suite.to_owned(), why };
    let base = index.base().map(|one| Ok(one.map_err(unsolvable)?.name.as_str()));
    let mut wanted = base.collect::<Result<BTreeSet<&str>, Error>>()?;
    for name in ALWAYS {
        if !index.named(name).map_err(unsolvable)?.is_empty() {
            wanted.insert(name);
        }
    }
    for name in include {
        if index.named(name).map_err(unsolvable)?.is_empty() {
            let (name, suite, architecture) = (name.clone(), suite.to_owned(), architecture.to_owned());
            return Err(Error::NoSuchPackage { name, suite, architecture });
        }
        wanted.insert(name);
    }
    let debian = Debian::new(index, architecture, held);
    let requirements = wanted.into_iter().map(|name| Ok(debian.all_of(name)?.into()));
    let requirements = requirements.collect::<Result<_, _>>().map_err(unsolvable)?;
    let mut solver = Solver::new(debian);
    let result = solver.solve(Problem::new().requirements(requirements));
    if let Some(why) = solver.provider().unreadable.take() {
        return Err(unsolvable(why));
    }
    match result {
        Ok(solution) => {
            let pool = &solver.provider().pool;
            let number = |id| pool.resolve_solvable(id).record.number;
            let named = solution.into_iter().map(|id| Ok((&index.candidate(number(id))?.name, number(id))));
            let by_name = named.collect::<Result<BTreeMap<_, _>, _>>().map_err(unsolvable)?;
            Ok(by_name.into_values().collect())
        }
        Err(UnsolvableOrCancelled::Unsolvable(conflict)) => {
            Err(unsolvable(conflict.display_user_friendly(&solver).to_string()))
        }
        Err(UnsolvableOrCancelled::Cancelled(_)) => Err(unsolvable("the search was cancelled".to_owned())),
    }
}

/// Returns those of the selected packages that `root` needs, and itself.
pub(crate) fn needs(
    index: &Index,
    suite: &str,
    architecture: &str,
    chosen: &[usize],
    root: &str,
) -> Result<BTreeSet<usize>, Error> {
    let held = BTreeMap::new();
    let debian = Debian::new(index, architecture, &held);
    let bad = |why: FieldError| Error::Unsolvable { suite: suite.to_owned(), why };
    let mut needed = BTreeSet::new();
    let mut next = index.named(root).map_err(bad)?;
    next.retain(|one| chosen.contains(one));
    while let Some(number) = next.pop() {
        if !needed.insert(number) {
            continue;
        }
        for group in index.candidate(number).and_then(Candidate::depends).map_err(bad)? {
            // The first alternative that was selected is the one that satisfies the dependency.
            for relation in &group {
                let (real, providers) = debian.matching(relation).map_err(bad)?;
                let candidates = real.into_iter().chain(providers.into_values().flatten());
                let meant: Vec<_> = candidates.filter(|one| chosen.contains(one)).collect();
                if !meant.is_empty() {
                    next.extend(meant);
                    break;
                }
            }
        }
    }
    Ok(needed)
}

/// A package of the index, as the solver displays it.
struct Record {
    number: usize,
    version: String,
}

impl Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.version)
    }
}

/// A subset of the packages with one name, by their numbers, to which a relation is reduced. `shown` is the relation
/// itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Set {
    members: Vec<usize>,
    shown: String,
}

/// The numbers of packages that provide a name, by their own names.
type Providers<'a> = BTreeMap<&'a str, Vec<usize>>;

impl VersionSet for Set {
    type V = Record;
}

struct Debian<'a> {
    index: &'a Index,
    architecture: &'a str,
    held: &'a BTreeMap<String, usize>,
    pool: Pool<Set, String>,
    /// A parse error of the index that could not be returned through the solver; it invalidates the solver's result.
    unreadable: RefCell<Option<FieldError>>,
}

impl<'a> Debian<'a> {
    fn new(index: &'a Index, architecture: &'a str, held: &'a BTreeMap<String, usize>) -> Self {
        Self { index, architecture, held, pool: Pool::default(), unreadable: RefCell::default() }
    }

    fn all_of(&self, name: &str) -> Result<VersionSetId, FieldError> {
        Ok(self.set(name, self.index.named(name)?, String::new()))
    }

    fn set(&self, name: &str, members: Vec<usize>, shown: String) -> VersionSetId {
        self.pool.intern_version_set(self.pool.intern_package_name(name), Set { members, shown })
    }

    fn dependencies(&self, candidate: &Candidate) -> Result<KnownDependencies, FieldError> {
        let mut known = KnownDependencies::default();
        for group in candidate.depends()? {
            known.requirements.extend(self.requirement(&group)?);
        }
        for relation in candidate.conflicts()? {
            known.constrains.extend(self.constraints(candidate, &relation)?);
        }
        Ok(known)
    }

    /// Builds the requirement for any of the alternatives, in their order; each is satisfied by a package with that
    /// name or one that provides it.
    fn requirement(&self, alternatives: &[Relation]) -> Result<Option<ConditionalRequirement>, FieldError> {
        let mut sets = Vec::new();
        for relation in alternatives {
            let shown =
                relation.version.as_ref().map(|(how, version)| format!("({how} {version})")).unwrap_or_default();
            let (real, providers) = self.matching(relation)?;
            sets.push(self.set(&relation.name, real, shown));
            for (name, members) in providers {
                sets.push(self.set(name, members, format!("(provides {})", relation.name)));
            }
        }
        let mut sets = sets.into_iter();
        Ok(match (sets.next(), sets.len()) {
            (None, _) => None,
            (Some(only), 0) => Some(only.into()),
            (Some(first), _) => Some(Requirement::Union(self.pool.intern_version_set_union(first, sets)).into()),
        })
    }

    /// Returns the packages that remain permitted if those of the relation are not. A package does not conflict with
    /// itself, even if it provides a name with which it conflicts.
    fn constraints(&self, candidate: &Candidate, relation: &Relation) -> Result<Vec<VersionSetId>, FieldError> {
        let (real, mut providers) = self.matching(relation)?;
        providers.entry(&relation.name).or_default().extend(real);
        let others = providers.into_iter().filter(|(name, members)| *name != candidate.name && !members.is_empty());
        let allowed = others.map(|(name, barred)| {
            let mut rest = self.index.named(name)?;
            rest.retain(|one| !barred.contains(one));
            Ok(self.set(name, rest, format!("(that {} does not conflict with)", candidate.name)))
        });
        allowed.collect()
    }

    /// Returns the packages that match a relation: those with that name, and those that provide it, by their names.
    fn matching(&self, relation: &Relation) -> Result<(Vec<usize>, Providers<'_>), FieldError> {
        let mut real = Vec::new();
        let mut providers = Providers::new();
        let foreign =
            relation.archqual.as_deref().is_some_and(|one| !["any", "native", self.architecture].contains(&one));
        if foreign {
            return Ok((real, providers));
        }
        let wanted = relation.version.as_ref();
        for number in self.index.named(&relation.name)? {
            if wanted.is_none() || satisfies(&self.index.candidate(number)?.version()?, wanted) {
                real.push(number);
            }
        }
        for (number, version) in self.index.providing(&relation.name)? {
            // A relation with a version is satisfied only by a package that provides a version (policy 7.5).
            if wanted.is_none() || version.as_ref().is_some_and(|version| satisfies(version, wanted)) {
                let name = self.index.candidate(number)?.name.as_str();
                if name != relation.name {
                    providers.entry(name).or_default().push(number);
                }
            }
        }
        Ok((real, providers))
    }

    fn candidate(&self, id: SolvableId) -> Result<&Candidate, FieldError> {
        self.index.candidate(self.pool.resolve_solvable(id).record.number)
    }

    /// Returns the value, or `None` after an error, which is reported at the end of the search.
    fn read<T>(&self, result: Result<T, FieldError>) -> Option<T> {
        result.map_err(|why| self.unreadable.replace(Some(why))).ok()
    }
}

fn satisfies(version: &Version, wanted: Option<&(VersionConstraint, Version)>) -> bool {
    wanted.is_none_or(|(how, bound)| match how {
        VersionConstraint::LessThan => version < bound,
        VersionConstraint::LessThanEqual => version <= bound,
        VersionConstraint::Equal => version == bound,
        VersionConstraint::GreaterThan => version > bound,
        VersionConstraint::GreaterThanEqual => version >= bound,
    })
}

impl Interner for Debian<'_> {
    type NameId = NameId;
    type SolvableId = SolvableId;

    fn display_solvable(&self, solvable: SolvableId) -> impl Display + '_ {
        let Solvable { name, record } = self.pool.resolve_solvable(solvable);
        format!("{} {record}", self.pool.resolve_package_name(*name))
    }

    fn display_name(&self, name: NameId) -> impl Display + '_ {
        self.pool.resolve_package_name(name)
    }

    fn display_version_set(&self, set: VersionSetId) -> impl Display + '_ {
        &self.pool.resolve_version_set(set).shown
    }

    fn display_string(&self, string: StringId) -> impl Display + '_ {
        self.pool.resolve_string(string)
    }

    fn version_set_name(&self, set: VersionSetId) -> NameId {
        self.pool.resolve_version_set_package_name(set)
    }

    fn solvable_name(&self, solvable: SolvableId) -> NameId {
        self.pool.resolve_solvable(solvable).name
    }

    fn version_sets_in_union(&self, union: VersionSetUnionId) -> impl Iterator<Item = VersionSetId> {
        self.pool.resolve_version_set_union(union)
    }

    fn resolve_condition(&self, condition: ConditionId) -> Condition {
        self.pool.resolve_condition(condition).clone()
    }
}

impl DependencyProvider for Debian<'_> {
    async fn filter_candidates(&self, candidates: &[SolvableId], set: VersionSetId, inverse: bool) -> Vec<SolvableId> {
        let members = &self.pool.resolve_version_set(set).members;
        let within = |id: &SolvableId| members.contains(&self.pool.resolve_solvable(*id).record.number) != inverse;
        candidates.iter().copied().filter(within).collect()
    }

    async fn get_candidates(&self, name: NameId) -> Option<Candidates> {
        let numbers = self.read(self.index.named(self.pool.resolve_package_name(name)))?;
        let record = |number: usize| Ok(Record { number, version: self.index.candidate(number)?.version.clone() });
        let records = self.read(numbers.iter().map(|&number| record(number)).collect::<Result<Vec<_>, _>>())?;
        let candidates: Vec<_> = records.into_iter().map(|record| self.pool.intern_solvable(name, record)).collect();
        let held = self.held.get(self.pool.resolve_package_name(name));
        let favored = held.and_then(|held| Some(candidates[numbers.iter().position(|number| number == held)?]));
        Some(Candidates { candidates, favored, ..Candidates::default() })
    }

    async fn sort_candidates(&self, _: &SolverCache<Self>, solvables: &mut [SolvableId]) {
        // The newest first. A version that cannot be parsed sorts last.
        solvables.sort_by_cached_key(|&id| Reverse(self.candidate(id).and_then(Candidate::version).ok()));
    }

    async fn get_dependencies(&self, solvable: SolvableId) -> Dependencies {
        match self.candidate(solvable).and_then(|candidate| self.dependencies(candidate)) {
            Ok(known) => Dependencies::Known(known),
            Err(why) => Dependencies::Unknown(self.pool.intern_string(why)),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use camino::Utf8Path;

    use super::solve;
    use crate::Error;
    use crate::index::Index;

    /// Builds an index of packages, given as `name version` and lines of `Field: value`.
    pub(crate) fn index(packages: &[(&str, &str)]) -> Index {
        let mut text = String::new();
        for (package, fields) in packages {
            let (name, version) = package.split_once(' ').unwrap();
            text += &format!(
                "Package: {name}\nVersion: {version}\nArchitecture: amd64\n{fields}\nFilename: pool/{name}.deb\nSize: 1\n\
                 SHA256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n\n"
            );
        }
        let folder = tempfile::tempdir().unwrap();
        let mut index = Index::new(Utf8Path::from_path(folder.path()).unwrap()).unwrap();
        index.add(0, "test", text.replace("\n\nFilename", "\nFilename").as_bytes()).unwrap();
        index
    }

    fn chosen(packages: &[(&str, &str)], include: &[&str]) -> Result<Vec<String>, Error> {
        let index = index(packages);
        let include: Vec<_> = include.iter().map(|&name| name.to_owned()).collect();
        let numbers = solve(&index, "bookworm", "amd64", &include, &BTreeMap::new())?;
        let shown = numbers.into_iter().map(|one| index.candidate(one).unwrap());
        Ok(shown.map(|one| format!("{} {}", one.name, one.version)).collect())
    }

    #[test]
    fn the_base_is_what_is_essential_or_required_and_what_it_needs() {
        let packages = [
            ("dash 1", "Essential: yes\nPre-Depends: libc (>= 2)"),
            ("libc 2.36", ""),
            ("mount 1", "Priority: required\nDepends: util:any"),
            ("util 1", "Recommends: game"),
            ("game 1", "Priority: optional"),
            ("apt 2", "Priority: important"),
        ];
        assert_eq!(chosen(&packages, &[]).unwrap(), ["apt 2", "dash 1", "libc 2.36", "mount 1", "util 1"]);
        assert_eq!(chosen(&packages, &["game"]).unwrap()[2], "game 1");
    }

    #[test]
    fn the_newest_is_taken_unless_a_relation_forbids_it() {
        let packages =
            [("a 1", "Essential: yes\nDepends: b (<< 1.10)"), ("b 1.9", ""), ("b 1.10", ""), ("b 1.9~rc1", "")];
        assert_eq!(chosen(&packages, &[]).unwrap(), ["a 1", "b 1.9"]);
    }

    #[test]
    fn the_first_alternative_is_preferred_and_the_next_taken_where_it_cannot_be() {
        let packages = [("a 1", "Essential: yes\nDepends: b | c"), ("b 1", ""), ("c 1", ""), ("d 1", "Conflicts: b")];
        assert_eq!(chosen(&packages, &[]).unwrap(), ["a 1", "b 1"]);
        assert_eq!(chosen(&packages, &["d"]).unwrap(), ["a 1", "c 1", "d 1"]);
    }

    #[test]
    fn a_provided_name_satisfies_and_conflicts() {
        let packages = [
            ("a 1", "Essential: yes\nDepends: awk, api (>= 2)"),
            ("mawk 1", "Provides: awk\nConflicts: awk"),
            ("old 1", "Provides: api (= 1)"),
            ("new 1", "Provides: api (= 2)"),
            ("bare 1", "Provides: api"),
            ("foe 1", "Breaks: api (<< 3)"),
        ];
        assert_eq!(chosen(&packages, &[]).unwrap(), ["a 1", "mawk 1", "new 1"]);
        let error = chosen(&packages, &["foe"]).unwrap_err();
        assert!(error.to_string().contains("cannot be installed together"), "{error}");
    }

    #[test]
    fn what_cannot_be_had_is_named() {
        let error = chosen(&[("a 1", "Essential: yes\nDepends: b (>= 2)"), ("b 1", "")], &[]).unwrap_err();
        assert!(error.to_string().contains("b (>= 2)"), "{error}");
        let error = chosen(&[("a 1", "Essential: yes")], &["nonesuch"]).unwrap_err();
        assert_eq!(error.to_string(), "looking for package nonesuch: bookworm has no package with that name for amd64");
    }
}
