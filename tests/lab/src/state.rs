//! The records of the labs on this machine: one JSON document each under `/run/vclab`, and the locks that prevent two
//! processes from working on one lab or assigning one subnet to two labs.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use crate::error::{Error, file};
use crate::network;
use crate::plan::{LAST_SLOT, Options, Plan};
use crate::process::{Process, TICK};

/// Cleared when the machine restarts, like the labs themselves.
const FOLDER: &str = "/run/vclab";

/// The time limit for waiting for another process that works on the same lab.
const LOCK_LIMIT: Duration = Duration::from_secs(300);

/// A daemon that was started for a lab.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Daemon {
    /// Its name, such as `kubelet`.
    pub component: String,
    /// The node it runs on.
    pub node: String,
    /// The process on this machine that ends with the daemon.
    pub process: Process,
    /// The file with its output.
    pub log: Utf8PathBuf,
}

/// The record of one lab.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) plan: Plan,
    pub(crate) kubectl: Utf8PathBuf,
    /// Whether it was started completely.
    pub(crate) complete: bool,
    pub(crate) daemons: Vec<Daemon>,
}

impl State {
    /// Reads the record of the lab with this name, if there is one.
    pub(crate) fn read(name: &str) -> Result<Option<Self>, Error> {
        let path = record(name);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.map_err(file("reading", &path))?,
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|source| Error::State { path, source })
    }

    /// Returns every recorded process: the nodes' first processes and the daemons.
    pub(crate) fn processes(&self) -> impl Iterator<Item = Process> {
        let first = self.plan.nodes.iter().filter_map(|node| node.init);
        first.chain(self.daemons.iter().map(|daemon| daemon.process))
    }

    /// Writes the record atomically.
    pub(crate) fn write(&self) -> Result<(), Error> {
        let path = record(&self.plan.name);
        let temporary = path.with_extension("json.new");
        let json = format!("{:#}\n", serde_json::json!(self));
        fs::write(&temporary, json).map_err(file("writing", &temporary))?;
        fs::rename(&temporary, &path).map_err(file("naming", path))
    }

    /// Records a lab that is about to start, with a subnet that no other lab uses and to which this machine has no
    /// route.
    pub(crate) fn allocate(options: &Options, kubectl: Utf8PathBuf) -> Result<Self, Error> {
        let _all = Lock::take("all labs", Utf8Path::new(FOLDER).join("allocation.lock"))?;
        let mut taken = Vec::new();
        for name in names()? {
            // A record that cannot be read prevents the removal of its lab, but not the start of others.
            taken.extend(Self::read(&name).ok().flatten().map(|state| state.plan.slot));
        }
        for slot in (0..=LAST_SLOT).filter(|slot| !taken.contains(slot)) {
            if !network::is_routed(slot)? {
                let plan = Plan::new(options, slot);
                let state = Self { plan, kubectl, complete: false, daemons: Vec::new() };
                state.write()?;
                return Ok(state);
            }
        }
        Err(Error::NoSubnet { last: LAST_SLOT })
    }

    pub(crate) fn forget(name: &str) -> Result<(), Error> {
        match fs::remove_file(record(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(file("removing", record(name))(error)),
            _ => Ok(()),
        }
    }
}

/// Returns the names of the labs that are recorded on this machine, sorted.
pub(crate) fn names() -> Result<Vec<String>, Error> {
    let entries = match Utf8Path::new(FOLDER).read_dir_utf8() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(file("reading", FOLDER))?,
    };
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().strip_suffix(".json").map(str::to_owned)).collect();
    names.sort();
    Ok(names)
}

fn record(name: &str) -> Utf8PathBuf {
    Utf8Path::new(FOLDER).join(format!("{name}.json"))
}

/// A file lock that only one process can hold, and that can be removed together with what it protects.
pub(crate) struct Lock {
    path: Utf8PathBuf,
    /// Released when it is closed, also by the end of the process.
    _file: File,
}

impl Lock {
    /// Acquires the lock of one lab.
    pub(crate) fn of_lab(name: &str) -> Result<Self, Error> {
        Self::take(name, Utf8Path::new(FOLDER).join(format!("{name}.lock")))
    }

    fn take(name: &str, path: Utf8PathBuf) -> Result<Self, Error> {
        fs::create_dir_all(FOLDER).map_err(file("creating", FOLDER))?;
        let deadline = Instant::now() + LOCK_LIMIT;
        while Instant::now() < deadline {
            let opened = File::options().create(true).truncate(false).write(true).open(&path);
            let lock = opened.map_err(file("opening", &path))?;
            let held = lock.try_lock().is_ok();
            // The previous holder may have removed the file: a lock on an unlinked file protects nothing.
            let inode = |metadata: std::io::Result<fs::Metadata>| metadata.map(|metadata| metadata.ino()).ok();
            if held && inode(lock.metadata()) == inode(fs::metadata(&path)) {
                return Ok(Self { path, _file: lock });
            }
            thread::sleep(TICK);
        }
        Err(Error::Busy { name: name.to_owned(), seconds: LOCK_LIMIT.as_secs() })
    }

    /// Removes the lock's file and releases the lock.
    pub(crate) fn remove(self) -> Result<(), Error> {
        fs::remove_file(&self.path).map_err(file("removing", self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_by_one_at_a_time_even_when_its_file_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(folder.path()).unwrap().join("lock");
        let inside = std::sync::atomic::AtomicU32::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..5 {
                        let lock = Lock::take("test", path.clone()).unwrap();
                        assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                        thread::sleep(Duration::from_millis(2));
                        inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        lock.remove().unwrap();
                    }
                });
            }
        });
    }
}
