//! The kinds of components: what a component's files are made of, and by what.

use std::collections::BTreeMap;

use super::file::ComponentTable;
use super::template::Template;

/// How a component's files come to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Go compiles them.
    Go(GoProgram),
}

/// A program of the source's Go module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GoProgram {
    /// The package of its `main`, as `./cmd/manager`.
    pub(crate) package: String,
    /// Flags for Go's linker.
    pub(crate) ldflags: Vec<String>,
    /// Go variables (of `{module}`) that the linker sets, and their values (of `{version}`, `{commit}` and `{date}`).
    pub(crate) stamps: BTreeMap<Template, Template>,
    /// Go build tags.
    pub(crate) tags: Vec<String>,
}

impl Kind {
    /// Reads what `table` says of the files of component `name`.
    pub(super) fn new(name: &str, table: &ComponentTable) -> Result<Self, String> {
        GoProgram::new(name, table).map(Self::Go)
    }
}

impl GoProgram {
    fn new(name: &str, table: &ComponentTable) -> Result<Self, String> {
        let package = super::named(name, table.package.as_deref().unwrap_or("./cmd/{component}"))?;
        if !(package == "." || package.starts_with("./")) || package.contains("...") {
            return Err(format!("its package {package:?} is no folder of the source such as ./cmd/{name}"));
        }
        let stamp = |(variable, value): (&String, &String)| {
            let value = Template::parse(value, &["version", "commit", "date"])?;
            Ok((Template::parse(variable, &["module"])?, value))
        };
        Ok(Self {
            package,
            ldflags: table.ldflags.clone().unwrap_or_default(),
            stamps: table.stamps.iter().map(stamp).collect::<Result<_, String>>()?,
            tags: table.tags.clone().unwrap_or_default(),
        })
    }
}
