//! Finds the section and symbol at a location in an executable.

use std::fs::File;

use camino::Utf8Path;
use object::read::{File as Executable, ReadCache};
use object::{Object, ObjectSection, ObjectSymbol};
use serde::Serialize;

/// A location in an executable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The section, such as `.rodata`.
    pub section: String,
    /// The function or variable, if the executable has symbols.
    pub symbol: Option<String>,
}

/// Returns the location at an offset in bytes; `None` if the file is not an executable, or the offset is outside its
/// sections.
pub fn place(path: &Utf8Path, offset: u64) -> Option<Place> {
    // Reads only the required parts of the file.
    let cache = ReadCache::new(File::open(path).ok()?);
    let executable = Executable::parse(&cache).ok()?;
    let mut sections = executable.sections();
    let section = sections.find(|section| {
        section.file_range().is_some_and(|(start, size)| (start..start.saturating_add(size)).contains(&offset))
    })?;
    let address = section.address() + (offset - section.file_range()?.0);
    let holds = |symbol: &object::Symbol<'_, '_, _>| {
        section.address() > 0 && (symbol.address()..symbol.address().saturating_add(symbol.size())).contains(&address)
    };
    let symbol = executable.symbols().find(holds).and_then(|symbol| symbol.name().ok().map(ToOwned::to_owned));
    Some(Place { section: section.name().ok()?.to_owned(), symbol })
}

#[cfg(test)]
mod tests {
    use camino::Utf8Path;
    use object::{Object, ObjectSection, ObjectSymbol};

    use super::place;

    #[test]
    fn a_place_in_this_very_program_is_found() {
        let path = std::env::current_exe().unwrap();
        let path = Utf8Path::from_path(&path).unwrap();
        let bytes = std::fs::read(path).unwrap();
        let program = object::File::parse(bytes.as_slice()).unwrap();
        let text = program.section_by_name(".text").unwrap();
        let function =
            program.symbols().find(|symbol| symbol.size() > 64 && symbol.section_index() == Some(text.index()));
        let function = function.unwrap();
        let offset = text.file_range().unwrap().0 + (function.address() - text.address()) + 1;
        let found = place(path, offset).unwrap();
        assert_eq!(found.section, ".text");
        // Identical functions may share an address.
        let named: Vec<_> = program.symbols().filter(|one| one.address() == function.address()).collect();
        assert!(named.iter().any(|one| one.name().ok() == found.symbol.as_deref()), "{found:?}");
        assert_eq!(place(path, u64::MAX - 1), None);
        assert_eq!(place(Utf8Path::new("/proc/version"), 0), None);
    }
}
