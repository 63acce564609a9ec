//! The system calls that a confined program may make, and why others are refused.
//!
//! The list of allowed calls is based on the default profile of container engines, under which nearly every program is
//! known to work. A call that is not in the list fails as on a kernel without it, so that programs use an alternative;
//! this also applies to calls of future kernels. This module contains only numbers; [`super::seccomp`] builds filters
//! from them.

use nix::libc::*;

/// A system call that is refused, by name and number.
#[derive(Debug, Clone, Copy)]
pub(super) struct DeniedSyscall {
    #[cfg_attr(not(test), expect(dead_code, reason = "for readers, and for the test that the documentation has it"))]
    pub(super) name: &'static str,
    pub(super) number: c_long,
    pub(super) answer: Answer,
    /// The reason, in a few words.
    #[cfg_attr(not(test), expect(dead_code, reason = "for readers, and for the test that the documentation has it"))]
    pub(super) why: &'static str,
}

/// The error of a refused call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// `EPERM`: the error for a process without the necessary rights.
    Forbidden,
    /// `ENOSYS`: the error of a kernel without the call. Programs then use an older call, or do without.
    Absent,
}

const fn forbidden(name: &'static str, number: c_long, why: &'static str) -> DeniedSyscall {
    DeniedSyscall { name, number, answer: Answer::Forbidden, why }
}

const fn absent(name: &'static str, number: c_long, why: &'static str) -> DeniedSyscall {
    DeniedSyscall { name, number, answer: Answer::Absent, why }
}

/// Numbers that the `libc` crate does not define for every architecture. From 424 on, all architectures use the same
/// numbers.
mod number {
    use nix::libc::c_long;

    #[cfg(target_arch = "x86_64")]
    pub(super) const IO_PGETEVENTS: c_long = 333;
    #[cfg(target_arch = "aarch64")]
    pub(super) const IO_PGETEVENTS: c_long = 292;

    pub(super) const CACHESTAT: c_long = 451;
    pub(super) const FCHMODAT2: c_long = 452;
    pub(super) const MAP_SHADOW_STACK: c_long = 453;
    pub(super) const FUTEX_WAKE: c_long = 454;
    pub(super) const FUTEX_WAIT: c_long = 455;
    pub(super) const FUTEX_REQUEUE: c_long = 456;
    pub(super) const STATMOUNT: c_long = 457;
    pub(super) const LISTMOUNT: c_long = 458;
    pub(super) const LSM_GET_SELF_ATTR: c_long = 459;
    pub(super) const MSEAL: c_long = 462;
    pub(super) const SETXATTRAT: c_long = 463;
    pub(super) const GETXATTRAT: c_long = 464;
    pub(super) const LISTXATTRAT: c_long = 465;
    pub(super) const REMOVEXATTRAT: c_long = 466;
    pub(super) const OPEN_TREE_ATTR: c_long = 467;
}

/// `chmod` and similar calls, with the index of their mode argument. Set-user-ID and set-group-ID bits are refused
/// (`EPERM`), because a file with them runs with its owner's rights, whoever starts it.
#[rustfmt::skip]
pub(super) const MODES: &[(c_long, u8)] = &[
    #[cfg(target_arch = "x86_64")] (SYS_chmod, 1),
    #[cfg(target_arch = "x86_64")] (SYS_creat, 1),
    #[cfg(target_arch = "x86_64")] (SYS_mknod, 1),
    (SYS_fchmod, 1), (SYS_fchmodat, 2), (number::FCHMODAT2, 2), (SYS_mknodat, 2),
];

/// `open` and similar calls, with the indexes of their flags and mode arguments. The same bits are refused if the call
/// may create a file.
#[rustfmt::skip]
pub(super) const OPENS: &[(c_long, u8, u8)] = &[
    #[cfg(target_arch = "x86_64")] (SYS_open, 1, 2),
    (SYS_openat, 2, 3),
];

