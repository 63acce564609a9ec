//! Clones a revision with the installed git and the user's settings, so that it can access everything that the user's
//! git can. The checked-out files depend only on the commit and its `.gitattributes`, not on the user's settings.

use std::fs::{self, File};
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use vcnetwork::{Network, Permit};
use vcsandbox::process;
use vcstore::Store;

use super::submodules;
use crate::Error;
use crate::lock::PinnedCommit;
use crate::offline_inputs::InputsDir;
use crate::progress::Progress;
use crate::source::Git;

/// The default version.
pub(super) const NEWEST: &str = "HEAD";

/// The time limit of a single git command.
const LIMIT: Duration = Duration::from_secs(30 * 60);

/// Returns a folder with the files of `version` of the repository at `url`, and its commit and tree. A pinned commit
/// that is in the cache needs no network.
///
/// # Errors
/// When git is not installed, or fails; the message contains git's output. When the fetched commit or tree differs from
/// the pin.
pub(super) fn clone(
    url: &str,
    version: &str,
    pinned: Option<&PinnedCommit>,
    network: &Network,
    store: &Store,
    progress: &Progress,
) -> Result<(Utf8PathBuf, PinnedCommit), Error> {
    let repository = Repository::of(url, true, store)?;
    let folder = |commit: &str| repository.home.join("files").join(commit);
    if let Some(pinned) = pinned
        && pinned.tree.is_some()
        && folder(&pinned.commit).is_dir()
    {
        return Ok((folder(&pinned.commit), pinned.clone()));
    }
    if let (Some(pinned), Some(inputs)) = (pinned, InputsDir::of(network)) {
        return Ok((inputs.commit(url, pinned)?, pinned.clone()));
    }
    let start = Instant::now();
    let found = repository.get(pinned.map_or(version, |pinned| pinned.commit.as_str()), network)?;
    if let Some(pinned) = pinned
        && (found.commit != pinned.commit || pinned.tree.as_ref().is_some_and(|tree| found.tree.as_ref() != Some(tree)))
    {
        let text = |one: &PinnedCommit| format!("{} (tree {})", one.commit, one.tree.as_deref().unwrap_or("unknown"));
        let why = format!("{} is pinned, but git fetched {}", text(pinned), text(&found));
        return Err(repository.failed(version)(process::Failure::Other(why)));
    }
    let folder = folder(&found.commit);
    if !folder.is_dir() {
        repository.check_out(&found.commit, &folder, network, store)?;
        progress.ran("clone", &format!("{url} {version} at {}", &found.commit[..12]), start.elapsed());
    }
    Ok((folder, found))
}

/// The object format (hash algorithm) of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Sha1,
    Sha256,
}

impl Format {
    /// Returns the format of a full hash.
    fn of(hash: &str) -> Self {
        if hash.len() == 64 { Self::Sha256 } else { Self::Sha1 }
    }

    /// Returns git's name of the format.
    fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
        }
    }
}

/// The cached copy of a repository in the store.
pub(super) struct Repository<'a> {
    pub(super) url: &'a str,
    /// Whether the user named the repository, rather than fetched content.
    named: bool,
    pub(super) git: Git,
    home: Utf8PathBuf,
}

impl<'a> Repository<'a> {
    /// Returns the cached copy of the repository at `url`.
    pub(super) fn of(url: &'a str, named: bool, store: &Store) -> Result<Self, Error> {
        let home = store.cache_dir("git")?.join(&blake3::hash(url.as_bytes()).to_hex()[..32]);
        Ok(Self { url, named, git: Git::new(store)?, home })
    }

    /// Returns the bare repository for objects of this format; a git repository has a single format.
    fn dir(&self, format: Format) -> Utf8PathBuf {
        self.home.join(if format == Format::Sha256 { "repository-sha256" } else { "repository" })
    }

