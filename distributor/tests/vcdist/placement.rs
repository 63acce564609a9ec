//! Where the helper is placed on a node, and that nobody can put another in its place.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::process::{Command, Output};

use camino::Utf8Path;
use rigs::files::write_program;

use crate::rig::{Login, NodeOptions, ORDINARY_ID, PushOutput, Rig, image};

#[test]
fn a_cache_folder_that_runs_nothing_or_takes_nothing_is_passed_over() {
    for home in ["noexec", "ro", "size=1m"] {
        let rig = Rig::with(&NodeOptions { home: Some(home), ..Default::default() });
        image(&rig.store(), "manager", b"base", b"own");
        let pushed = rig.push(&["manager"]);
        assert_eq!(pushed.node()["result"], "pushed", "{home}");
        assert_eq!(names(&rig.var_lib().join("vcdist")).len(), 1, "the next folder is used: {home}");
        assert!(rig.helpers().is_empty(), "nothing is left where it was tried: {:?}", rig.helpers());
    }
}

#[test]
fn a_helper_that_was_tampered_with_is_never_run() {
    tamper(&Rig::up());
}

#[test]
fn a_node_whose_openssl_does_not_work_checks_the_helper_all_the_same() {
    let rig = Rig::up();
    let folder = rig.path().join("bin");
    write_program(folder.join("openssl"), "#!/bin/sh\necho nothing; exit 1\n");
    rig.prefer_programs_in(&folder);
    tamper(&rig);
}

#[test]
fn root_runs_nothing_from_a_folder_that_another_user_can_change() {
    let rig = Rig::up();
    image(&rig.store(), "manager", b"base", b"own");
    let cache = rig.path().join("cache");
    fs::set_permissions(rig.path(), fs::Permissions::from_mode(0o755)).expect("its mode");
    fs::create_dir(&cache).expect("a folder");
    // What another user may prepare: a link and a folder where a helper would be looked for.
    let secret = rig.path().join("secret");
    fs::create_dir(&secret).expect("a folder");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o755)).expect("its mode");
    symlink(&secret, rig.var_tmp().join("vcdist-0")).expect("a link");
    let spoil = |owner: u32, mode: u32| {
        chown(&cache, Some(owner), Some(owner)).expect("its owner");
        fs::set_permissions(&cache, fs::Permissions::from_mode(mode)).expect("its mode");
    };
    for (owner, mode, expected) in [(ORDINARY_ID, 0o755, "pushed"), (0, 0o777, "up-to-date"), (0, 0o775, "up-to-date")]
    {
        spoil(owner, mode);
        assert_eq!(rig.push(&["manager"]).node()["result"], expected, "{owner} {mode:o}");
        assert!(names(&cache).is_empty(), "nothing is made there: {:?}", names(&cache));
        assert_eq!(names(&rig.var_lib().join("vcdist")).len(), 1, "where root alone may write, it is run");
    }
    let mode = fs::metadata(&secret).expect("a folder").permissions().mode() & 0o777;
    assert!(mode == 0o755 && names(&secret).is_empty(), "what the link leads to is left as it is: {mode:o}");
    // A helper that lies there, from before the folder was another's to change, is run no more.
    spoil(0, 0o700);
    rig.place_helper();
    spoil(0, 0o777);
    fs::remove_dir_all(rig.var_lib().join("vcdist")).expect("a folder");
    assert_eq!(rig.push(&["manager"]).node()["result"], "up-to-date");
    assert_eq!(names(&rig.var_lib().join("vcdist")).len(), 1);
    // With nowhere else to go, the reasons are said, and `ctr` does the work.
    rig.within("mount -o remount,bind,ro /var/lib; mount -o remount,bind,ro /run");
    fs::remove_dir_all(rig.var_lib().join("vcdist")).expect("a folder");
    let said = through_ctr(&rig, "root");
    let why = format!("no folder from which the helper could run: {cache} is writable by other users; ");
    assert!(said.contains(&why) && said.contains("Read-only file system"), "{said}");
}

#[test]
fn root_may_run_nothing_from_the_login_users_home() {
    let rig = Rig::with(&NodeOptions { login: Login::Sudo, ..Default::default() });
    image(&rig.store(), "manager", b"base", b"own");
    // As on NFS, where root is nobody: sudo says it in its own words.
    let folder = rig.path().join("bin");
    let refuse = |below: &Utf8Path, words: &str| {
        let text = format!(
            "#!/bin/sh\ncase $2 in {below}*) echo \"sudo: {words}\" >&2; exit 1;; esac\nexec /usr/bin/sudo \"$@\"\n"
        );
        write_program(folder.join("sudo"), text);
    };
    rig.prefer_programs_in(&folder);
    let (cache, other) = (rig.path().join("cache"), rig.var_tmp().join(format!("vcdist-{ORDINARY_ID}")));
    for (words, expected) in
        [("unable to execute $2: Permission denied", "pushed"), ("$2: command not found", "up-to-date")]
    {
        refuse(&cache, words);
        let pushed = rig.push(&["manager"]);
        assert_eq!((pushed.node()["result"].as_str(), pushed.stderr().as_str()), (Some(expected), ""), "{words}");
        assert_eq!((rig.helpers().len(), names(&other).len()), (0, 1), "it is placed where root may run it: {words}");
    }
    // Another node of the same home may have put it there.
    let (helper, placed) = (names(&other).remove(0), cache.join("vcdist"));
    fs::create_dir_all(&placed).expect("a folder");
    fs::copy(other.join(&helper), placed.join(&helper)).expect("a helper");
    for path in [&placed, &placed.join(&helper)] {
        chown(path, Some(ORDINARY_ID), Some(ORDINARY_ID)).expect("its owner");
    }
    fs::remove_dir_all(&other).expect("a folder");
    assert_eq!(rig.push(&["manager"]).node()["result"], "up-to-date");
    assert_eq!((rig.helpers().len(), names(&other).len()), (1, 1), "it is copied, and stays for the other node");
    // What sudo does not allow is said, whatever the folder.
    refuse(Utf8Path::new("/"), "a password is required");
    let refused = rig.push(&["manager"]);
    assert_eq!(refused.code(), 1);
    let said = refused.stderr();
    assert!(said.contains("sudo does not let the login user work as root: sudo: a password is required"), "{said}");
    // Nowhere may root run it: its ctr works.
    refuse(rig.path(), "unable to execute $2: Permission denied");
    rig.within("mount -t tmpfs -o noexec,mode=1777 tmpfs /var/tmp; mount -t tmpfs -o noexec,mode=1777 tmpfs /dev/shm");
    let said = through_ctr(&rig, "operator");
    assert!(said.contains(&format!("root may not run what is in {placed}; ")), "{said}");
}