/// Calls that are refused regardless of their arguments.
#[rustfmt::skip]
pub(super) const REFUSED: &[DeniedSyscall] = &[
    // Calls whose arguments no filter can check, because they are in memory: programs fall back on calls that are
    // checked.
    absent("clone3", SYS_clone3, "can create namespaces; a filter can read the flags of clone, but not of clone3"),
    absent("openat2", SYS_openat2, "can create a set-user-ID file; a filter can read the mode of openat, but not of openat2"),
    absent("io_uring_setup", SYS_io_uring_setup, "performs operations that no filter sees"),
    absent("io_uring_enter", SYS_io_uring_enter, "performs operations that no filter sees"),
    absent("io_uring_register", SYS_io_uring_register, "performs operations that no filter sees"),
    // Resources of the user who runs vcbuild.
    absent("add_key", SYS_add_key, "accesses the caller's kernel keys"),
    absent("request_key", SYS_request_key, "accesses the caller's kernel keys"),
    absent("keyctl", SYS_keyctl, "accesses the caller's kernel keys"),
    // Large parts of the kernel that no build needs, with a history of vulnerabilities.
    forbidden("bpf", SYS_bpf, "loads programs into the kernel"),
    forbidden("perf_event_open", SYS_perf_event_open, "observes the whole machine"),
    forbidden("userfaultfd", SYS_userfaultfd, "can pause the kernel during a page fault"),
    absent("memfd_secret", SYS_memfd_secret, "allocates memory that no limit counts"),
    absent("fanotify_init", SYS_fanotify_init, "observes the files of other programs"),
    absent("fanotify_mark", SYS_fanotify_mark, "observes the files of other programs"),
    absent("lookup_dcookie", SYS_lookup_dcookie, "only for system profilers"),
    absent("kcmp", SYS_kcmp, "exposes kernel addresses"),
    absent("pidfd_getfd", SYS_pidfd_getfd, "copies open files of another process"),
    absent("process_madvise", SYS_process_madvise, "controls the memory of another process"),
    absent("mbind", SYS_mbind, "controls the placement of memory in the machine"),
    absent("set_mempolicy", SYS_set_mempolicy, "controls the placement of memory in the machine"),
    absent("get_mempolicy", SYS_get_mempolicy, "reveals the placement of memory in the machine"),
    absent("set_mempolicy_home_node", SYS_set_mempolicy_home_node, "controls the placement of memory in the machine"),
    absent("migrate_pages", SYS_migrate_pages, "controls the placement of memory in the machine"),
    absent("move_pages", SYS_move_pages, "controls the placement of memory in the machine"),
    #[cfg(target_arch = "x86_64")] absent("modify_ldt", SYS_modify_ldt, "only for 16-bit programs"),
    #[cfg(target_arch = "x86_64")] absent("uselib", SYS_uselib, "only for programs in the a.out format"),
    #[cfg(target_arch = "x86_64")] absent("sysfs", SYS_sysfs, "obsolete"),
    #[cfg(target_arch = "x86_64")] absent("ustat", SYS_ustat, "obsolete"),
    // New namespaces and mounts, on which the sandbox itself is based.
    forbidden("unshare", SYS_unshare, "creates namespaces"),
    forbidden("setns", SYS_setns, "enters namespaces"),
    forbidden("mount", SYS_mount, "changes mounts or the root folder"),
    forbidden("umount2", SYS_umount2, "changes mounts or the root folder"),
    forbidden("pivot_root", SYS_pivot_root, "changes mounts or the root folder"),
    forbidden("chroot", SYS_chroot, "changes mounts or the root folder"),
    forbidden("open_tree", SYS_open_tree, "changes mounts or the root folder"),
    forbidden("open_tree_attr", number::OPEN_TREE_ATTR, "changes mounts or the root folder"),
    forbidden("move_mount", SYS_move_mount, "changes mounts or the root folder"),
    forbidden("mount_setattr", SYS_mount_setattr, "changes mounts or the root folder"),
    forbidden("fsopen", SYS_fsopen, "changes mounts or the root folder"),
    forbidden("fsconfig", SYS_fsconfig, "changes mounts or the root folder"),
    forbidden("fsmount", SYS_fsmount, "changes mounts or the root folder"),
    forbidden("fspick", SYS_fspick, "changes mounts or the root folder"),
    forbidden("open_by_handle_at", SYS_open_by_handle_at, "opens files outside the visible paths"),
    // Changes to the machine. The kernel requires rights that no build has; the filter keeps even its code from being
    // reached.
    forbidden("init_module", SYS_init_module, "loads or replaces kernel code"),
    forbidden("finit_module", SYS_finit_module, "loads or replaces kernel code"),
    forbidden("delete_module", SYS_delete_module, "loads or replaces kernel code"),
    forbidden("kexec_load", SYS_kexec_load, "loads or replaces kernel code"),
    forbidden("kexec_file_load", SYS_kexec_file_load, "loads or replaces kernel code"),
    forbidden("reboot", SYS_reboot, "restarts the machine"),
    forbidden("swapon", SYS_swapon, "changes settings of the machine"),
    forbidden("swapoff", SYS_swapoff, "changes settings of the machine"),
    forbidden("acct", SYS_acct, "changes settings of the machine"),
    forbidden("quotactl", SYS_quotactl, "changes settings of the machine"),
    forbidden("quotactl_fd", SYS_quotactl_fd, "changes settings of the machine"),
    forbidden("settimeofday", SYS_settimeofday, "sets the clock"),
    forbidden("clock_settime", SYS_clock_settime, "sets the clock"),
    forbidden("sethostname", SYS_sethostname, "every build must see the same host name"),
    forbidden("setdomainname", SYS_setdomainname, "every build must see the same host name"),
    forbidden("syslog", SYS_syslog, "reads the kernel's log"),
    forbidden("vhangup", SYS_vhangup, "hangs up terminals"),
    absent("nfsservctl", SYS_nfsservctl, "obsolete"),
    #[cfg(target_arch = "x86_64")] forbidden("iopl", SYS_iopl, "accesses devices directly"),
    #[cfg(target_arch = "x86_64")] forbidden("ioperm", SYS_ioperm, "accesses devices directly"),
];

