//! The shell scripts that a node is checked with, and their answers.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use super::clock;
use super::ports::{Listener, Owner, listeners};
use crate::runtime::script::{self, ScriptReply};
use crate::transport::Transport;

/// The time limit of a script.
const WITHIN: Duration = Duration::from_secs(60);

/// Reads the clock first: what comes before it counts as time on the way.
const LOOK: &str = "say \"clock $(date +%s)\"\n\
                    say \"cgroup $(stat -f -c %T /sys/fs/cgroup 2>/dev/null)\"\n\
                    say tcp; cat /proc/net/tcp /proc/net/tcp6 2>/dev/null || true";

/// What a node answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// How many seconds its clock is ahead of this machine's; none if it tells no time.
    pub(super) clock: Option<i64>,
    /// The version of its control groups, 1 or 2.
    pub(super) cgroup: u8,
    /// The TCP sockets that listen.
    pub(super) listeners: Vec<Listener>,
}

/// Asks a node for its clock, its control groups and its listening sockets.
pub(super) async fn look(transport: &dyn Transport) -> Result<Answer, script::Error> {
    let before = Timestamp::now().as_second();
    let replies = script::run(transport, LOOK, None, WITHIN).await?;
    Ok(read(&replies, before, Timestamp::now().as_second()))
}

/// Finds the processes that hold these sockets, by inode.
pub(super) async fn owners(transport: &dyn Transport, inodes: &[u64]) -> Result<BTreeMap<u64, Owner>, script::Error> {
    let replies = script::run(transport, &owners_script(inodes), None, WITHIN).await?;
    let read = |reply: &ScriptReply| {
        let words: Vec<&str> = reply.label.splitn(4, ' ').collect();
        let ["owner", inode, pid, process] = words[..] else { return None };
        let owner = Owner { process: process.to_owned(), pid: pid.to_owned(), cgroup: reply.lines.clone() };
        Some((inode.parse().ok()?, owner))
    };
    Ok(replies.iter().filter_map(read).collect())
}

/// Root may read the open files of every process; `ls` does it with one process, and `ss` is not everywhere.
fn owners_script(inodes: &[u64]) -> String {
    let inodes = inodes.iter().map(ToString::to_string).collect::<Vec<_>>().join("|");
    format!(
        "$as ls -l /proc/[0-9]*/fd 2>/dev/null | grep -E '^/proc/[0-9]+/fd:|socket:\\[({inodes})\\]$' | while read -r l; do\n\
         case $l in /proc/*) p=${{l#/proc/}}; p=${{p%%/*}};;\n\
         *) i=${{l##*socket:[}}; i=${{i%]}}; say \"owner $i $p $(cat /proc/$p/comm 2>/dev/null)\"; \
         cat /proc/$p/cgroup 2>/dev/null;; esac\n\
         done; true"
    )
}

fn read(replies: &[ScriptReply], before: i64, after: i64) -> Answer {
    let mut answer = Answer::default();
    for reply in replies {
        match reply.label.split_once(' ').unwrap_or((&reply.label, "")) {
            ("clock", text) => {
                answer.clock = text.trim().parse().ok().map(|theirs| clock::difference(theirs, before, after));
            }
            ("cgroup", kind) => answer.cgroup = if kind.trim() == "cgroup2fs" { 2 } else { 1 },
            ("tcp", _) => answer.listeners = listeners(&reply.lines),
            _ => {}
        }
    }
    answer
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::{look, owners};
    use crate::transport::Local;

    #[tokio::test]
    async fn this_machine_tells_its_clock_its_listeners_and_who_holds_them() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let answer = look(&Local).await.expect("an answer");
        assert_eq!(answer.clock, Some(0));
        assert!(answer.cgroup == 1 || answer.cgroup == 2);
        let found = answer.listeners.iter().find(|one| one.port == port).expect("our listener");
        let owners = owners(&Local, &[found.inode]).await.expect("an answer");
        let owner = owners.get(&found.inode).expect("an owner");
        assert_eq!(owner.pid, std::process::id().to_string());
        assert!(!owner.process.is_empty() && !owner.cgroup.is_empty(), "{owner:?}");
    }
}
