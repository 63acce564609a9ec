//! What a hostile program tries against the machine, its users and whoever runs vcbuild, and gets nowhere with.

use std::fs;
use std::net::Shutdown;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::Command;

use rigs::Run;

use crate::run::{User, is_root, sandbox, script, shared_folder};

#[test]
fn no_file_gets_a_set_id_bit() {
    for user in User::all() {
        let output = shared_folder();
        let write = format!("{}:/build", output.path().display());
        let options = ["--write", &write, "--dir", "/build"];
        // Whoever runs this, the kernel alone would let them: the files are theirs.
        for attempt in [
            "cp /bin/true f; chmod 4755 f",
            "cp /bin/true f; chmod 2755 f",
            "cp /bin/true f; chmod u+s,g+s f",
            "install -m 4755 /bin/true f",
            "mkdir d; chmod g+s d",
            "perl -e 'use Fcntl; sysopen(F, q(f), O_CREAT|O_WRONLY, 04755) or die $!'",
            "perl -e 'use Fcntl; sysopen(F, q(f), O_CREAT|O_RDWR|O_EXCL, 02700) or die $!'",
            // O_TMPFILE
            "perl -e 'sysopen(F, q(.), 020200002, 04755) or die $!'",
            "perl -e 'use POSIX; POSIX::mkfifo(q(p), 04777) or die $!'",
            "perl -e 'open F, q(>f); chmod(06755, *F) or die $!'",
        ] {
            let run = script(user, &options, attempt);
            run.refused(1, &["Operation not permitted"]);
        }
        // As the kernel has it for folders, without a word.
        script(user, &options, "perl -e 'mkdir(q(e), 06755) or die $!'").printed();
        // Everything else about modes is as always.
        let sticky =
            "echo > g; chmod 0 g; chmod 640 g; mkdir t; chmod 1777 t; perl -e 'sysopen(F, q(h), 0102, 0600) or die $!'";
        script(user, &options, sticky).printed();
        let modes = walkdir::WalkDir::new(output.path()).into_iter().map(|entry| {
            let entry = entry.unwrap();
            (entry.path().to_owned(), entry.metadata().unwrap().mode() & 0o7777)
        });
        let modes: std::collections::BTreeMap<_, _> = modes.collect();
        assert!(modes.values().all(|mode| mode & 0o6000 == 0), "{modes:?}");
        assert_eq!((modes[&output.path().join("t")], modes[&output.path().join("g")]), (0o1777, 0o640));
    }
}

#[test]
fn no_mount_has_devices_or_set_id_programs_and_none_is_shared() {
    for user in User::all() {
        let (input, output) = (shared_folder(), shared_folder());
        let read = format!("{}:/input", input.path().display());
        let write = format!("{}:/build", output.path().display());
        let mounts = script(user, &["--read", &read, "--write", &write], "cat /proc/self/mountinfo").printed();
        let places: Vec<_> = mounts.lines().map(|line| line.split(' ').nth(4).unwrap()).collect();
        for place in ["/", "/input", "/build", "/usr", "/tmp", "/home", "/dev", "/dev/null", "/dev/shm", "/proc"] {
            assert!(places.contains(&place), "{place} is not in\n{mounts}");
        }
        for line in mounts.lines() {
            let fields: Vec<_> = line.split(' ').collect();
            let options: Vec<_> = fields[5].split(',').collect();
            let hidden = fields[4].starts_with("/proc/");
            let is_device = hidden || fields[4].starts_with("/dev/") && fields[4] != "/dev/shm";
            assert!(options.contains(&"nosuid"), "{line}");
            assert!(is_device || options.contains(&"nodev"), "{line}");
            let written = ["/build", "/tmp", "/home", "/dev/shm"].contains(&fields[4]);
            assert_eq!(options.contains(&"rw"), written, "{line}");
            // What is mounted elsewhere comes not here, and the other way round.
            assert_eq!(fields[6], "-", "{line}");
        }
    }
}