#[test]
fn a_user_whom_sudo_lets_run_this_helper_alone_can_push_and_nothing_else() {
    let rig = Rig::with(&NodeOptions { login: Login::SudoHelper, ..Default::default() });
    image(&rig.store(), "manager", b"base", b"own");
    let ssh = |command: &str| -> Output {
        let mut ssh = Command::new("ssh");
        ssh.arg("-F").arg(rig.path().join("ssh_config")).args(["-o", "BatchMode=yes", "operator@127.0.0.1", command]);
        ssh.output().expect("ssh runs")
    };
    assert_eq!(rig.push(&["manager"]).node()["result"], "pushed");
    assert_eq!(rig.push(&["manager"]).node()["result"], "up-to-date");
    let helper = rig.helpers().remove(0).display().to_string();
    for forbidden in ["true", "sh -c id", "cat /etc/shadow", &format!("{helper} push --host localhost"), &helper] {
        let refused = ssh(&format!("sudo -n {forbidden}"));
        assert!(!refused.status.success(), "{forbidden}");
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains("a password is required") || said.contains("not allowed"), "{forbidden}: {said}");
    }
    // What root joins must prove itself: no socket of another service is handed over.
    let socket = rig.path().join("containerd.sock");
    let secret = "00".repeat(32);
    let joined = ssh(&format!("(echo {secret} {socket}; cat /dev/zero) | sudo -n {helper} join"));
    let said = String::from_utf8_lossy(&joined.stderr).into_owned();
    assert!(!joined.status.success() && said.contains("joining "), "{said}");
    assert!(!String::from_utf8_lossy(&joined.stdout).contains("ready"), "{said}");
    // Another program of this name is none that sudo lets it run.
    let other = ssh(&format!("cp /bin/id {helper}.new && mv -f {helper}.new {helper} && sudo -n {helper} --version"));
    assert!(!other.status.success() && !String::from_utf8_lossy(&other.stdout).contains("uid=0"));
    assert_eq!(rig.push(&["manager"]).node()["result"], "up-to-date", "it is placed anew");
}

#[test]
fn what_logins_that_were_cut_left_goes_with_the_next() {
    let rig = Rig::up();
    image(&rig.store(), "manager", b"base", b"own");
    rig.push(&["manager"]).report(0);
    let cache = rig.path().join("cache/vcdist");
    let node = String::from_utf8(Command::new("uname").arg("-n").output().expect("a name").stdout).expect("UTF-8");
    // No process has such a number: it is above the most that Linux gives.
    for name in ["new.4194999".to_owned(), format!("new.{}.4194999", node.trim())] {
        fs::write(cache.join(name), "part of a helper").expect("a part");
    }
    let left = rig.run().join("vcdist/join-left");
    fs::create_dir_all(&left).expect("a folder");
    fs::set_permissions(rig.run().join("vcdist"), fs::Permissions::from_mode(0o700)).expect("its mode");
    fs::write(left.join("s"), "").expect("a socket");
    assert_eq!(rig.push(&["manager"]).node()["result"], "up-to-date");
    assert_eq!(names(&cache).len(), 1, "{:?}", names(&cache));
    assert!(!left.exists());
}

/// Pushes to a node where no helper can run; what is said of that.
fn through_ctr(rig: &Rig, user: &str) -> String {
    let node = rig.push(&["manager"]).node();
    assert_eq!((node["result"].as_str(), node["via"].as_str()), (Some("up-to-date"), Some("ctr")));
    let (config, host) = (rig.path().join("ssh_config"), format!("{user}@127.0.0.1"));
    let arguments = ["manager", "--ssh-config", config.as_str(), "--host", &host];
    let told: PushOutput = rig.vcdist("push", &arguments).output().expect("vcdist runs").into();
    assert_eq!(told.code(), 0, "{}", told.stderr());
    told.stderr()
}

/// The names in a folder; none where there is no folder.
fn names(folder: &Utf8Path) -> Vec<String> {
    let entries = folder.read_dir_utf8().into_iter().flatten();
    entries.map(|entry| entry.expect("an entry").file_name().to_owned()).collect()
}

fn tamper(rig: &Rig) {
    image(&rig.store(), "manager", b"base", b"own");
    rig.push(&["manager"]).report(0);
    let helper = rig.helpers().remove(0);
    let marker = rig.path().join("ran");
    fs::write(&helper, format!("#!/bin/sh\ntouch {marker}\n")).expect("tampering");
    assert_eq!(rig.push(&["manager"]).node()["result"], "up-to-date");
    assert!(!marker.exists());
    assert!(fs::metadata(&helper).expect("a file").len() > 1_000_000, "it is placed anew");
}
