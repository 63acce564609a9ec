//! Explains why a file that a program does not find is not part of the source, although the user sees it: git ignores
//! it or does not track it, or it is outside the source's folder. Searches the program's messages for the names of such
//! files.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use camino::{Utf8Component, Utf8Path, Utf8PathBuf};
use vcsandbox::process;
use vcstore::lossy;

use super::program::Git;
use super::{SourceFolder, tree};

/// The maximum number of files that a message names.
const SHOWN: usize = 10;

const LIMIT: Duration = Duration::from_secs(60);

/// Messages of programs about missing files, in lower case.
const MISSED: [&str; 18] = [
    "no such file",
    "not found",
    "notfound",
    "no matching files",
    "cannot find",
    "can't find",
    "could not find",
    "couldn't read",
    "cannot open",
    "can't open",
    "could not open",
    "does not exist",
    "doesn't exist",
    "no rule to make",
    "enoent",
    "is not in std",
    "no required module",
    "unresolved",
];

/// The paths of a source in the sandbox.
const PLACES: [&str; 2] = ["/build/source", "/source"];

/// The output folder of Cargo, which is never a missing source file.
const COMPILED: &str = "target";

/// The files in the folders of a source that are not part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExcludedFiles {
    git: Git,
    /// The user's folder of the source, with resolved links.
    real: Utf8PathBuf,
    folders: Vec<Folder>,
}

/// The state of a source folder according to git.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Folder {
    dir: Utf8PathBuf,
    /// The existing files that git does not track.
    untracked: BTreeSet<Utf8PathBuf>,
    /// The tracked files that do not exist.
    absent: BTreeSet<Utf8PathBuf>,
    /// All folders that contain tracked files.
    known: BTreeSet<Utf8PathBuf>,
}

/// The program whose failure is explained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// Go. Its messages do not always name missing files, so all untracked code files are listed.
    Go,
    /// Cargo, and programs that it runs. Their messages name missing files, or at least report that one is missing.
    Cargo,
    /// A command. Its messages are like Cargo's; it sees only the source's folder, not the folders above.
    Command,
}

/// The reason why a file is not part of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reason {
    Untracked,
    Ignored,
    Submodule,
    Absent,
    Outside,
}

impl ExcludedFiles {
    /// Creates an empty list for the source in the folder `real`.
    pub(super) fn new(git: Git, real: Utf8PathBuf) -> Self {
        Self { git, real, folders: Vec::new() }
    }

    /// Adds the untracked and missing files of a source folder.
    pub(super) fn add(&mut self, part: &SourceFolder) {
        let tracked = part.tracked.iter().flatten();
        let known = tracked.flat_map(|file| file.ancestors().skip(1)).map(lossy).collect();
        let names = |files: &BTreeSet<PathBuf>| files.iter().map(|file| lossy(file)).collect();
        let (dir, absent, untracked) = (part.dir.clone(), names(&part.absent), names(&part.untracked));
        self.folders.push(Folder { dir, untracked, absent, known });
    }

    /// Adds to a failure why the files that it does not find are not part of the source.
    pub(crate) fn explain(&self, failure: process::Failure, reader: Reader) -> process::Failure {
        failure.map_stderr(|stderr| match self.reasons(&stderr, reader) {
            None => stderr,
            Some(reasons) => format!("{}\n{reasons}", stderr.trim_end()),
        })
    }

    /// Explains why a file or folder in the source's folder is not part of the source; `None` if the reason is unknown.
    pub(crate) fn why(&self, path: &Utf8Path) -> Option<String> {
        let mut found = Found::default();
        let path = normal(&self.real.join(path));
        for folder in &self.folders {
            let Ok(path) = path.strip_prefix(&folder.dir) else { continue };
            for file in folder.untracked.iter().filter(|file| file.starts_with(path)) {
                found.add_untracked(folder, file);
            }
            for file in folder.absent.iter().filter(|file| path.starts_with(file) || file.starts_with(path)) {
                found.add_absent(folder, file);
            }
        }
        self.told(&found)
    }

