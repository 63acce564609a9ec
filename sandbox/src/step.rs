//! One program to run, and all that it gets.

use std::collections::BTreeMap;
use std::fs;

use camino::{Utf8Path, Utf8PathBuf};
use vcstore::Store;
use vcstore::utf8;

use super::remote::{self, BuildHostSession};
use super::spec::{Limits, Link, Mount, Program, Spec};
use super::{Environment, Folder, Sandbox};
use crate::{Error, process};

/// The folders of a system that its programs and their libraries are in.
pub const SYSTEM_FOLDERS: [&str; 8] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc/alternatives"];

/// What a program is run with. Paths are given as they are on the host; what is returned is what to call them in
/// arguments: their place in the sandbox, or the host's own where programs are not confined.
#[derive(Debug)]
pub struct Step {
    name: String,
    confined: bool,
    /// The folder that stands for `/build`.
    build: &'static str,
    mounts: Vec<Mount>,
    links: Vec<Link>,
    program: Program,
    /// How much of its standard output is kept.
    output: Option<usize>,
    /// An empty home and a place for temporary files, where there is no sandbox that has them.
    folder: Option<tempfile::TempDir>,
    /// The connection to the machine that it runs on, when that is not this one.
    session: Option<BuildHostSession>,
    /// The caches among the mounts of a step that runs elsewhere, by their places there.
    caches: BTreeMap<Utf8PathBuf, String>,
}

/// What is run, and what is needed for it.
pub(super) struct PreparedStep {
    pub(super) spec: Spec,
    /// For people.
    pub(super) program: String,
    /// It must outlive the program.
    pub(super) _folder: Option<tempfile::TempDir>,
    /// Where it is run, when that is not here, and which mounts are caches of that machine's own.
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
    /// When it is not there.
    pub fn read_only(&mut self, host: &Utf8Path, inside: &str) -> Result<Utf8PathBuf, Error> {
        self.mount(host, inside, false)
    }

    /// Lets the program read a folder of programs, with all that its links lead to and its programs are loaded with.
    ///
    /// # Errors
    /// When a part of it is not there.
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
    /// When it is not there.
    pub fn writable(&mut self, host: &Utf8Path, inside: &str) -> Result<Utf8PathBuf, Error> {
        self.mount(host, inside, true)
    }

    /// Lets the program write to a compiler's own cache of this name: that of the machine that it runs on.
    ///
    /// # Errors
    /// When the cache cannot be made.
    pub fn cache(&mut self, sandbox: &Sandbox, store: &Store, name: &str, inside: &str) -> Result<Utf8PathBuf, Error> {
        if self.session.is_none() {
            return self.writable(&sandbox.cache(store, name)?, inside);
        }
        self.caches.insert(Utf8PathBuf::from(inside), name.to_owned());
        self.mounts.push(Mount { host: Utf8PathBuf::new(), inside: Utf8PathBuf::from(inside), writable: true });
        Ok(self.called(Utf8Path::new(inside)))
    }

    /// Lets the program read the programs and libraries of this machine: whoever asks for it depends on the machine.
    ///
    /// # Errors
    /// When they are not there, or it runs on another machine.
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

    /// Sets a variable of the program's environment, which else has the few that are the same everywhere.
    pub fn env(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.program.environment.insert(name.into(), value.into());
    }

    /// Sets several.
    pub fn envs<N: Into<String>, V: Into<String>>(&mut self, variables: impl IntoIterator<Item = (N, V)>) {
        for (name, value) in variables {
            self.env(name, value);
        }
    }

    /// The folder that the program starts in.
    pub fn dir(&mut self, path: impl Into<Utf8PathBuf>) {
        self.program.dir = path.into();
    }

    /// The program; a mere name is looked for in the environment's `PATH`.
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

    /// Keeps what it writes to standard output, which else nobody reads.
    pub fn keep_output(&mut self) {
        self.output = Some(process::OUTPUT_LIMIT);
    }

    /// All that it was given.
    pub(super) fn ready(self, environment: &Environment, limits: Limits) -> PreparedStep {
        let Self { name, confined, mut mounts, mut links, program, output, folder, session, caches, .. } = self;
        // What is within another comes after it.
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

    /// What to call a place of the sandbox.
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
            // Nothing is mounted. What may be written to is watched all the same.
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
