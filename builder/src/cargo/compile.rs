//! Compiles a binary of a Cargo workspace in the sandbox, incrementally if only the source changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::Path;

use camino::{Utf8Path, Utf8PathBuf};
use vcsandbox::Step;
use vcsandbox::elf::Machine;
use vcsandbox::plain::Folder;
use vcsandbox::process;
use vcstore::atomic;
use vcstore::{Action, Blob, Outputs};

use super::toolchain::{Target, Toolchain};
use super::trust::Trust;
use super::workspace::{Crates, PLACE};
use crate::build_context::{BuildContext, BuildTarget};
use crate::error::CargoError;
use crate::file_manifest::FileManifest;
use crate::host_inputs;
use crate::project::CargoProgram;
use crate::source::{FileHash, Reader};

/// The version of the build recipe. Increment it when a change of this file can change a binary; it is part of every
/// action key.
const RECIPE: u32 = 3;

/// The inputs that all binaries of a workspace have in common.
pub(super) struct Compiler<'a> {
    pub(super) context: &'a BuildContext<'a>,
    pub(super) toolchain: Toolchain,
    /// The hash of `source_files`.
    pub(super) source: FileHash,
    /// All files of the source.
    pub(super) source_files: FileManifest,
    /// The folder of the workspace, relative to the source.
    pub(super) below: Utf8PathBuf,
    pub(super) crates: Option<Crates>,
    /// The identity of the machine's programs, including the linker.
    pub(super) system: FileHash,
    /// The placeholders for the workspace's own files when only its dependencies are compiled.
    pub(super) stubs: BTreeMap<Utf8PathBuf, &'static str>,
    /// The packages of the workspace.
    pub(super) own: Vec<String>,
}

/// A binary to compile.
pub(super) struct Job<'a> {
    pub(super) wanted: &'a BuildTarget<'a, CargoProgram>,
    pub(super) package: String,
    pub(super) target: Target,
}

/// The folders of one run, at the paths that Cargo sees.
struct CargoFolders {
    source: Utf8PathBuf,
    target: Utf8PathBuf,
    home: Utf8PathBuf,
    crates: Option<Utf8PathBuf>,
    rust: Utf8PathBuf,
}

/// The paths that binaries contain, wherever the folders really are: those in the sandbox.
const SOURCE: &str = "/build/source";
/// The path of a source whose workspace is one of its folders. Cargo derives symbol names from the paths of crates
/// outside the workspace, so this path must be the same on every machine.
const WHOLE_SOURCE: &str = "/source";
const TARGET: &str = "/build/target";
const HOME: &str = "/build/cargo";
const CRATES: &str = "/crates";

/// The cache folder of dependencies that are compiled separately.
const DEPENDENCIES: &str = "seeds";

/// The file in Cargo's home that states where the dependencies are.
const SETTINGS: &str = "crates.toml";

