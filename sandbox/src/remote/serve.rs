//! The server side: it runs on the build host as long as the connection lasts.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io::{self, BufReader, BufWriter, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use camino::{Utf8Path, Utf8PathBuf};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use vcnetwork::causes;
use vcstore::{Digest, Store};

use super::place::MARK;
use super::protocol::{self, Hello, MountContents, Open, RemovedEntry, Request, StepResult, TreeChanges, WrittenEntry};
use super::tree::{self, Memory, Tree};
use crate::explain::explain;
use crate::plain::{Folder, Plain};
use crate::run;
use crate::spec::{Limits, Mount, Report, SetupError};
use crate::{Mode, PRIVATE_MODE, Sandbox};

/// The cache of received content: files by their hashes, and trees of them.
const CACHE: &str = "host";

/// The interval at which the connection is checked, in milliseconds.
const TICK: u8 = 200;

/// Runs the steps that are requested over standard input until it ends.
///
/// # Errors
/// Returns an error if the connection or this machine's disk fails.
pub fn serve(store: &Store) -> io::Result<()> {
    #[expect(clippy::disallowed_methods, reason = "the other end of the connection reads it, not a person")]
    let (mut from, mut to) = (BufReader::new(io::stdin()), BufWriter::new(io::stdout()));
    writeln!(to, "\n{MARK}ready")?;
    to.flush()?;
    let open: Open = protocol::receive(&mut from)?;
    let sandbox = Sandbox::find(open.mode, Limits::default());
    let folder = store.temp_dir().map_err(io::Error::other)?;
    let place = Utf8PathBuf::try_from(folder.path().join("root")).map_err(io::Error::other)?;
    protocol::send(&mut to, &hello(&sandbox, open.mode, &place))?;
    let cache = store.cache_dir(CACHE).map_err(io::Error::other)?;
    let runner = StepRunner { store, cache, sandbox, place, memory: Memory::default() };
    loop {
        let request: Request = match protocol::receive(&mut from) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            request => request?,
        };
        runner.run(request, &mut from, &mut to)?;
    }
}

fn hello(sandbox: &Sandbox, mode: Mode, place: &Utf8Path) -> Hello {
    let (confined, confinement) = (sandbox.is_confined(), sandbox.confinement());
    let refusal = |error: &crate::Error| {
        let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
        format!("{error}{cause}")
    };
    let refused = confined.as_ref().err().map(refusal);
    let confined = confined.unwrap_or(false);
    let confinement = confinement.unwrap_or_default();
    let warning = (!confined && mode == Mode::Auto).then(|| confinement.clone());
    Hello { confined, confinement, warning, refusal: refused, place: place.to_string() }
}

/// The environment for running steps.
struct StepRunner<'a> {
    store: &'a Store,
    cache: Utf8PathBuf,
    sandbox: Sandbox,
    /// Serves as `/` for unconfined programs.
    place: Utf8PathBuf,
    memory: Memory,
}

