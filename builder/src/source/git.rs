//! Clones a revision with the system's git, so that whatever the user's git can reach is reached the user's way.

use std::fs::{self, File};
use std::process::Command;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use vcstore::Store;

use super::{process, submodules};
use crate::Error;
use crate::lock::PinnedCommit;
use crate::network::{Network, Permit};
use crate::progress::Progress;
use crate::web;

/// The version where none is asked for.
pub(super) const NEWEST: &str = "HEAD";

/// The longest that one git command may take.
const LIMIT: Duration = Duration::from_secs(30 * 60);

/// The folder with the files of `version` of the repository at `url`, and the commit and tree it is. A pinned commit that
/// was cloned before needs no network.
///
/// # Errors
/// When git is not installed, or fails; the message has git's own words. When what the repository has is not what is pinned.
pub(super) fn clone(
    url: &str,
    version: &str,
    pinned: Option<&PinnedCommit>,
    network: &Network,
    store: &Store,
    progress: &Progress,
) -> Result<(Utf8PathBuf, PinnedCommit), Error> {
    let repository = Repository::of(url, true, store)?;
    let folder = |commit: &str| repository.home.join("source").join(commit);
    if let Some(pinned) = pinned
        && pinned.tree.is_some()
        && folder(&pinned.commit).is_dir()
    {
        return Ok((folder(&pinned.commit), pinned.clone()));
    }
    if let (Some(pinned), Some(carried)) = (pinned, network.folder()) {
        return Ok((carried.commit(url, pinned)?, pinned.clone()));
    }
    let start = Instant::now();
    let found = repository.get(pinned.map_or(version, |pinned| pinned.commit.as_str()), network)?;
    if let Some(pinned) = pinned
        && (found.commit != pinned.commit || pinned.tree.as_ref().is_some_and(|tree| found.tree.as_ref() != Some(tree)))
    {
        let text = |one: &PinnedCommit| format!("{} (tree {})", one.commit, one.tree.as_deref().unwrap_or("unknown"));
        let why = format!("{} is pinned, and git fetched {}", text(pinned), text(&found));
        return Err(repository.failed(version)(process::Failure::Other(why)));
    }
    let folder = folder(&found.commit);
    if !folder.is_dir() {
        repository.check_out(&found.commit, &folder, network, store)?;
        progress.ran("clone", &format!("{url} {version} at {}", &found.commit[..12]), start.elapsed());
    }
    Ok((folder, found))
}

/// A bare repository in the store's care.
pub(super) struct Repository<'a> {
    pub(super) url: &'a str,
    /// Whether the user named it, and not what was fetched.
    named: bool,
    /// What is kept of it.
    home: Utf8PathBuf,
    dir: Utf8PathBuf,
}

impl<'a> Repository<'a> {
    /// The one that holds what is fetched from `url`.
    pub(super) fn of(url: &'a str, named: bool, store: &Store) -> Result<Self, Error> {
        let home = store.cache_dir("git")?.join(&blake3::hash(url.as_bytes()).to_hex()[..32]);
        Ok(Self { url, named, dir: home.join("repository"), home })
    }

    /// The commit that `wanted` names, fetched unless it is a commit that is here.
    pub(super) fn get(&self, wanted: &str, network: &Network) -> Result<PinnedCommit, Error> {
        // Fetching says what it found in a file of the repository, so one process fetches at a time.
        fs::create_dir_all(&self.home).map_err(Error::io("making", &self.home))?;
        let path = self.home.join("lock");
        let lock = File::options().create(true).append(true).open(&path).map_err(Error::io("opening", &path))?;
        lock.lock().map_err(Error::io("locking", &path))?;
        let is_commit = wanted.len() >= 40 && wanted.bytes().all(|byte| byte.is_ascii_hexdigit());
        if let Some(found) = is_commit.then(|| self.find(wanted)).flatten() {
            return Ok(found);
        }
        let commit = self.fetch(wanted, network.permit(format!("cloning {} at {wanted}", self.url))?)?;
        self.find(&commit).ok_or_else(|| self.failed(wanted)(unreadable(&commit)))
    }

