//! The base made from the real mirror: it works, it is the same every time, and it differs from what mmdebstrap installs
//! only in what `docs/reference/debian-base.md` lists.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use camino::Utf8Path;
use vcdebian::{Base, Options, Pinned, Request, lock, realise};
use vcstore::{Compression, Digest, Store};

fn store(folder: &Path) -> Store {
    Store::open(&Utf8Path::from_path(folder).unwrap().join("store")).unwrap()
}

/// Packages that the base of a suite may be asked for, whose scripts this program stands in for: those that people ask for most in
/// the one, what chooses between programs in the other.
fn packages(suite: &str) -> &'static [&'static str] {
    match suite {
        "bookworm" => &[
            "ca-certificates",
            "curl",
            "git",
            "gnupg",
            "iproute2",
            "kmod",
            "less",
            "locales",
            "netbase",
            "nftables",
            "openssh-client",
            "procps",
            "python3",
            "sqlite3",
            "tzdata",
            "unzip",
        ],
        _ => &[
            "bash-completion",
            "ca-certificates",
            "gawk",
            "iproute2",
            "iptables",
            "iputils-ping",
            "kmod",
            "less",
            "nano",
            "netbase",
            "netcat-openbsd",
            "nftables",
            "openssh-client",
            "procps",
            "psmisc",
            "python3",
            "rsync",
            "sudo",
            "vim-common",
            "xz-utils",
        ],
    }
}

fn request(suite: &str) -> Request {
    let packages = packages(suite).iter().map(|&name| name.to_owned()).collect();
    Request { options: Options { suite: suite.to_owned(), packages, ..Options::default() }, ..Request::default() }
}

fn made(suite: &str, folder: &Path) -> (Store, Pinned, Base) {
    let (store, request) = (store(folder), request(suite));
    let pinned = lock(&store, &request, None).unwrap();
    let base = realise(&store, &pinned, &request, Compression::None).unwrap();
    (store, pinned, base)
}

#[test]
fn it_is_the_same_from_two_empty_stores_and_works() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (first, pinned, base) = made("bookworm", folders[0].path());
    let second = realise(&store(folders[1].path()), &pinned, &request("bookworm"), Compression::None).unwrap();
    assert_eq!(base.layers, second.layers);

    let root = folders[1].path().join("root");
    std::fs::create_dir(&root).unwrap();
    let layer = first.blob_path(&base.layers[0].digest);
    let extracted = Command::new("tar").arg("-xf").arg(layer).arg("-C").arg(&root).status().unwrap();
    assert!(extracted.success(), "extracting a base needs root, as running it does");
    // As a container's runtime makes them.
    for device in ["/dev/null", "/dev/urandom", "/dev/random"] {
        std::fs::create_dir_all(root.join("dev")).unwrap();
        assert!(Command::new("cp").arg("-a").arg(device).arg(root.join("dev")).status().unwrap().success());
    }
    let inside = |command: &str| {
        let mut bash = Command::new("unshare");
        bash.args(["--mount", "--pid", "--fork", "--ipc", "--uts", "--root"]).arg(&root);
        let output =
            bash.args(["/bin/bash", "-c", command]).env_clear().env("PATH", "/usr/sbin:/usr/bin").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{command}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    };
    let listed = inside("dpkg -l");
    let installed: Vec<_> = listed.lines().filter_map(|line| line.strip_prefix("ii ")).collect();
    assert_eq!(installed.len(), base.packages.len(), "{listed}");
    assert_eq!(inside("dpkg --audit"), "");
    let expected = pinned.packages.iter().find(|pin| pin.name == "bash").map(|pin| pin.version.clone());
    assert_eq!(Some(inside("dpkg-query -W -f '${Version}' bash")), expected);
    assert_eq!(inside("dpkg --verify | grep -v /usr/share/ || true"), "", "a file differs from its package's hash");
    assert!(inside("apt-get --version").starts_with("apt "));
    assert!(inside("apt-cache policy bash").contains("Installed: "));
    assert_eq!(inside("apt-get check -qq"), "");
    assert_eq!(inside("echo one two | awk '{ print $2 }' | pager"), "two\n");
    assert_eq!(inside("which ls && perl -e 'print 6 * 7'"), "/usr/bin/ls\n42");
    assert_eq!(inside("su nobody -s /bin/sh -c 'id -un'"), "nobody\n");
    assert_eq!(inside("useradd --create-home someone && id -u someone"), "1000\n");
    assert_eq!(
        inside("pam-auth-update --package && update-alternatives --query awk | grep Value"),
        "Value: /usr/bin/mawk\n"
    );
    // Each of the packages that were asked for does what it is for.
    assert!(inside("less --version && unzip -v && locale -a | grep C.utf8 && curl --version").contains("C.utf8"));
    assert_eq!(
        inside("python3 -c 'import ssl, sqlite3, json; print(6 * 7)' && sqlite3 :memory: 'select 6 * 7'"),
        "42\n42\n"
    );
    assert_eq!(
        inside(
            "ssh-agent sh -c 'ssh-keygen -q -t ed25519 -N \"\" -f /tmp/k && ssh-add -q /tmp/k && ssh-add -l | wc -l'"
        ),
        "1\n"
    );
    assert_eq!(
        inside("stat -c '%a %G' /usr/bin/ssh-agent && ls -l /etc/alternatives/pager | grep -o '[^ ]*$'"),
        "2755 _ssh\n/usr/bin/less\n"
    );
    let commit = "cd /tmp && git init -q r && cd r && git -c user.name=a -c user.email=a@example.org commit -q --allow-empty -m x && git rev-list --count HEAD";
    assert_eq!(inside(commit), "1\n");
    assert!(inside("export GNUPGHOME=/tmp/gnupg && mkdir -m 700 /tmp/gnupg && gpg --batch --quiet --passphrase '' --quick-generate-key a && gpg --list-keys").contains("uid"));
    assert!(
        inside("mount -t proc proc /proc && ps -e && ip -V && date -d @0 +%Z && TZ=Europe/Berlin date -d @0 +%Z")
            .ends_with("UTC\nCET\n")
    );
    assert_eq!(
        inside(
            "sed -i 's/^# de_DE.UTF-8/de_DE.UTF-8/' /etc/locale.gen && locale-gen >/dev/null && locale -a | grep -c de_DE"
        ),
        "1\n"
    );
    assert!(inside("DEBIAN_FRONTEND=noninteractive dpkg-reconfigure tzdata 2>&1").contains("'Etc/UTC'"));
}

