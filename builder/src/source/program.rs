//! git, run so that the files of a source depend on its commit alone: how a repository is reached is for its user to say, what
//! is in it is not.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};
use vcnetwork::http;
use vcstore::Store;

use crate::Error;
use crate::source::FileHash;

/// What git is told in the place of its user's settings: whose a repository is does not decide whether it can be read, since
/// nothing of it is run.
const SETTINGS: &str = "[safe]\n\tdirectory = *\n";

/// The variables that say which repository git works on, and how it stores and serves it. git gives them to its hooks
/// (`git rev-parse --local-env-vars`, without those of settings), and a build in a hook is about another repository.
const OF_A_REPOSITORY: [&str; 25] = [
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_ATTR_SOURCE",
    "GIT_CEILING_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_DEFAULT_HASH",
    "GIT_DEFAULT_REF_FORMAT",
    "GIT_DIR",
    "GIT_GLOB_PATHSPECS",
    "GIT_GRAFT_FILE",
    "GIT_ICASE_PATHSPECS",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_INTERNAL_SUPER_PREFIX",
    "GIT_LITERAL_PATHSPECS",
    "GIT_NAMESPACE",
    "GIT_NOGLOB_PATHSPECS",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_QUARANTINE_PATH",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_TEMPLATE_DIR",
    "GIT_WORK_TREE",
];

/// The git that is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Git {
    /// A folder that stands for the user's home, with [`SETTINGS`] in it.
    home: Utf8PathBuf,
}

impl Git {
    /// The settings it is run with are in the store's care.
    ///
    /// # Errors
    /// When they cannot be written.
    pub(crate) fn new(store: &Store) -> Result<Self, Error> {
        let home = store.cache_dir("git")?.join("home");
        let home = camino::absolute_utf8(&home).map_err(Error::io("finding", &home))?;
        write(&home.join(".gitconfig"), SETTINGS)?;
        Ok(Self { home })
    }

    /// git without any setting of its user and of the machine, for everything that reads or writes files.
    pub(crate) fn isolated(&self) -> Command {
        let mut git = git();
        // All of them, but where git finds its own programs and what it tells of its work.
        let kept = |name: &str| name == "GIT_EXEC_PATH" || name.starts_with("GIT_TRACE");
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("GIT_") && !kept(name)) {
                git.env_remove(name);
            }
        }
        git.env("HOME", &self.home).env("XDG_CONFIG_HOME", &self.home);
        git.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_ATTR_NOSYSTEM", "1");
        git.args([
            "-c",
            "core.attributesFile=/dev/null",
            "-c",
            "core.hooksPath=/dev/null",
            "-c",
            "core.fsmonitor=false",
        ]);
        git
    }

    /// git with its user's settings, for fetching, and for saying what the user's git would do: whatever reaches a repository
    /// holds (credentials, addresses, proxies, keys), hooks do not.
    ///
    /// # Errors
    /// When the settings cannot be written.
    pub(crate) fn of_user(&self) -> Result<Command, Error> {
        let mut settings = String::new();
        if std::env::var_os("GIT_SSH").is_none() {
            // The user's own command for ssh comes later, and counts.
            let arguments = vcremote::options::arguments(vcremote::options::NOTHING_LENT).collect::<Vec<_>>().join(" ");
            settings += &format!("[core]\n\tsshCommand = ssh {arguments}\n");
        }
        for path in user_settings() {
            let Some(path) = path.to_str() else { continue };
            let quoted = path.replace('\\', "\\\\").replace('"', "\\\"");
            settings += &format!("[include]\n\tpath = \"{quoted}\"\n");
        }
        settings += SETTINGS;
        let path = self.home.join(format!("user-{}", FileHash::of(settings.as_bytes())));
        write(&path, &settings)?;
        let mut git = git();
        for name in OF_A_REPOSITORY {
            git.env_remove(name);
        }
        http::of_programs(&mut git).env("GIT_CONFIG_GLOBAL", path).args(["-c", "core.hooksPath=/dev/null"]);
        Ok(git)
    }
}

fn git() -> Command {
    let mut git = Command::new("git");
    // A password prompt would wait forever.
    git.env("GIT_TERMINAL_PROMPT", "0").env("LC_ALL", "C");
    git
}

/// The files of the user's settings, as git finds them; those that are not there are none to git either.
fn user_settings() -> Vec<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(path) = std::env::var_os("GIT_CONFIG_GLOBAL") {
        return if path == OsStr::new("") { Vec::new() } else { std::path::absolute(path).into_iter().collect() };
    }
    let home = set("HOME");
    let config = set("XDG_CONFIG_HOME").or_else(|| Some(home.as_ref()?.join(".config")));
    let found = [config.map(|folder| folder.join("git/config")), home.map(|home| home.join(".gitconfig"))];
    found.into_iter().flatten().collect()
}

/// Writes a file unless it is there as it should be: others may be reading it.
fn write(path: &Utf8Path, content: &str) -> Result<(), Error> {
    if fs::read(path).is_ok_and(|known| known == content.as_bytes()) {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(Error::io("making", folder))?;
    vcstore::atomic::replace(path, content.as_bytes()).map_err(Error::io("writing", path))
}
