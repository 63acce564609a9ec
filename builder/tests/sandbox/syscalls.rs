//! The filter of system calls, the keyring, and machines that forbid them.

use std::process::Command;

use nix::libc::{self, c_long};
use rigs::Run;
use seccompiler::{SeccompAction, SeccompFilter, apply_filter};

use crate::run::{User, sandbox, script};

/// A script that makes these calls and prints the error number of each, 0 where there is none. Arguments that are pointers are 0.
fn calls(calls: &[(c_long, [u64; 3])]) -> String {
    let one = |(number, [a, b, c]): &(c_long, [u64; 3])| {
        format!("$! = 0; $r = syscall({number}, {a}, {b}, {c}); print $r < 0 ? $! + 0 : 0, q( );")
    };
    format!("perl -e '{}'", calls.iter().map(one).collect::<String>())
}

fn errors(run: Run) -> Vec<i32> {
    run.printed().split_whitespace().map(|word| word.parse().unwrap()).collect()
}

#[test]
fn calls_that_no_build_needs_answer_as_on_a_kernel_without_them() {
    let absent = [
        libc::SYS_keyctl,
        libc::SYS_add_key,
        libc::SYS_request_key,
        libc::SYS_io_uring_setup,
        libc::SYS_io_uring_enter,
        libc::SYS_clone3,
        libc::SYS_openat2,
        libc::SYS_memfd_secret,
        libc::SYS_move_pages,
        // Calls of kernels to come.
        499,
        1023,
    ];
    // Calls of the x32 ABI: read, open. A kernel without it says the same.
    let x32 = [0x4000_0000, 0x4000_0002].into_iter().filter(|_| cfg!(target_arch = "x86_64"));
    let absent: Vec<_> = absent.into_iter().chain(x32).map(|number| (number, [0; 3])).collect();
    let forbidden = [
        libc::SYS_bpf,
        libc::SYS_userfaultfd,
        libc::SYS_perf_event_open,
        libc::SYS_mount,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_open_by_handle_at,
        libc::SYS_kexec_load,
        libc::SYS_reboot,
        libc::SYS_syslog,
    ];
    let forbidden: Vec<_> = forbidden.into_iter().map(|number| (number, [0; 3])).collect();
    for user in User::all() {
        assert_eq!(errors(script(user, &[], &calls(&absent))), vec![libc::ENOSYS; absent.len()]);
        assert_eq!(errors(script(user, &[], &calls(&forbidden))), vec![libc::EPERM; forbidden.len()]);
    }
}

#[test]
fn calls_are_looked_at_by_what_they_are_given() {
    let tried: Vec<((c_long, [u64; 3]), i32)> = vec![
        // A user namespace, a network namespace; the process would go on twice.
        ((libc::SYS_clone, [0x1000_0000 | 17, 0, 0]), libc::EPERM),
        ((libc::SYS_clone, [0x4000_0000 | 17, 0, 0]), libc::EPERM),
        // What it is; addresses that are not random; all memory executable.
        ((libc::SYS_personality, [0xffff_ffff, 0, 0]), 0),
        ((libc::SYS_personality, [0x4_0000, 0, 0]), 0),
        ((libc::SYS_personality, [0x40_0000, 0, 0]), libc::EPERM),
        ((libc::SYS_ioctl, [0, 0x5412, 0]), libc::EPERM),
        ((libc::SYS_ioctl, [0, 0x541c, 0]), libc::EPERM),
        // The kernel reads the lower half of these arguments, and so does the filter.
        ((libc::SYS_ioctl, [0, 0x1_0000_5412, 0]), libc::EPERM),
        ((libc::SYS_socket, [0x1_0000_0028, 1, 0]), libc::EAFNOSUPPORT),
        ((libc::SYS_fchmod, [1, 0x1_0000_0000 | 0o4755, 0]), libc::EPERM),
        ((libc::SYS_fchmod, [1, 0o600, 0]), 0),
    ];
    let (made, expected): (Vec<_>, Vec<_>) = tried.into_iter().unzip();
    for user in User::all() {
        assert_eq!(errors(script(user, &[], &calls(&made))), expected);
    }
}

