//! Edits of a source: patches, text replacements and new files. Each must match exactly, or the build fails; named edits
//! that do not concern a source are skipped.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use camino::{Utf8Component, Utf8Path, Utf8PathBuf};
use diffy::patch_set::{FileOperation, ParseOptions, PatchSet};
use diffy::{Line, Patch};
use vcstore::text;

use crate::error::SourceError;
use crate::project::{Change, Edit};

/// Separates the edits that apply to the source with its code in `dir` from the names of the others, with the reason. A named
/// edit does not apply if the source has none of its files, or contains all its changes already.
///
/// # Errors
/// When a file cannot be read.
pub(super) fn applicable(
    edits: &[Edit],
    dir: &Utf8Path,
) -> Result<(Vec<Edit>, BTreeMap<String, String>), crate::Error> {
    let mut skipped = BTreeMap::new();
    let names: BTreeSet<&String> = edits.iter().filter_map(|edit| edit.name.as_ref()).collect();
    for name in names {
        let changes: Vec<&Change> =
            edits.iter().filter(|edit| edit.name.as_ref() == Some(name)).map(|edit| &edit.change).collect();
        let replaced: Vec<&Utf8PathBuf> = changes
            .iter()
            .filter_map(|change| match change {
                Change::Replace { file, .. } => Some(file),
                Change::Patch(_) | Change::Create { .. } => None,
            })
            .collect();
        if !replaced.is_empty() && replaced.iter().all(|file| dir.join(file).symlink_metadata().is_err()) {
            let files = replaced.iter().map(|file| file.as_str()).collect::<Vec<_>>().join(", ");
            skipped.insert(name.clone(), format!("the source has no {files}"));
            continue;
        }
        let mut contained = true;
        for change in changes {
            contained &= match change {
                Change::Replace { file, replace, .. } => read(dir, file).is_ok_and(|text| text.contains(replace)),
                Change::Create { file, content } => read(dir, file).is_ok_and(|text| text == *content),
                Change::Patch(_) => false,
            };
        }
        if contained {
            skipped.insert(name.clone(), "the source contains it already".to_owned());
        }
    }
    let applies = |edit: &&Edit| edit.name.as_ref().is_none_or(|name| !skipped.contains_key(name));
    let kept = edits.iter().filter(applies).cloned().collect();
    Ok((kept, skipped))
}

/// Applies the edits in order to the files in the folder `top`, with the code in its subfolder `below`. Returns the edited
/// files, relative to `top`.
///
/// # Errors
/// When an edit does not match; the folder is then partly edited and must be discarded.
pub(super) fn apply(edits: &[Edit], top: &Utf8Path, below: &Utf8Path) -> Result<BTreeSet<Utf8PathBuf>, crate::Error> {
    let mut edited = BTreeSet::new();
    for Edit { name, change } in edits {
        let place = |file: &Utf8Path| if name.is_some() { below.join(file) } else { file.to_owned() };
        let done = match change {
            Change::Patch(path) => patch(path, top),
            Change::Replace { file, find, replace } => replaced(top, place(file), find, replace),
            Change::Create { file, content } => created(top, place(file), content),
        };
        edited.extend(match (done, name) {
            (Err(crate::Error::Source(error)), Some(name)) => return Err(error.of_edit(name).into()),
            (done, _) => done?,
        });
    }
    Ok(edited)
}

fn replaced(
    top: &Utf8Path,
    file: Utf8PathBuf,
    find: &str,
    replace: &str,
) -> Result<BTreeSet<Utf8PathBuf>, crate::Error> {
    let text = read(top, &file)?;
    let found = text.matches(find).count();
    if found != 1 {
        return Err(SourceError::Matches { file, found, find: find.to_owned() }.into());
    }
    write(top, &file, &text.replacen(find, replace, 1))?;
    Ok([file].into())
}

fn created(top: &Utf8Path, file: Utf8PathBuf, content: &str) -> Result<BTreeSet<Utf8PathBuf>, crate::Error> {
    if inside(top, &file)?.symlink_metadata().is_ok() {
        return Err(SourceError::File { file, why: "it already exists".to_owned() }.into());
    }
    write(top, &file, content)?;
    Ok([file].into())
}

