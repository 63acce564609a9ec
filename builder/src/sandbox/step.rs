//! One program to run, and all that it gets.

use std::fs;

use camino::{Utf8Path, Utf8PathBuf};

use super::Surroundings;
use super::spec::{Limits, Link, Mount, Program, Spec};
use crate::Error;
use crate::source::utf8;

/// The folders of a system that its programs and their libraries are in.
pub(crate) const SYSTEM_FOLDERS: [&str; 8] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc/alternatives"];

/// What a program is run with. Paths are given as they are on the host; what is returned is what to call them in
/// arguments: their place in the sandbox, or the host's own where programs are not confined.
#[derive(Debug)]
pub(crate) struct Step {
    name: String,
    confined: bool,
    /// The folder that stands for `/build`.
    build: &'static str,
    mounts: Vec<Mount>,
    links: Vec<Link>,
    program: Program,
    /// An empty home and a place for temporary files, where there is no sandbox that has them.
    folder: Option<tempfile::TempDir>,
}

impl Step {
    pub(super) fn new(name: &str, confined: bool, surroundings: &Surroundings) -> Result<Self, Error> {
        let (folder, outer) = if confined {
            (None, Utf8PathBuf::from("/"))
        } else {
            let folder = tempfile::tempdir()
                .map_err(Error::io("making a folder in", "the folder for temporary files ($TMPDIR)"))?;
            let path = utf8("using", folder.path())?;
            for name in ["home", "tmp"] {
                fs::create_dir(path.join(name)).map_err(Error::io("making", path.join(name)))?;
            }
            (Some(folder), path)
        };
        let environment = [
            ("HOME", outer.join("home").as_str()),
            ("TMPDIR", outer.join("tmp").as_str()),
            ("USER", "builder"),
            ("LOGNAME", "builder"),
            ("TZ", surroundings.timezone),
            ("LC_ALL", surroundings.locale),
            ("SOURCE_DATE_EPOCH", "0"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let program =
            Program { path: Utf8PathBuf::new(), arguments: Vec::new(), environment: environment.into(), dir: outer };
        let (mounts, links) = (Vec::new(), Vec::new());
        Ok(Self { name: name.to_owned(), confined, build: surroundings.build, mounts, links, program, folder })
    }

    /// Lets the program read a file or folder, with everything mounted below it.
    ///
    /// # Errors
    /// When it is not there.
    pub(crate) fn read_only(&mut self, host: &Utf8Path, inside: &str) -> Result<Utf8PathBuf, Error> {
        self.mount(host, inside, false)
    }

    /// Lets the program write to a file or folder.
    ///
    /// # Errors
    /// When it is not there.
    pub(crate) fn writable(&mut self, host: &Utf8Path, inside: &str) -> Result<Utf8PathBuf, Error> {
        self.mount(host, inside, true)
    }

    /// Lets the program read the programs and libraries of this machine: whoever asks for it depends on the machine.
    ///
    /// # Errors
    /// When they are not there.
    pub(crate) fn system(&mut self) -> Result<(), Error> {
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
    pub(crate) fn env(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.program.environment.insert(name.into(), value.into());
    }

    /// Sets several.
    pub(crate) fn envs<N: Into<String>, V: Into<String>>(&mut self, variables: impl IntoIterator<Item = (N, V)>) {
        for (name, value) in variables {
            self.env(name, value);
        }
    }

    /// The folder that the program starts in.
    pub(crate) fn dir(&mut self, path: impl Into<Utf8PathBuf>) {
        self.program.dir = path.into();
    }

    /// The program; a mere name is looked for in the environment's `PATH`.
    pub(crate) fn program(&mut self, path: impl Into<Utf8PathBuf>) {
        self.program.path = path.into();
    }

    /// Adds an argument.
    pub(crate) fn argument(&mut self, argument: impl Into<String>) {
        self.program.arguments.push(argument.into());
    }

    /// Adds arguments.
    pub(crate) fn arguments<A: Into<String>>(&mut self, arguments: impl IntoIterator<Item = A>) {
        self.program.arguments.extend(arguments.into_iter().map(Into::into));
    }

    /// What is run, the name for people, and a folder that must outlive it.
    pub(super) fn into_spec(
        self,
        surroundings: &Surroundings,
        limits: Limits,
    ) -> (Spec, String, Option<tempfile::TempDir>) {
        let Self { name, confined, mut mounts, mut links, program, folder, .. } = self;
        // What is within another comes after it.
        mounts.sort_by(|a, b| a.inside.cmp(&b.inside));
        links.sort_by(|a, b| a.inside.cmp(&b.inside));
        let spec = Spec {
            confined,
            program: Some(program),
            mounts,
            links,
            hostname: surroundings.hostname.to_owned(),
            umask: surroundings.umask,
            processors: surroundings.processors,
            limits,
            most_tasks: None,
        };
        (spec, name, folder)
    }

    fn mount(&mut self, host: &Utf8Path, inside: &str, writable: bool) -> Result<Utf8PathBuf, Error> {
        let host = host.canonicalize_utf8().map_err(Error::io("finding", host))?;
        if !self.confined {
            return Ok(host);
        }
        let inside = Utf8Path::new(inside);
        let inside = inside.strip_prefix(Surroundings::FIXED.build).map_or_else(
            |_| inside.to_owned(),
            |below| Utf8Path::new(self.build).components().chain(below.components()).collect(),
        );
        self.mounts.push(Mount { host, inside: inside.clone(), writable });
        Ok(inside)
    }
}