#[test]
fn sockets_are_of_few_families_and_protocols() {
    let streams: Vec<_> = (0..48).map(|family| (libc::SYS_socket, [family, 1, 0])).collect();
    let socket = |family: i32, kind, protocol| (libc::SYS_socket, [family.unsigned_abs().into(), kind, protocol]);
    let more = [
        (socket(libc::AF_NETLINK, 3, 0), 0),
        (socket(libc::AF_UNIX, 2, 0), 0),
        (socket(libc::AF_INET, 2, 17), 0),
        (socket(libc::AF_INET6, 1, 6), 0),
        // The kernel's audit, netfilter and crypto; SCTP, DCCP, UDP-Lite; a socket below TCP.
        (socket(libc::AF_NETLINK, 3, 9), libc::EAFNOSUPPORT),
        (socket(libc::AF_NETLINK, 3, 12), libc::EAFNOSUPPORT),
        (socket(libc::AF_NETLINK, 3, 21), libc::EAFNOSUPPORT),
        (socket(libc::AF_INET, 1, 132), libc::EAFNOSUPPORT),
        (socket(libc::AF_INET6, 6, 33), libc::EAFNOSUPPORT),
        (socket(libc::AF_INET, 2, 136), libc::EAFNOSUPPORT),
        (socket(libc::AF_INET, 3, 255), libc::EAFNOSUPPORT),
        ((libc::SYS_socketpair, [30, 1, 0]), libc::EAFNOSUPPORT),
    ];
    let (made, expected): (Vec<_>, Vec<_>) = more.into_iter().unzip();
    for user in User::all() {
        let families = errors(script(user, &[], &calls(&streams)));
        let refused = |family: &usize| families[*family] == libc::EAFNOSUPPORT;
        // Unix, IPv4, IPv6; a netlink socket is no stream, which the kernel itself says.
        let others: Vec<_> = (0..48).filter(|family| !refused(family)).collect();
        assert!(others.iter().all(|family| [1, 2, 10, 16].contains(family)), "{families:?}");
        assert_eq!((families[1], families[2]), (0, 0));
        assert_eq!(errors(script(user, &[], &calls(&made))), expected);
    }
}

#[test]
fn the_callers_keys_are_neither_seen_nor_used() {
    // Of this thread, and of what it starts.
    let Ok(mut keyring) = keyutils::Keyring::join_anonymous_session() else {
        // Where this runs in a container that forbids it, there are no keys to protect.
        return;
    };
    let name = format!("vcbuild-test-{}", std::process::id());
    keyring.add_key::<keyutils::keytypes::User, _, _>(name.as_str(), b"secret".as_slice()).unwrap();
    let outside = Command::new("cat").arg("/proc/keys").output().unwrap();
    assert!(String::from_utf8_lossy(&outside.stdout).contains(&name));
    // For root, whose sandbox's user is the same to the machine, and for another, who has the keyring by inheritance.
    for user in User::all() {
        let seen = script(user, &[], "cat /proc/keys").printed();
        assert!(!seen.contains(&name), "{seen}");
        let search = [(libc::SYS_keyctl, [10, 0xffff_fffd, 0]), (libc::SYS_keyctl, [0, 0xffff_fffd, 0])];
        assert_eq!(errors(script(user, &[], &calls(&search))), [libc::ENOSYS; 2]);
    }
}

/// Runs this as on a machine, or in a container, that answers such a call so.
fn where_the_machine_answers(call: c_long, errno: i32, run: impl FnOnce() + Send) {
    let filter = SeccompFilter::new(
        [(call, Vec::new())].into(),
        SeccompAction::Allow,
        SeccompAction::Errno(errno.unsigned_abs()),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let filter = filter.unwrap().try_into().unwrap();
    // The filter goes with the thread, and what it starts has it too.
    std::thread::scope(|scope| {
        let restricted = scope.spawn(move || {
            apply_filter(&filter as &seccompiler::BpfProgram).unwrap();
            run();
        });
        restricted.join().unwrap();
    });
}

fn under(mode: &str) -> Run {
    let attempt = calls(&[(libc::SYS_keyctl, [0, 0, 0])]);
    Run::of(sandbox(User::Same, &["--sandbox", mode, "--system", "--"]).args(["bash", "-c", &attempt]))
}

#[test]
fn where_no_filter_can_be_had_it_says_so_or_fails_as_asked() {
    where_the_machine_answers(libc::SYS_seccomp, libc::EPERM, || {
        let required = under("required");
        required.refused(
            1,
            &[
                "creating a sandbox: cannot filter system calls",
                "Operation not permitted",
                "CONFIG_SECCOMP_FILTER",
                "--sandbox auto continues without the filter",
            ],
        );
        assert_eq!(required.stdout, "");
        let auto = under("auto");
        assert!(auto.stderr.contains("without a system call filter: cannot filter system calls"), "{auto:?}");
        assert_ne!(errors(auto), [libc::ENOSYS]);
        assert_eq!(under("off").stderr, "");
    });
}

#[test]
fn the_second_layers_are_done_without_where_the_machine_lacks_them() {
    for (call, errno) in [
        (libc::SYS_landlock_create_ruleset, libc::ENOSYS),
        (libc::SYS_landlock_create_ruleset, libc::EOPNOTSUPP),
        (libc::SYS_keyctl, libc::EPERM),
        (libc::SYS_keyctl, libc::ENOSYS),
    ] {
        where_the_machine_answers(call, errno, || {
            let run = under("required");
            assert_eq!(run.stderr, "", "{call} {errno}");
            assert_eq!(errors(run), [libc::ENOSYS], "{call} {errno}");
        });
    }
}
