//! This process as others see it: a name for people, and a mark by which a process on the same machine can tell whether the other
//! one still runs. Uses nothing else of this crate.

use std::fs;

/// A process of some machine: the boot of the kernel, the namespace of process IDs, the process ID, the time of its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark(String);

impl Mark {
    /// This process.
    pub(super) fn of_this_process() -> Self {
        let pid = std::process::id();
        let started = started(pid).unwrap_or_default();
        Self(format!("{}/{}/{pid}/{started}", boot(), namespace()))
    }

    pub(super) fn read(text: &str) -> Self {
        Self(text.to_owned())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it certainly does not run any more: it was on this machine, and is gone. Of processes of other machines and
    /// containers nothing is known.
    pub(super) fn is_gone(&self) -> bool {
        let parts: Vec<&str> = self.0.split('/').collect();
        let [on, within, pid, start] = parts.as_slice() else { return false };
        let Ok(pid) = pid.parse() else { return false };
        let is_here = !on.is_empty() && *on == boot() && !within.is_empty() && *within == namespace();
        is_here && !start.is_empty() && started(pid).as_deref() != Some(start)
    }
}

/// `jane@host (pid 12, vcdist deploy)`.
pub(super) fn holder(command: &str) -> String {
    let user =
        ["USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok()).filter(|name| !name.is_empty());
    let user = user.unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()));
    let host = nix::unistd::gethostname().ok().and_then(|host| host.into_string().ok());
    let host = host.unwrap_or_else(|| "an unnamed host".to_owned());
    let name: String = format!("{user}@{host}").chars().filter(|c| !c.is_control()).take(100).collect();
    format!("{name} (pid {}, vcdist {command})", std::process::id())
}

/// The identifier of this boot; empty if unknown.
fn boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// The namespace of process IDs, as `pid:[4026531836]`; empty if unknown.
fn namespace() -> String {
    let link = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    link.to_str().unwrap_or_default().to_owned()
}

/// When a process started, in the kernel's ticks; nothing for one that ended. The name of its program, in parentheses, may contain
/// blanks and parentheses (proc(5)).
fn started(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let has_ended = matches!(fields.first(), Some(&("Z" | "X")));
    fields.get(19).filter(|_| !has_ended).map(|ticks| (*ticks).to_owned())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::{Mark, boot, holder, namespace, started};

    #[test]
    fn a_process_of_this_machine_is_gone_once_it_ended_and_others_are_not_judged() {
        assert!(!Mark::of_this_process().is_gone());
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().expect("cat runs");
        let mark = |boot: &str, start: &str| Mark::read(&format!("{boot}/{}/{}/{start}", namespace(), child.id()));
        let start = started(child.id()).expect("it runs");
        let (runs, reused, elsewhere) = (mark(&boot(), &start), mark(&boot(), "1"), mark("other", "1"));
        assert!(!runs.is_gone());
        assert!(reused.is_gone(), "another process has the number by now");
        child.kill().expect("a kill");
        child.wait().expect("its end");
        assert!(runs.is_gone());
        assert!(!elsewhere.is_gone());
        for unknown in ["", "a/b", "//1/", &format!("{}//1/1", boot())] {
            assert!(!Mark::read(unknown).is_gone(), "{unknown}");
        }
    }

    #[test]
    fn people_can_find_the_process() {
        let holder = holder("deploy");
        assert!(holder.contains('@') && holder.ends_with(&format!("(pid {}, vcdist deploy)", std::process::id())));
    }
}
