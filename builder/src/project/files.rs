//! The files that a project adds to an image: parsing and validation.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::template::Template;

/// One entry of `files`: what is put at a path of the image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FileTable {
    /// The file or folder that is copied; `{component}`, `{arch}`.
    from: Option<String>,
    /// Where `from` is: beside the project's file, or in the source.
    #[serde(default, rename = "in")]
    origin: FileOrigin,
    /// The target of a symbolic link, as it will stand in the image.
    link: Option<String>,
    /// Permissions, as `"0644"`.
    mode: Option<String>,
    /// Who it belongs to, as `"65532"` or `"65532:65532"`.
    owner: Option<String>,
}

/// The numeric owner of a file: names would depend on the image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Owner {
    pub(crate) user: u64,
    pub(crate) group: u64,
}

/// A folder that files come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Place")]
pub(crate) enum FileOrigin {
    /// The folder of the project's file.
    #[default]
    Project,
    /// The folder of the source.
    Source,
}

/// An entry that is added at a path of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Added {
    pub(crate) what: AddedKind,
    /// The permission bits; for a copied folder, those of its files.
    pub(crate) mode: Option<u32>,
    /// The owner, if it is set.
    pub(crate) owner: Option<Owner>,
}

/// The type of an added entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AddedKind {
    /// A copy of a file or folder; its path may contain `{arch}`.
    Copy { from: Template, origin: FileOrigin },
    /// A symbolic link.
    Link(String),
    /// An empty folder.
    Folder,
}

/// Validates the `files` of a component.
///
/// # Errors
/// When an entry is invalid; the error is a message with its path and the reason.
pub(super) fn files(component: &str, tables: &BTreeMap<String, FileTable>) -> Result<BTreeMap<String, Added>, String> {
    let checked = tables.iter().map(|(path, table)| {
        let bad = |why: String| format!("its file {path:?}: {why}");
        if !super::is_absolute(path) {
            return Err(bad("the path is not absolute and normalized".to_owned()));
        }
        added(component, table).map(|added| (path.clone(), added)).map_err(bad)
    });
    checked.collect()
}

fn added(component: &str, table: &FileTable) -> Result<Added, String> {
    let what = match (&table.from, &table.link) {
        (Some(_), Some(_)) => return Err("it has both from and link: use one of them".to_owned()),
        (Some(from), None) => {
            let normal = Utf8PathBuf::from(from);
            if from.is_empty() || normal.is_absolute() || normal.components().any(|part| part.as_str() == "..") {
                return Err(format!("{from:?} is outside the folder that files are copied from"));
            }
            let from = Template::parse(&from.replace("{component}", component), &["arch"])?;
            AddedKind::Copy { from, origin: table.origin }
        }
        (None, _) if table.origin == FileOrigin::Source => return Err("in applies to from: add from".to_owned()),
        (None, Some(_)) if table.mode.is_some() => return Err("a link cannot have a mode".to_owned()),
        (None, Some(target)) if target.is_empty() => return Err("a link needs a target".to_owned()),
        (None, Some(target)) => AddedKind::Link(target.clone()),
        (None, None) => AddedKind::Folder,
    };
    let mode = table.mode.as_deref().map(mode).transpose()?;
    let owner = table.owner.as_deref().map(owner).transpose()?;
    Ok(Added { what, mode, owner })
}

fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777 && !text.starts_with('+'));
    mode.ok_or_else(|| format!("its mode {text:?} is not an octal number such as \"0644\""))
}

fn owner(text: &str) -> Result<Owner, String> {
    let number = |text: &str| text.parse::<u32>().ok().filter(|_| !text.starts_with('+')).map(u64::from);
    let (user, group) = text.split_once(':').unwrap_or((text, text));
    match (number(user), number(group)) {
        (Some(user), Some(group)) => Ok(Owner { user, group }),
        _ => Err(format!("its owner {text:?} is not a number such as \"65532\" or \"65532:65532\"")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::Owner;
    use super::{Added, AddedKind, FileTable, files};

    fn read(text: &str) -> Result<BTreeMap<String, Added>, String> {
        let tables: BTreeMap<String, FileTable> = toml::from_str(text).map_err(|why| why.to_string())?;
        files("web", &tables)
    }

    #[test]
    fn a_file_is_a_copy_a_link_or_a_folder() {
        let read = read(
            "\"/a\" = { from = \"conf/{component}-{arch}\", in = \"source\", mode = \"0600\", owner = \"1:2\" }\n\
             \"/b\" = { link = \"/a\" }\n\"/c\" = { owner = \"65532\" }",
        );
        let read = read.unwrap();
        let AddedKind::Copy { from, .. } = &read["/a"].what else { panic!("{read:?}") };
        assert_eq!(from.fill(&[("arch", "arm64")]), "conf/web-arm64");
        assert_eq!((read["/a"].mode, read["/a"].owner), (Some(0o600), Some(Owner { user: 1, group: 2 })));
        assert_eq!(read["/b"].what, AddedKind::Link("/a".to_owned()));
        assert_eq!(
            (&read["/c"].what, read["/c"].owner),
            (&AddedKind::Folder, Some(Owner { user: 65532, group: 65532 }))
        );
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_its_path() {
        let cases = [
            ("\"a\" = { from = \"x\" }", "its file \"a\": the path is not absolute and normalized"),
            ("\"/a/../b\" = { from = \"x\" }", "its file \"/a/../b\": the path is not absolute and normalized"),
            ("\"/a\" = { from = \"../x\" }", "its file \"/a\": \"../x\" is outside the folder"),
            ("\"/a\" = { from = \"/etc/passwd\" }", "\"/etc/passwd\" is outside"),
            ("\"/a\" = { from = \"\" }", "\"\" is outside"),
            ("\"/a\" = { from = \"x\", link = \"y\" }", "it has both from and link"),
            ("\"/a\" = { in = \"source\" }", "in applies to from"),
            ("\"/a\" = { link = \"x\", mode = \"0644\" }", "a link cannot have a mode"),
            ("\"/a\" = { link = \"\" }", "a link needs a target"),
            ("\"/a\" = { from = \"x\", mode = \"0o644\" }", "its mode \"0o644\" is not an octal number"),
            ("\"/a\" = { from = \"x\", mode = \"10000\" }", "its mode \"10000\" is not an octal number"),
            ("\"/a\" = { from = \"x\", owner = \"root\" }", "its owner \"root\" is not a number"),
            ("\"/a\" = { from = \"x\", owner = \"1:\" }", "its owner \"1:\" is not a number"),
            ("\"/a\" = { from = \"{os}\" }", "the allowed names are {arch}"),
            ("\"/a\" = { form = \"x\" }", "unknown field `form`"),
        ];
        for (text, why) in cases {
            let said = read(text).unwrap_err();
            assert!(said.contains(why), "{text:?} gave {said:?}, not {why:?}");
        }
    }
}
