//! Finds the headers that assembly files include, anywhere in the source: Go lists only those of a package's own
//! folder.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Component, Utf8Path, Utf8PathBuf};
use vcsandbox::plain;

use super::Module;
use crate::source::Tree;

/// Returns the headers that each assembly file of `files` includes, directly or indirectly. All paths are relative to
/// the module's top.
pub(super) fn included(
    module: &Module,
    tree: &Tree,
    files: &BTreeSet<Utf8PathBuf>,
) -> BTreeMap<Utf8PathBuf, BTreeSet<Utf8PathBuf>> {
    let assembly = files.iter().filter(|file| file.extension() == Some("s"));
    let found = assembly.map(|file| (file.clone(), included_by(module, tree, &module.top.join(file))));
    found.filter(|(_, headers)| !headers.is_empty()).collect()
}

fn included_by(module: &Module, tree: &Tree, file: &Utf8Path) -> BTreeSet<Utf8PathBuf> {
    // The assembler runs in this folder, and resolves all includes relative to it, those in headers too.
    let folder = file.parent().unwrap_or(&module.top);
    let (mut found, mut next) = (BTreeSet::new(), vec![file.to_owned()]);
    while let Some(path) = next.pop() {
        // The assembler reports a file that cannot be read as text.
        for name in includes(&plain::read_text(&path).unwrap_or_default()) {
            let header = plain(&folder.join(name));
            // Other headers are Go's own, such as textflag.h, or are missing, which the assembler reports.
            if let Ok(below) = header.strip_prefix(&module.top)
                && tree.has(&header)
                && found.insert(below.to_owned())
            {
                next.push(header);
            }
        }
    }
    found
}

/// Returns the headers that an assembly file includes, under any condition.
fn includes(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let rest = line.trim_start().strip_prefix('#')?.trim_start().strip_prefix("include")?.trim_start();
        rest.strip_prefix('"')?.split('"').next()
    })
}

/// Returns the path without `..` and `.`.
fn plain(path: &Utf8Path) -> Utf8PathBuf {
    let mut plain = Utf8PathBuf::new();
    for part in path.components() {
        match part {
            Utf8Component::ParentDir => drop(plain.pop()),
            Utf8Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    #[test]
    fn includes_are_found_in_every_form() {
        let text = "#include \"textflag.h\"\n  #  include\t\"../a/b.h\" // why\n#include <no.h>\n// #include \"c.h\"\n#define include \"d.h\"\n";
        assert_eq!(super::includes(text).collect::<Vec<_>>(), ["textflag.h", "../a/b.h"]);
    }
}
