//! Mirrors as they should be, and mirrors as they should not: what a user is told, and that nothing bad is kept.

use camino::Utf8Path;
use miette::Diagnostic;
use vcdebian::{Error, Layering, Options, Pinned, Request, Selection, realise};
use vcstore::{Compression, Store};

use rigs::mirror::{BASE, Mirror, Package};

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&Utf8Path::from_path(folder.path()).unwrap().join("store")).unwrap();
    (folder, store)
}

/// What is chosen by who has nothing yet.
fn lock(request: &Request, before: Option<&Pinned>) -> Result<Pinned, Error> {
    let (_folder, store) = store();
    vcdebian::lock(&store, request, before)
}

fn realised(pinned: &Pinned, request: &Request) -> Result<String, Error> {
    let (_folder, store) = store();
    realise(&store, pinned, request, Compression::Zstd).map(|base| base.layers[0].digest.to_string())
}

/// A request for packages beyond the base.
fn asking_for(mirror: &Mirror, packages: &[&str]) -> Request {
    let mut request = mirror.request();
    request.options.packages = packages.iter().map(|&name| name.to_owned()).collect();
    request
}

/// The message, with the mirror's changing port taken out.
fn said(mirror: &Mirror, error: &Error) -> String {
    error.to_string().replace(&mirror.address(), "http://mirror/debian")
}

fn lock_error(mirror: &Mirror) -> String {
    said(mirror, &lock(&mirror.request(), None).unwrap_err())
}

#[test]
fn a_sound_mirror_yields_a_layer_and_is_asked_once() {
    let mirror = Mirror::new(&BASE);
    let pinned = lock(&mirror.request(), None).unwrap();
    let names: Vec<_> = pinned.packages.iter().map(|pin| (pin.name.as_str(), pin.suite.as_str())).collect();
    assert_eq!(names, [("base-files", "bookworm"), ("base-passwd", "bookworm")]);
    assert_eq!((pinned.releases.len(), pinned.releases[0].codename.as_str()), (1, "bookworm"));

    let (_folder, store) = store();
    let first = realise(&store, &pinned, &mirror.request(), Compression::Zstd).unwrap();
    assert_eq!(mirror.packages_asked(), 2);
    let again = realise(&store, &pinned, &mirror.request(), Compression::Zstd).unwrap();
    assert_eq!((first.layers[0].digest, mirror.packages_asked()), (again.layers[0].digest, 2));
    assert_eq!(realised(&pinned, &mirror.request()).unwrap(), first.layers[0].digest.to_string());

    let layer = zstd::decode_all(store.reader(&first.layers[0].digest).unwrap()).unwrap();
    let mut layer = tar::Archive::new(layer.as_slice());
    let paths: Vec<_> =
        layer.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect();
    for path in ["bin", "usr/bin/tool", "root/.profile", "etc/shadow", "var/lib/dpkg/info/base-files.list"] {
        assert!(paths.iter().any(|one| one == path), "{path} is missing of {paths:?}");
    }
}

#[test]
fn the_lock_survives_being_written_down() {
    let mirror = Mirror::new(&BASE);
    let pinned = lock(&mirror.request(), None).unwrap();
    let text = serde_json::to_string(&pinned).unwrap();
    assert_eq!(serde_json::from_str::<Pinned>(&text).unwrap(), pinned);
    assert!(!text.contains("127.0.0.1"), "the lock names no mirror: {text}");
}

#[test]
fn a_tampered_release_is_refused() {
    let mirror = Mirror::new(&BASE);
    let text = std::fs::read_to_string(mirror.path("dists/bookworm/InRelease")).unwrap();
    mirror.write("dists/bookworm/InRelease", text.replace("Packages.xz", "Packages.gz").as_bytes());
    let said = lock_error(&mirror);
    assert!(said.starts_with("checking the signature of http://mirror/debian/dists/bookworm/InRelease: "), "{said}");
    assert!(said.ends_with("does not match the text"), "{said}");
}

#[test]
fn a_release_signed_by_another_key_or_not_at_all_is_refused() {
    let (mirror, other) = (Mirror::new(&BASE), Mirror::new(&BASE));
    mirror.write("dists/bookworm/InRelease", &std::fs::read(other.path("dists/bookworm/InRelease")).unwrap());
    let said = lock_error(&mirror);
    assert!(said.ends_with("which is not in the keyring"), "{said}");
    mirror.write("dists/bookworm/InRelease", b"Codename: bookworm\n");
    assert!(lock_error(&mirror).ends_with("it is not signed"));
}

