//! The programs of a lab: compiled once from Go modules that are pinned in this folder, and cached. The key is the
//! BLAKE3 hash of the module's files, the compiler's version and the flags, so any change causes a new build.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::process::Command;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};

use crate::error::{Error, file};
use crate::process::run;

/// The time limit for compiling one module.
const COMPILE_LIMIT: Duration = Duration::from_secs(45 * 60);

/// A Go module in this folder, and the programs built from it.
struct Module {
    /// The name of its folder and in the cache.
    name: &'static str,
    /// Its files in the repository.
    files: &'static [(&'static str, &'static str)],
    /// The import paths of the programs.
    packages: &'static [&'static str],
    /// The names of the programs.
    programs: &'static [&'static str],
    /// The build tags, separated by commas.
    tags: &'static str,
    /// Linker flags in addition to `-s -w`.
    stamps: &'static str,
    /// The approximate build time on two cores, for display.
    duration: &'static str,
}

macro_rules! module_files {
    ($name:literal: $($file:literal),+) => { &[$(($file, include_str!(concat!("../go/", $name, "/", $file)))),+] };
}

/// Returns the module of one version of Kubernetes. `$tags` leaves out what a lab never uses and old versions compile in: the
/// cloud providers. `$package` is where programs have their version from; that which old API servers tell is in a second one.
macro_rules! kubernetes {
    ($name:literal, $version:literal, $minor:literal, $tags:literal, $($package:literal),+) => {
        Module {
            name: $name,
            files: module_files!($name: "go.mod", "go.sum", "tools.go"),
            packages: &[
                "k8s.io/kubernetes/cmd/kube-apiserver",
                "k8s.io/kubernetes/cmd/kube-controller-manager",
                "k8s.io/kubernetes/cmd/kube-scheduler",
                "k8s.io/kubernetes/cmd/kubelet",
                "k8s.io/kubernetes/cmd/kube-proxy",
                "k8s.io/kubernetes/cmd/kubectl",
            ],
            programs: &["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"],
            tags: $tags,
            stamps: concat!($(
                "-X ", $package, ".gitVersion=", $version, " -X ", $package, ".gitMajor=1 -X ", $package, ".gitMinor=", $minor, " "
            ),+),
            duration: "5 min",
        }
    };
}

const KUBERNETES_1_24: Module = kubernetes!(
    "kubernetes124",
    "v1.24.17",
    "24",
    "providerless",
    "k8s.io/component-base/version",
    "k8s.io/client-go/pkg/version"
);
const KUBERNETES_1_30: Module =
    kubernetes!("kubernetes130", "v1.30.14", "30", "providerless", "k8s.io/component-base/version");
const KUBERNETES_1_34: Module = kubernetes!("kubernetes", "v1.34.4", "34", "", "k8s.io/component-base/version");
const KUBERNETES_1_37: Module = kubernetes!("kubernetes137", "v1.37.2", "37", "", "k8s.io/component-base/version");

const ETCD: Module = Module {
    name: "etcd",
    files: module_files!("etcd": "go.mod", "go.sum", "tools.go"),
    packages: &["go.etcd.io/etcd/server/v3"],
    programs: &["etcd"],
    tags: "",
    stamps: "",
    duration: "20 s",
};

const COREDNS: Module = Module {
    name: "coredns",
    files: module_files!("coredns": "go.mod", "go.sum", "main.go"),
    packages: &["."],
    programs: &["coredns"],
    tags: "",
    stamps: "",
    duration: "1 min",
};

const PAUSE: Module = Module {
    name: "pause",
    files: module_files!("pause": "go.mod", "main.go"),
    packages: &["."],
    programs: &["pause"],
    tags: "",
    stamps: "",
    duration: "1 s",
};

const CONTAINERD_2: Module = Module {
    name: "containerd",
    files: module_files!("containerd": "go.mod", "go.sum", "tools.go"),
    packages: &[
        "github.com/containerd/containerd/v2/cmd/containerd",
        "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
        "github.com/containerd/containerd/v2/cmd/ctr",
    ],
    programs: &["containerd", "containerd-shim-runc-v2", "ctr"],
    tags: "no_btrfs,no_zfs,no_devmapper",
    stamps: "-X github.com/containerd/containerd/v2/version.Version=v2.2.0",
    duration: "1 min",
};

