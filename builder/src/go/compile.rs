//! Compiles a program from exactly the files of its closure, in a folder that contains nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use vcsandbox::Step;
use vcsandbox::plain::Folder;
use vcsandbox::process;
use vcstore::{Action, Blob, Outputs};

use super::scan::{Scope, ensure_modules};
use super::{Closure, Go, Home, Module};
use crate::build_context::BuildContext;
use crate::source::{FileHash, Tree, is_lfs_pointer};
use crate::{Error, platform};

/// The version of the build recipe. Increment it when a change of this file can change a binary; it is part of every
/// action key.
const RECIPE: u32 = 1;

/// A program to compile.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    /// The name of the component, for messages.
    pub(crate) name: &'a str,
    /// The package, such as `./cmd/manager`.
    pub(crate) package: &'a str,
    /// The scope of the scan that found the closure.
    pub(crate) scope: &'a Scope,
    pub(crate) closure: &'a Closure,
    pub(crate) linking: Linking,
}

/// The options of Go's linker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Linking {
    pub(crate) flags: Vec<String>,
    /// The values of Go variables, by their full names.
    pub(crate) stamps: BTreeMap<String, String>,
}

/// A job with the hashes of all its inputs.
pub(crate) struct Prepared<'a> {
    job: &'a Job<'a>,
    files: BTreeMap<&'a Utf8Path, FileHash>,
    marks: BTreeMap<&'a Utf8Path, String>,
    ldflags: String,
    action: Action,
}

impl<'a> Job<'a> {
    /// Hashes all inputs.
    ///
    /// # Errors
    /// When a file cannot be read, or a flag cannot be passed to Go.
    pub(crate) fn prepare(&'a self, go: &Go, module: &Module, tree: &Tree) -> Result<Prepared<'a>, Error> {
        let hash = |path: &'a Utf8PathBuf| Ok((path.as_path(), tree.hash_of(&module.top.join(path))?));
        let files: BTreeMap<_, _> = self.closure.files.iter().map(hash).collect::<Result<_, Error>>()?;
        self.check_pointers(module)?;
        let mark = |(file, headers): (&'a Utf8PathBuf, &BTreeSet<Utf8PathBuf>)| {
            let hashes = headers.iter().map(|header| format!("\n// {header} {}", files[header.as_path()]));
            (file.as_path(), hashes.collect())
        };
        let marks = self.closure.headers.iter().map(mark).collect();
        let ldflags = self.linking.ldflags().map_err(|why| Error::Flag { component: self.name.to_owned(), why })?;
        // Older versions of Go do not report a checksum for each module: then the whole go.sum is an input.
        let told = module.vendored || self.closure.modules.iter().all(|module| module.sum.is_some());
        let sums = if told || module.work.is_some() { None } else { Some(tree.hash_of(&module.dir.join("go.sum"))?) };
        let action = Action::new("compile", format!("{} {}", self.name, self.scope.platform))
            .input("recipe", RECIPE)?
            .input("toolchain", go.toolchain.identity())?
            .input("environment", platform::go_environment(&self.scope.platform))?
            .input("tags", &self.scope.tags)?
            .input("ldflags", &ldflags)?
            .input("mod", module.mod_option())?
            .input("package", self.package)?
            .input("module", module.dir.strip_prefix(&module.top).unwrap_or(&module.dir))?
            .input("files", &files)?
            .input("modules", &self.closure.modules)?
            .input("sums", sums)?;
        let action = if module.work.is_some() {
            let sums = module.sums().into_iter().filter(|sums| !told && sums.is_file());
            let sums = sums.map(|sums| tree.hash_of(&sums)).collect::<Result<Vec<_>, Error>>()?;
            action.input("workspace", (module.go_work(Utf8Path::new("")), sums))?
        } else {
            action
        };
        Ok(Prepared { job: self, files, marks, ldflags, action })
    }

    /// Refuses a program that would embed a Git LFS pointer instead of the file itself.
    fn check_pointers(&self, module: &Module) -> Result<(), Error> {
        for file in &self.closure.files {
            let path = module.top.join(file);
            let pointer = fs::metadata(&path).and_then(|meta| is_lfs_pointer(&path, meta.len()));
            if pointer.map_err(Error::io("reading", &path))? {
                return Err(Error::Pointer { component: self.name.to_owned(), file: file.clone() });
            }
        }
        Ok(())
    }
}

impl Prepared<'_> {
    /// Returns whether the store lacks the binary.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn must_run(&self, context: &BuildContext<'_>) -> Result<bool, Error> {
        context.must_run(&self.action)
    }
}