#[test]
fn it_is_made_for_another_processor_without_an_emulator() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let request = Request { architecture: "arm64".to_owned(), ..Request::default() };
    let pinned = lock(&store, &request, None).unwrap();
    assert!(pinned.packages.iter().all(|pin| ["arm64", "all"].contains(&pin.architecture.as_str())));
    let base = realise(&store, &pinned, &request, Compression::None).unwrap();
    let files = files(store.reader(&base.layers[0].digest).unwrap());
    // The machine in the header of an ELF file; 183 is AArch64.
    let machine = |path: &str| u16::from_le_bytes(files[path].1[18..20].try_into().unwrap());
    assert_eq!([machine("usr/bin/bash"), machine("usr/bin/dpkg")], [183, 183]);
    assert!(!files.contains_key("lib64"), "arm64 has its loader in lib");
    // This machine's dpkg understands the database, whatever processor it is of.
    let database = folder.path().join("dpkg");
    for (path, (seen, content)) in files.iter().filter(|(path, _)| path.starts_with("var/lib/dpkg/")) {
        let to = database.join(path.strip_prefix("var/lib/dpkg/").unwrap());
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        match seen.0 {
            tar::EntryType::Directory => std::fs::create_dir_all(to).unwrap(),
            _ => std::fs::write(to, content).unwrap(),
        }
    }
    let dpkg = |arguments: &[&str]| {
        let mut command = Command::new("dpkg-query");
        let output = command.arg("--admindir").arg(&database).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let listed = dpkg(&["-W", "-f", "${db:Status-Abbrev}${Architecture} ${Version} ${Package}\n"]);
    let expected = pinned.packages.iter().map(|pin| format!("ii {} {} {}", pin.architecture, pin.version, pin.name));
    assert_eq!(
        listed.lines().collect::<BTreeSet<_>>(),
        expected.collect::<Vec<_>>().iter().map(String::as_str).collect()
    );
}

