//! Tests that the top-level modules of a crate have no circular dependencies, direct or indirect. Such a crate can be
//! read from the bottom up, one module after another, and split between any two of them.
//!
//! The imports are read from the sources: every path that begins with `crate::`, or with the corresponding number of
//! `super::`. Code that is compiled only for tests does not count. The crate's root belongs to no module.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use camino::{Utf8Path, Utf8PathBuf};

use crate::command::root;

/// The crates without circular dependencies. Add a crate here once it has none.
const CRATES: [&str; 12] = [
    "builder",
    "debian",
    "distributor",
    "inspect",
    "manifests",
    "network",
    "registry",
    "remote",
    "sandbox",
    "store",
    "terminal",
    "variables",
];

/// The top-level modules that each top-level module imports.
pub(crate) type Imports = BTreeMap<String, BTreeSet<String>>;

/// Reads the imports of a crate from its `src` folder.
pub(crate) fn imports(src: &Utf8Path) -> Imports {
    let top = code(&fs::read_to_string(src.join("lib.rs")).unwrap());
    let modules = declared(&top);
    // An item that the root re-exports counts as imported from its original module.
    let exported: BTreeMap<String, String> = paths(&top, "use ")
        .into_iter()
        .filter(|path| modules.contains(&path[0]))
        .filter_map(|path| Some((path.last()?.clone(), path[0].clone())))
        // An alias is resolved to the original name, which may be a module's.
        .filter(|(name, _)| !modules.contains(name))
        .collect();
    let mut imports = Imports::new();
    for module in &modules {
        let mut used = BTreeSet::new();
        files(src, module, 1, &mut |text, depth| {
            let here = paths(text, "crate::").into_iter().chain(paths(text, &"super::".repeat(depth)));
            used.extend(here.map(|path| exported.get(&path[0]).unwrap_or(&path[0]).clone()));
        });
        used.retain(|used| used != module && modules.contains(used));
        imports.insert(module.clone(), used);
    }
    imports
}

/// Reads a module and its submodules, each with the number of `super::` that lead from it to the crate's root.
fn files(folder: &Utf8Path, module: &str, depth: usize, read: &mut impl FnMut(&str, usize)) {
    let inner = folder.join(module);
    let candidates: [Utf8PathBuf; 2] = [folder.join(format!("{module}.rs")), inner.join("mod.rs")];
    let file = candidates.iter().find(|file| file.exists()).unwrap_or_else(|| panic!("no file of {inner}"));
    let text = code(&fs::read_to_string(file).unwrap());
    read(&text, depth);
    for module in declared(&text) {
        files(&inner, &module, depth + 1, read);
    }
}

/// Returns the modules that a text declares without a body.
fn declared(text: &str) -> BTreeSet<String> {
    let after = text.match_indices("mod ").filter(|(at, _)| is_start(text, *at)).map(|(at, _)| &text[at + 4..]);
    after
        .filter_map(|rest| rest.split_once(';'))
        .map(|(name, _)| name.trim())
        .filter(|name| is_name(name))
        .map(str::to_owned)
        .collect()
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_word)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Whether this position of a text is not in the middle of a word or path.
fn is_start(text: &str, at: usize) -> bool {
    !text[..at].bytes().next_back().is_some_and(|before| is_word(before) || before == b':' || before == b'$')
}

/// Returns the paths after `beginning`; expands braces.
fn paths(text: &str, beginning: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices(beginning).filter(|(at, _)| is_start(text, *at)) {
        path(text[at + beginning.len()..].trim_start(), &[], &mut found);
    }
    found.retain(|path| !path.is_empty() && path[0] != "super" && path[0] != "self");
    found
}

/// Reads one path, or a group of paths in braces, after the prefix `before`. Returns the remaining text.
fn path<'a>(text: &'a str, before: &[String], found: &mut Vec<Vec<String>>) -> &'a str {
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = path(rest.trim_start(), before, found).trim_start();
            match rest.split_at_checked(1) {
                Some((",", more)) => rest = more,
                Some(("}", more)) => return more,
                // An alias, or an asterisk.
                Some((_, more)) => rest = more,
                None => return rest,
            }
            if let Some(more) = rest.trim_start().strip_prefix('}') {
                return more;
            }
        }
    }
    let length = text.bytes().take_while(|byte| is_word(*byte)).count();
    let (name, rest) = text.split_at(length);
    let mut whole = before.to_vec();
    whole.extend((length > 0).then(|| name.to_owned()));
    match rest.strip_prefix("::") {
        Some(more) if length > 0 && more.starts_with(|c: char| c == '{' || c.is_ascii_alphabetic() || c == '_') => {
            path(more, &whole, found)
        }
        _ => {
            found.push(whole);
            rest
        }
    }
}

/// Removes comments, strings, characters, and code that is compiled only for tests.
fn code(text: &str) -> String {
    without_tests(&without_words(text))
}

