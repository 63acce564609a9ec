//! Removes a lab by its name only, in any state: complete, partially started, or after a crash. Every process,
//! namespace, link, cgroup and folder is found by the name, so that other labs are not affected.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::thread;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::process::Signal;

use crate::cgroups::Cgroups;
use crate::error::{Error, file};
use crate::network;
use crate::plan::{Options, cgroup};
use crate::process::{Process, TICK, patience};
use crate::state::State;

/// The file that distinguishes a lab's folder from others.
pub(crate) const MARKER: &str = ".vclab";

/// The time limit for processes to end by themselves.
const GRACE: Duration = Duration::from_secs(2);

/// Removes all remains of the lab with this name. Returns whether there were any.
pub(crate) fn remove(name: &str) -> Result<bool, Error> {
    let state = State::read(name).unwrap_or_default();
    let cgroups = Cgroups::detect()?;
    let group = cgroup(name);
    let found = state.is_some() || !network::namespaces(name)?.is_empty() || !cgroups.existing(&group).is_empty();

    let recorded = state.iter().flat_map(State::processes).collect::<Vec<_>>();
    end_processes(name, &recorded, &cgroups)?;
    network::remove(name)?;
    if let Some(state) = &state {
        network::remove_link(state.plan.slot)?;
    }
    cgroups.remove(&group)?;
    let default = Options { name: name.to_owned(), ..Options::default() }.folder();
    for folder in state.map(|state| state.plan.dir).into_iter().chain([default]) {
        remove_folder(&folder)?;
    }
    State::forget(name)?;

    let mut left = network::namespaces(name)?;
    left.extend(cgroups.existing(&group).into_iter().map(Utf8PathBuf::into_string));
    if left.is_empty() { Ok(found) } else { Err(Error::Leftover { name: name.to_owned(), left: left.join(", ") }) }
}

/// Ends the lab's processes: those in its network namespaces and cgroups, and the recorded ones. The end of a node's
/// first process ends all other processes of the node, including pods and their shims, because they are in its PID
/// namespace.
fn end_processes(name: &str, recorded: &[Process], cgroups: &Cgroups) -> Result<(), Error> {
    let waited = patience(30);
    let (start, mut signal) = (Instant::now(), Signal::TERM);
    loop {
        let processes = processes(name, recorded, cgroups)?;
        if processes.is_empty() {
            return Ok(());
        }
        if start.elapsed() > waited {
            let left = processes.iter().map(|process| format!("process {}", process.pid));
            return Err(Error::Leftover { name: name.to_owned(), left: left.collect::<Vec<_>>().join(", ") });
        }
        if start.elapsed() > GRACE {
            signal = Signal::KILL;
        }
        for process in &processes {
            process.signal(signal);
        }
        thread::sleep(TICK * 5);
    }
}

/// Returns the lab's running processes. Zombies are left to their parents, and hold no resources.
fn processes(name: &str, recorded: &[Process], cgroups: &Cgroups) -> Result<Vec<Process>, Error> {
    let mut pids: BTreeSet<i32> = cgroups.processes(&cgroup(name));
    for netns in network::namespaces(name)? {
        pids.extend(network::processes(&netns)?);
    }
    let mut found: Vec<Process> = pids.into_iter().filter_map(Process::of).collect();
    found.extend(recorded.iter().filter(|process| process.is_alive()).copied());
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// Removes a lab's folder, if it exists and has the marker.
fn remove_folder(folder: &Utf8Path) -> Result<(), Error> {
    if !folder.join(MARKER).exists() {
        return Ok(());
    }
    // The marker is removed last, so that an interrupted removal can be repeated.
    for entry in folder.read_dir_utf8().map_err(file("reading", folder))? {
        let entry = entry.map_err(file("reading", folder))?;
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if entry.file_name() != MARKER {
            let removed = if is_folder { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) };
            removed.map_err(file("removing", entry.path()))?;
        }
    }
    fs::remove_file(folder.join(MARKER)).map_err(file("removing", folder))?;
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(file("removing", folder)(error)),
        _ => Ok(()),
    }
}