#[test]
fn a_stale_release_is_refused() {
    let mirror = Mirror::new(&BASE);
    mirror.release(
        "Codename: bookworm\nDate: Sat, 11 Jul 2020 10:16:37 UTC\nValid-Until: Sat, 18 Jul 2020 10:16:37 UTC\nSHA256:\n",
    );
    let said = lock_error(&mirror);
    assert!(said.contains("ago (Valid-Until: Sat, 18 Jul 2020 10:16:37 UTC)"), "{said}");
}

#[test]
fn an_index_that_is_not_the_signed_one_is_refused() {
    let mirror = Mirror::new(&BASE);
    let path = "dists/bookworm/main/binary-amd64/Packages.xz";
    let mut index = std::fs::read(mirror.path(path)).unwrap();
    index[20] ^= 1;
    mirror.write(path, &index);
    let said = lock_error(&mirror);
    assert!(said.starts_with(&format!("fetching http://mirror/debian/{path}: its content is sha256:")), "{said}");
}

#[test]
fn a_package_that_is_not_the_locked_one_is_refused_and_not_kept() {
    let mirror = Mirror::new(&BASE);
    let pinned = lock(&mirror.request(), None).unwrap();
    let mut package = std::fs::read(mirror.path("pool/base-files_1.deb")).unwrap();
    *package.last_mut().unwrap() ^= 1;
    mirror.write("pool/base-files_1.deb", &package);
    let (_folder, store) = store();
    let error = realise(&store, &pinned, &mirror.request(), Compression::Zstd).unwrap_err();
    let said = said(&mirror, &error);
    assert!(said.starts_with("fetching http://mirror/debian/pool/base-files_1.deb: its content is sha256:"), "{said}");
    assert!(!store.contains(&pinned.packages[0].sha256));
}

#[test]
fn a_package_that_the_mirror_dropped_is_said_to_be_gone() {
    let mirror = Mirror::new(&BASE);
    let pinned = lock(&mirror.request(), None).unwrap();
    std::fs::remove_file(mirror.path("pool/base-passwd_1.deb")).unwrap();
    let error = realised(&pinned, &mirror.request()).unwrap_err();
    assert_eq!(
        said(&mirror, &error),
        "fetching http://mirror/debian/pool/base-passwd_1.deb: the mirror does not have this file"
    );
    assert!(error.help().unwrap().to_string().contains("update the lock file"));
}

#[test]
fn an_architecture_that_the_mirror_lacks_is_named() {
    let mirror = Mirror::new(&BASE);
    let request = Request { architecture: "arm64".to_owned(), ..mirror.request() };
    let said = said(&mirror, &lock(&request, None).unwrap_err());
    assert!(said.ends_with("it lists no main/binary-arm64/Packages.xz"), "{said}");
}

#[test]
fn an_index_that_is_not_kept_by_its_hash_is_taken_by_its_name() {
    let mirror = Mirror::new(&BASE);
    let release = std::fs::read_to_string(mirror.path("dists/bookworm/InRelease")).unwrap();
    let hashes = release.lines().find(|line| line.ends_with("Packages.xz")).unwrap().to_owned();
    let date = "Date: Sat, 11 Jul 2026 10:16:37 UTC";
    mirror.release(&format!("Codename: bookworm\n{date}\nAcquire-By-Hash: yes\nSHA256:\n{hashes}\n"));
    assert_eq!(lock(&mirror.request(), None).unwrap().packages.len(), 2);
    let path = "dists/bookworm/main/binary-amd64";
    let digest = hashes.split_whitespace().next().unwrap();
    std::fs::create_dir_all(mirror.path(&format!("{path}/by-hash/SHA256"))).unwrap();
    let named = mirror.path(&format!("{path}/Packages.xz"));
    std::fs::rename(named, mirror.path(&format!("{path}/by-hash/SHA256/{digest}"))).unwrap();
    assert_eq!(lock(&mirror.request(), None).unwrap().packages.len(), 2, "by its hash alone");
}

#[test]
fn a_mirror_that_recovers_is_forgiven() {
    let mirror = Mirror::new(&BASE);
    mirror.fail("dists/bookworm/InRelease", 1);
    mirror.fail("pool/base-files_1.deb", 1);
    let pinned = lock(&mirror.request(), None).unwrap();
    realised(&pinned, &mirror.request()).unwrap();
    assert_eq!(mirror.packages_asked(), 3);
}

#[test]
fn a_mirror_that_cannot_be_reached_is_named_with_the_reason() {
    let mirror = Mirror::new(&BASE);
    let request = mirror.request();
    let (address, keyring) = (mirror.address(), std::fs::read(mirror.path("keyring.asc")).unwrap());
    drop(mirror);
    let folder = tempfile::tempdir().unwrap();
    let path = Utf8Path::from_path(folder.path()).unwrap().join("keyring.asc");
    std::fs::write(&path, keyring).unwrap();
    let options = Options { keyring: Some(path), ..request.options.clone() };
    let error = lock(&Request { options, ..request }, None).unwrap_err().to_string();
    assert!(error.starts_with(&format!("fetching {address}/dists/bookworm")), "{error}");
    assert!(error.contains("attempts failed") && error.contains("Connection refused"), "{error}");
}

