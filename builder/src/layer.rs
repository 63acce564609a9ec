//! Layers of an image: from a layer specification, file by file, to a blob in the store.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;
use serde::Serialize;
use vcinspect::image_fs::outline::{Attributes, Node};
use vcstore::{Action, Blob, Compression, Content, Digest, Entry, Kind, Layer, Outputs, Store, Tree};

use crate::Error;
use crate::progress::Progress;
use crate::project::Owner;
use crate::source::{FileHash, hash_file};

/// The version of the layer format. Increment it when a change affects layers; it is part of every action key.
const RECIPE: u32 = 2;

/// The entries of a layer, by their paths in the image without a leading slash.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct LayerSpec {
    items: BTreeMap<String, Item>,
}

/// A file, folder or symbolic link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Item {
    #[serde(rename = "what")]
    pub(crate) kind: ItemKind,
    pub(crate) mode: u32,
    pub(crate) owner: Owner,
    /// The extended attributes: hexadecimal values by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) xattrs: BTreeMap<String, String>,
    /// For a folder: the attributes that also apply to an existing folder.
    #[serde(skip)]
    pub(crate) over: FolderOverrides,
}

/// The attributes that override those of an existing folder; `None` keeps the existing value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct FolderOverrides {
    pub(crate) mode: Option<u32>,
    pub(crate) owner: Option<Owner>,
}

impl FolderOverrides {
    /// Returns whether there are no overrides.
    pub(crate) fn is_silent(self) -> bool {
        self == Self::default()
    }
}

/// The type and content of an entry. Serialises without paths of this machine, so that layers of equal files have equal
/// keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ItemKind {
    Blob(Digest),
    File {
        hash: FileHash,
        #[serde(skip)]
        from: Utf8PathBuf,
    },
    Folder,
    Link(String),
}

impl LayerSpec {
    /// Creates an empty specification.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Creates a specification of these items, by path.
    pub(crate) fn of(items: BTreeMap<String, Item>) -> Self {
        Self { items }
    }

    /// Returns all items in the order of their paths.
    pub(crate) fn items(&self) -> impl Iterator<Item = (&str, &Item)> {
        self.items.iter().map(|(path, item)| (path.as_str(), item))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Adds a file owned by root whose content is in the store.
    pub(crate) fn blob(&mut self, path: &str, mode: u32, content: Digest) {
        self.put(path, ItemKind::Blob(content), mode, Owner::default());
    }

    /// Adds a file of this machine.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn file(&mut self, path: &str, mode: u32, owner: Owner, from: Utf8PathBuf) -> Result<(), Error> {
        self.put(path, ItemKind::File { hash: hash_file(&from)?, from }, mode, owner);
        Ok(())
    }

    /// Adds a folder; `over` has the attributes that also apply to an existing folder.
    pub(crate) fn folder(&mut self, path: &str, mode: u32, owner: Owner, over: FolderOverrides) {
        let item = Item { kind: ItemKind::Folder, mode, owner, xattrs: BTreeMap::new(), over };
        self.items.insert(path.trim_start_matches('/').to_owned(), item);
    }

    /// Adds a symbolic link.
    pub(crate) fn link(&mut self, path: &str, target: &str, owner: Owner) {
        self.put(path, ItemKind::Link(target.to_owned()), 0o777, owner);
    }

    fn put(&mut self, path: &str, kind: ItemKind, mode: u32, owner: Owner) {
        let item = Item { kind, mode, owner, xattrs: BTreeMap::new(), over: FolderOverrides::default() };
        self.items.insert(path.trim_start_matches('/').to_owned(), item);
    }