/// Calls that every program may make, by purpose.
#[rustfmt::skip]
pub(super) const ALLOWED: &[&[c_long]] = &[
    // Files: opening, reading, writing. The modes of new files are checked ([`OPENS`], [`MODES`]).
    &[
        SYS_openat, SYS_close, SYS_close_range, SYS_read, SYS_write, SYS_readv, SYS_writev, SYS_pread64, SYS_pwrite64,
        SYS_preadv, SYS_pwritev, SYS_preadv2, SYS_pwritev2, SYS_lseek, SYS_dup, SYS_dup3, SYS_fcntl, SYS_ioctl, SYS_flock,
        SYS_fsync, SYS_fdatasync, SYS_sync, SYS_syncfs, SYS_fallocate, SYS_fadvise64, SYS_readahead, SYS_truncate,
        SYS_ftruncate, SYS_copy_file_range, SYS_sendfile, SYS_splice, SYS_tee, SYS_vmsplice, SYS_pipe2, SYS_umask,
        number::CACHESTAT,
    ],
    // Folders and names.
    &[
        SYS_getdents64, SYS_getcwd, SYS_chdir, SYS_fchdir, SYS_mkdirat, SYS_mknodat, SYS_unlinkat, SYS_linkat, SYS_symlinkat,
        SYS_readlinkat, SYS_renameat2, SYS_name_to_handle_at,
    ],
    // Properties of files: times, owners, modes (which are checked), attributes. The kernel removes the set-group-ID
    // bit from the mode of new folders.
    &[
        SYS_newfstatat, SYS_fstat, SYS_statx, SYS_statfs, SYS_fstatfs, SYS_faccessat, SYS_faccessat2, SYS_fchmod,
        SYS_fchmodat, number::FCHMODAT2, SYS_fchown, SYS_fchownat, SYS_utimensat, SYS_getxattr, SYS_lgetxattr,
        SYS_fgetxattr, SYS_setxattr, SYS_lsetxattr, SYS_fsetxattr, SYS_listxattr, SYS_llistxattr, SYS_flistxattr,
        SYS_removexattr, SYS_lremovexattr, SYS_fremovexattr, number::SETXATTRAT, number::GETXATTRAT, number::LISTXATTRAT,
        number::REMOVEXATTRAT, number::STATMOUNT, number::LISTMOUNT,
    ],
    // Memory.
    &[
        SYS_brk, SYS_mmap, SYS_munmap, SYS_mprotect, SYS_mremap, SYS_msync, SYS_mincore, SYS_madvise, SYS_mlock, SYS_mlock2,
        SYS_mlockall, SYS_munlock, SYS_munlockall, SYS_memfd_create, SYS_remap_file_pages, SYS_pkey_alloc, SYS_pkey_free,
        SYS_pkey_mprotect, SYS_membarrier, number::MAP_SHADOW_STACK, number::MSEAL, SYS_process_mrelease,
    ],
    // Processes and threads. `clone` may not create namespaces.
    &[
        SYS_clone, SYS_execve, SYS_execveat, SYS_exit, SYS_exit_group, SYS_wait4, SYS_waitid, SYS_set_tid_address,
        SYS_set_robust_list, SYS_get_robust_list, SYS_futex, SYS_futex_waitv, number::FUTEX_WAKE, number::FUTEX_WAIT,
        number::FUTEX_REQUEUE, SYS_rseq, SYS_prctl, SYS_getpid, SYS_getppid, SYS_gettid, SYS_getpgid, SYS_setpgid, SYS_getsid,
        SYS_setsid, SYS_pidfd_open, SYS_pidfd_send_signal, SYS_personality, SYS_restart_syscall,
    ],
    // Debuggers and sanitizers access processes of the same sandbox; the kernel permits access to no others.
    &[SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev],
    // Signals.
    &[
        SYS_kill, SYS_tkill, SYS_tgkill, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigpending, SYS_rt_sigqueueinfo,
        SYS_rt_tgsigqueueinfo, SYS_rt_sigreturn, SYS_rt_sigsuspend, SYS_rt_sigtimedwait, SYS_sigaltstack, SYS_signalfd4,
    ],
    // Scheduling.
    &[
        SYS_sched_yield, SYS_sched_getaffinity, SYS_sched_setaffinity, SYS_sched_getattr, SYS_sched_setattr,
        SYS_sched_getparam, SYS_sched_setparam, SYS_sched_getscheduler, SYS_sched_setscheduler,
        SYS_sched_get_priority_max, SYS_sched_get_priority_min, SYS_sched_rr_get_interval, SYS_getpriority,
        SYS_setpriority, SYS_ioprio_get, SYS_ioprio_set, SYS_getcpu,
    ],
    // Time: reading it, waiting.
    &[
        SYS_clock_gettime, SYS_clock_getres, SYS_clock_nanosleep, SYS_gettimeofday, SYS_nanosleep, SYS_times,
        SYS_getitimer, SYS_setitimer, SYS_timer_create, SYS_timer_delete, SYS_timer_getoverrun, SYS_timer_gettime,
        SYS_timer_settime, SYS_timerfd_create, SYS_timerfd_gettime, SYS_timerfd_settime, SYS_adjtimex,
        SYS_clock_adjtime,
    ],
    // Waiting for events.
    &[
        SYS_epoll_create1, SYS_epoll_ctl, SYS_epoll_pwait, SYS_epoll_pwait2, SYS_ppoll, SYS_pselect6, SYS_eventfd2,
        SYS_inotify_init1, SYS_inotify_add_watch, SYS_inotify_rm_watch, SYS_io_setup, SYS_io_destroy, SYS_io_submit,
        SYS_io_cancel, SYS_io_getevents, number::IO_PGETEVENTS,
    ],
    // Sockets, of a few families, which are checked.
    &[
        SYS_socket, SYS_socketpair, SYS_bind, SYS_listen, SYS_accept, SYS_accept4, SYS_connect, SYS_getsockname,
        SYS_getpeername, SYS_getsockopt, SYS_setsockopt, SYS_sendto, SYS_recvfrom, SYS_sendmsg, SYS_recvmsg, SYS_sendmmsg,
        SYS_recvmmsg, SYS_shutdown,
    ],
    // System V and POSIX communication, which the ipc namespace confines.
    &[
        SYS_shmget, SYS_shmat, SYS_shmdt, SYS_shmctl, SYS_semget, SYS_semop, SYS_semtimedop, SYS_semctl, SYS_msgget,
        SYS_msgsnd, SYS_msgrcv, SYS_msgctl, SYS_mq_open, SYS_mq_unlink, SYS_mq_timedsend, SYS_mq_timedreceive, SYS_mq_notify,
        SYS_mq_getsetattr,
    ],
    // User and group ids. A process cannot change to another user, because its user namespace has no other.
    &[
        SYS_getuid, SYS_geteuid, SYS_getgid, SYS_getegid, SYS_getresuid, SYS_getresgid, SYS_getgroups, SYS_setuid, SYS_setgid,
        SYS_setreuid, SYS_setregid, SYS_setresuid, SYS_setresgid, SYS_setfsuid, SYS_setfsgid, SYS_setgroups, SYS_capget,
        SYS_capset,
    ],
    // System information, limits, random numbers.
    &[SYS_uname, SYS_sysinfo, SYS_getrusage, SYS_prlimit64, SYS_getrandom, number::LSM_GET_SELF_ATTR],
    // Sandboxes that programs create for themselves within this one.
    &[SYS_seccomp, SYS_landlock_create_ruleset, SYS_landlock_add_rule, SYS_landlock_restrict_self],
    // Calls that only x86-64 has, mostly older variants of the above.
    #[cfg(target_arch = "x86_64")]
    &[
        SYS_open, SYS_creat, SYS_access, SYS_stat, SYS_lstat, SYS_chmod, SYS_chown, SYS_lchown, SYS_link, SYS_symlink,
        SYS_readlink, SYS_unlink, SYS_rename, SYS_renameat, SYS_mkdir, SYS_rmdir, SYS_mknod, SYS_getdents, SYS_dup2, SYS_pipe,
        SYS_utime, SYS_utimes, SYS_futimesat, SYS_sync_file_range, SYS_fork, SYS_vfork, SYS_getpgrp, SYS_pause, SYS_alarm,
        SYS_time, SYS_poll, SYS_select, SYS_epoll_create, SYS_epoll_wait, SYS_eventfd, SYS_signalfd, SYS_inotify_init,
        SYS_getrlimit, SYS_setrlimit, SYS_arch_prctl,
        335, // uretprobe: the kernel makes programs call it if a tracer of the machine watches them.
    ],
    // Calls of aarch64 that the crate does not define: renameat, sync_file_range, getrlimit, setrlimit.
    #[cfg(target_arch = "aarch64")]
    &[38, 84, 163, 164],
];