fn without_words(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let hashes = rest.strip_prefix('r').map_or(0, |more| more.bytes().take_while(|byte| *byte == b'#').count());
        let raw = format!("r{}\"", "#".repeat(hashes));
        let end = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if rest.starts_with(&raw) && !kept.bytes().next_back().is_some_and(is_word) {
            let end = format!("\"{}", "#".repeat(hashes));
            rest[raw.len()..].find(&end).map_or(rest.len(), |at| raw.len() + at + end.len())
        } else if next == '"' {
            quoted(rest)
        } else if next == '\'' {
            character(rest)
        } else {
            0
        };
        if end == 0 {
            kept.push(next);
            rest = &rest[next.len_utf8()..];
        } else {
            kept.push(' ');
            rest = &rest[end..];
        }
    }
    kept
}

/// Returns the length of the string literal at the beginning of a text.
fn quoted(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '"' if !escaped => return at + 1,
            _ => escaped = c == '\\' && !escaped,
        }
    }
    text.len()
}

/// Returns the length of the character literal at the beginning of a text, or 0 for a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => chars.skip(1).find(|(_, c)| *c == '\'').map_or(text.len(), |(at, _)| at + 1),
        Some(_) => chars.next().filter(|(_, c)| *c == '\'').map_or(0, |(at, _)| at + 1),
        None => 0,
    }
}

fn without_tests(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("#[cfg(") {
        let (before, attribute) = rest.split_at(at);
        kept += before;
        let end = attribute.find(']').map_or(attribute.len(), |end| end + 1);
        let condition = &attribute[..end];
        let (after, is_test) = (&attribute[end..], condition.contains("test") && !condition.contains("not("));
        rest = if is_test { &after[item(after)..] } else { after };
    }
    kept + rest
}

/// Returns the length of the item at the beginning of a text: up to its semicolon, or to the end of its braces.
fn item(text: &str) -> usize {
    let mut open = 0;
    for (at, c) in text.char_indices() {
        match c {
            ';' if open == 0 => return at + 1,
            '(' | '[' | '{' => open += 1,
            ')' | ']' => open -= 1,
            '}' => {
                open -= 1;
                // A list of imports is followed by a semicolon.
                if open == 0 && !text[at + 1..].starts_with(';') {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    text.len()
}

/// Returns a cycle of imports, if there is one: its modules, with the first repeated at the end.
fn circle(imports: &Imports) -> Option<Vec<&str>> {
    let mut done = BTreeSet::new();
    imports.keys().find_map(|module| walk(imports, module, &mut Vec::new(), &mut done))
}

fn walk<'a>(
    imports: &'a Imports,
    module: &'a str,
    way: &mut Vec<&'a str>,
    done: &mut BTreeSet<&'a str>,
) -> Option<Vec<&'a str>> {
    if let Some(at) = way.iter().position(|before| *before == module) {
        return Some(way[at..].iter().copied().chain([module]).collect());
    }
    if done.contains(module) {
        return None;
    }
    way.push(module);
    let found = imports.get(module).and_then(|used| used.iter().find_map(|used| walk(imports, used, way, done)));
    way.pop();
    done.insert(module);
    found
}

#[test]
fn no_module_needs_itself_by_way_of_others() {
    let mut count = 0;
    for name in CRATES {
        let imports = imports(&root().join(name).join("src"));
        count += imports.values().map(BTreeSet::len).sum::<usize>();
        assert_eq!(circle(&imports), None, "{name}: the modules import {imports:#?}");
    }
    assert!(count > 150, "{count} imports are read");
}

#[test]
fn a_circle_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let src = Utf8Path::from_path(folder.path()).unwrap();
    let write = |path: &str, text: &str| {
        fs::create_dir_all(src.join(path).parent().unwrap()).unwrap();
        fs::write(src.join(path), text).unwrap();
    };
    write("lib.rs", "mod a;\npub mod b;\nmod c;\n#[cfg(test)]\nmod d;\npub use c::Name;\n");
    write("a.rs", "use crate::{b::{One, Two}, nothing};\n");
    write("b/mod.rs", "mod inner;\n/// As crate::a has it.\nconst A: (&str, char) = (\"use crate::a;\", '\"');\n");
    write(
        "b/inner.rs",
        "fn f<'a>() { super::super::c::g(); }\n#[cfg(test)]\nmod tests {\n use crate::a; fn f() {}\n}\n",
    );
    write("c.rs", "#[cfg(test)]\nuse crate::{a, b};\nstruct Name;\n");
    let read = imports(src);
    let used = |module: &str| read[module].iter().map(String::as_str).collect::<Vec<_>>();
    assert_eq!((used("a"), used("b"), used("c")), (vec!["b"], vec!["c"], vec![]));
    assert_eq!(circle(&read), None);
    write("c.rs", "struct Name(r#\"{\"#);\nuse crate::a::Three;\n");
    assert_eq!(circle(&imports(src)), Some(vec!["a", "b", "c", "a"]));
    // An item that the root re-exports belongs to its original module.
    write("c.rs", "struct Name;\n");
    write("b/inner.rs", "use crate::Name;\n");
    assert_eq!(imports(src)["b"].iter().collect::<Vec<_>>(), ["c"]);
}
