//! Explains compile errors caused by cgo: programs are compiled without it, and Go's messages seldom name this as the
//! cause.

use camino::{Utf8Path, Utf8PathBuf};
use std::collections::BTreeSet;
use vcsandbox::plain;

/// The maximum number of folders that a message names.
const SHOWN: usize = 5;

/// Explains a failure of Go, whose messages are `words`, by cgo: names the folders in `words`, relative to `dir`, whose
/// code calls C, and those that this code imports from the module called `module`. `modules` is the folder of fetched
/// modules, whatever path the failed program had for it.
pub(super) fn explain(words: &str, module: &str, dir: &Utf8Path, modules: &Utf8Path) -> Option<String> {
    let ends = |c: char| c.is_whitespace() || matches!(c, ':' | '(' | ')' | ',' | '\'' | '"');
    let mut found = BTreeSet::new();
    for word in words.split(ends).filter(|word| word.contains('/') || word.ends_with(".go")) {
        let in_sandbox = word.split_once("gomod/").map(|(_, below)| modules.join(below));
        let path = in_sandbox.unwrap_or_else(|| dir.join(word));
        let folder =
            if path.is_dir() { Some(path.clone()) } else { path.parent().filter(|_| path.is_file()).map(Into::into) };
        // A declaration in a file that needs C is undefined where it is used.
        let text = if path.is_file() && words.contains("undefined: ") {
            plain::read_text(&path).unwrap_or_default()
        } else {
            String::new()
        };
        let imported = text.split('"').filter_map(|name| Some(dir.join(name.strip_prefix(module)?.strip_prefix('/')?)));
        let folders = folder.into_iter().chain(imported).filter(|folder| calls_c(folder));
        found.extend(folders.filter_map(|folder| folder.canonicalize_utf8().ok()));
    }
    if found.is_empty() && !words.contains("when not using cgo") {
        return None;
    }
    let named: Vec<_> = found.iter().take(SHOWN).map(|folder| called(folder, dir, modules)).collect();
    let who = if named.is_empty() { "the package".to_owned() } else { named.join(", ") };
    Some(format!(
        "cgo: {who} needs C (import \"C\"), but vcbuild compiles Go with CGO_ENABLED=0: use a package or build tags that \
         do not need C, or a `command` in vcbuild.toml that runs `go build` with the machine's C compiler"
    ))
}

fn called(folder: &Utf8Path, dir: &Utf8Path, modules: &Utf8Path) -> String {
    let modules = modules.canonicalize_utf8().unwrap_or_else(|_| modules.to_owned());
    let below = folder.strip_prefix(modules).or_else(|_| folder.strip_prefix(dir)).unwrap_or(folder);
    if below.as_str().is_empty() { ".".to_owned() } else { below.to_string() }
}

/// Returns whether the code in a folder calls C, apart from tests.
fn calls_c(folder: &Utf8Path) -> bool {
    let files = folder.read_dir_utf8().into_iter().flatten().filter_map(Result::ok);
    let paths = files.map(|file| file.path().to_owned());
    let code = |path: &Utf8PathBuf| path.extension() == Some("go") && !path.as_str().ends_with("_test.go");
    let imports_c = |line: &str| {
        let line = line.trim();
        line.strip_prefix("import").unwrap_or(line).trim() == "\"C\""
    };
    paths.filter(code).any(|path| plain::read_text(&path).is_ok_and(|text| text.lines().any(imports_c)))
}

#[cfg(test)]
mod tests {
    use camino::Utf8Path;

    use super::explain;

    #[test]
    fn code_that_calls_c_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let top = Utf8Path::from_path(folder.path()).unwrap().canonicalize_utf8().unwrap();
        let (dir, modules) = (top.join("source"), top.join("cache/gomod"));
        for (path, text) in [
            ("source/sqlite/c.go", "package sqlite\n\n// #include <x.h>\nimport \"C\"\n"),
            ("source/plain/p.go", "package plain\n\nimport \"fmt\"\n"),
            ("source/uses/u.go", "package uses\n\nimport \"example.org/app/sqlite\"\n"),
            ("cache/gomod/example.org/c@v1.0.0/c.go", "package c\n\nimport (\n\t\"C\"\n)\n"),
        ] {
            std::fs::create_dir_all(top.join(path).parent().unwrap()).unwrap();
            std::fs::write(top.join(path), text).unwrap();
        }
        let said = |words: &str| explain(words, "example.org/app", &dir, &modules).unwrap_or_default();
        let constraint = format!("main.go:3:8: build constraints exclude all Go files in {dir}/sqlite");
        assert!(said(&constraint).starts_with("cgo: sqlite needs C"), "{}", said(&constraint));
        let module = said("../../gomod/example.org/c@v1.0.0/c.go:7:2: undefined: Open");
        assert!(module.starts_with("cgo: example.org/c@v1.0.0 needs C"), "{module}");
        assert!(said("C source files not allowed when not using cgo or SWIG: x.c").starts_with("cgo: the package"));
        assert_eq!(said("plain/p.go:4:2: undefined: sqlite"), "");
        assert!(said("uses/u.go:4:2: undefined: sqlite.Open").starts_with("cgo: sqlite needs C"));
    }
}