/// Returns the binary of a job from the store, or compiles it.
///
/// # Errors
/// When it does not compile; the error contains the compiler's messages.
pub(crate) fn compile(
    go: &Go,
    context: &BuildContext<'_>,
    module: &Module,
    prepared: &Prepared<'_>,
) -> Result<Blob, Error> {
    let BuildContext { store, sandbox, progress, .. } = *context;
    let Prepared { job, files, marks, ldflags, action } = prepared;
    let outputs = context.realise(action, || {
        ensure_modules(go, store, module, job.scope, job.closure, progress)?;
        let stage = Stage::fill(context, module, files, marks)?;
        let GoBuild { mut step, home, dir } = stage.go_build(go, context, module, job.scope)?;
        step.arguments(["-ldflags", ldflags, "-o", home.join("binary").as_str(), "--", job.package]);
        sandbox.run(step).map_err(|failure| Error::Compile {
            component: job.name.to_owned(),
            platform: job.scope.platform.clone(),
            source: Box::new(module.explain(without_path(failure, &dir))),
        })?;
        let made = Folder::open(&stage.home.path)?.file("binary".into(), sandbox.largest());
        let made = made.map_err(|why| Error::made(&stage.home.path.join("binary"), &why))?;
        let binary = made.into_store(store)?.commit()?;
        let outputs = Outputs::new().with_note("toolchain", go.toolchain.origin());
        Ok(outputs.with_blob("binary", binary).with_note("sandbox", sandbox.confinement()?))
    })?;
    outputs.blob("binary").ok_or_else(|| Error::Internal("a compile action without a binary".to_owned()))
}

