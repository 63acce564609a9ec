//! One program to run, with its inputs.

use std::collections::BTreeMap;
use std::fs;

use camino::{Utf8Path, Utf8PathBuf};
use vcstore::Store;
use vcstore::utf8;

use super::remote::{self, BuildHostSession};
use super::spec::{Limits, Link, Mount, Program, Spec};
use super::{Environment, Folder, Sandbox};
use crate::{Error, process};

/// The folders of a system with its programs and libraries.
pub const SYSTEM_FOLDERS: [&str; 8] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc/alternatives"];

/// The inputs of a program. Methods take paths on the host and return the paths to use in arguments: those in the
/// sandbox, or those on the host if programs are not confined.
#[derive(Debug)]
pub struct Step {
    name: String,
    confined: bool,
    /// The folder that serves as `/build`.
    build: &'static str,
    mounts: Vec<Mount>,
    links: Vec<Link>,
    program: Program,
    /// The maximum size of the kept standard output.
    output: Option<usize>,
    /// An empty home and a folder for temporary files, if there is no sandbox that contains them.
    folder: Option<tempfile::TempDir>,
    /// The connection to the build host, if the step runs there.
    session: Option<BuildHostSession>,
    /// The caches among the mounts of a step on a build host, by their path in the sandbox.
    caches: BTreeMap<Utf8PathBuf, String>,
}

/// A program and everything needed to run it.
pub(super) struct PreparedStep {
    pub(super) spec: Spec,
    /// The name for display.
    pub(super) program: String,
    /// Must exist as long as the program runs.
    pub(super) _folder: Option<tempfile::TempDir>,
    /// The build host's session, if the step runs there, and its mounts that are caches of the host itself.
    pub(super) elsewhere: Option<(BuildHostSession, BTreeMap<Utf8PathBuf, String>)>,
}