    /// The commit and its tree, if the repository has them here.
    fn find(&self, commit: &str) -> Option<PinnedCommit> {
        let tree = self.git(&["rev-parse", "--quiet", "--verify", &format!("{commit}^{{tree}}")]).ok()?;
        Some(PinnedCommit { commit: commit.to_owned(), tree: Some(line(&tree)) })
    }

    /// Fetches a branch, tag or commit, without its history where the server lets us, and returns the commit.
    fn fetch(&self, version: &str, _permit: Permit) -> Result<String, Error> {
        if version.starts_with('-') || self.url.starts_with('-') {
            let why = process::Failure::Other("neither may begin with a dash".to_owned());
            return Err(self.failed(version)(why));
        }
        fs::create_dir_all(&self.dir).map_err(Error::io("making", &self.dir))?;
        self.git(&["init", "--quiet", "--bare"]).map_err(self.failed(version))?;
        let shallow = self.git(&["fetch", "--quiet", "--depth=1", "--no-tags", "--force", self.url, version]);
        let name = match shallow {
            Ok(_) => "FETCH_HEAD".to_owned(),
            Err(failure) if failure.is_missing_program() => return Err(self.failed(version)(failure)),
            // A short commit name cannot be fetched by itself, nor can every server give any commit: then fetch all.
            Err(failure) => {
                let all = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];
                let unshallow: &[&str] = if self.dir.join("shallow").exists() { &["--unshallow"] } else { &[] };
                let fetch = [&["fetch", "--quiet", "--force"], unshallow, &[self.url], &all].concat();
                self.git(&fetch).map_err(self.failed(version))?;
                let known = self.git(&["rev-parse", "--quiet", "--verify", &format!("{version}^{{commit}}")]);
                // What git said first names the version that cannot be found.
                return known.map(|output| line(&output)).map_err(|_| self.failed(version)(failure));
            }
        };
        let commit = self.git(&["rev-parse", "--verify", &format!("{name}^{{commit}}")]);
        commit.map(|output| line(&output)).map_err(self.failed(version))
    }

    /// Writes the files of a commit and of its submodules into `folder`: at once whole, or not at all.
    fn check_out(&self, commit: &str, folder: &Utf8Path, network: &Network, store: &Store) -> Result<(), Error> {
        let temporary = store.temp_dir()?;
        let files = super::utf8("using", &temporary.path().join("files"))?;
        fs::create_dir(&files).map_err(Error::io("making", folder))?;
        submodules::lay(self, commit, &files, network, store)?;
        let parent = folder.parent().unwrap_or(&self.dir);
        fs::create_dir_all(parent).map_err(Error::io("making", parent))?;
        match fs::rename(&files, folder) {
            // Another process may have been faster.
            Err(_) if folder.is_dir() => Ok(()),
            result => result.map_err(Error::io("writing", folder)),
        }
    }

    /// Writes the files of a commit into a folder, those of submodules excepted.
    pub(super) fn lay(&self, commit: &str, files: &Utf8Path, store: &Store) -> Result<(), Error> {
        let temporary = store.temp_dir()?;
        let mut command = self.command();
        command
            .env("GIT_INDEX_FILE", temporary.path().join("index"))
            .arg("--work-tree")
            .arg(files)
            .args(["-c", "core.autocrlf=false", "-c", "core.hooksPath=/dev/null", "-c", "advice.detachedHead=false"])
            .args(["checkout", "--quiet", "--force", commit, "--", "."]);
        process::run(&mut command, LIMIT).map_err(self.failed(commit)).map(drop)
    }

    pub(super) fn git(&self, arguments: &[&str]) -> Result<process::Output, process::Failure> {
        process::run(self.command().args(arguments), LIMIT)
    }

    fn command(&self) -> Command {
        let mut command = Command::new("git");
        // A question for a password would wait for an answer that nobody gives.
        web::of_programs(&mut command)
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("LC_ALL", "C")
            .arg("--git-dir")
            .arg(&self.dir);
        if !self.named {
            // What a repository names may be no path of this machine, nor a program, unless git's settings say so.
            command.env("GIT_PROTOCOL_FROM_USER", "0");
        }
        command
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

fn unreadable(commit: &str) -> process::Failure {
    process::Failure::Other(format!("git fetched {commit}, and cannot read its tree"))
}

fn line(output: &[u8]) -> String {
    String::from_utf8_lossy(output).trim().to_owned()
}