#[test]
fn the_machines_devices_are_used_and_not_changed() {
    let before = fs::metadata("/dev/null").unwrap();
    for user in User::all() {
        for attempt in ["chmod 600 /dev/null", "chmod 600 /dev/stdin", "touch -d 2001-01-01 /dev/zero", "rm /dev/full"]
        {
            script(user, &[], attempt).refused(1, &["Read-only file system"]);
        }
        let used =
            "head -c 3 /dev/zero | wc -c; echo lost > /dev/null; head -c 5 /dev/urandom | wc -c; echo x > /dev/full";
        let run = script(user, &[], used);
        assert_eq!(run.stdout.split_whitespace().collect::<Vec<_>>(), [] as [&str; 0], "{run:?}");
        run.refused(1, &["No space left on device"]);
        script(user, &[], "echo lost >> /dev/null; : > /dev/null; echo said > /dev/stderr; echo out > /dev/stdout")
            .printed();
    }
    let after = fs::metadata("/dev/null").unwrap();
    assert_eq!((after.mode(), after.mtime()), (before.mode(), before.mtime()));
}

#[test]
fn processes_outside_are_out_of_reach() {
    let mut other = Command::new("sleep").arg("4242.43").spawn().unwrap();
    for user in User::all() {
        let all = script(user, &[], "sleep 60 & kill -9 -1; echo still here");
        assert_ne!(all.code, None, "{all:?}");
        assert!(other.try_wait().unwrap().is_none());
        // Init is another process of ours, under the same user to the machine.
        let (attach, read, open) = (nix::libc::SYS_ptrace, nix::libc::SYS_process_vm_readv, nix::libc::SYS_pidfd_open);
        let look = format!(
            "perl -e '$v = pack(q(QQ), unpack(q(J), pack(q(p), $b = q( ) x 8)), 8); \
             print syscall({attach}, 16, 1, 0, 0), q( ), $! + 0, qq(\\n); \
             print syscall({read}, 1, $v, 1, $v, 1, 0), q( ), $! + 0, qq(\\n); \
             print syscall({open}, {pid}, 0), q( ), $! + 0, qq(\\n)'",
            pid = other.id()
        );
        let (eperm, esrch) = (nix::libc::EPERM, nix::libc::ESRCH);
        assert_eq!(script(user, &[], &look).printed(), format!("-1 {eperm}\n-1 {eperm}\n-1 {esrch}\n"));
        let run = script(user, &[], "cat /proc/1/environ; echo > /proc/1/oom_score_adj");
        run.refused(1, &["/proc/1/environ: Permission denied", "/proc/1/oom_score_adj: Read-only file system"]);
    }
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn the_machines_abstract_sockets_are_out_of_reach() {
    let name = format!("vcbuild-test-{}", std::process::id());
    let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    listener.set_nonblocking(true).unwrap();
    let connect = format!(
        "use Socket; socket(S, AF_UNIX, SOCK_STREAM, 0) or die; connect(S, pack(q(Sa*), AF_UNIX, qq(\\0{name}))) or die $!"
    );
    // Outside it can be reached by the same words.
    assert!(Command::new("perl").args(["-e", &connect]).status().unwrap().success());
    listener.accept().unwrap().0.shutdown(Shutdown::Both).unwrap();
    for user in User::all() {
        let run = Run::of(&mut sandbox(user, &["--sandbox", "required", "--system", "--", "perl", "-e", &connect]));
        run.refused(1, &["Connection refused"]);
    }
    assert!(listener.accept().is_err(), "somebody came through");
}

#[test]
fn nothing_is_typed_into_the_callers_terminal() {
    // As on a person's terminal: a login shell would read what was typed when vcbuild has ended.
    let attempt = "perl -e 'for $f (0..9) { open(F, q(+<&=), $f) or next; $c = q(x); print $f, q( ), \
                   ioctl(F, 0x5412, $c) ? q(typed) : $! + 0, qq(\\n) }'; ls /dev/tty /dev/pts /dev/console 2>/dev/null; true";
    for user in User::all() {
        let mut inner = sandbox(user, &["--sandbox", "required", "--system", "--"]);
        inner.args(["bash", "-c", attempt]);
        let line = words_of(&inner).join(" ");
        let run = Run::of(Command::new("script").args(["-qec", &line, "/dev/null"]));
        assert!(!run.stdout.contains("/dev/"), "{run:?}");
        let eperm = nix::libc::EPERM;
        for descriptor in 0..3 {
            assert!(run.stdout.contains(&format!("{descriptor} {eperm}")), "{run:?}");
        }
        assert!(!run.stdout.contains("typed"), "{run:?}");
    }
}

#[test]
fn the_clock_and_the_name_of_the_machine_stay() {
    for user in User::all() {
        let set = nix::libc::SYS_clock_settime;
        let attempt = format!(
            "date -s 2001-01-01; perl -e '$t = pack(q(QQ), 978307200, 0); syscall({set}, 0, $t) == -1 or die; die $!'"
        );
        script(user, &[], &attempt)
            .refused(1, &["date: cannot set date: Operation not permitted", "Operation not permitted at -e"]);
        script(user, &[], "hostname other").refused(1, &["hostname: "]);
    }
}

#[test]
fn a_program_of_another_instruction_set_is_ended_and_the_error_says_so() {
    if !cfg!(target_arch = "x86_64") {
        return;
    }
    // exit(0) by the 32-bit interface: mov eax, 1; xor ebx, ebx; int 0x80
    let program = elf(&[0xb8, 1, 0, 0, 0, 0x31, 0xdb, 0xcd, 0x80]);
    let folder = shared_folder();
    let (bytes, place) = (folder.path().join("bytes"), folder.path().join("program"));
    fs::write(&bytes, program).unwrap();
    // Another process writes it: what this one writes to, a child that another test starts may still have open.
    assert!(Command::new("install").arg("-m755").args([&bytes, &place]).status().unwrap().success());
    if !Command::new(&place).status().unwrap().success() {
        // A kernel that has no 32-bit interface.
        return;
    }
    let read = format!("{}:/input", folder.path().display());
    for user in User::all() {
        for words in ["/input/program", "/input/program; true", "/input/program | cat; exit ${PIPESTATUS[0]}"] {
            let run = script(user, &["--read", &read], words);
            if words.ends_with("true") {
                assert!(run.stdout.is_empty(), "{run:?}");
            } else {
                run.refused(1, &["another instruction set", "--sandbox off"]);
            }
        }
    }
}

#[test]
fn what_compilers_and_scripts_need_works() {
    let tools = "set -e; cd /tmp; umask 022; mkdir -p a/b; echo hello > a/b/f; mv a/b/f a/g; ln a/g a/h; ln -s g a/l; cp -a a c; \
                 tar cf t.tar a; mkdir x; tar xf t.tar -C x; chmod -R u+rwX,go-w x; touch -d @0 x/a/g; (sleep 0.01 & wait); \
                 mkfifo p; (echo through > p &); cat p; cat <(echo substituted); getent hosts localhost | head -1; \
                 perl -MSocket -e 'socketpair(A, B, AF_UNIX, SOCK_STREAM, 0) or die $!; socket(S, AF_INET, SOCK_STREAM, 0) or die $!; \
                 bind(S, pack_sockaddr_in(0, INADDR_ANY)) or die $!; listen(S, 1) or die $!; print qq(bound\\n)'; \
                 find x -name g -newermt @1 | wc -l; nproc > /dev/null; setarch -R true; echo done";
    for user in User::all() {
        let printed = script(user, &[], tools).printed();
        assert!(printed.starts_with("through\nsubstituted\n") && printed.ends_with("bound\n0\ndone\n"), "{printed}");
    }
}

#[test]
fn root_of_a_build_is_nobody_to_the_machine() {
    if !is_root() {
        return;
    }
    // What root's build makes is root's; in the sandbox it can be given to nobody.
    let output = shared_folder();
    let write = format!("{}:/build", output.path().display());
    script(User::Same, &["--write", &write, "--dir", "/build"], "echo > f; chown 65534 f").refused(1, &["chown: "]);
    assert_eq!(fs::metadata(output.path().join("f")).unwrap().uid(), 0);
}

/// The words of a command, each quoted for a shell.
fn words_of(command: &Command) -> Vec<String> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| format!("'{}'", word.to_str().unwrap().replace('\'', r"'\''"))).collect()
}

/// A program of one segment for x86-64, which runs this code.
fn elf(code: &[u8]) -> Vec<u8> {
    let (base, header, size) = (0x40_0000_u64, 64 + 56, (64 + 56 + code.len()) as u64);
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    for word in [base + header, 64, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend(b"\0\0\0\0\x40\0\x38\0\x01\0\0\0\0\0\0\0");
    file.extend(b"\x01\0\0\0\x05\0\0\0");
    for word in [0, base, base, size, size, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(code);
    file
}