impl StepRunner<'_> {
    fn run(&self, request: Request, from: &mut BufReader<io::Stdin>, to: &mut impl Write) -> io::Result<()> {
        let Request { program, mut spec, given } = request;
        if given.len() != spec.mounts.len() {
            return Err(io::Error::other("the number of a step's mounts and the number of their contents differ"));
        }
        self.get(&given, from, to)?;
        let folder = self.sandbox.workplace(self.store).map_err(|error| io::Error::other(error.to_string()))?;
        if !spec.confined {
            self.clear()?;
        }
        for (number, (mount, given)) in spec.mounts.iter_mut().zip(&given).enumerate() {
            // A link would resolve to another path inside the unfinished sandbox.
            let place = self.lay(mount, given, spec.confined, &folder.path().join(number.to_string()))?;
            mount.host = place.canonicalize_utf8()?;
        }
        spec.layers = if spec.confined { self.sandbox.layers() } else { Vec::new() };
        let connected = ConnectionWatch::watch();
        let ended = run::run(&spec, &program);
        drop(connected);
        let (report, output, stderr) = match ended {
            Ok((report, ended)) => (report, ended.output, ended.stderr),
            Err(failure) => {
                let obstacle = SetupError { attempt: format!("start {program}"), errno: None, why: causes(&failure) };
                (Report::Failed(obstacle), Vec::new(), String::new())
            }
        };
        let undeclared = if spec.confined { explain(&stderr, &spec) } else { Vec::new() };
        let mut changed = TreeChanges::default();
        for (number, (mount, given)) in spec.mounts.iter().zip(&given).enumerate() {
            if let MountContents::Tree(before) = given
                && mount.writable
            {
                let after = Tree::read(&mount.host, &self.memory)?;
                changed.gone.extend(before.gone(&after).map(|path| RemovedEntry { mount: number, path: path.clone() }));
                let made = before.changes(&after);
                let made =
                    made.map(|(path, node)| WrittenEntry { mount: number, path: path.clone(), node: node.clone() });
                changed.made.extend(made);
            }
        }
        let result = StepResult { report, stderr, undeclared, output: output.len() as u64, changed };
        protocol::send(&mut *to, &result)?;
        to.write_all(&output)?;
        to.flush()?;
        self.give(&result.changed.made, &spec.mounts, from, to)
    }

    /// Receives the files that are not present yet.
    fn get(&self, given: &[MountContents], from: &mut BufReader<io::Stdin>, to: &mut impl Write) -> io::Result<()> {
        let trees = given.iter().filter_map(|given| match given {
            MountContents::Tree(tree) => Some(tree),
            MountContents::Cache(_) => None,
        });
        let files: BTreeSet<(Digest, u64)> =
            trees.flat_map(Tree::files).map(|(_, digest, size)| (digest, size)).collect();
        // A power failure may have truncated a file.
        let here = |digest: &Digest, size| fs::metadata(self.content(digest)).is_ok_and(|meta| meta.len() == size);
        let lacking: Vec<_> = files.into_iter().filter(|(digest, size)| !here(digest, *size)).collect();
        protocol::send(to, &lacking.iter().map(|(digest, _)| digest).collect::<Vec<_>>())?;
        for (digest, size) in lacking {
            let place = self.content(&digest);
            let folder = place.parent().unwrap_or(&self.cache);
            fs::create_dir_all(folder)?;
            // A name of its own, because another connection may receive the same file.
            let new = folder.join(format!(".{}.{}", digest.hex(), std::process::id()));
            let _ = fs::remove_file(&new);
            tree::receive(from, &digest, size, new.as_std_path())?;
            fs::rename(&new, &place)?;
        }
        Ok(())
    }

    /// Creates the contents of a mount. Read-only contents are created once and shared by all steps.
    fn lay(&self, mount: &Mount, given: &MountContents, confined: bool, new: &Utf8Path) -> io::Result<Utf8PathBuf> {
        let inside = self.place.join(mount.inside.strip_prefix("/").unwrap_or(&mount.inside));
        let parent = inside.parent().unwrap_or(&self.place).to_owned();
        let content = |digest: &Digest| Ok(self.content(digest));
        // Without a sandbox that mounts it, a link makes it visible.
        let link = |to: &Utf8Path| -> io::Result<()> {
            if confined {
                return Ok(());
            }
            fs::create_dir_all(&parent)?;
            symlink(to, &inside)
        };
        match given {
            MountContents::Cache(name) => {
                let cache =
                    self.sandbox.cache(self.store, name).map_err(|error| io::Error::other(error.to_string()))?;
                link(&cache)?;
                Ok(cache)
            }
            MountContents::Tree(tree) if mount.writable => {
                let place = if confined { new } else { &inside };
                fs::create_dir_all(if confined { new.parent().unwrap_or(new) } else { &parent })?;
                tree.make(place, content)?;
                if place.is_dir() {
                    fs::set_permissions(place, Permissions::from_mode(PRIVATE_MODE))?;
                }
                Ok(place.to_owned())
            }
            MountContents::Tree(tree) => {
                let place = self.cache.join("trees").join(tree.digest()?.hex());
                if place.symlink_metadata().is_err() {
                    fs::create_dir_all(self.cache.join("trees"))?;
                    tree.make(new, content)?;
                    match fs::rename(new, &place) {
                        // Another connection created it meanwhile.
                        Err(_) if place.symlink_metadata().is_ok() => {}
                        renamed => renamed?,
                    }
                }
                link(&place)?;
                Ok(place)
            }
        }
    }

    /// Sends the requested new files of a program.
    fn give(
        &self,
        made: &[WrittenEntry],
        mounts: &[Mount],
        from: &mut BufReader<io::Stdin>,
        to: &mut impl Write,
    ) -> io::Result<()> {
        let wanted: Vec<Digest> = protocol::receive(from)?;
        for digest in wanted {
            let is_it =
                |one: &&WrittenEntry| matches!(&one.node, tree::Node::File { digest: its, .. } if *its == digest);
            let one = made.iter().find(is_it).ok_or_else(|| io::Error::other(format!("{digest} was not made")))?;
            let top = &mounts[one.mount].host;
            let file = if one.path.is_empty() {
                Plain::open(top)?
            } else {
                let folder = Folder::open(top).map_err(|error| io::Error::other(error.to_string()))?;
                folder.file(Utf8Path::new(&one.path), u64::MAX)?
            };
            io::copy(&mut file.content(), to)?;
        }
        to.flush()
    }

    /// Empties the folder that serves as `/`, and creates the home directory and the folder for temporary files
    /// in it.
    fn clear(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.place) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        for name in ["home", "tmp"] {
            fs::create_dir_all(self.place.join(name))?;
        }
        Ok(())
    }

    /// Returns the path of a file's content.
    fn content(&self, digest: &Digest) -> Utf8PathBuf {
        let hex = digest.hex();
        self.cache.join("files").join(&hex[..2]).join(&hex)
    }
}

/// Checks, while a program runs, that the connection is open. If it is not, ends this process, and the sandbox's
/// supervisor then ends the program.
struct ConnectionWatch(Arc<AtomicBool>);

impl ConnectionWatch {
    fn watch() -> Self {
        let running = Arc::new(AtomicBool::new(true));
        let watched = Arc::clone(&running);
        std::thread::spawn(move || {
            let stdin = io::stdin();
            while watched.load(Ordering::Acquire) {
                let mut fds = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
                // No message is due while a program runs: readable input means that the connection has ended.
                let heard = poll(&mut fds, PollTimeout::from(TICK)).is_ok_and(|count| count > 0);
                if heard && watched.load(Ordering::Acquire) {
                    std::process::exit(1);
                }
            }
        });
        Self(running)
    }
}

impl Drop for ConnectionWatch {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