/// What mmdebstrap has and the base has not, and why. A slash at the end stands for all that is in the folder.
const LEFT_OUT: [(&str, &str); 40] = [
    ("dev/", "a container's runtime makes the devices"),
    ("etc/fstab", "a container mounts no disks"),
    ("etc/hostname", "a container's runtime writes it"),
    ("etc/resolv.conf", "a container's runtime writes it"),
    ("etc/apt/sources.list", "it would name a mirror"),
    ("etc/dpkg/dpkg.cfg.d/99mmdebstrap", "this test's own, see `mmdebstrap`"),
    ("etc/ld.so.cache", "an index of the standard folders; the loader finds libraries without it"),
    ("etc/rc0.d/", "links that stop services with the machine"),
    ("etc/rc2.d/", "links that start services with the machine"),
    ("etc/rc3.d/", "links that start services with the machine"),
    ("etc/rc4.d/", "links that start services with the machine"),
    ("etc/rc5.d/", "links that start services with the machine"),
    ("etc/rc6.d/", "links that stop services with the machine"),
    ("etc/rcS.d/", "links that start services with the machine"),
    ("etc/systemd/system/", "links that start timers with the machine"),
    ("etc/systemd/user/", "links that start agents with a user's session"),
    ("var/lib/systemd/deb-systemd-helper-enabled", "the state of those links"),
    ("var/lib/systemd/deb-systemd-helper-enabled/", "the state of those links"),
    ("var/lib/systemd/deb-systemd-user-helper-enabled", "the state of those links"),
    ("var/lib/systemd/deb-systemd-user-helper-enabled/", "the state of those links"),
    ("etc/.pwd.lock", "a lock"),
    ("etc/passwd-", "a backup"),
    ("etc/group-", "a backup"),
    ("etc/gshadow-", "a backup"),
    ("usr/share/info/dir", "the list of manuals, which a slim base does not have"),
    ("var/cache/apt/archives/lock", "a lock"),
    ("var/cache/debconf/config.dat", "answers to questions; debconf asks anew what it needs"),
    ("var/cache/debconf/config.dat-old", "a backup"),
    ("var/cache/debconf/passwords.dat", "answers to questions"),
    ("var/cache/debconf/templates.dat", "a copy of what is in the packages' own files"),
    ("var/cache/debconf/templates.dat-old", "a backup"),
    ("var/lib/apt/extended_states", "which packages came for another's sake: here each is part of the base"),
    ("var/lib/apt/lists/lock", "a lock"),
    ("var/lib/dpkg/arch", "the native architecture, which dpkg knows"),
    ("var/lib/dpkg/arch-native", "as the other"),
    ("var/lib/dpkg/diversions-old", "a backup"),
    ("var/lib/dpkg/lock", "a lock"),
    ("var/lib/dpkg/lock-frontend", "a lock"),
    ("var/lib/dpkg/status-old", "a backup"),
    ("var/lib/dpkg/triggers/Lock", "a lock"),
];

/// What both have, with another content or other permissions.
const DIFFERENT: [(&str, &str); 5] = [
    ("etc/shadow", "the day of the last change would be the day of the build"),
    ("etc/shells", "the same shells in another order, as the package usrmerge adds some last"),
    ("var/lib/dpkg/status", "fewer packages"),
    ("var/cache/apt/archives/partial", "apt gives it to its user when it runs first"),
    ("var/lib/apt/lists/partial", "as the other"),
];

/// A file as it is in a tar: kind, permissions, owner, group, target, hash of the content.
type Seen = (tar::EntryType, u32, u64, u64, String, Digest);

fn files(archive: impl Read) -> BTreeMap<String, (Seen, Vec<u8>)> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        let path = path.trim_start_matches("./").trim_end_matches('/').to_owned();
        let target = String::from_utf8(entry.link_name_bytes().unwrap_or_default().into_owned()).unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let head = entry.header();
        let mode = if head.entry_type().is_symlink() { 0 } else { head.mode().unwrap() & 0o7777 };
        let target = target.trim_start_matches("./").to_owned();
        let seen = (head.entry_type(), mode, head.uid().unwrap(), head.gid().unwrap(), target, Digest::of(&content));
        if !path.is_empty() {
            files.insert(path, (seen, content));
        }
    }
    // Which of a file's several names is the file and which are the links is the archiver's choice.
    let first = files.iter().find(|(_, (seen, _))| seen.0.is_hard_link()).map(|(path, _)| path.clone());
    assert!(first.is_some(), "perl has two names at least");
    let links: Vec<_> = files
        .iter()
        .filter(|(_, (seen, _))| seen.0.is_hard_link())
        .map(|(path, (seen, _))| (path.clone(), seen.4.clone()))
        .collect();
    for (path, target) in links {
        let file = files[&target].clone();
        files.insert(path, file);
    }
    files
}