impl Compiler<'_> {
    /// Returns the binary from the store, or compiles it.
    pub(super) fn realise(&self, job: &Job<'_>) -> Result<Blob, crate::Error> {
        let BuildTarget { component, program, .. } = *job.wanted;
        let inputs = host_inputs::identities(&program.inputs, &component.name, self.context.store)?;
        let outputs = self.context.realise(&self.action(job, &inputs)?, || self.compile(job, &inputs))?;
        outputs.blob("binary").ok_or_else(|| crate::Error::Internal("a compile action without a binary".to_owned()))
    }

    fn action(&self, job: &Job<'_>, inputs: &BTreeMap<String, FileHash>) -> Result<Action, crate::Error> {
        let BuildTarget { component, platform, program } = *job.wanted;
        let action = Action::new("compile", format!("{} {platform}", component.name))
            .input("recipe", RECIPE)?
            .input("source", &self.source)?
            .input("toolchain", self.toolchain.identity())?
            .input("system", &self.system)?
            .input("target", job.target.triple)?
            .input("package", &job.package)?
            .input("bin", &program.bin)?
            .input("features", (&program.features, program.default_features))?
            .input("profile", &program.profile)?
            .input("rustflags", (&program.rustflags, program.link_static))?
            .input("environment", self.environment(job))?
            .input("inputs", inputs)?;
        Ok(if self.is_whole() { action } else { action.input("dir", &self.below)? })
    }

    /// Returns whether the workspace is the whole source.
    fn is_whole(&self) -> bool {
        self.below.as_str().is_empty()
    }

    /// Returns the path of the source that binaries contain.
    fn place(&self) -> &'static str {
        if self.is_whole() { SOURCE } else { WHOLE_SOURCE }
    }

    /// Returns the environment variables that the project sets for Cargo.
    fn environment(&self, job: &Job<'_>) -> Vec<(String, String)> {
        let values = self.context.version.values().into_iter();
        let values: Vec<_> = values.chain([("arch", job.wanted.platform.architecture.as_str())]).collect();
        job.wanted.program.env.iter().map(|(name, value)| (name.clone(), value.fill(&values))).collect()
    }

    fn compile(&self, job: &Job<'_>, inputs: &BTreeMap<String, FileHash>) -> Result<Outputs, crate::Error> {
        let BuildContext { store, sandbox, .. } = *self.context;
        let BuildTarget { component, platform, program } = *job.wanted;
        let trust = Trust::of(&self.source_files, &program.rustflags, &self.environment(job))?;
        let (of_source, cache) = self.cache(&trust)?;
        // Cargo decides by file times what to compile, so only one build at a time may write the files and compile.
        let lock = File::create(cache.join("lock")).map_err(crate::Error::io("opening", cache.join("lock")))?;
        lock.lock().map_err(crate::Error::io("locking", &cache))?;
        let given = match self.is_whole() {
            true => serde_json::to_string(&(self.environment(job), inputs)),
            false => serde_json::to_string(&(self.environment(job), inputs, &self.below)),
        };
        let given = given.map_err(|why| crate::Error::Internal(format!("describing the inputs of Cargo: {why}")))?;
        let (source, target) = (cache.join("source"), self.target(job, &short(&given), &cache)?);
        if trust.runs_code() && self.crates.is_some() && entries(&target)?.is_empty() {
            let settings = (&trust.settings, self.toolchain.identity(), &self.system, given);
            let settings = serde_json::to_string(&settings)
                .map_err(|why| crate::Error::Internal(format!("describing Rust: {why}")))?;
            self.fill_with_dependencies(job, &of_source.join(DEPENDENCIES), &settings, &target)?;
        }
        // A build may have left a folder there that cannot be entered, or that is too deep to walk.
        if self.source_files.sync_to(&source, sandbox).is_err() {
            vcstore::remove_tree(&source)?;
            self.source_files.sync_to(&source, sandbox)?;
        }
        let ran = self.ran(job, &source, &target)?;
        if let Err(changed) = host_inputs::unchanged(inputs, &program.inputs, &component.name, store) {
            // Cargo compiled from an unknown state of the inputs, and would reuse its output.
            vcstore::remove_tree(&target)?;
            return Err(changed);
        }
        ran.map_err(|failure| CargoError::Compile {
            component: component.name.clone(),
            platform: platform.clone(),
            source: Box::new(self.context.source.excluded.explain(failure, Reader::Cargo)),
        })?;
        // Cargo names the output folder of the `dev` profile `debug`.
        let folder = if program.profile == "dev" { "debug" } else { &program.profile };
        let path = Utf8Path::new(job.target.triple).join(folder).join(&program.bin);
        let binary = Folder::open(&target)?.file(&path, sandbox.largest());
        let mut binary = binary.map_err(|why| crate::Error::made(&target.join(&path), &why))?;
        let machine = binary.machine()?;
        if let Machine::Elf(found) = &machine
            && !machine.runs_on(platform)
        {
            let (component, platform, found) = (component.name.clone(), platform.clone(), found.clone());
            return Err(CargoError::Machine { component, platform, found }.into());
        }
        let binary = binary.into_store(store)?.commit()?;
        Ok(Outputs::new().with_blob("binary", binary).with_note("sandbox", sandbox.confinement()?))
    }

    /// Runs Cargo on the source in the folder `source`, with its output in `target`.
    ///
    /// # Errors
    /// When the sandbox cannot run Cargo; the inner error is the failure of Cargo itself.
    pub(super) fn ran(
        &self,
        job: &Job<'_>,
        source: &Utf8Path,
        target: &Utf8Path,
    ) -> Result<Result<process::Output, process::Failure>, crate::Error> {
        let BuildContext { store, sandbox, .. } = *self.context;
        let BuildTarget { component, program, .. } = *job.wanted;
        let folder = sandbox.workplace(store)?;
        let home = folder.path();
        let (mut step, folders) = self.step(source, target, home)?;
        if let (Some(crates), Some(place)) = (&self.crates, &folders.crates) {
            let config = crates.config.replace(PLACE, place.as_str());
            fs::write(home.join(SETTINGS), config).map_err(crate::Error::io("writing", home))?;
        }
        host_inputs::give(&program.inputs, &component.name, &mut step)?;
        self.order(job, &folders, &mut step);
        Ok(sandbox.run(step))
    }

    /// Describes the settings of a job that determine which dependencies are compiled, and how.
    pub(super) fn order_of(&self, job: &Job<'_>) -> Result<String, crate::Error> {
        let CargoProgram { bin, features, default_features, profile, rustflags, link_static, .. } = job.wanted.program;
        let order = (job.target.triple, &job.package, bin, features, default_features, profile, rustflags, link_static);
        serde_json::to_string(&order).map_err(|why| crate::Error::Internal(format!("describing a job: {why}")))
    }

    /// Returns two cache folders in the store: the one of the source, and the one in it for the source's files and
    /// Cargo's output. The second is specific to the state of Rust and the machine, and shared by sources that may
    /// reuse each other's output. Removes unused folders of other states.
    fn cache(&self, trust: &Trust) -> Result<(Utf8PathBuf, Utf8PathBuf), crate::Error> {
        let BuildContext { store, sandbox, source, .. } = *self.context;
        let named = source.named.canonicalize_utf8().map_err(crate::Error::io("finding", &source.named))?;
        let state = serde_json::to_string(&(self.toolchain.identity(), &self.system, trust));
        let state = state.map_err(|why| crate::Error::Internal(format!("describing Rust: {why}")))?;
        let of_source = sandbox.cache(store, &format!("cargo/{}", short(named.as_str())))?;
        let current = of_source.join(short(&state));
        fs::create_dir_all(&current).map_err(crate::Error::io("making", &current))?;
        for path in entries(&of_source)? {
            if path != current && path.file_name() != Some(DEPENDENCIES) && is_unused(path.as_std_path()) {
                vcstore::remove_tree(&path)?;
            }
        }
        Ok((of_source, current))
    }

    /// Returns the folder in `cache` for Cargo's output under the project's settings `given`. Cargo detects a change of
    /// these settings only if a build script asks for it; in a shared folder it would reuse output of other settings.
    /// Keeps the folder that each component and platform used last; several of them may share one.
    fn target(&self, job: &Job<'_>, given: &str, cache: &Utf8Path) -> Result<Utf8PathBuf, crate::Error> {
        let (targets, users) = (cache.join("targets"), cache.join("users"));
        let target = targets.join(given);
        for folder in [&users, &target] {
            fs::create_dir_all(folder).map_err(crate::Error::io("making", folder))?;
        }
        let user = users.join(format!("{}-{}", job.wanted.component.name, job.target.triple));
        atomic::replace(&user, given.as_bytes()).map_err(crate::Error::io("writing", &user))?;
        let mut used = BTreeSet::new();
        for user in entries(&users)? {
            used.insert(fs::read_to_string(&user).map_err(crate::Error::io("reading", &user))?);
        }
        for path in entries(&targets)? {
            if path.file_name().is_none_or(|name| !used.contains(name)) {
                vcstore::remove_tree(&path)?;
            }
        }
        Ok(target)
    }

    fn step(
        &self,
        source: &Utf8Path,
        target: &Utf8Path,
        home: &Utf8Path,
    ) -> Result<(Step, CargoFolders), crate::Error> {
        let mut step = self.context.sandbox.step("cargo")?;
        step.system()?;
        let crates = self.crates.as_ref().map(|crates| step.read_only(&crates.dir, CRATES)).transpose()?;
        let folders = CargoFolders {
            source: step.writable(source, self.place())?,
            target: step.writable(target, TARGET)?,
            home: step.writable(home, HOME)?,
            crates,
            rust: self.toolchain.give(&mut step)?,
        };
        Ok((step, folders))
    }

    /// Sets the command line and environment that tell Cargo what to compile, and how.
    fn order(&self, job: &Job<'_>, folders: &CargoFolders, step: &mut Step) {
        let CargoProgram { bin, features, default_features, profile, .. } = job.wanted.program;
        let Target { triple, linker } = &job.target;
        step.dir(folders.source.join(&self.below));
        step.program(folders.rust.join("bin/cargo"));
        step.env("PATH", format!("{}:{}", folders.rust.join("bin"), host_inputs::PATH));
        step.env("CARGO_HOME", folders.home.as_str());
        step.env("CARGO_TARGET_DIR", folders.target.as_str());
        step.env("CARGO_INCREMENTAL", "0");
        step.env("CARGO_TERM_COLOR", "never");
        step.env("CARGO_ENCODED_RUSTFLAGS", self.flags(job, folders).join("\u{1f}"));
        if let Some(linker) = linker {
            let variable = triple.to_uppercase().replace('-', "_");
            step.env(format!("CARGO_TARGET_{variable}_LINKER"), linker);
        }
        step.envs(self.environment(job));
        step.arguments(["build", "--frozen", "--quiet", "--profile", profile, "--target", triple]);
        if self.crates.is_some() {
            // Settings on the command line take precedence over those of the source.
            step.arguments(["--config", folders.home.join(SETTINGS).as_str()]);
        }
        step.arguments(["--package", job.package.as_str(), "--bin", bin]);
        step.arguments([format!("--jobs={}", self.context.jobs), format!("--features={}", features.join(","))]);
        if !default_features {
            step.argument("--no-default-features");
        }
    }

    /// Returns the flags that make rustc's output depend on its inputs alone. They keep paths of this machine out of
    /// it, and strip symbols and the build ID, which is a hash over the stripped parts too.
    fn flags(&self, job: &Job<'_>, folders: &CargoFolders) -> Vec<String> {
        let CargoFolders { source, target, home, crates, rust } = folders;
        let crates = crates.iter().map(|crates| (crates.to_string(), CRATES.to_owned()));
        let named = [(source, self.place()), (target, TARGET), (home, HOME)];
        let named = named.map(|(place, name)| (place.to_string(), name.to_owned())).into_iter();
        let remap = named.chain(crates).chain(self.toolchain.library_sources(rust));
        let mut flags: Vec<_> = remap.map(|(place, name)| format!("--remap-path-prefix={place}={name}")).collect();
        flags.extend(["-Cstrip=symbols", "-Clink-arg=-Wl,--build-id=none"].map(str::to_owned));
        if job.wanted.program.link_static {
            flags.push("-Ctarget-feature=+crt-static".to_owned());
        }
        flags.extend(job.wanted.program.rustflags.iter().cloned());
        flags
    }
}

/// Returns a folder name derived from the hash of `text`.
pub(super) fn short(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..32].to_owned()
}

pub(super) fn entries(folder: &Utf8Path) -> Result<Vec<Utf8PathBuf>, crate::Error> {
    let entries = folder.read_dir_utf8().map_err(crate::Error::io("reading", folder))?;
    let paths = entries.map(|entry| entry.map(camino::Utf8DirEntry::into_path)).collect::<Result<_, _>>();
    paths.map_err(crate::Error::io("reading", folder))
}

/// Returns whether no build uses this folder.
fn is_unused(folder: &Path) -> bool {
    File::open(folder.join("lock")).is_ok_and(|lock| lock.try_lock().is_ok())
}
