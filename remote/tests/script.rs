//! What the script does in shells that machines have, for folders of every kind. Folders of other users need root.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use camino::{Utf8Path, Utf8PathBuf};
use vcremote::script::{Program, beginning, line_before};

/// An ordinary user's number.
const USER: u32 = 10_002;

/// Another's.
const OTHER: u32 = 10_003;

/// The shells, with the tools that come with them.
const SHELLS: [&str; 3] = ["dash", "bash --posix", "busybox sh"];

/// The program that is placed.
const CONTENT: &str = "#!/bin/sh\necho it runs \"$@\"\n";

struct Bench {
    _folder: tempfile::TempDir,
    path: Utf8PathBuf,
    shell: &'static str,
}

impl Bench {
    fn new(shell: &'static str) -> Self {
        // Below a folder that all may write to and in which names are their owners' alone.
        let folder = tempfile::Builder::new().prefix("vcremote-").tempdir_in("/var/tmp").expect("a folder");
        let path = Utf8PathBuf::try_from(folder.path().to_owned()).expect("UTF-8");
        let bench = Self { _folder: folder, path, shell };
        bench.set_mode("", 0o755);
        fs::create_dir(bench.path.join("bin")).expect("a folder");
        bench
    }

    fn set_mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path.join(name), Permissions::from_mode(mode)).expect("a mode");
    }

    fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.path.join(name)).expect("a file").permissions().mode() & 0o7777
    }

    fn folder(&self, name: &str, mode: u32, owner: u32) -> Utf8PathBuf {
        let path = self.path.join(name);
        fs::create_dir(&path).expect("a folder");
        chown(&path, Some(owner), Some(owner)).expect("tests run as root");
        self.set_mode(name, mode);
        path
    }

    /// Puts a program of this text before the machine's.
    fn prefer(&self, name: &str, text: &str) {
        let path = self.path.join("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("a program");
        fs::set_permissions(path, Permissions::from_mode(0o755)).expect("its mode");
    }

    /// Runs the script's beginning and `rest` as a user, as a login does.
    fn run(&self, user: u32, rest: &str) -> Output {
        let hash = String::from_utf8(Command::new("sha256sum").stdin(self.program()).output().expect("a hash").stdout);
        let hash = hash.expect("hexadecimal digits");
        let program = Program { hash: &hash[..64], size: CONTENT.len() as u64 };
        let script = format!("{}{rest}\n", beginning(program));
        let line = line_before(&script).replace("exec sh", &format!("exec {}", self.shell));
        let mut command = Command::new("setpriv");
        command.args([&format!("--reuid={user}"), &format!("--regid={user}"), "--clear-groups", "dash", "-c", &line]);
        command.env("PATH", format!("{}/bin:/usr/sbin:/usr/bin:/sbin:/bin", self.path)).current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("setpriv runs");
        let mut stdin = process.stdin.take().expect("its input");
        // What ends early reads no more.
        let _ = stdin.write_all(script.as_bytes());
        drop(stdin);
        process.wait_with_output().expect("it ends")
    }

    fn program(&self) -> fs::File {
        let path = self.path.join("program");
        fs::write(&path, CONTENT).expect("a program");
        fs::File::open(path).expect("a program")
    }

    /// What `own FOLDER` comes to: the folder that was entered, or why none was.
    fn own(&self, user: u32, folder: &Utf8Path) -> Result<String, String> {
        let output = self.run(user, &format!("own {folder} && echo \"yes $at\" || echo \"no $why\""));
        let said = text(&output);
        match said.trim_end().split_once(' ') {
            Some(("yes", at)) => Ok(at.to_owned()),
            Some((_, why)) => Err(why.to_owned()),
            None => panic!("{}: {output:?}", self.shell),
        }
    }
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

#[test]
fn a_folder_of_ones_own_is_made_and_entered() {
    for shell in SHELLS {
        let bench = Bench::new(shell);
        let home = bench.folder("home", 0o755, USER);
        let own = home.join(".cache/x y/vcdist");
        let quoted = Utf8PathBuf::from(format!("'{own}'"));
        for _ in 0..2 {
            assert_eq!(bench.own(USER, &quoted), Ok(own.to_string()), "{shell}");
        }
        assert_eq!(["home/.cache", "home/.cache/x y/vcdist"].map(|name| bench.mode(name)), [0o700; 2], "{shell}");
        // A folder that was there keeps its mode, and links on the way count for where they lead.
        bench.set_mode("home/.cache", 0o755);
        symlink(home.join(".cache"), bench.path.join("link")).expect("a link");
        assert_eq!(bench.own(USER, &bench.path.join("link/vcdist")), Ok(format!("{home}/.cache/vcdist")), "{shell}");
        assert_eq!(bench.mode("home/.cache"), 0o755, "{shell}");
        let shared = bench.folder("shared", 0o1777, 0);
        assert_eq!(bench.own(USER, &shared.join("vcdist")), Ok(format!("{shared}/vcdist")), "{shell}");
    }
}

#[test]
fn a_folder_that_others_can_change_is_refused_wherever_it_is_on_the_way() {
    for shell in SHELLS {
        let bench = Bench::new(shell);
        let way = |name: &str, mode, owner| {
            let top = bench.folder(name, mode, owner);
            let (deep, own) = (top.join("deep"), top.join("deep/vcdist"));
            for folder in [&deep, &own] {
                fs::create_dir(folder).expect("a folder");
                chown(folder, Some(USER), Some(USER)).expect("its owner");
                fs::set_permissions(folder, Permissions::from_mode(0o755)).expect("its mode");
            }
            (top, own)
        };
        for (name, mode) in [("all", 0o777), ("group", 0o775), ("others", 0o757)] {
            let (top, own) = way(name, mode, USER);
            assert_eq!(bench.own(USER, &own), Err(format!("{top} is writable by other users")), "{shell}");
            assert_eq!(bench.own(USER, &top.join("new/vcdist")), Err(format!("{top} is writable by other users")));
            assert!(!top.join("new").exists(), "{shell}: nothing is made where it would not be safe");
        }
        let (top, own) = way("theirs", 0o755, OTHER);
        assert_eq!(bench.own(USER, &own), Err(format!("{top} belongs to user {OTHER}")), "{shell}");
        let (top, own) = way("user", 0o755, USER);
        assert_eq!(bench.own(0, &top.join("vcdist")), Err(format!("{top} belongs to user {USER}")), "{shell}");
        assert_eq!(
            bench.own(0, &own),
            Err(format!("{top}/deep belongs to user {USER}")),
            "{shell}: root trusts root alone"
        );
        // The last folder is the user's alone: there, no stickiness helps.
        for mode in [0o777, 0o1777, 0o775] {
            bench.set_mode("user/deep/vcdist", mode);
            let why = bench.own(USER, &own).expect_err("refused");
            assert_eq!(why, format!("{own} is writable by other users"), "{shell} {mode:o}");
            assert_eq!(bench.mode("user/deep/vcdist"), mode, "{shell}: its mode stays");
        }
        assert!(bench.own(USER, Utf8Path::new("relative/vcdist")).is_err(), "{shell}");
        assert!(bench.own(USER, &top.join("program/vcdist")).is_ok());
        fs::write(top.join("deep/file"), "").expect("a file");
        assert!(bench.own(USER, &top.join("deep/file")).is_err() && bench.own(USER, &top.join("deep/file/x")).is_err());
    }
}

#[test]
fn a_link_in_the_place_of_the_folder_is_refused_and_what_it_leads_to_is_left_as_it_is() {
    for shell in SHELLS {
        let bench = Bench::new(shell);
        let (shared, secret) = (bench.folder("shared", 0o1777, 0), bench.folder("secret", 0o755, USER));
        fs::write(secret.join("new.4194999"), "").expect("a file");
        symlink(&secret, shared.join("vcdist")).expect("a link");
        assert_eq!(bench.own(USER, &shared.join("vcdist")), Err(format!("{shared}/vcdist is a link")), "{shell}");
        symlink(shared.join("elsewhere"), shared.join("dangling")).expect("a link");
        assert!(bench.own(USER, &shared.join("dangling")).is_err() && !shared.join("elsewhere").exists(), "{shell}");
        assert_eq!((bench.mode("secret"), fs::read_dir(&secret).expect("a folder").count()), (0o755, 1), "{shell}");
    }
}

#[test]
fn a_race_for_the_folder_is_not_won() {
    // A tool that the script calls puts something else in the folder's place, between its being entered and its being looked
    // at: another's folder for a link, a link for another's folder, and a folder of the user's own for a link.
    for shell in ["dash", "bash --posix"] {
        for (before, after, shared_mode) in
            [("link", "theirs", 0o777), ("theirs", "link", 0o777), ("link", "ours", 0o1777)]
        {
            let bench = Bench::new(shell);
            let (shared, secret) = (bench.folder("shared", shared_mode, 0), bench.folder("secret", 0o700, USER));
            bench.folder("shared/theirs", 0o777, OTHER);
            bench.folder("shared/ours", 0o700, USER);
            let (place, link) = (shared.join("vcdist"), shared.join("link"));
            symlink(&secret, &link).expect("a link");
            std::os::unix::fs::lchown(&link, Some(USER), Some(USER)).expect("its owner");
            fs::rename(shared.join(before), &place).expect("in its place");
            let swap = format!("mv {place} {shared}/{before}; mv {shared}/{after} {place}");
            bench.prefer("ls", &format!("[ \"$PWD\" = {shared} ] || {{ {swap}; }} 2>/dev/null\nexec /bin/ls \"$@\""));
            let entered = bench.own(USER, &place);
            assert!(entered.is_err(), "{shell} {before} {after}: {entered:?}");
            let left: Vec<PathBuf> =
                fs::read_dir(&secret).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
            assert!(left.is_empty() && bench.mode("secret") == 0o700, "{shell} {before} {after}: {left:?}");
        }
    }
}

#[test]
fn what_was_checked_is_what_runs() {
    for shell in SHELLS {
        let bench = Bench::new(shell);
        let own = bench.folder("own", 0o700, USER);
        let file = own.join("program");
        let place = |text: &str| {
            let _ = fs::remove_file(&file);
            fs::write(&file, text).expect("a program");
            fs::set_permissions(&file, Permissions::from_mode(0o755)).expect("its mode");
        };
        let run = || bench.run(USER, &format!("own {own} && has program && exec /proc/self/fd/9 a b; echo no"));
        place(CONTENT);
        assert_eq!(text(&run()), "it runs a b\n", "{shell}");
        // Another takes its place once it was hashed.
        bench.prefer("openssl", "exit 1");
        bench.prefer("sha256sum", &format!("/usr/bin/sha256sum; cp -f /bin/false {own}/evil; mv -f {own}/evil {file}"));
        assert_eq!(text(&run()), "it runs a b\n", "{shell}");
        let placed = fs::read(&file).expect("a program") == fs::read("/bin/false").expect("a program");
        // busybox has tools of its own, which nothing takes the place of.
        assert!(placed || shell.starts_with("busybox"), "{shell}: the other is in its place");
        for bad in ["", "#!/bin/sh\necho it runs anyway\n"] {
            place(bad);
            assert_eq!(text(&run()), "no\n", "{shell}");
        }
        fs::remove_file(&file).expect("a file");
        assert_eq!(text(&run()), "no\n", "{shell}: there is none");
        symlink(bench.path.join("program"), &file).expect("a link");
        assert_eq!(text(&run()), "no\n", "{shell}: a link is none of ours");
        fs::remove_file(&file).expect("a link");
        assert!(Command::new("mkfifo").arg(&file).status().expect("mkfifo runs").success());
        assert_eq!(text(&run()), "no\n", "{shell}: a pipe is not waited for");
    }
}

#[test]
fn a_program_is_taken_in_and_what_logins_left_goes() {
    for shell in SHELLS {
        let bench = Bench::new(shell);
        let own = bench.folder("own", 0o700, USER);
        let node = String::from_utf8(Command::new("uname").arg("-n").output().expect("a name").stdout).expect("UTF-8");
        let node = node.trim();
        // No process has such a number: it is above the most that Linux gives.
        let (mine, here) = (format!("new.{node}.4194999"), format!("new.{node}.{}", std::process::id()));
        let names = [&mine, "new.4194998", &here, "new.another.4194999", "new.another.4194997", "kept"];
        for name in names {
            fs::write(own.join(name), "part").expect("a part");
        }
        let old = Command::new("touch").args(["-d", "3 days ago", own.join("new.another.4194997").as_str()]).status();
        assert!(old.expect("touch runs").success());
        let rest = format!(
            "own {own} && sweep && room && head -c {} <{}/program >\"$t\" && command exec 9<\"$t\" && same && mv \"$t\" p && echo taken",
            CONTENT.len(),
            bench.path
        );
        assert_eq!(text(&bench.run(USER, &rest)), "taken\n", "{shell}");
        let entries = fs::read_dir(&own).expect("a folder").map(|entry| entry.expect("an entry").file_name());
        let mut left: Vec<String> = entries.map(|name| name.into_string().expect("UTF-8")).collect();
        left.sort();
        let mut kept = ["kept", &here, "new.another.4194999", "p"].map(str::to_owned);
        kept.sort();
        assert_eq!(left, kept, "{shell}: what may still be on its way stays");
    }
}