    /// Returns the commit that `wanted` names. Fetches it, unless it is a commit hash that the cache has.
    pub(super) fn get(&self, wanted: &str, network: &Network) -> Result<PinnedCommit, Error> {
        // `git fetch` writes its result to FETCH_HEAD in the repository, so only one process may fetch at a time.
        fs::create_dir_all(&self.home).map_err(Error::io("making", &self.home))?;
        let path = self.home.join("lock");
        let lock = File::options().create(true).append(true).open(&path).map_err(Error::io("opening", &path))?;
        lock.lock().map_err(Error::io("locking", &path))?;
        let is_commit = matches!(wanted.len(), 40 | 64) && wanted.bytes().all(|byte| byte.is_ascii_hexdigit());
        if let Some(found) = is_commit.then(|| self.find(wanted)).flatten() {
            return Ok(found);
        }
        let commit = self.fetch(wanted, network.permit(format!("cloning {} at {wanted}", self.url))?)?;
        self.find(&commit).ok_or_else(|| self.failed(wanted)(unreadable(&commit)))
    }

    /// Returns the commit and its tree, if the cache has them.
    fn find(&self, commit: &str) -> Option<PinnedCommit> {
        let tree = ["rev-parse", "--quiet", "--verify", &format!("{commit}^{{tree}}")];
        let tree = self.git(commit, &tree).ok()?;
        Some(PinnedCommit { commit: commit.to_owned(), tree: Some(line(&tree)) })
    }

    /// Fetches a branch, tag or commit, and returns the commit.
    fn fetch(&self, version: &str, permit: Permit) -> Result<String, Error> {
        if version.starts_with('-') || self.url.starts_with('-') {
            let why = process::Failure::Other("neither may start with a dash".to_owned());
            return Err(self.failed(version)(why));
        }
        let sha256 = Format::of(version) == Format::Sha256 || self.dir(Format::Sha256).is_dir();
        let formats = if sha256 { [Format::Sha256, Format::Sha1] } else { [Format::Sha1, Format::Sha256] };
        // The format of a remote repository is unknown before the first request: git's error message tells that it is
        // the other one.
        match self.fetch_as(formats[0], version, permit) {
            Err(Error::Git { source, .. }) if source.stderr().is_some_and(has_other_format) => {
                self.fetch_as(formats[1], version, permit)
            }
            fetched => fetched,
        }
    }