const CRON: Package =
    ("cron", "Priority: optional\n", &[("postinst", "#!/bin/sh\nadduser cron\n"), ("etc/crontab", "")]);

#[test]
fn packages_with_scripts_of_their_own_are_all_named_before_any_is_fetched() {
    let mail: Package = ("mail", "Depends: cron, mailer\n", &[("usr/bin/mail", "")]);
    let mailer: Package = ("mailer", "", &[("postinst", "#!/bin/sh\n"), ("usr/bin/mailer", "")]);
    let quiet: Package = ("quiet", "", &[("usr/bin/quiet", "")]);
    for heeds_ranges in [true, false] {
        let mirror = Mirror::new(&[BASE[0], BASE[1], CRON, mail, mailer, quiet]);
        mirror.heed_ranges(heeds_ranges);
        let (_folder, store) = store();
        let error = vcdebian::lock(&store, &asking_for(&mirror, &["quiet", "mail", "mailer"]), None).unwrap_err();
        let expected = "installing cron (postinst; brought by mail), mailer (postinst; brought by mail): \
            vcbuild does not run maintainer scripts, and has no replacement for these";
        assert_eq!(error.to_string(), expected);
        assert!(error.help().unwrap().to_string().contains("`--base IMAGE`"));
        let held = vcstore::Digest::of(&std::fs::read(mirror.path("pool/quiet_1.deb")).unwrap());
        assert_eq!(store.size(&held), None, "no package was kept");
        assert!(vcdebian::lock(&store, &asking_for(&mirror, &["quiet"]), None).is_ok());
    }
}

#[test]
fn large_control_files_are_looked_at_too() {
    let lines: &str = Box::leak("0123456789abcdef0123456789abcdef  usr/share/a\n".repeat(2000).into_boxed_str());
    let files: &[(&str, &str)] = Box::leak(Box::new([("md5sums", lines), ("postinst", "#!/bin/sh\n"), ("etc/a", "")]));
    let mirror = Mirror::new(&[BASE[0], BASE[1], ("large", "", files)]);
    let said = lock(&asking_for(&mirror, &["large"]), None).unwrap_err().to_string();
    assert!(said.starts_with("installing large (postinst):"), "{said}");
}

#[test]
fn a_script_that_was_not_seen_before_is_refused_with_the_package_at_hand() {
    let mirror = Mirror::new(&[BASE[0], BASE[1], CRON]);
    let request = asking_for(&mirror, &["cron"]);
    // As from a lock of a version that knew of the script, or a mirror that sent another beginning.
    let mut pinned = lock(&mirror.request(), None).unwrap();
    let bytes = std::fs::read(mirror.path("pool/cron_1.deb")).unwrap();
    let mut cron = pinned.packages[0].clone();
    (cron.name, cron.version, cron.path) = ("cron".to_owned(), "1".to_owned(), "pool/cron_1.deb".to_owned());
    (cron.sha256, cron.size) = (vcstore::Digest::of(&bytes), bytes.len() as u64);
    pinned.packages.push(cron);
    let said = realised(&pinned, &request).unwrap_err().to_string();
    assert!(said.starts_with("installing cron (postinst):"), "{said}");
}

#[test]
fn a_lock_that_leads_out_of_its_folders_is_refused() {
    let mirror = Mirror::new(&BASE);
    let pinned = lock(&mirror.request(), None).unwrap();
    let spoilt = |spoil: &dyn Fn(&mut Pinned)| {
        let mut pinned = pinned.clone();
        spoil(&mut pinned);
        realised(&pinned, &mirror.request()).unwrap_err().to_string()
    };
    let said = spoilt(&|pinned| pinned.packages[0].name = "../base-files".to_owned());
    assert_eq!(said, "using the locked package ../base-files: it is not a valid package name");
    let said = spoilt(&|pinned| pinned.packages[0].path = "pool/../../secret".to_owned());
    assert_eq!(said, "using the locked package base-files: its path points outside the mirror");
    let said = spoilt(&|pinned| pinned.packages[1].architecture = "arm64".to_owned());
    assert_eq!(said, "using the locked package base-passwd: it is for another architecture");
    assert_eq!(mirror.packages_asked(), 0);
}

/// The paths in a layer.
fn paths(store: &Store, layer: &vcstore::Layer) -> Vec<String> {
    let bytes = zstd::decode_all(store.reader(&layer.digest).unwrap()).unwrap();
    let mut layer = tar::Archive::new(bytes.as_slice());
    let paths = layer.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string());
    paths.map(|path| path.trim_end_matches('/').to_owned()).collect()
}