const CONTAINERD_1_7: Module = Module {
    name: "containerd17",
    files: module_files!("containerd17": "go.mod", "go.sum", "tools.go"),
    packages: &[
        "github.com/containerd/containerd/cmd/containerd",
        "github.com/containerd/containerd/cmd/containerd-shim-runc-v2",
        "github.com/containerd/containerd/cmd/ctr",
    ],
    programs: &["containerd", "containerd-shim-runc-v2", "ctr"],
    tags: "no_btrfs,no_zfs,no_devmapper,no_aufs",
    stamps: "-X github.com/containerd/containerd/version.Version=v1.7.29",
    duration: "1 min",
};

/// Which Kubernetes the lab runs: the control plane, the kubelets, kube-proxy and kubectl.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize, clap::ValueEnum,
)]
pub enum Kubernetes {
    /// The oldest whose Go modules are all available.
    #[value(name = "1.24")]
    V1_24,
    /// One in the middle.
    #[value(name = "1.30")]
    V1_30,
    /// What continuous integration runs.
    #[default]
    #[value(name = "1.34")]
    V1_34,
    /// The newest.
    #[value(name = "1.37")]
    V1_37,
}

impl Kubernetes {
    /// Its full version, such as `v1.34.4`.
    #[must_use]
    pub fn version(self) -> &'static str {
        match self {
            Self::V1_24 => "v1.24.17",
            Self::V1_30 => "v1.30.14",
            Self::V1_34 => "v1.34.4",
            Self::V1_37 => "v1.37.2",
        }
    }

    /// Returns the version that the environment variable `VCLAB_KUBERNETES` names, such as `1.24`, or else the default.
    ///
    /// # Errors
    /// Returns [`Error::BadOption`] if a lab cannot run that version.
    pub fn of_environment() -> Result<Self, Error> {
        match std::env::var("VCLAB_KUBERNETES").ok().filter(|value| !value.is_empty()) {
            None => Ok(Self::default()),
            Some(value) => Self::named(&value),
        }
    }

    fn named(value: &str) -> Result<Self, Error> {
        <Self as clap::ValueEnum>::from_str(value, false).map_err(|_| Error::BadOption {
            what: "VCLAB_KUBERNETES",
            value: value.to_owned(),
            why: "`cargo xtask lab up --help` lists the versions of Kubernetes that a lab runs",
        })
    }

    fn module(self) -> &'static Module {
        match self {
            Self::V1_24 => &KUBERNETES_1_24,
            Self::V1_30 => &KUBERNETES_1_30,
            Self::V1_34 => &KUBERNETES_1_34,
            Self::V1_37 => &KUBERNETES_1_37,
        }
    }
}

const HELM: Module = Module {
    name: "helm",
    files: module_files!("helm": "go.mod", "go.sum", "tools.go"),
    packages: &["helm.sh/helm/v3/cmd/helm"],
    programs: &["helm"],
    tags: "",
    stamps: "-X helm.sh/helm/v3/internal/version.version=v3.19.5",
    duration: "1 min",
};

/// Returns the path of Helm, which no node runs; compiles it if necessary.
///
/// # Errors
/// Returns an error like [`Binaries::ensure`].
pub fn helm() -> Result<Utf8PathBuf, Error> {
    let cache = cache_folder();
    fs::create_dir_all(&cache).map_err(file("creating", &cache))?;
    Ok(realise(&HELM, &cache, &compiler_version()?)?.join("helm"))
}

/// Which containerd the lab's nodes run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
pub enum Containerd {
    /// 1.6, as Debian bookworm has it.
    #[value(name = "1.6")]
    V1_6,
    /// 1.7, compiled from its Go module.
    #[value(name = "1.7")]
    V1_7,
    /// 2.2, compiled from its Go module.
    #[default]
    #[value(name = "2")]
    V2,
}

impl Containerd {
    /// Returns the folder of its programs only; compiles them if necessary. Returns `None` for Debian's, which are
    /// installed on the machine.
    ///
    /// # Errors
    /// Returns an error like [`Binaries::ensure`].
    pub fn folder(self) -> Result<Option<Utf8PathBuf>, Error> {
        let Some(module) = self.module() else { return Ok(None) };
        let cache = cache_folder();
        fs::create_dir_all(&cache).map_err(file("creating", &cache))?;
        realise(module, &cache, &compiler_version()?).map(Some)
    }

    fn module(self) -> Option<&'static Module> {
        match self {
            Self::V1_6 => None,
            Self::V1_7 => Some(&CONTAINERD_1_7),
            Self::V2 => Some(&CONTAINERD_2),
        }
    }
}