    fn reasons(&self, words: &str, reader: Reader) -> Option<String> {
        let mut found = Found::default();
        let lower = words.to_lowercase();
        let missed = |text: &str| MISSED.iter().any(|phrase| text.contains(phrase));
        if missed(&lower) {
            for (line, lower) in words.lines().zip(lower.lines()) {
                let plain = missed(lower);
                for name in names(line).filter(|name| plain || name.contains(['/', '.'])) {
                    self.look_for(&self.named(name), reader, &mut found);
                }
            }
            if found.is_empty() && reader != Reader::Go {
                self.all(&mut found, |_| true);
            }
        }
        if reader == Reader::Go {
            self.all(&mut found, tree::is_code);
            for folder in &self.folders {
                folder.absent.iter().filter(|file| tree::is_code(file)).for_each(|file| found.add_absent(folder, file));
            }
        }
        self.told(&found)
    }

    /// Returns the path of `name`, as in a program's message, relative to the source's folder.
    fn named(&self, name: &str) -> Utf8PathBuf {
        let name = normal(Utf8Path::new(name));
        let inside = PLACES.iter().map(Utf8Path::new).chain([self.real.as_path()]);
        inside.into_iter().find_map(|place| name.strip_prefix(place).ok()).unwrap_or(&name).to_owned()
    }

    /// Finds the files whose paths equal `name`, or share its last components.
    fn look_for(&self, name: &Utf8Path, reader: Reader, found: &mut Found) {
        if name.as_str().is_empty() {
            return;
        }
        let same = |path: &Utf8Path| !path.as_str().is_empty() && (path.ends_with(name) || name.ends_with(path));
        for folder in &self.folders {
            for file in &folder.untracked {
                if file.ancestors().take_while(|above| !folder.known.contains(*above)).any(same) {
                    found.add_untracked(folder, file);
                }
            }
            for file in &folder.absent {
                let gone = file.ancestors().skip(1).take_while(|above| !folder.dir.join(above).is_dir());
                if [file.as_path()].into_iter().chain(gone).any(same) || name.starts_with(file) {
                    found.add_absent(folder, file);
                }
            }
        }
        if name.starts_with("..") {
            let path = normal(&self.real.join(name));
            let held = self.folders.iter().any(|folder| path.starts_with(&folder.dir));
            if (!held || reader == Reader::Command) && path.exists() {
                found.others.insert((Reason::Outside, path));
            }
        }
    }

    fn all(&self, found: &mut Found, wanted: impl Fn(&Utf8Path) -> bool) {
        for folder in &self.folders {
            for file in folder.untracked.iter().filter(|file| !file.starts_with(COMPILED) && wanted(file)) {
                found.add_untracked(folder, file);
            }
        }
    }

    /// Formats the found files for a message.
    fn told(&self, found: &Found) -> Option<String> {
        let mut reasons: BTreeMap<Reason, BTreeSet<&Utf8Path>> = BTreeMap::new();
        for (reason, path) in &found.others {
            reasons.entry(*reason).or_default().insert(path);
        }
        let ignored = self.ignored(found);
        for (path, (_, file)) in &found.untracked {
            let reason = if ignored.contains(file) { Reason::Ignored } else { Reason::Untracked };
            reasons.entry(reason).or_default().insert(path);
        }
        let mut text = String::new();
        for (reason, paths) in reasons {
            let named: Vec<_> = paths.iter().take(SHOWN).map(|path| self.called(path)).collect();
            let more = paths.len().saturating_sub(SHOWN);
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            let why = match reason {
                Reason::Untracked => "because git does not track them (`git add` includes them)".to_owned(),
                Reason::Ignored => "because git ignores them (`git add --force` includes them)".to_owned(),
                Reason::Submodule => {
                    "because they are submodules that are not checked out (`git submodule update --init`)".to_owned()
                }
                Reason::Absent => {
                    "because they are tracked but not in the folder (`git restore` restores them, `git sparse-checkout \
                     add` their folder)"
                        .to_owned()
                }
                Reason::Outside => format!(
                    "because they are outside its folder {} (name the folder that contains both as the source, and this \
                     one as its subdir)",
                    self.real
                ),
            };
            let _ = writeln!(text, "not part of the source, {why}: {}{more}", named.join(", "));
        }
        (!text.is_empty()).then(|| text.trim_end().to_owned())
    }