const MORE: [Package; 4] = [
    BASE[0],
    BASE[1],
    ("editor", "Priority: optional\nDepends: library\n", &[("usr/bin/editor", "an editor")]),
    ("library", "Priority: optional\n", &[("usr/lib/library", "a library")]),
];

#[test]
fn each_package_asked_for_has_a_layer_of_its_own_if_wanted() {
    let mirror =
        Mirror::new(&[&MORE[..], &[("viewer", "Depends: library\n", &[("usr/bin/viewer", "a viewer")])]].concat());
    let (_folder, store) = store();
    let layers = |packages: &[&str], before: Option<&Pinned>, layering| {
        let mut request = asking_for(&mirror, packages);
        request.options.layers = layering;
        let pinned = lock(&request, before).unwrap();
        let layers = realise(&store, &pinned, &request, Compression::Zstd).unwrap().layers;
        (pinned, layers)
    };
    let (_, base) = layers(&[], None, Layering::PerPackageSet);
    let (pinned, one) = layers(&["editor"], None, Layering::PerPackageSet);
    let (_, two) = layers(&["editor", "viewer"], Some(&pinned), Layering::PerPackageSet);
    assert_eq!((base.len(), one.len(), two.len()), (1, 2, 3));
    assert_eq!(two[..2], one[..], "what was there is as it was");
    assert_eq!(one[0], base[0]);
    let expected = [
        "usr",
        "usr/bin",
        "usr/bin/editor",
        "usr/lib",
        "usr/lib/library",
        "var",
        "var/lib",
        "var/lib/dpkg",
        "var/lib/dpkg/info",
        "var/lib/dpkg/info/editor.list",
        "var/lib/dpkg/info/library.list",
        "var/lib/dpkg/status",
    ];
    assert_eq!(paths(&store, &one[1]), expected);
    assert!(paths(&store, &two[2]).contains(&"usr/bin/viewer".to_owned()));
    assert!(!paths(&store, &two[2]).contains(&"usr/lib/library".to_owned()));

    let (_, together) = layers(&["editor", "viewer"], None, Layering::One);
    let mut apart: Vec<_> = two.iter().flat_map(|layer| paths(&store, layer)).collect();
    apart.sort();
    apart.dedup();
    let mut whole = paths(&store, &together[0]);
    whole.sort();
    assert_eq!((together.len(), apart), (1, whole));
    let sets: Vec<_> = pinned.packages.iter().map(|pin| (pin.name.as_str(), pin.set.as_deref())).collect();
    let editor = Some("editor");
    assert_eq!(sets, [("base-files", None), ("base-passwd", None), ("editor", editor), ("library", editor)]);
    let spoilt = Pinned { include: vec!["viewer".to_owned()], ..pinned };
    let request = Request { selection: Selection::System, ..asking_for(&mirror, &["viewer"]) };
    let options = Options { layers: Layering::PerPackageSet, ..request.options };
    let error = realise(&store, &spoilt, &Request { options, ..request }, Compression::Zstd).unwrap_err();
    assert_eq!(
        error.to_string(),
        "using the locked package editor: the package that contains it, \"editor\", was not requested"
    );
}

#[test]
fn what_is_locked_keeps_its_version_when_a_package_is_added() {
    let mirror = Mirror::new(&MORE);
    let before = lock(&mirror.request(), None).unwrap();
    mirror.publish(
        &[&MORE[..2], &[("editor", "Priority: optional\n", &[("usr/bin/editor", "a new editor")])]].concat(),
        "2",
    );
    let request = asking_for(&mirror, &["editor"]);
    let versions = |pinned: &Pinned| {
        let versions = pinned.packages.iter().map(|pin| format!("{} {}", pin.name, pin.version));
        versions.collect::<Vec<_>>()
    };
    let added = lock(&request, Some(&before)).unwrap();
    assert_eq!(versions(&added), ["base-files 1", "base-passwd 1", "editor 2"]);
    assert_eq!(added.packages[0], before.packages[0]);
    assert_eq!(versions(&lock(&request, None).unwrap()), ["base-files 2", "base-passwd 2", "editor 2"]);
    let mut elsewhere = request.clone();
    elsewhere.options.updates = false;
    let moved = lock(&elsewhere, Some(&before)).unwrap();
    assert_eq!(versions(&moved)[0], "base-files 2", "another place to look is asked what it has");
    let mut unknown = request;
    unknown.options.packages = vec!["nonesuch".to_owned()];
    let said = lock(&unknown, Some(&before)).unwrap_err().to_string();
    assert_eq!(said, "looking for package nonesuch: bookworm has no package with that name for amd64");
}
