//! The workspace of a module: a `go.work` in the source that uses the module and connects it to other modules.

use camino::{Utf8Path, Utf8PathBuf};
use serde::Deserialize;
use vcsandbox::plain;
use vcsandbox::process;
use vcstore::Store;

use super::Go;
use super::module::{LIMIT, Replace, at_least, folder};
use crate::Error;

/// The name of a workspace file.
pub(super) const FILE: &str = "go.work";

/// A workspace that uses the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Work {
    /// The path of the `go.work`; absolute.
    pub(super) file: Utf8PathBuf,
    /// The folders of the modules that it uses.
    pub(super) uses: Vec<Utf8PathBuf>,
    /// The folders that replace other modules.
    pub(super) replaced: Vec<Utf8PathBuf>,
    /// Whether the required modules are in its `vendor` folder.
    pub(super) vendored: bool,
}

/// The output of `go work edit -json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GoWork {
    go: Option<String>,
    r#use: Option<Vec<Use>>,
    replace: Option<Vec<Replace>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Use {
    disk_path: String,
}

impl Work {
    /// Finds the workspace of the module in `dir` in its parent folders up to `top`, as Go does. Returns `None` if
    /// there is none, or if it does not use the module, which is then built on its own.
    ///
    /// # Errors
    /// When Go cannot read the file, or it refers to folders that cannot be part of a source.
    pub(super) fn find(go: &Go, store: &Store, dir: &Utf8Path, top: &Utf8Path) -> Result<Option<Self>, Error> {
        let Some(file) = file(dir, top) else { return Ok(None) };
        let attempt = format!("reading {}", file.strip_prefix(top).unwrap_or(&file));
        let home = go.home(store)?;
        let mut command = go.command(&home.path);
        command.current_dir(&home.path).args(["work", "edit", "-json", file.as_str()]);
        let output = process::run(&mut command, LIMIT).map_err(Error::go(&attempt))?;
        let other = |why: String| Error::go(&attempt)(process::Failure::Other(why));
        let work: GoWork = serde_json::from_slice(&output).map_err(|why| other(why.to_string()))?;
        let beside = file.parent().unwrap_or(top);
        let used = work.r#use.unwrap_or_default().into_iter().map(|one| one.disk_path);
        let mut uses = Vec::new();
        for path in used {
            if path.starts_with('/') {
                return Err(other(format!("it uses {path}, an absolute path, which is valid on this machine only")));
            }
            let found = beside.join(&path).canonicalize_utf8();
            let missing = |_| other(format!("it uses {path}, which is not part of the source"));
            uses.push(found.map_err(missing)?);
        }
        if !uses.iter().any(|used| used == dir) {
            return Ok(None);
        }
        let mut replaced = Vec::new();
        for one in work.replace.unwrap_or_default() {
            replaced.extend(folder(&one, beside).map_err(|why| other(why.to_string()))?);
        }
        let vendored =
            beside.join("vendor/modules.txt").is_file() && work.go.as_deref().is_some_and(|go| at_least(go, 22));
        Ok(Some(Self { file, uses, replaced, vendored }))
    }

    /// Returns the folder of the `go.work`.
    pub(super) fn dir(&self) -> &Utf8Path {
        self.file.parent().unwrap_or(&self.file)
    }
}

/// Returns the innermost `go.work` at or above `dir`, up to `top`.
fn file(dir: &Utf8Path, top: &Utf8Path) -> Option<Utf8PathBuf> {
    let folders = dir.ancestors().take_while(|folder| folder.starts_with(top));
    folders.map(|folder| folder.join(FILE)).find(|file| file.is_file())
}

/// Returns the `go.work` that uses the module in `dir`, and the existing folders that it uses. `top` is the folder of
/// the source.
pub(super) fn used(dir: &Utf8Path, top: &Utf8Path) -> Option<(Utf8PathBuf, Vec<Utf8PathBuf>)> {
    let file = file(dir, top)?;
    let uses = uses(&file);
    uses.iter().any(|used| used == dir).then_some((file, uses))
}

/// Explains why Go may not find neighbouring modules of the source: an unused `go.work`. `real` is the user's folder of
/// the module, and `top` the user's folder of the source.
pub(super) fn passed_over(real: &Utf8Path, top: &Utf8Path) -> Option<String> {
    let found = real.ancestors().map(|folder| folder.join(FILE)).find(|file| file.is_file())?;
    let (folder, uses) = (found.parent()?, uses(&found));
    if !uses.iter().any(|used| used == real) {
        return found
            .starts_with(top)
            .then(|| format!("{found} is ignored, because it does not use this module (`go work use` adds it)"));
    }
    if found.starts_with(top) {
        return None;
    }
    let below = real.strip_prefix(folder).ok()?;
    Some(format!(
        "{found} is ignored, because it is above the source: name {folder} as the source (--source-dir), and {below} as \
         the folder within it (--source-subdir)"
    ))
}

/// Parses the folders that a `go.work` uses, without Go.
fn uses(file: &Utf8Path) -> Vec<Utf8PathBuf> {
    let text = plain::read_text(file).unwrap_or_default();
    let beside = file.parent().unwrap_or(file);
    let (mut block, mut uses) = ("", Vec::new());
    for line in text.lines() {
        let mut words = line.split("//").next().unwrap_or_default().split_whitespace();
        let path = match words.next() {
            Some(")") => {
                block = "";
                None
            }
            Some(word @ ("use" | "replace" | "godebug")) => match words.next() {
                Some("(") => {
                    block = word;
                    None
                }
                path => path.filter(|_| word == "use"),
            },
            path => path.filter(|_| block == "use"),
        };
        let path = path.map(|path| path.trim_matches(['"', '`']));
        uses.extend(path.and_then(|path| beside.join(path).canonicalize_utf8().ok()));
    }
    uses
}

#[cfg(test)]
mod tests {
    use camino::Utf8PathBuf;

    use super::{passed_over, used};

    #[test]
    fn a_workspace_is_read_as_go_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let top = Utf8PathBuf::try_from(folder.path().canonicalize().unwrap()).unwrap();
        for name in ["app", "lib", "one", "other", "replaced"] {
            std::fs::create_dir(top.join(name)).unwrap();
        }
        let text = "go 1.24\n\nuse ./one // the first\nuse (\n\t./app\n\t\"./lib\" // quoted\n\t./gone\n)\n\n\
                    replace (\n\texample.org/x => ./replaced\n)\n";
        std::fs::write(top.join("go.work"), text).unwrap();
        let found = used(&top.join("app"), &top).unwrap();
        assert_eq!(found, (top.join("go.work"), ["one", "app", "lib"].map(|name| top.join(name)).to_vec()));
        assert_eq!(used(&top.join("other"), &top), None, "it does not use that module");
        assert_eq!(used(&top.join("app"), &top.join("app")), None, "it is above the source");
        assert_eq!(passed_over(&top.join("app"), &top), None);
        let above = passed_over(&top.join("app"), &top.join("app")).unwrap();
        assert!(above.contains("above the source") && above.contains("and app as the folder"), "{above}");
        assert!(passed_over(&top.join("other"), &top).unwrap().contains("go work use"));
    }
}