/// The folders of the compiled programs, by module name.
#[derive(Debug, Clone)]
pub struct Binaries {
    folders: BTreeMap<&'static str, Utf8PathBuf>,
    programs: BTreeMap<&'static str, &'static str>,
}

impl Binaries {
    /// Compiles the modules that are not in the cache yet, reports this on stderr, and returns the paths of all
    /// programs.
    ///
    /// Several processes may call this concurrently: one compiles a module, and the others wait for it.
    ///
    /// # Errors
    /// Returns an error if there is no Go compiler, a module does not compile, or the cache folder cannot be
    /// written.
    pub fn ensure(kubernetes: Kubernetes, containerd: Containerd) -> Result<Self, Error> {
        let compiler = compiler_version()?;
        let cache = cache_folder();
        fs::create_dir_all(&cache).map_err(file("creating", &cache))?;
        let mut modules = vec![kubernetes.module(), &ETCD, &COREDNS, &PAUSE];
        modules.extend(containerd.module());
        let mut binaries = Self { folders: BTreeMap::new(), programs: BTreeMap::new() };
        for module in modules {
            binaries.folders.insert(module.name, realise(module, &cache, &compiler)?);
            binaries.programs.extend(module.programs.iter().map(|program| (*program, module.name)));
        }
        Ok(binaries)
    }

    /// Returns each module's folder, which contains only its programs.
    pub(crate) fn folders(&self) -> &BTreeMap<&'static str, Utf8PathBuf> {
        &self.folders
    }

    /// Returns each program's module, by the program's name.
    pub(crate) fn programs(&self) -> &BTreeMap<&'static str, &'static str> {
        &self.programs
    }

    /// Returns the path of a program on this machine: the compiled one, or else the one in the system's PATH.
    #[must_use]
    pub fn path(&self, program: &str) -> Utf8PathBuf {
        match self.programs.get(program).and_then(|module| self.folders.get(module)) {
            Some(folder) => folder.join(program),
            None => Utf8PathBuf::from(program),
        }
    }
}

/// Returns `VCLAB_CACHE`, or else `vcbuild/lab` in the user's cache folder: outside of the target folder, so that
/// `cargo clean` does not remove it.
#[must_use]
pub fn cache_folder() -> Utf8PathBuf {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty()).map(Utf8PathBuf::from);
    set("VCLAB_CACHE").unwrap_or_else(|| {
        let home = || set("HOME").unwrap_or_else(|| "/root".into()).join(".cache");
        set("XDG_CACHE_HOME").unwrap_or_else(home).join("vcbuild/lab")
    })
}

fn compiler_version() -> Result<String, Error> {
    let finished = run(go().arg("version"), b"", Duration::from_secs(60)).map_err(|error| match error {
        Error::Start { source, .. } => Error::NoGo { source },
        other => other,
    })?;
    Ok(finished.success("asking Go for its version")?.trim().to_owned())
}

/// Returns the Go command in an environment in which only the flags set here affect the result.
fn go() -> Command {
    let mut command = Command::new("go");
    for name in ["GOOS", "GOARCH", "GOAMD64", "GOARM64", "GOEXPERIMENT", "GODEBUG", "GO111MODULE"] {
        command.env_remove(name);
    }
    // A set variable also overrides what `go env -w` stored.
    command.env("GOFLAGS", "-mod=readonly").env("GOTOOLCHAIN", "local").env("GOWORK", "off").env("CGO_ENABLED", "0");
    command
}

fn build_arguments(module: &Module) -> Vec<String> {
    let ldflags = format!("-s -w {}", module.stamps);
    let mut arguments = vec!["build", "-trimpath", "-buildvcs=false", "-ldflags", ldflags.trim_end()];
    if !module.tags.is_empty() {
        arguments.extend(["-tags", module.tags]);
    }
    arguments.into_iter().map(str::to_owned).collect()
}

