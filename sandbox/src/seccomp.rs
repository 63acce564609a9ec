//! The filter of a confined program's system calls (seccomp(2)): the lists of [`super::syscalls`], and restrictions on
//! some arguments.
//!
//! There are three filters, because each has one result for the calls that it rejects. A call is executed if all of
//! them allow it; among different errors, that of the filter installed last applies. A program with another instruction
//! set (32-bit x86) is killed at its first call, because its numbers mean other calls. Calls of the x32 ABI have
//! numbers that are in no list.

use std::collections::BTreeMap;
use std::io;

use nix::libc::{self, c_long};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use super::spec::SetupError;
use super::syscalls::{ALLOWED, Answer, MODES, OPENS, REFUSED};

/// The set-user-ID and set-group-ID bits.
const SET_ID: [u32; 2] = [libc::S_ISUID, libc::S_ISGID];

/// The flags with which `open` creates a file. The second is `O_TMPFILE` without `O_DIRECTORY`, which alone creates
/// nothing.
const MAKES: [i32; 2] = [libc::O_CREAT, libc::O_TMPFILE & !libc::O_DIRECTORY];

/// The flags with which `clone` creates a namespace. `CLONE_NEWTIME` is not a flag of `clone`.
const NAMESPACES: [i32; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// Requests that write to a terminal as if its user had typed.
const TYPING: [u64; 2] = [libc::TIOCSTI, libc::TIOCLINUX];

/// The permitted personalities: none, a 32-bit machine name, version 2.6, addresses without randomization.
const PERSONALITIES: [u32; 8] = [0, 0x8, 0x2_0000, 0x2_0008, 0x4_0000, 0x4_0008, 0x6_0000, 0xffff_ffff];

/// The permitted socket families. All of them are confined to the sandbox's own network namespace: others, such as the
/// one between a virtual machine and its host, ignore namespaces, or are large parts of the kernel that no build needs.
/// Netlink is permitted only with protocol 0, which libraries use to list the interfaces.
const FAMILIES: [i32; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// The permitted protocols of internet sockets: the default, ICMP, TCP, UDP, ICMPv6, multipath TCP.
const PROTOCOLS: [i32; 6] =
    [0, libc::IPPROTO_ICMP, libc::IPPROTO_TCP, libc::IPPROTO_UDP, libc::IPPROTO_ICMPV6, libc::IPPROTO_MPTCP];

/// The conditions under which a filter applies to a call; empty for always.
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Filters the calls of this thread and its descendants. `no_new_privs` must be set before.
pub(super) fn restrict() -> Result<(), SetupError> {
    let obstacle = |error: io::Error| SetupError::on("filter system calls")(error);
    let made = filters().map_err(|error| obstacle(io::Error::other(error)))?;
    for filter in made {
        seccompiler::apply_filter(&filter).map_err(|error| {
            obstacle(match error {
                seccompiler::Error::Prctl(error) | seccompiler::Error::Seccomp(error) => error,
                other => io::Error::other(other),
            })
        })?;
    }
    Ok(())
}

/// Returns the filters in the order of their installation.
fn filters() -> Result<[BpfProgram; 3], BackendError> {
    let errno = |errno: i32| SeccompAction::Errno(errno.unsigned_abs());
    let listed: Rules = ALLOWED.iter().copied().flatten().map(|number| (*number, Vec::new())).collect();
    Ok([
        filter(listed, errno(libc::ENOSYS), SeccompAction::Allow)?,
        filter(forbidden()?, SeccompAction::Allow, errno(libc::EPERM))?,
        filter(families()?, SeccompAction::Allow, errno(libc::EAFNOSUPPORT))?,
    ])
}

fn filter(rules: Rules, others: SeccompAction, these: SeccompAction) -> Result<BpfProgram, BackendError> {
    SeccompFilter::new(rules, others, these, std::env::consts::ARCH.try_into()?)?.try_into()
}

/// Returns the calls that are forbidden, always or with certain arguments.
fn forbidden() -> Result<Rules, BackendError> {
    let always = REFUSED.iter().filter(|call| call.answer == Answer::Forbidden);
    let mut rules: Rules = always.map(|call| (call.number, Vec::new())).collect();
    for (call, mode) in MODES {
        for bit in SET_ID {
            add(&mut rules, *call, vec![has(*mode, bit)?])?;
        }
    }
    for (call, flags, mode) in OPENS {
        for (makes, bit) in MAKES.iter().flat_map(|makes| SET_ID.map(|bit| (makes, bit))) {
            add(&mut rules, *call, vec![has(*flags, makes.cast_unsigned())?, has(*mode, bit)?])?;
        }
    }
    for flag in NAMESPACES {
        add(&mut rules, libc::SYS_clone, vec![has(0, flag.cast_unsigned())?])?;
    }
    for request in TYPING {
        add(&mut rules, libc::SYS_ioctl, vec![is(1, request)?])?;
    }
    let other = PERSONALITIES.map(|known| is_not(0, known.into()));
    add(&mut rules, libc::SYS_personality, other.into_iter().collect::<Result<_, _>>()?)?;
    Ok(rules)
}

/// Returns the sockets that are not supported.
fn families() -> Result<Rules, BackendError> {
    let number = |number: i32| u64::from(number.unsigned_abs());
    let mut rules = Rules::new();
    for call in [libc::SYS_socket, libc::SYS_socketpair] {
        let others = FAMILIES.map(|tree| is_not(0, number(tree)));
        add(&mut rules, call, others.into_iter().collect::<Result<_, _>>()?)?;
        add(&mut rules, call, vec![is(0, number(libc::AF_NETLINK))?, is_not(2, number(libc::NETLINK_ROUTE))?])?;
        for tree in [libc::AF_INET, libc::AF_INET6] {
            let mut other = vec![is(0, number(tree))?];
            for protocol in PROTOCOLS {
                other.push(is_not(2, number(protocol))?);
            }
            add(&mut rules, call, other)?;
        }
    }
    Ok(rules)
}

/// Adds an alternative rule for a call, which applies if all of these conditions hold.
fn add(rules: &mut Rules, call: c_long, conditions: Vec<SeccompCondition>) -> Result<(), BackendError> {
    rules.entry(call).or_default().push(SeccompRule::new(conditions)?);
    Ok(())
}

/// The condition that an argument has a bit set. For all arguments checked here, the kernel uses only the lower half.
fn has(argument: u8, bit: u32) -> Result<SeccompCondition, BackendError> {
    compare(argument, SeccompCmpOp::MaskedEq(bit.into()), bit.into())
}

fn is(argument: u8, value: u64) -> Result<SeccompCondition, BackendError> {
    compare(argument, SeccompCmpOp::Eq, value)
}

fn is_not(argument: u8, value: u64) -> Result<SeccompCondition, BackendError> {
    compare(argument, SeccompCmpOp::Ne, value)
}

fn compare(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::syscalls::{ALLOWED, REFUSED};
    use super::filters;

    #[test]
    fn the_filters_can_be_made_and_are_no_longer_than_the_kernel_takes() {
        for filter in filters().unwrap() {
            assert!(!filter.is_empty() && filter.len() <= 4096, "{}", filter.len());
        }
    }

    #[test]
    fn no_call_is_both_allowed_and_refused_or_listed_twice() {
        let allowed: Vec<_> = ALLOWED.iter().copied().flatten().collect();
        let known: BTreeSet<_> = allowed.iter().copied().collect();
        assert_eq!(known.len(), allowed.len());
        for call in REFUSED {
            assert!(!known.contains(&call.number), "{}", call.name);
        }
    }

    #[test]
    fn the_documentation_has_every_call_that_is_refused_with_the_reason() {
        let page = include_str!("../../docs/reference/sandbox.md");
        for call in REFUSED {
            let named = format!("`{}`", call.name);
            let is_told = page.lines().any(|line| line.contains(&named) && line.contains(call.why));
            assert!(is_told, "{}: {}", call.name, call.why);
        }
    }
}