    /// Returns the untracked files that the user's git ignores.
    fn ignored(&self, found: &Found) -> BTreeSet<Utf8PathBuf> {
        let mut ignored = BTreeSet::new();
        for folder in &self.folders {
            let files = found.untracked.values().filter(|(dir, _)| *dir == folder.dir).map(|(_, file)| file);
            let files: Vec<_> = files.take(SHOWN).collect();
            let Ok(mut git) = self.git.of_user() else { continue };
            git.arg("--literal-pathspecs").arg("-C").arg(&folder.dir);
            git.args(["ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--"]);
            git.args(files.iter().filter_map(|file| file.strip_prefix(&folder.dir).ok()));
            if files.is_empty() {
                continue;
            }
            // It fails for files of submodules, which then count as untracked.
            let listed = process::run(&mut git, LIMIT).unwrap_or_default();
            let names = listed.split(|byte| *byte == 0).filter(|name| !name.is_empty());
            ignored.extend(names.filter_map(|name| Some(folder.dir.join(std::str::from_utf8(name).ok()?))));
        }
        ignored
    }

    /// Returns a path for a message: relative to the source's folder if it is below it.
    fn called(&self, path: &Utf8Path) -> String {
        let path = path.strip_prefix(&self.real).unwrap_or(path);
        path.to_string()
    }
}

/// Absolute paths of files that are not part of the source.
#[derive(Default)]
struct Found {
    /// By outermost folder without tracked files, or by the file itself: the source folder, and one of the files.
    untracked: BTreeMap<Utf8PathBuf, (Utf8PathBuf, Utf8PathBuf)>,
    others: BTreeSet<(Reason, Utf8PathBuf)>,
}

impl Found {
    fn is_empty(&self) -> bool {
        self.untracked.is_empty() && self.others.is_empty()
    }

    fn add_absent(&mut self, folder: &Folder, file: &Utf8Path) {
        let path = folder.dir.join(file);
        self.others.insert((if path.is_dir() { Reason::Submodule } else { Reason::Absent }, path));
    }

    fn add_untracked(&mut self, folder: &Folder, file: &Utf8Path) {
        let is_outer = |path: &&Utf8Path| !path.as_str().is_empty() && !folder.known.contains(*path);
        let outer = file.ancestors().take_while(is_outer).last().unwrap_or(file);
        let (dir, file) = (folder.dir.clone(), folder.dir.join(file));
        self.untracked.entry(folder.dir.join(outer)).or_insert((dir, file));
    }
}

/// Returns the words in a line of a program's message that may be file names.
fn names(line: &str) -> impl Iterator<Item = &str> {
    let ends = |c: char| {
        c.is_whitespace()
            || matches!(c, '\'' | '"' | '`' | ',' | ';' | '(' | ')' | '<' | '>' | '‘' | '’' | '=' | '[' | ']')
    };
    let parts = line.split(ends).flat_map(|word| word.split(':'));
    parts.map(|name| name.trim_end_matches(['.', '/', '*'])).filter(|name| !name.is_empty())
}

/// Returns the path without `.` and, as far as possible, without `..`.
fn normal(path: &Utf8Path) -> Utf8PathBuf {
    let mut parts = Utf8PathBuf::new();
    for part in path.components() {
        match part {
            Utf8Component::CurDir => {}
            Utf8Component::ParentDir if parts.file_name().is_some() && !parts.ends_with("..") => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use camino::Utf8Path;

    use super::{names, normal};

    #[test]
    fn names_of_files_are_found_in_what_programs_say() {
        for (line, name) in [
            ("main.go:5:12: pattern dist: no matching files found", "dist"),
            (
                "error: couldn't read `src/../dist/index.html`: No such file or directory (os error 2)",
                "dist/index.html",
            ),
            ("cp: cannot stat 'dist': No such file or directory", "dist"),
            ("make: *** No rule to make target 'gen/x.c', needed by 'x'.  Stop.", "gen/x.c"),
            ("ls: cannot access ‘a/b/’: No such file or directory", "a/b"),
            ("FileNotFoundError: [Errno 2] No such file or directory: './conf.json'", "conf.json"),
        ] {
            assert!(names(line).any(|found| normal(Utf8Path::new(found)) == name), "{line}");
        }
    }

    #[test]
    fn a_path_is_told_without_detours() {
        for (path, plain) in [("a/./b/../c", "a/c"), ("a/../../b", "../b"), ("../../b", "../../b"), ("/a/../b", "/b")] {
            assert_eq!(normal(Utf8Path::new(path)), plain);
        }
    }
}