fn patch(path: &Utf8Path, top: &Utf8Path) -> Result<BTreeSet<Utf8PathBuf>, crate::Error> {
    let bad = |why: String| SourceError::Patch { path: path.to_owned(), why };
    let text = text::read(path).map_err(crate::Error::unreadable("patch", path))?;
    let git = text.lines().any(|line| line.starts_with("diff --git "));
    let options = if git { ParseOptions::gitdiff() } else { ParseOptions::unidiff() };
    let (mut files, mut changed) = (BTreeSet::new(), 0);
    for one in PatchSet::parse(&text, options) {
        let one = one.map_err(|why| bad(why.to_string()))?;
        let patch = one.patch().as_text().ok_or_else(|| bad("it changes a binary file".to_owned()))?;
        match one.operation() {
            FileOperation::Modify { original, modified } => {
                let file = stripped(original);
                if file != stripped(modified) {
                    return Err(bad(format!("it gives one file two names, {original} and {modified}")).into());
                }
                write(top, &file, &patched(path, &file, &read(top, &file)?, patch)?)?;
                files.insert(file);
            }
            FileOperation::Create(name) => {
                let file = stripped(name);
                if inside(top, &file)?.symlink_metadata().is_ok() {
                    return Err(bad(format!("it creates {file}, which already exists")).into());
                }
                write(top, &file, &patched(path, &file, "", patch)?)?;
                files.insert(file);
            }
            FileOperation::Delete(name) => {
                let file = stripped(name);
                if !patched(path, &file, &read(top, &file)?, patch)?.is_empty() {
                    return Err(bad(format!("it removes {file}, but not its whole content")).into());
                }
                let place = inside(top, &file)?;
                fs::remove_file(&place).map_err(crate::Error::io("removing", &place))?;
                files.insert(file);
            }
            _ => {
                return Err(
                    bad("it renames or copies a file: create it with `git diff --no-renames`".to_owned()).into()
                );
            }
        }
        let lines = patch.hunks().iter().flat_map(diffy::Hunk::lines);
        changed += lines.filter(|line| !matches!(line, Line::Context(_))).count();
    }
    if files.is_empty() {
        return Err(bad("it changes nothing".to_owned()).into());
    }
    match changed_lines(&text).saturating_sub(changed) {
        0 => Ok(files),
        lost => Err(bad(format!("{lost} changed lines exceed the counts in its @@ lines")).into()),
    }
}

/// Counts the added and removed lines of a patch. The parser relies on the line counts in `@@` lines and ignores excess
/// lines: a wrong count would silently drop a part of the patch.
fn changed_lines(text: &str) -> usize {
    let (mut count, mut in_hunk) = (0, false);
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let header = line.starts_with("--- ") && lines.peek().is_some_and(|next| next.starts_with("+++ "));
        if line.starts_with("@@ ") {
            in_hunk = true;
        } else if header || line == "-- " || !(line.is_empty() || line.starts_with([' ', '+', '-', '\\'])) {
            // The next file, the end of a mail, or the text of the next mail.
            in_hunk = false;
        } else if in_hunk && line.starts_with(['+', '-']) {
            count += 1;
        }
    }
    count
}

/// Returns the patched text. Unlike patch(1), applies a hunk only at its stated position: a similar position may have
/// another meaning.
fn patched(path: &Utf8Path, file: &Utf8Path, text: &str, patch: &Patch<'_, str>) -> Result<String, SourceError> {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let mut out = String::new();
    let mut done = 0;
    for (number, hunk) in patch.hunks().iter().enumerate() {
        let range = hunk.old_range();
        let no_match = || SourceError::Hunk {
            path: path.to_owned(),
            file: file.to_owned(),
            hunk: number + 1,
            place: format!("line {}", range.start()),
        };
        // A hunk that only adds lines states the line before it; other hunks state their first line, counted from 1.
        let start = if range.is_empty() { range.start() } else { range.start().saturating_sub(1) };
        out.extend(lines.get(done..start).ok_or_else(no_match)?.iter().copied());
        done = start;
        for line in hunk.lines() {
            match line {
                Line::Insert(new) => out.push_str(new),
                Line::Context(old) | Line::Delete(old) => {
                    if lines.get(done) != Some(old) {
                        return Err(no_match());
                    }
                    if matches!(line, Line::Context(_)) {
                        out.push_str(old);
                    }
                    done += 1;
                }
            }
        }
    }
    out.extend(lines[done..].iter().copied());
    Ok(out)
}

/// Removes the `a/` or `b/` prefix that git and most tools add to a path.
fn stripped(path: &str) -> Utf8PathBuf {
    path.strip_prefix("a/").or_else(|| path.strip_prefix("b/")).unwrap_or(path).into()
}

fn read(top: &Utf8Path, file: &Utf8Path) -> Result<String, crate::Error> {
    let path = inside(top, file)?;
    let refused = |why: &str| SourceError::File { file: file.to_owned(), why: why.to_owned() };
    match path.symlink_metadata() {
        Ok(meta) if meta.is_file() => {}
        Ok(_) => return Err(refused("it is not a regular file").into()),
        Err(_) => return Err(refused("the source has no such file").into()),
    }
    let bytes = fs::read(&path).map_err(crate::Error::io("reading", &path))?;
    Ok(String::from_utf8(bytes).map_err(|_| refused("it is not text"))?)
}