fn key(module: &Module, compiler: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut add = |text: &str| {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    add(compiler);
    for (name, content) in module.files {
        add(name);
        add(content);
    }
    for argument in build_arguments(module) {
        add(&argument);
    }
    for package in module.packages {
        add(package);
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

fn realise(module: &Module, cache: &Utf8Path, compiler: &str) -> Result<Utf8PathBuf, Error> {
    let folder = cache.join(format!("{}-{}", module.name, key(module, compiler)));
    if folder.exists() {
        return Ok(folder);
    }
    let lock_path = cache.join(format!("{}.lock", module.name));
    let lock = File::create(&lock_path).map_err(file("creating", &lock_path))?;
    lock.lock().map_err(file("locking", &lock_path))?;
    if folder.exists() {
        return Ok(folder); // Another process compiled it while this one waited.
    }
    vcterminal::say(format_args!("building {} once: about {}", module.programs.join(", "), module.duration));
    compile(module, cache, &folder)?;
    Ok(folder)
}

/// Compiles in a temporary folder beside `folder`, and renames it when it is complete.
fn compile(module: &Module, cache: &Utf8Path, folder: &Utf8Path) -> Result<(), Error> {
    let temporary = tempfile::Builder::new().prefix("building-").tempdir_in(cache).map_err(file("creating", cache))?;
    let path = |name: &str| temporary.path().join(name);
    let written = || -> std::io::Result<()> {
        fs::create_dir(path("source"))?;
        fs::create_dir(path("programs"))?;
        module.files.iter().try_for_each(|(name, content)| fs::write(path("source").join(name), content))
    };
    written().map_err(file("writing into", cache))?;
    let mut command = go();
    command.args(build_arguments(module)).arg("-o").arg(path("programs")).args(module.packages);
    let finished = run(command.current_dir(path("source")), b"", COMPILE_LIMIT)?;
    finished
        .success("go build")
        .map_err(|error| Error::Compile { programs: module.programs.join(", "), detail: error.to_string() })?;
    // Go names a program after the last part of its import path, which is not always the program's name.
    if let &[program] = module.programs {
        let built = fs::read_dir(path("programs")).and_then(|mut entries| {
            entries.next().unwrap_or_else(|| Err(std::io::Error::other("the compiler left no program")))
        });
        let built = built.map_err(file("reading", cache))?;
        fs::rename(built.path(), path("programs").join(program)).map_err(file("naming", folder))?;
    }
    fs::rename(path("programs"), folder).map_err(file("naming", folder))
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn the_key_depends_on_the_compiler_the_files_and_the_flags() {
        let first = key(&PAUSE, "go1");
        assert_eq!(first, key(&PAUSE, "go1"));
        assert_ne!(first, key(&PAUSE, "go2"));
        assert_ne!(first, key(&Module { tags: "x", ..PAUSE }, "go1"));
        assert_ne!(first, key(&Module { stamps: "-X a=b", ..PAUSE }, "go1"));
        assert_ne!(first, key(&Module { files: &[("go.mod", "module other")], ..PAUSE }, "go1"));
        assert_ne!(first, key(&Module { packages: &["./x"], ..PAUSE }, "go1"));
    }

    #[test]
    fn each_version_of_kubernetes_is_pinned_and_says_so() {
        for version in Kubernetes::value_variants() {
            let module = version.module();
            let go_mod = module.files[0].1;
            assert!(go_mod.contains(&format!("require k8s.io/kubernetes {}\n", version.version())), "{go_mod}");
            assert!(
                module
                    .stamps
                    .starts_with(&format!("-X k8s.io/component-base/version.gitVersion={} ", version.version()))
            );
            let name = version.to_possible_value().unwrap().get_name().to_owned();
            assert!(version.version().starts_with(&format!("v{name}.")), "{name}");
            assert!(module.stamps.ends_with(&format!(".gitMinor={} ", &name[2..])), "{name}");
            assert_eq!(Kubernetes::named(&name).unwrap(), *version);
        }
        let error = Kubernetes::named("1.99").unwrap_err().to_string();
        assert!(error.starts_with("VCLAB_KUBERNETES \"1.99\" cannot be used: "), "{error}");
    }

    #[test]
    fn a_module_is_compiled_once_and_a_broken_one_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Utf8Path::from_path(folder.path()).unwrap();
        let compiler = compiler_version().unwrap();
        let built = realise(&PAUSE, cache, &compiler).unwrap();
        let modified = || fs::metadata(built.join("pause")).unwrap().modified().unwrap();
        let before = modified();
        assert_eq!(realise(&PAUSE, cache, &compiler).unwrap(), built);
        assert_eq!(modified(), before);

        let broken = Module {
            files: &[("go.mod", "module m\n\ngo 1.21\n"), ("main.go", "package main\nfunc main() { x }\n")],
            ..PAUSE
        };
        let error = realise(&broken, cache, &compiler).unwrap_err().to_string();
        assert!(error.starts_with("compiling pause: ") && error.contains("undefined: x"), "{error}");
        let left: Vec<_> = cache.read_dir_utf8().unwrap().map(|entry| entry.unwrap().file_name().to_owned()).collect();
        assert_eq!(left.len(), 2, "the lock and the good build: {left:?}");
    }
}