/// Where this machine's apt has Debian and its security updates from.
fn mirrors() -> [String; 2] {
    let listed = Command::new("apt-get").args(["indextargets", "--format", "$(SITE) $(CODENAME)"]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    ["", "-security"].map(|pocket| {
        let of = |suite: &str| ["bookworm", "trixie"].iter().any(|name| suite == format!("{name}{pocket}"));
        let mut sites = listed.lines().filter_map(|line| line.split_once(' '));
        sites.find(|(_, suite)| of(suite)).expect("a source of Debian").0.to_owned()
    })
}

/// Runs mmdebstrap, slim as the base is, and returns how long it took.
fn mmdebstrap(suite: &str, output: &Path) -> Duration {
    let start = Instant::now();
    let mut command = Command::new("timeout");
    command.args(["900", "mmdebstrap", "--quiet", "--mode=root", "--variant=minbase"]);
    for folder in ["doc", "groff", "info", "linda", "lintian/overrides", "locale", "man"] {
        command.arg(format!("--dpkgopt=path-exclude=/usr/share/{folder}/*"));
    }
    command.arg("--dpkgopt=path-include=/usr/share/doc/*/copyright");
    command.arg("--dpkgopt=path-include=/usr/share/locale/locale.alias");
    command.arg(format!("--include={}", packages(suite).join(",")));
    command.arg(suite).arg(output);
    let [main, security] = mirrors();
    command.arg(format!("deb {main} {suite} main")).arg(format!("deb {main} {suite}-updates main"));
    let done = command.arg(format!("deb {security} {suite}-security main")).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    start.elapsed()
}

#[test]
fn it_differs_from_what_mmdebstrap_installs_only_as_documented_and_takes_less_time() {
    differs_only_as_documented("bookworm", &[]);
}

#[test]
fn trixie_differs_from_what_mmdebstrap_installs_only_as_documented() {
    differs_only_as_documented("trixie", &[("var/lib/dpkg/diversions", "the same in another order")]);
}

#[expect(clippy::print_stdout, reason = "a test says what it measured")]
fn differs_only_as_documented(suite: &str, also: &[(&str, &str)]) {
    let folder = tempfile::tempdir().unwrap();
    let start = Instant::now();
    let (store, pinned, base) = made(suite, folder.path());
    let ours_took = start.elapsed();
    let archive = folder.path().join("mmdebstrap.tar");
    let theirs_took = mmdebstrap(suite, &archive);
    println!("vcbuild {:.1} s, mmdebstrap {:.1} s", ours_took.as_secs_f64(), theirs_took.as_secs_f64());
    assert!(ours_took < theirs_took, "{ours_took:?} against {theirs_took:?}");

    let ours = files(store.reader(&base.layers[0].digest).unwrap());
    let theirs = files(std::fs::File::open(&archive).unwrap());
    // apt takes usrmerge, which converts a system, with all of Perl, where the base takes usr-is-merged.
    let names: BTreeSet<_> = pinned.packages.iter().map(|pin| pin.name.as_str()).collect();
    let mut extra = BTreeSet::new();
    for (path, (_, content)) in &theirs {
        let Some(name) = path.strip_prefix("var/lib/dpkg/info/").and_then(|name| name.strip_suffix(".list")) else {
            continue;
        };
        if !names.contains(name.split(':').next().unwrap()) {
            let list = String::from_utf8(content.clone()).unwrap();
            extra.extend(list.lines().map(|line| line.trim_start_matches('/').to_owned()));
            extra.extend(theirs.keys().filter(|path| path.starts_with(&format!("var/lib/dpkg/info/{name}."))).cloned());
        }
    }
    let listed = |path: &str, list: &[(&str, &str)]| {
        list.iter().any(|(one, _)| *one == path || (one.ends_with('/') && path.starts_with(one)))
    };
    // Documentation is left out with the folders and links that led to nothing else.
    let emptied = |path: &str| path.starts_with("usr/share/doc/") && !theirs[path].0.0.is_file();
    // Python makes its byte code when it may write there.
    let byte_code = |path: &str| path.split('/').any(|part| part == "__pycache__");
    let missing: Vec<_> = theirs
        .keys()
        .filter(|path| !byte_code(path))
        .filter(|path| {
            !ours.contains_key(*path) && !extra.contains(*path) && !listed(path, &LEFT_OUT) && !emptied(path)
        })
        .collect();
    assert_eq!(missing, Vec::<&String>::new(), "files of mmdebstrap that the base lacks");
    let added: Vec<_> = ours
        .keys()
        .filter(|path| !theirs.contains_key(*path))
        .filter(|path| !path.contains("/usr-is-merged"))
        .collect();
    assert_eq!(added, ["etc/dpkg/dpkg.cfg.d/docker"], "files of the base that mmdebstrap lacks");
    let diverted = |files: &BTreeMap<String, (Seen, Vec<u8>)>| -> BTreeSet<Vec<String>> {
        let text = String::from_utf8(files["var/lib/dpkg/diversions"].1.clone()).unwrap();
        text.lines().map(str::to_owned).collect::<Vec<_>>().chunks(3).map(<[String]>::to_vec).collect()
    };
    assert_eq!(diverted(&ours), diverted(&theirs));
    let different: Vec<_> = ours
        .iter()
        .filter(|(path, (seen, _))| {
            theirs.get(*path).is_some_and(|(other, _)| other != seen)
                && !listed(path, &DIFFERENT)
                && !listed(path, also)
        })
        .map(|(path, (seen, _))| format!("{path}: {seen:?}, not {:?}", theirs[path].0))
        .collect();
    assert_eq!(different, Vec::<String>::new(), "files that differ");
}