fn write(top: &Utf8Path, file: &Utf8Path, text: &str) -> Result<(), crate::Error> {
    let path = inside(top, file)?;
    let folder = path.parent().unwrap_or(top);
    fs::create_dir_all(folder).map_err(crate::Error::io("making", folder))?;
    fs::write(&path, text).map_err(crate::Error::io("writing", &path))
}

/// Returns the path of a file below `top`; refuses one that leads out of `top` through a symbolic link.
fn inside(top: &Utf8Path, file: &Utf8Path) -> Result<Utf8PathBuf, SourceError> {
    let refused = |why: &str| Err(SourceError::File { file: file.to_owned(), why: why.to_owned() });
    if file.as_str().is_empty() || !file.components().all(|part| matches!(part, Utf8Component::Normal(_))) {
        return refused("it is not a path below the top of the source");
    }
    let mut folder = top.to_owned();
    for part in file.parent().into_iter().flat_map(Utf8Path::components) {
        folder.push(part);
        if folder.symlink_metadata().is_ok_and(|meta| !meta.is_dir()) {
            return refused(&format!("{part} in its path is not a folder"));
        }
    }
    Ok(top.join(file))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use camino::{Utf8Path, Utf8PathBuf};
    use proptest::prelude::*;

    use super::applicable;
    use crate::project::{Change, Edit};

    fn apply(edits: &[Edit], top: &Utf8Path) -> Result<BTreeSet<Utf8PathBuf>, crate::Error> {
        super::apply(edits, top, "".into())
    }

    /// Creates a folder with the file `a.txt`, and a patch next to it.
    fn folder(text: &str, patch: &str) -> (tempfile::TempDir, Utf8PathBuf, Vec<Edit>) {
        let folder = tempfile::tempdir().unwrap();
        let top = Utf8PathBuf::try_from(folder.path().join("top")).unwrap();
        std::fs::create_dir(&top).unwrap();
        std::fs::write(top.join("a.txt"), text).unwrap();
        let path = top.with_file_name("x.patch");
        std::fs::write(&path, patch).unwrap();
        (folder, top, vec![Edit { name: None, change: Change::Patch(path) }])
    }

    fn read(top: &Utf8Path, file: &str) -> String {
        std::fs::read_to_string(top.join(file)).unwrap()
    }

    fn said(result: Result<BTreeSet<Utf8PathBuf>, crate::Error>, top: &Utf8Path) -> String {
        result.unwrap_err().to_string().replace(top.parent().unwrap().as_str(), "")
    }

    fn replace(file: &str, find: &str) -> [Edit; 1] {
        let change = Change::Replace { file: file.into(), find: find.to_owned(), replace: "X".to_owned() };
        [Edit { name: None, change }]
    }

    #[test]
    fn a_text_is_replaced_where_it_stands_once() {
        let (_folder, top, _) = folder("one two\ntwo\n", "");
        apply(&replace("a.txt", "one"), &top).unwrap();
        assert_eq!(read(&top, "a.txt"), "X two\ntwo\n");
        let cases = [
            ("a.txt", "one", "editing a.txt: it does not contain \"one\""),
            ("a.txt", "two", "editing a.txt: it contains \"two\" 2 times"),
            ("b.txt", "one", "editing b.txt: the source has no such file"),
            ("../x.patch", "one", "editing ../x.patch: it is not a path below the top of the source"),
            ("/etc/passwd", "one", "editing /etc/passwd: it is not a path below the top of the source"),
        ];
        for (file, find, why) in cases {
            assert_eq!(said(apply(&replace(file, find), &top), &top), why);
        }
        std::os::unix::fs::symlink("..", top.join("out")).unwrap();
        std::os::unix::fs::symlink("../x.patch", top.join("link")).unwrap();
        let led = said(apply(&replace("out/x.patch", ""), &top), &top);
        assert_eq!(led, "editing out/x.patch: out in its path is not a folder");
        assert_eq!(said(apply(&replace("link", ""), &top), &top), "editing link: it is not a regular file");
    }

    #[test]
    fn a_named_edit_applies_below_the_code_as_a_whole_or_not_at_all() {
        let (_folder, top, _) = folder("", "");
        std::fs::create_dir(top.join("code")).unwrap();
        let code = top.join("code");
        std::fs::write(code.join("b.txt"), "one two\n").unwrap();
        let edit = |name: &str, change: Change| Edit { name: Some(name.to_owned()), change };
        let replace = |file: &str, find: &str, replace: &str| Change::Replace {
            file: file.into(),
            find: find.to_owned(),
            replace: replace.to_owned(),
        };
        let edits = [
            edit("fits", replace("b.txt", "one", "ONE")),
            edit("fits", Change::Create { file: "new.txt".into(), content: "new\n".to_owned() }),
            edit("elsewhere", replace("c.txt", "one", "ONE")),
            edit("elsewhere", Change::Create { file: "d.txt".into(), content: String::new() }),
            edit("there", replace("b.txt", "zwei", "two")),
        ];
        let (kept, skipped) = applicable(&edits, &code).unwrap();
        assert_eq!(kept, edits[..2]);
        let why: Vec<_> = skipped.iter().map(|(name, why)| (name.as_str(), why.as_str())).collect();
        let expected = [("elsewhere", "the source has no c.txt"), ("there", "the source contains it already")];
        assert_eq!(why, expected);
        let edited = super::apply(&kept, &top, "code".into()).unwrap();
        assert_eq!(edited, ["code/b.txt", "code/new.txt"].map(Utf8PathBuf::from).into());
        assert_eq!((read(&code, "b.txt"), read(&code, "new.txt")), ("ONE two\n".into(), "new\n".into()));
        assert!(applicable(&edits, &code).unwrap().1.contains_key("fits"), "it is there now");

        // A source that has the file in another form is refused: it may have the defect in another form.
        let other = [edit("fits", replace("b.txt", "three", "3"))];
        assert_eq!(applicable(&other, &code).unwrap().0, other);
        let why = super::apply(&other, &top, "code".into()).unwrap_err().to_string();
        assert_eq!(why, "editing the source (fits): code/b.txt: it does not contain \"three\"");
        let again = [edits[1].clone()];
        let why = super::apply(&again, &top, "code".into()).unwrap_err().to_string();
        assert_eq!(why, "editing the source (fits): code/new.txt: it already exists");
    }

    #[test]
    fn a_patch_changes_makes_and_removes_files() {
        let text = "--- a/a.txt\n+++ b/a.txt\n@@ -1,3 +1,3 @@\n one\n-two\n+TWO\n three\n\
                    --- /dev/null\n+++ b/new/b.txt\n@@ -0,0 +1 @@\n+new\n";
        let (_folder, top, edits) = folder("one\ntwo\nthree\n", text);
        let edited = apply(&edits, &top).unwrap();
        assert_eq!(edited, ["a.txt", "new/b.txt"].map(Utf8PathBuf::from).into());
        assert_eq!((read(&top, "a.txt"), read(&top, "new/b.txt")), ("one\nTWO\nthree\n".into(), "new\n".into()));
        assert_eq!(said(apply(&edits, &top), &top), "applying patch /x.patch: hunk 1 (line 1) does not match a.txt");

        let removes = "diff --git a/a.txt b/a.txt\ndeleted file mode 100644\nindex 5626abf..0000000\n--- a/a.txt\n+++ /dev/null\n@@ -1 +0,0 @@\n-one\n";
        let (_folder, top, edits) = folder("one\n", removes);
        apply(&edits, &top).unwrap();
        assert!(!top.join("a.txt").exists());
    }

    #[test]
    fn a_patch_that_would_fit_elsewhere_does_not_fit() {
        let text = "--- a.txt\n+++ a.txt\n@@ -1 +1 @@\n-two\n+TWO\n";
        let (_folder, top, edits) = folder("one\ntwo\n", text);
        assert!(said(apply(&edits, &top), &top).ends_with("hunk 1 (line 1) does not match a.txt"));
        let (_folder, top, edits) = folder("one\ntwo\n", "--- a.txt\n+++ a.txt\n@@ -1 +1 @@\n one\n-two\n+TWO\n");
        assert!(said(apply(&edits, &top), &top).ends_with("2 changed lines exceed the counts in its @@ lines"));
        let (_folder, top, edits) = folder("one\n", "no patch at all\n");
        assert!(said(apply(&edits, &top), &top).starts_with("reading patch /x.patch: "));
        let (_folder, top, edits) = folder("one\n", &text.replace("a.txt", "../x.patch"));
        assert!(said(apply(&edits, &top), &top).contains("not a path below the top"));
    }

    proptest! {
        #[test]
        fn what_diff_finds_patch_makes(old in "([ab]\n?){0,20}", new in "([ab]\n?){0,20}") {
            prop_assume!(old != new && !old.is_empty() && !new.is_empty());
            let patch = diffy::DiffOptions::new().set_original_filename("a/a.txt").set_modified_filename("b/a.txt").create_patch(&old, &new).to_string();
            let (_folder, top, edits) = folder(&old, &patch);
            apply(&edits, &top).unwrap();
            prop_assert_eq!(read(&top, "a.txt"), new);
        }
    }
}