    /// Returns the layer with these entries. Equal specifications produce equal layers, whatever the origin of the
    /// files.
    ///
    /// # Errors
    /// When a file changed during the build, a path passes through something other than a folder, or the store cannot
    /// be read or written.
    pub(crate) fn layer(
        &self,
        store: &Store,
        name: &str,
        compression: Compression,
        epoch: u64,
        progress: &Progress,
    ) -> Result<Layer, Error> {
        let action = Action::new("layer", name)
            .input("recipe", RECIPE)?
            .input("contents", self)?
            .input("compression", compression.identity())?
            .input("epoch", epoch)?;
        let outputs = progress.realise(store, &action, || {
            let layer = vcstore::layer::write(store, &self.tree()?, compression, epoch)?;
            self.check_unchanged()?;
            let blob = Blob { digest: layer.digest, size: layer.size };
            let outputs = Outputs::new().with_blob("layer", blob).with_note("diff_id", layer.diff_id.to_string());
            Ok(outputs.with_note("media type", layer.media_type))
        })?;
        let read = || {
            let (blob, media_type) = (outputs.blob("layer")?, outputs.note("media type")?.to_owned());
            let diff_id = outputs.note("diff_id")?.parse().ok()?;
            Some(Layer { digest: blob.digest, diff_id, size: blob.size, media_type })
        };
        read().ok_or_else(|| Error::Internal("a layer action without its layer".to_owned()))
    }

    fn tree(&self) -> Result<Tree, Error> {
        let mut tree = Tree::new();
        for (path, Item { kind, mode, owner, xattrs, .. }) in &self.items {
            let kind = match kind {
                ItemKind::Blob(digest) => Kind::File(Content::Blob(*digest)),
                ItemKind::File { from, .. } => Kind::File(Content::Path(from.clone())),
                ItemKind::Folder => Kind::Directory,
                ItemKind::Link(target) => Kind::Symlink(target.clone()),
            };
            tree.insert(path, Entry { kind, mode: *mode, uid: owner.user, gid: owner.group })?;
            for (name, value) in xattrs {
                let bad = |why| Error::Internal(format!("the attribute {name} of /{path}: {why}"));
                tree.xattr(path, name, hex::decode(value).map_err(bad)?)?;
            }
        }
        Ok(tree)
    }

    /// The key contains the hashes of files before they were written to the layer, so the written content must match.
    fn check_unchanged(&self) -> Result<(), Error> {
        for item in self.items.values() {
            if let ItemKind::File { hash, from } = &item.kind
                && hash_file(from)? != *hash
            {
                return Err(Error::source_changed(from.as_path()));
            }
        }
        Ok(())
    }
}

impl Item {
    /// Creates the item of an existing folder, unchanged.
    pub(crate) fn folder(attributes: Attributes) -> Self {
        let Attributes { mode, uid, gid, xattrs } = attributes;
        Self {
            kind: ItemKind::Folder,
            mode,
            owner: Owner { user: uid, group: gid },
            xattrs,
            over: FolderOverrides::default(),
        }
    }

    /// Returns the item as a node for path lookup. The content of a folder is unknown.
    pub(crate) fn node(&self) -> Node {
        let Owner { user, group } = self.owner;
        let attributes = || Attributes { mode: self.mode, uid: user, gid: group, xattrs: self.xattrs.clone() };
        match &self.kind {
            ItemKind::Folder => Node::Folder { attributes: attributes(), empty: false },
            ItemKind::Link(target) => Node::Link(target.clone()),
            ItemKind::Blob(_) | ItemKind::File { .. } => Node::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use vcstore::Digest;

    use super::{FolderOverrides, LayerSpec};
    use crate::project::Owner;

    #[test]
    fn what_names_a_layer_names_no_place_of_this_machine() {
        let folder = tempfile::tempdir().unwrap();
        let from = camino::Utf8PathBuf::try_from(folder.path().join("a")).unwrap();
        std::fs::write(&from, "abc").unwrap();
        let mut spec = LayerSpec::new();
        spec.blob("/usr/bin/x", 0o755, Digest::of(b"x"));
        spec.file("etc/a", 0o644, Owner { user: 1, group: 2 }, from).unwrap();
        spec.link("etc/b", "a", Owner::default());
        spec.folder("data", 0o700, Owner::default(), FolderOverrides::default());
        let owner = |user, group| serde_json::json!({"user": user, "group": group});
        let hash = "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85";
        let expected = serde_json::json!({
            "data": {"what": "folder", "mode": 0o700, "owner": owner(0, 0)},
            "etc/a": {"what": {"file": {"hash": hash}}, "mode": 0o644, "owner": owner(1, 2)},
            "etc/b": {"what": {"link": "a"}, "mode": 0o777, "owner": owner(0, 0)},
            "usr/bin/x": {"what": {"blob": Digest::of(b"x")}, "mode": 0o755, "owner": owner(0, 0)},
        });
        assert_eq!(serde_json::to_value(&spec).unwrap(), expected);
    }
}
