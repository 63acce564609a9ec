//! A place where a project was built and a cache was filled, and other places that build it again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rigs::Run;
use serde_json::Value;

use crate::bench::{Bench, copy, digests};

/// The folder, relative to a bench's, that holds what the first build made.
const CACHE: &str = "cache";

/// A place of its own with the project, an empty store and a copy of a filled cache.
pub(crate) struct CacheFixture {
    pub(crate) bench: Bench,
}

/// Where everything was built once.
struct BuiltProject {
    bench: Bench,
    built: Value,
}

fn origin() -> &'static BuiltProject {
    static ORIGIN: OnceLock<BuiltProject> = OnceLock::new();
    ORIGIN.get_or_init(|| {
        let bench = Bench::with_hello();
        for name in ["good-1", "other-1"] {
            run(&bench, &["key", "generate", name]).succeeded();
        }
        let built = run(&bench, &["images", "--source-dir", "hello", "--output", "json"]).json();
        let to = format!("file://{}", bench.path(CACHE).display());
        run(&bench, &["push", "--to", &to, "--sign-key", "good-1.key"]).succeeded();
        BuiltProject { bench, built }
    })
}

/// What the build is known to be.
pub(crate) fn built() -> &'static Value {
    &origin().built
}

/// The key that the cache was signed with, or another.
pub(crate) fn public_key(name: &str) -> String {
    origin().bench.read(&format!("{name}.pub")).trim().to_owned()
}

impl CacheFixture {
    /// A site whose folder `cache` is filled.
    pub(crate) fn new() -> Self {
        let bench = Bench::with_hello();
        let origin = origin();
        copy(&origin.bench.path(CACHE), &bench.path(CACHE));
        // An archive that is there already need not be written.
        copy(&origin.bench.path("out"), &bench.path("out"));
        for name in ["good-1", "other-1"] {
            fs::copy(origin.bench.path(&format!("{name}.key")), bench.path(&format!("{name}.key"))).unwrap();
        }
        Self { bench }
    }

    /// A copy of the store in which everything was built.
    pub(crate) fn with_the_built_store() -> Self {
        let site = Self::new();
        for part in ["actions", "blobs", "closures"] {
            copy(&origin().bench.path("store").join(part), &site.bench.path("store").join(part));
        }
        for file in ["oci-layout", "index.json"] {
            fs::copy(origin().bench.path("store").join(file), site.bench.path("store").join(file)).unwrap();
        }
        for folder in ["roots", "tmp"] {
            fs::create_dir_all(site.bench.path("store").join(folder)).unwrap();
        }
        site
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.bench.path(CACHE)
    }

    pub(crate) fn cache_url(&self) -> String {
        format!("file://{}", self.cache().display())
    }

    /// The files below a folder of the cache.
    pub(crate) fn files(&self, folder: &str) -> Vec<PathBuf> {
        fs::read_dir(self.cache().join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    /// Whether no file of a download is left over.
    pub(crate) fn nothing_is_half_done(&self) -> bool {
        let tmp = walkdir::WalkDir::new(self.bench.path("store/tmp")).into_iter().map(Result::unwrap);
        // Locks are empty, and no download's.
        tmp.filter(|entry| entry.file_type().is_file() && entry.metadata().unwrap().len() > 0).count() == 0
    }

    /// Runs vcbuild here, with nobody's own settings.
    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        run(&self.bench, arguments)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        command(&self.bench, arguments)
    }

    /// Builds with these caches, and trust in the key `good-1`; the images must be those of the first build.
    #[track_caller]
    pub(crate) fn build(&self, substituters: &[&str]) -> Run {
        let key = public_key("good-1");
        let caches = substituters.iter().flat_map(|url| ["--substituter", url]);
        let arguments = ["images", "--source-dir", "hello", "--trust-key", &key, "--output", "json"];
        let run = self.run(&arguments.into_iter().chain(caches).collect::<Vec<_>>());
        assert_eq!(digests(&run.json()), digests(built()), "{run:?}");
        run
    }
}

/// What caches did for a build.
pub(crate) trait Substitution {
    /// How many actions ran and how many a cache gave. Of the nine of the project, the two that write archives are counted as
    /// neither where the archives are there.
    fn counts(&self) -> (u64, u64);
}

impl Substitution for Run {
    fn counts(&self) -> (u64, u64) {
        let actions = &self.json()["actions"];
        (actions["run"].as_u64().unwrap(), actions["substituted"].as_u64().unwrap())
    }
}

fn run(bench: &Bench, arguments: &[&str]) -> Run {
    Run::of(&mut command(bench, arguments))
}

fn command(bench: &Bench, arguments: &[&str]) -> Command {
    let mut command = bench.vcbuild(arguments);
    command.env("XDG_CONFIG_HOME", bench.path("config")).env("DOCKER_CONFIG", bench.path("docker"));
    for name in
        ["VCBUILD_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "SSL_CERT_FILE", "HTTPS_PROXY", "HTTP_PROXY"]
    {
        command.env_remove(name);
    }
    command
}

/// Changes the one byte in the middle of a file.
pub(crate) fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}
