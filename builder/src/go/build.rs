//! Builds all requested programs of a Go module after one scan of the module.

use std::collections::{BTreeMap, BTreeSet};

use camino::Utf8PathBuf;
use rayon::prelude::*;
use vcstore::Platform;

use super::compile::{Job, Linking, compile, warm_up};
use super::scan::{Closure, Scope, scan};
use super::{Go, Module, headers};
use crate::Error;
use crate::build_context::{BuildContext, BuildTarget, BuiltFile, BuiltFiles};
use crate::lock::PinnedModule;
use crate::project::{GoProgram, VersionTable};
use crate::source::Tree;

/// A module and the inputs of its programs.
struct Analysis {
    go: Go,
    module: Module,
    tree: Tree,
    scopes: Vec<Scope>,
    /// The closures of the packages of each scope.
    closures: Vec<BTreeMap<String, Closure>>,
}

/// Pins the modules that all programs of a project need, and nothing else.
///
/// # Errors
/// When Go is not available, or a module is not available or differs from the lock.
pub(crate) fn pin(wanted: &[BuildTarget<'_, GoProgram>], context: &BuildContext<'_>) -> Result<(), Error> {
    if wanted.is_empty() {
        return Ok(());
    }
    let analysis = Analysis::of(wanted, context)?;
    Ok(context.lock.pin_modules(&analysis.module.path, analysis.pins()?, true)?)
}

/// Compiles all requested programs.
///
/// # Errors
/// When Go is not available, a module is not available or differs from the lock, or a program does not compile. Of
/// several failures, the first program's is returned; the other programs are compiled and kept.
pub(crate) fn build<'a>(
    wanted: &[BuildTarget<'a, GoProgram>],
    context: &BuildContext<'_>,
) -> Result<Vec<BuiltFiles<'a>>, Error> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let analysis = Analysis::of(wanted, context)?;
    context.lock.pin_modules(&analysis.module.path, analysis.pins()?, false)?;
    context.lock.check()?;
    let Analysis { go, module, tree, scopes, closures } = analysis;
    let mut jobs = Vec::new();
    for one in wanted {
        let looks_at_it = |scope: &Scope| scope.platform == *one.platform && scope.tags == one.program.tags;
        for (scope, closures) in scopes.iter().zip(&closures).filter(|(scope, _)| looks_at_it(scope)) {
            let (name, package) = (one.component.name.as_str(), one.program.package.as_str());
            let linking = linking(one.program, &module, context.version);
            jobs.push((one, Job { name, package, scope, closure: &closures[package], linking }));
        }
    }
    let prepared = jobs.par_iter().map(|(_, job)| job.prepare(&go, &module, &tree)).collect::<Result<Vec<_>, _>>()?;
    // Check all jobs in parallel, because a lookup may query remote caches.
    let must_run = prepared.par_iter().map(|job| job.must_run(context)).collect::<Result<Vec<_>, _>>()?;
    let missing: Vec<_> = prepared.iter().zip(must_run).filter_map(|(job, must)| must.then_some(job)).collect();
    warm_up(&go, context, &module, &missing)?;
    let made: Vec<_> = jobs
        .par_iter()
        .zip(&prepared)
        .map(|((one, _), prepared)| {
            let content = compile(&go, context, &module, prepared)?;
            let binary = BuiltFile { path: one.component.binary.clone(), mode: 0o755, content };
            Ok(BuiltFiles { component: one.component, platform: one.platform, files: vec![binary] })
        })
        .collect();
    made.into_iter().collect()
}

impl Analysis {
    fn of(wanted: &[BuildTarget<'_, GoProgram>], context: &BuildContext<'_>) -> Result<Self, Error> {
        let BuildContext { store, progress, .. } = *context;
        context.source.must_have("go.mod")?;
        let go = Go::find(context.go, store, context.lock, context.jobs, progress)?;
        let module = Module::read(&go, store, context.source)?;
        let tree = Tree::read(module.dirs.iter().map(Utf8PathBuf::as_path), &context.outside)?;
        let scopes = scopes(wanted);
        let mut closures: Vec<BTreeMap<String, Closure>> = scopes
            .par_iter()
            .map(|scope| scan(&go, store, &module, &tree, scope, progress))
            .collect::<Result<_, Error>>()?;
        for closure in closures.iter_mut().flat_map(BTreeMap::values_mut) {
            closure.add_headers(headers::included(&module, &tree, &closure.files));
        }
        Ok(Self { go, module, tree, scopes, closures })
    }

    /// Returns the modules of all closures, as the lock pins them.
    fn pins(&self) -> Result<Vec<PinnedModule>, Error> {
        let closures = self.closures.iter().flat_map(BTreeMap::values);
        Ok(closures.map(|closure| closure.pins(&self.module)).collect::<Result<Vec<_>, _>>()?.concat())
    }
}

/// Groups the programs into scopes: one scan covers all programs with the same platform and build tags.
fn scopes(wanted: &[BuildTarget<'_, GoProgram>]) -> Vec<Scope> {
    let mut packages: BTreeMap<(&Platform, &Vec<String>), BTreeSet<String>> = BTreeMap::new();
    for one in wanted {
        packages.entry((one.platform, &one.program.tags)).or_default().insert(one.program.package.clone());
    }
    let scope = |((platform, tags), packages): ((&Platform, &Vec<String>), _)| Scope {
        platform: platform.clone(),
        tags: tags.clone(),
        packages,
    };
    packages.into_iter().map(scope).collect()
}

fn linking(program: &GoProgram, module: &Module, version: &VersionTable) -> Linking {
    let values = version.values();
    let module = [("module", module.path.as_str())];
    let stamps = program.stamps.iter().map(|(name, value)| (name.fill(&module), value.fill(&values)));
    Linking { flags: program.ldflags.clone(), stamps: stamps.collect() }
}
