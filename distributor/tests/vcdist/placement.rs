//! Where the helper is placed on a node, and that nobody can put another in its place.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::rig::{Peculiar, Rig, image};

#[test]
fn a_cache_folder_that_runs_nothing_or_takes_nothing_is_passed_over() {
    for home in ["noexec", "ro", "size=1m"] {
        let rig = Rig::with(&Peculiar { home: Some(home), ..Default::default() });
        image(&rig.store(), "manager", b"base", b"own");
        let pushed = rig.push(&["manager"]);
        assert_eq!(pushed.node()["result"], "pushed", "{home}");
        assert!(rig.var_tmp().join("vcdist-0").exists(), "the next folder is used: {home}");
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
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("openssl"), "#!/bin/sh\necho nothing; exit 1\n").expect("a program");
    fs::set_permissions(folder.join("openssl"), fs::Permissions::from_mode(0o755)).expect("its mode");
    rig.prefer_programs_in(&folder);
    tamper(&rig);
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