/// Compiles the packages that several jobs share into Go's cache, so that no two jobs compile the same package. Ignores
/// compile errors: the jobs report their own.
///
/// # Errors
/// When a file cannot be read, or changed during the build.
pub(crate) fn warm_up(
    go: &Go,
    context: &BuildContext<'_>,
    module: &Module,
    jobs: &[&Prepared<'_>],
) -> Result<(), Error> {
    let BuildContext { store, sandbox, progress, .. } = *context;
    let scopes: BTreeSet<&Scope> = jobs.iter().map(|prepared| prepared.job.scope).collect();
    for scope in scopes {
        let jobs = || jobs.iter().filter(|prepared| prepared.job.scope == scope);
        let mut users: BTreeMap<&str, usize> = BTreeMap::new();
        for package in jobs().flat_map(|prepared| &prepared.job.closure.packages) {
            *users.entry(package).or_default() += 1;
        }
        let shared: Vec<_> = users.into_iter().filter_map(|(package, users)| (users > 1).then_some(package)).collect();
        if shared.is_empty() {
            continue;
        }
        for prepared in jobs() {
            ensure_modules(go, store, module, scope, prepared.job.closure, progress)?;
        }
        let _step = progress.step(&format!("compiling the shared packages for {}", scope.platform));
        let files = jobs().flat_map(|prepared| prepared.files.clone()).collect();
        let marks = jobs().flat_map(|prepared| prepared.marks.clone()).collect();
        let stage = Stage::fill(context, module, &files, &marks)?;
        let mut step = stage.go_build(go, context, module, scope)?.step;
        step.argument("--");
        step.arguments(shared);
        if let Err(failure) = sandbox.run(step) {
            tracing::info!("compiling the shared packages: {failure}");
        }
    }
    Ok(())
}

impl Linking {
    /// Joins the flags into one string, quoted as Go splits it: at spaces, except within quotes.
    ///
    /// Clears Go's build ID: it contains a hash of the sources, so a changed comment would change the binary.
    fn ldflags(&self) -> Result<String, String> {
        let stamps = self.stamps.iter().flat_map(|(name, value)| ["-X".to_owned(), format!("{name}={value}")]);
        let words = ["-buildid=".to_owned()].into_iter().chain(self.flags.iter().cloned()).chain(stamps);
        let quoted = words.map(|word| match word {
            word if !word.is_empty() && !word.contains([' ', '\t', '\n', '\r', '\'', '"']) => Ok(word),
            word if !word.contains('\'') => Ok(format!("'{word}'")),
            word if !word.contains('"') => Ok(format!("\"{word}\"")),
            word => Err(format!("{word:?} has both kinds of quotes")),
        });
        Ok(quoted.collect::<Result<Vec<_>, _>>()?.join(" "))
    }
}

/// A folder with the files of closures, in the layout of the source.
struct Stage {
    home: Home,
    /// The folder of the module, relative to the home.
    dir: Utf8PathBuf,
}

/// A step that runs `go build`, and the paths of the stage's folders in it.
struct GoBuild {
    step: Step,
    home: Utf8PathBuf,
    dir: Utf8PathBuf,
}

impl Stage {
    /// Copies the files, and verifies their hashes. Appends its mark to each assembly file: Go's cache ignores the
    /// headers that assembly includes, and would reuse the output of other headers.
    fn fill(
        context: &BuildContext<'_>,
        module: &Module,
        files: &BTreeMap<&Utf8Path, FileHash>,
        marks: &BTreeMap<&Utf8Path, String>,
    ) -> Result<Self, Error> {
        let home = Home::in_folder(context.sandbox.workplace(context.store)?)?;
        let top = Utf8Path::new("source");
        for (path, hash) in context.sandbox.ordered(files) {
            let from = module.top.join(path);
            let mut content = fs::read(&from).map_err(Error::io("reading", &from))?;
            if FileHash::of(&content) != *hash {
                return Err(Error::source_changed(from));
            }
            content.extend(marks.get(path).into_iter().flat_map(|mark| mark.bytes()));
            write(&home.path.join(top).join(path), &content)?;
        }
        let dir = top.join(module.dir.strip_prefix(&module.top).unwrap_or(&module.dir));
        // The checksums of required modules are inputs of the action; those of other modules may be missing.
        for sums in module.sums() {
            let below = sums.strip_prefix(&module.top).unwrap_or(&sums);
            match fs::read(&sums) {
                Ok(content) => write(&home.path.join(top).join(below), &content)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io("reading", &sums)(error)),
            }
        }
        Ok(Self { home, dir })
    }

    fn go_build(&self, go: &Go, context: &BuildContext<'_>, module: &Module, scope: &Scope) -> Result<GoBuild, Error> {
        let (mut step, home) = go.step(context.sandbox, context.store, &self.home.path, &scope.platform)?;
        let dir = home.join(&self.dir);
        step.dir(&dir);
        step.env("GOWORK", module.go_work(&home.join("source")));
        step.arguments(["build", "-trimpath", "-buildvcs=false", "-modcacherw", module.mod_option()]);
        step.arguments([format!("-p={}", go.jobs), format!("-tags={}", scope.tags.join(","))]);
        Ok(GoBuild { step, home, dir })
    }
}

/// Removes the path of the source, `dir`, from the compiler's messages.
fn without_path(failure: process::Failure, dir: &Utf8Path) -> process::Failure {
    failure.map_stderr(|stderr| stderr.replace(&format!("{dir}/"), ""))
}

fn write(path: &Utf8Path, content: &[u8]) -> Result<(), Error> {
    let parent = path.parent().unwrap_or(Utf8Path::new("/"));
    fs::create_dir_all(parent).map_err(Error::io("making", parent))?;
    fs::write(path, content).map_err(Error::io("writing", path))
}

#[cfg(test)]
mod tests {
    use super::Linking;

    #[test]
    fn flags_survive_the_way_go_splits_them() {
        let linking = |flags: &[&str], value: &str| Linking {
            flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
            stamps: [("m/v.x".to_owned(), value.to_owned())].into(),
        };
        assert_eq!(linking(&["-s", "-w"], "v1").ldflags().unwrap(), "-buildid= -s -w -X m/v.x=v1");
        assert_eq!(linking(&[""], "a b").ldflags().unwrap(), "-buildid= '' -X 'm/v.x=a b'");
        assert_eq!(linking(&[], "it's").ldflags().unwrap(), "-buildid= -X \"m/v.x=it's\"");
        assert!(linking(&[], "'\"").ldflags().is_err());
    }
}