    /// Fetches from a repository of this format, without history if the server permits it.
    fn fetch_as(&self, format: Format, version: &str, _permit: Permit) -> Result<String, Error> {
        self.make(&self.dir(format), format, version)?;
        let shallow = ["--depth=1", "--no-tags", self.url, version];
        let name = match self.git_fetch(format, &shallow)? {
            Ok(_) => "FETCH_HEAD".to_owned(),
            Err(failure) if failure.is_missing_program() || failure.stderr().is_some_and(has_other_format) => {
                return Err(self.failed(version)(failure));
            }
            // Servers cannot look up abbreviated hashes, and some refuse arbitrary commits: fetch all branches and tags
            // instead.
            Err(failure) => {
                let all = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];
                let is_shallow = self.dir(format).join("shallow").exists();
                let unshallow: &[&str] = if is_shallow { &["--unshallow"] } else { &[] };
                self.git_fetch(format, &[unshallow, &[self.url], &all].concat())?.map_err(self.failed(version))?;
                let known = self.rev_parse(format, version);
                // The first error message of git names the version that cannot be found.
                return known.map_err(|_| self.failed(version)(failure));
            }
        };
        self.rev_parse(format, &name).map_err(self.failed(version))
    }

    fn git_fetch(
        &self,
        format: Format,
        arguments: &[&str],
    ) -> Result<Result<process::Output, process::Failure>, Error> {
        let mut git = self.git.of_user()?;
        // `HELPER::ADDRESS` runs the program git-remote-HELPER.
        let helper =
            self.url.split_once("::").is_some_and(|(name, _)| name.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        if !self.named || helper {
            // Unless git's settings allow it, an address in a repository must not be a path of this machine, and an
            // address in a project must not run a program.
            git.env("GIT_PROTOCOL_FROM_USER", "0");
        }
        git.arg("--git-dir").arg(self.dir(format)).args(["fetch", "--quiet", "--force"]).args(arguments);
        Ok(process::run(&mut git, LIMIT))
    }

    fn rev_parse(&self, format: Format, name: &str) -> Result<String, process::Failure> {
        let name = format!("{name}^{{commit}}");
        let commit = self.git_of(format, &["rev-parse", "--quiet", "--verify", &name])?;
        Ok(line(&commit))
    }

    /// Creates an empty bare repository without templates, unless it exists.
    fn make(&self, dir: &Utf8Path, format: Format, version: &str) -> Result<(), Error> {
        let make = || {
            fs::create_dir_all(dir).map_err(Error::io("making", dir))?;
            let mut git = self.git.isolated();
            git.arg("--git-dir").arg(dir).args(["init", "--quiet", "--bare", "--template="]);
            process::run(git.arg(format!("--object-format={}", format.name())), LIMIT).map_err(self.failed(version))
        };
        match make() {
            // An older vcbuild created the repository in the format that the user's settings specified.
            Err(Error::Git { source, .. })
                if source.stderr().is_some_and(|stderr| stderr.contains("different hash")) =>
            {
                fs::remove_dir_all(dir).map_err(Error::io("removing", dir))?;
                make().map(drop)
            }
            made => made.map(drop),
        }
    }

    /// Writes the files of a commit and its submodules into `folder`, which is created atomically.
    fn check_out(&self, commit: &str, folder: &Utf8Path, network: &Network, store: &Store) -> Result<(), Error> {
        let temporary = store.temp_dir()?;
        let files = vcstore::utf8("using", &temporary.path().join("files"))?;
        fs::create_dir(&files).map_err(Error::io("making", folder))?;
        submodules::lay(self, commit, &files, network, store)?;
        let parent = folder.parent().unwrap_or(&self.home);
        fs::create_dir_all(parent).map_err(Error::io("making", parent))?;
        match fs::rename(&files, folder) {
            // Another process may have created the folder first.
            Err(_) if folder.is_dir() => Ok(()),
            result => result.map_err(Error::io("writing", folder)),
        }
    }

    /// Writes the files of a commit into a folder, without those of submodules.
    pub(super) fn lay(&self, commit: &str, files: &Utf8Path, store: &Store) -> Result<(), Error> {
        let temporary = store.temp_dir()?;
        let dir = vcstore::utf8("using", temporary.path())?.join("repository");
        // A separate repository has only the settings and attributes of the commit, whatever the repository with the
        // objects contains.
        self.make(&dir, Format::of(commit), commit)?;
        let objects = self.dir(Format::of(commit)).join("objects");
        let objects = objects.canonicalize_utf8().map_err(Error::io("finding", &objects))?;
        let alternates = dir.join("objects/info/alternates");
        fs::create_dir_all(dir.join("objects/info")).map_err(Error::io("making", &dir))?;
        fs::write(&alternates, format!("{objects}\n")).map_err(Error::io("writing", &alternates))?;
        let mut git = self.git.isolated();
        git.arg("--git-dir").arg(&dir).arg("--work-tree").arg(files);
        git.args(["-c", "core.autocrlf=false", "-c", "core.eol=lf", "-c", "advice.detachedHead=false"]);
        git.args(["checkout", "--quiet", "--force", commit, "--", "."]);
        process::run(&mut git, LIMIT).map_err(self.failed(commit)).map(drop)
    }

    /// Runs git in the repository that has this commit.
    pub(super) fn git(&self, commit: &str, arguments: &[&str]) -> Result<process::Output, process::Failure> {
        self.git_of(Format::of(commit), arguments)
    }

    fn git_of(&self, format: Format, arguments: &[&str]) -> Result<process::Output, process::Failure> {
        process::run(self.git.isolated().arg("--git-dir").arg(self.dir(format)).args(arguments), LIMIT)
    }

    pub(super) fn failed(&self, version: &str) -> impl Fn(process::Failure) -> Error {
        let attempt = format!("cloning {} at {version}", self.url);
        move |failure| {
            if failure.is_missing_program() {
                return Error::NoGit { attempt: attempt.clone() };
            }
            Error::Git { attempt: attempt.clone(), source: Box::new(failure) }
        }
    }
}

/// Returns whether git reported that the object format of a repository is not the expected one.
fn has_other_format(words: &str) -> bool {
    words.contains("mismatched algorithms") || words.contains("object format")
}

fn unreadable(commit: &str) -> process::Failure {
    process::Failure::Other(format!("git fetched {commit}, but cannot read its tree"))
}

fn line(output: &[u8]) -> String {
    String::from_utf8_lossy(output).trim().to_owned()
}