impl Step {
    pub(super) fn new(
        name: &str,
        confined: bool,
        environment: &Environment,
        session: Option<BuildHostSession>,
    ) -> Result<Self, Error> {
        let (folder, outer) = if confined {
            (None, Utf8PathBuf::from("/"))
        } else if let Some(session) = &session {
            (None, Utf8PathBuf::from(session.place()))
        } else {
            let folder = tempfile::tempdir()
                .map_err(Error::io("making a folder in", "the folder for temporary files ($TMPDIR)"))?;
            let path = utf8("using", folder.path())?;
            for name in ["home", "tmp"] {
                fs::create_dir(path.join(name)).map_err(Error::io("making", path.join(name)))?;
            }
            (Some(folder), path)
        };
        let variables = [
            ("HOME", outer.join("home").as_str()),
            ("TMPDIR", outer.join("tmp").as_str()),
            ("USER", "builder"),
            ("LOGNAME", "builder"),
            ("TZ", environment.timezone),
            ("LC_ALL", environment.locale),
            ("SOURCE_DATE_EPOCH", "0"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let program =
            Program { path: Utf8PathBuf::new(), arguments: Vec::new(), environment: variables.into(), dir: outer };
        let (mounts, links) = (Vec::new(), Vec::new());
        let (name, caches) = (name.to_owned(), BTreeMap::new());
        let build = environment.build;
        Ok(Self { name, confined, build, mounts, links, program, output: None, folder, session, caches })
    }

    /// Lets the program read a file or folder, with everything mounted below it.
    ///
    /// # Errors
    /// Returns an error if it does not exist.
    pub fn read_only(&mut self, host: &Utf8Path, inside: &str) -> Result<Utf8PathBuf, Error> {
        self.mount(host, inside, false)
    }

    /// Lets the program read a folder of programs, with the targets of its links and the libraries of its programs.
    ///
    /// # Errors
    /// Returns an error if a part of it does not exist.
    pub fn folder(&mut self, folder: &Folder, inside: &str) -> Result<Utf8PathBuf, Error> {
        if !self.confined && self.session.is_none() {
            return self.read_only(folder.root(), inside);
        }
        for (place, host) in folder.parts() {
            let place: Utf8PathBuf = Utf8Path::new(inside).components().chain(place.components()).collect();
            self.read_only(host, place.as_str())?;
        }
        for (place, host) in folder.libraries() {
            self.read_only(host, place.as_str())?;
        }
        Ok(self.called(Utf8Path::new(inside)))
    }

    /// Lets the program write to a file or folder.
    ///
    /// # Errors
    /// Returns an error if it does not exist.
    pub fn writable(&mut self, host: &Utf8Path, inside: &str) -> Result<Utf8PathBuf, Error> {
        self.mount(host, inside, true)
    }

    /// Lets the program write to a compiler's own cache with this name, on the machine where the program runs.
    ///
    /// # Errors
    /// Returns an error if the cache cannot be created.
    pub fn cache(&mut self, sandbox: &Sandbox, store: &Store, name: &str, inside: &str) -> Result<Utf8PathBuf, Error> {
        if self.session.is_none() {
            return self.writable(&sandbox.cache(store, name)?, inside);
        }
        self.caches.insert(Utf8PathBuf::from(inside), name.to_owned());
        self.mounts.push(Mount { host: Utf8PathBuf::new(), inside: Utf8PathBuf::from(inside), writable: true });
        Ok(self.called(Utf8Path::new(inside)))
    }

    /// Lets the program read the programs and libraries of this machine, so that the step depends on the machine.
    ///
    /// # Errors
    /// Returns an error if they do not exist, or if the step runs on a build host.
    pub fn system(&mut self) -> Result<(), Error> {
        if let Some(session) = &self.session {
            let (address, program) = (session.address().to_string(), self.name.clone());
            return Err(remote::Error::System { address, program }.into());
        }
        for folder in SYSTEM_FOLDERS.map(Utf8Path::new) {
            match fs::symlink_metadata(folder) {
                Ok(meta) if meta.is_symlink() => {
                    let target = folder.read_link_utf8().map_err(Error::io("reading", folder))?;
                    self.links.push(Link { inside: folder.to_owned(), target });
                }
                Ok(_) => {
                    self.read_only(folder, folder.as_str())?;
                }
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Sets a variable in the program's environment, which otherwise contains only a few variables with fixed values.
    pub fn env(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.program.environment.insert(name.into(), value.into());
    }

    /// Sets several variables.
    pub fn envs<N: Into<String>, V: Into<String>>(&mut self, variables: impl IntoIterator<Item = (N, V)>) {
        for (name, value) in variables {
            self.env(name, value);
        }
    }

    /// Sets the working directory.
    pub fn dir(&mut self, path: impl Into<Utf8PathBuf>) {
        self.program.dir = path.into();
    }

    /// Sets the program; a name without a slash is searched for in the environment's `PATH`.
    pub fn program(&mut self, path: impl Into<Utf8PathBuf>) {
        self.program.path = path.into();
    }

    /// Adds an argument.
    pub fn argument(&mut self, argument: impl Into<String>) {
        self.program.arguments.push(argument.into());
    }

    /// Adds arguments.
    pub fn arguments<A: Into<String>>(&mut self, arguments: impl IntoIterator<Item = A>) {
        self.program.arguments.extend(arguments.into_iter().map(Into::into));
    }

    /// Keeps the standard output, which is otherwise discarded.
    pub fn keep_output(&mut self) {
        self.output = Some(process::OUTPUT_LIMIT);
    }

    /// Returns the complete specification.
    pub(super) fn ready(self, environment: &Environment, limits: Limits) -> PreparedStep {
        let Self { name, confined, mut mounts, mut links, program, output, folder, session, caches, .. } = self;
        // A nested mount comes after the one that contains it.
        mounts.sort_by(|a, b| a.inside.cmp(&b.inside));
        links.sort_by(|a, b| a.inside.cmp(&b.inside));
        let spec = Spec {
            confined,
            program: Some(program),
            mounts,
            links,
            hostname: environment.hostname.to_owned(),
            umask: environment.umask,
            processors: environment.processors,
            limits,
            output,
            most_tasks: None,
            layers: Vec::new(),
        };
        PreparedStep { spec, program: name, _folder: folder, elsewhere: session.map(|session| (session, caches)) }
    }

    /// Returns the path to use in arguments for a path in the sandbox.
    fn called(&self, inside: &Utf8Path) -> Utf8PathBuf {
        match &self.session {
            Some(session) if !self.confined => {
                Utf8Path::new(session.place()).join(inside.strip_prefix("/").unwrap_or(inside))
            }
            _ => inside.to_owned(),
        }
    }

    fn mount(&mut self, host: &Utf8Path, inside: &str, writable: bool) -> Result<Utf8PathBuf, Error> {
        let host = host.canonicalize_utf8().map_err(Error::io("finding", host))?;
        if !self.confined && self.session.is_none() {
            // Nothing is mounted, but the disk usage of writable paths is still measured.
            self.mounts.push(Mount { host: host.clone(), inside: host.clone(), writable });
            return Ok(host);
        }
        let inside = Utf8Path::new(inside);
        let inside = inside.strip_prefix(Environment::FIXED.build).map_or_else(
            |_| inside.to_owned(),
            |below| Utf8Path::new(self.build).components().chain(below.components()).collect(),
        );
        let called = self.called(&inside);
        self.mounts.push(Mount { host, inside, writable });
        Ok(called)
    }
}
