//! The outline of an image: the nodes of its file system, without the content of files. Stacking further layers on an
//! image requires only the outline, which a store keeps so that the image's layers are read once.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, BufReader, Write};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use vcstore::{Blob, Digest, Layer, Store};

use super::layer::{OPAQUE, TarEntry, WHITEOUT, XATTR, normal, walk};
use super::{put, take_away};
use crate::Error;

/// The node at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Node {
    /// A folder.
    Folder {
        /// The attributes of the folder.
        attributes: Attributes,
        /// Whether the folder is empty.
        empty: bool,
    },
    /// A symbolic link with this target, unchanged.
    Link(String),
    /// A file, or anything else that a path cannot pass through.
    Other,
}

/// The attributes of a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// The permission bits.
    pub mode: u32,
    /// The ID of the owner.
    pub uid: u64,
    /// The ID of the group.
    pub gid: u64,
    /// The extended attributes: hexadecimal values by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub xattrs: BTreeMap<String, String>,
}

impl Default for Attributes {
    /// Returns the attributes of a folder that exists only as a parent in paths.
    fn default() -> Self {
        Self { mode: 0o755, uid: 0, gid: 0, xattrs: BTreeMap::new() }
    }
}

/// Computes the outline of the image with these layers, lowest first, and writes it to the store.
///
/// # Errors
/// When a layer is missing or damaged, or the store cannot be written.
pub fn write(store: &Store, layers: &[Layer]) -> Result<Blob, Error> {
    let outlines: Vec<LayerOutline> =
        layers.par_iter().map(|layer| LayerOutline::read(store, layer)).collect::<Result<_, Error>>()?;
    let mut nodes = BTreeMap::new();
    outlines.into_iter().for_each(|layer| layer.put_over(&mut nodes));
    complete(&mut nodes);
    let mut writer = store.writer()?;
    let mut written = || -> io::Result<()> {
        for line in &nodes {
            let line = serde_json::to_vec(&line)?;
            writer.write_all(&line)?;
            writer.write_all(b"\n")?;
        }
        Ok(())
    };
    written().map_err(Error::io("writing an outline into", store.path()))?;
    Ok(writer.commit()?)
}

/// Returns the nodes at those of `paths` that exist. Does not load the rest of the outline into memory.
///
/// # Errors
/// When the outline is missing or damaged.
pub fn look(store: &Store, outline: &Digest, paths: &BTreeSet<String>) -> Result<BTreeMap<String, Node>, Error> {
    let mut found = BTreeMap::new();
    let mut read = || -> io::Result<()> {
        for line in BufReader::new(store.reader(outline).map_err(io::Error::other)?).lines() {
            let (path, node): (String, Node) = serde_json::from_str(&line?)?;
            if paths.contains(&path) {
                found.insert(path, node);
            }
        }
        Ok(())
    };
    read().map_err(Error::io("reading", store.blob_path(outline)))?;
    Ok(found)
}

/// The outline of one layer.
#[derive(Debug, Default)]
struct LayerOutline {
    nodes: BTreeMap<String, Node>,
    /// The hard links: path and target.
    hard_links: Vec<(String, String)>,
    whiteouts: Vec<String>,
    opaque: Vec<String>,
}

impl LayerOutline {
    fn read(store: &Store, layer: &Layer) -> Result<Self, Error> {
        let mut outline = Self::default();
        let blob = store.reader(&layer.digest)?;
        walk(blob, layer.size, |entry| outline.add(entry))
            .map_err(Error::io("reading layer", store.blob_path(&layer.digest)))?;
        Ok(outline)
    }

    fn add(&mut self, mut entry: TarEntry<'_>) -> io::Result<()> {
        let path = normal(&String::from_utf8_lossy(&entry.path_bytes()));
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
        if name == OPAQUE {
            self.opaque.push(folder.to_owned());
        } else if let Some(name) = name.strip_prefix(WHITEOUT) {
            self.whiteouts.push(if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") });
        } else if !path.is_empty() {
            let node = match entry.header().entry_type() {
                tar::EntryType::Directory => Some(Node::Folder { attributes: attributes(&mut entry)?, empty: true }),
                tar::EntryType::Symlink => match entry.link_name_bytes().map(|target| String::from_utf8(target.into()))
                {
                    Some(Ok(target)) if !target.is_empty() => Some(Node::Link(target)),
                    // No UTF-8 path passes through it.
                    _ => Some(Node::Other),
                },
                tar::EntryType::Link => {
                    let target = normal(&String::from_utf8_lossy(&entry.link_name_bytes().unwrap_or_default()));
                    self.hard_links.push((path.clone(), target));
                    Some(Node::Other)
                }
                tar::EntryType::XGlobalHeader => None,
                _ => Some(Node::Other),
            };
            if let Some(node) = node {
                self.nodes.insert(path, node);
            }
        }
        // Skip the content now, because bytes that are read before the next entry count as its header.
        io::copy(&mut entry, &mut io::sink()).map(drop)
    }

    fn put_over(self, nodes: &mut BTreeMap<String, Node>) {
        take_away(nodes, &self.opaque, &self.whiteouts);
        for (path, node) in self.nodes {
            let folder = matches!(node, Node::Folder { .. });
            put(nodes, path, node, folder);
        }
        for (path, target) in self.hard_links {
            // A hard link to a symbolic link is that symbolic link.
            if let Some(link @ Node::Link(_)) = nodes.get(&target).cloned() {
                nodes.insert(path, link);
            }
        }
    }
}

fn attributes(entry: &mut TarEntry<'_>) -> io::Result<Attributes> {
    let mut xattrs = BTreeMap::new();
    if let Some(records) = entry.pax_extensions()? {
        // Ignore a record that cannot be parsed, as container runtimes do.
        for record in records.filter_map(Result::ok) {
            if let Some(name) = record.key().ok().and_then(|key| key.strip_prefix(XATTR)) {
                xattrs.insert(name.to_owned(), hex::encode(record.value_bytes()));
            }
        }
    }
    let header = entry.header();
    // A missing number is 0.
    let owner = |number: io::Result<u64>| number.unwrap_or_default();
    Ok(Attributes { mode: header.mode()? & 0o7777, uid: owner(header.uid()), gid: owner(header.gid()), xattrs })
}

/// Adds folders that exist only as parents in paths, and marks non-empty folders.
fn complete(nodes: &mut BTreeMap<String, Node>) {
    let mut parents = BTreeSet::new();
    for path in nodes.keys() {
        let mut path = path.as_str();
        while let Some((parent, _)) = path.rsplit_once('/') {
            if !parents.insert(parent.to_owned()) {
                break;
            }
            path = parent;
        }
    }
    for parent in parents {
        let made = || Node::Folder { attributes: Attributes::default(), empty: false };
        if let Node::Folder { empty, .. } = nodes.entry(parent).or_insert_with(made) {
            *empty = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use rigs::{layer, store};
    use vcstore::Layer;

    use super::{Attributes, Node};

    fn folder(mode: u32, owner: u64, empty: bool) -> Node {
        let attributes = Attributes { mode, uid: owner, gid: owner, xattrs: BTreeMap::new() };
        Node::Folder { attributes, empty }
    }

    #[test]
    fn an_outline_is_what_a_container_finds() {
        use tar::EntryType::{Directory, Link, Regular, Symlink};
        let (_folder, store) = store();
        let layers = [
            layer(
                &store,
                &[
                    (Directory, "./tmp/", "", 0o1777, 0),
                    (Directory, "home/me", "", 0o2700, 65532),
                    (Regular, "usr/bin/sh", "", 0o755, 0),
                    (Symlink, "bin", "usr/bin", 0o777, 0),
                    (Directory, "opt/", "", 0o700, 7),
                    (Regular, "opt/old", "", 0o644, 0),
                    (Directory, "var/run", "", 0o755, 0),
                    (Regular, "var/run/pid", "", 0o644, 0),
                    (Directory, "gone", "", 0o755, 0),
                ],
            ),
            layer(
                &store,
                &[
                    (Link, "sbin", "bin", 0o777, 0),
                    (Regular, "opt/.wh..wh..opq", "", 0o644, 0),
                    (Symlink, "var/run", "/run", 0o777, 0),
                    (Regular, ".wh.gone", "", 0o644, 0),
                ],
            ),
        ];
        let outline = super::write(&store, &layers).unwrap();
        let paths =
            ["tmp", "home", "home/me", "usr/bin", "bin", "sbin", "opt", "opt/old", "var/run", "var/run/pid", "gone"];
        let paths: BTreeSet<String> = paths.map(ToOwned::to_owned).into();
        let found = super::look(&store, &outline.digest, &paths).unwrap();
        let link = |target: &str| Node::Link(target.to_owned());
        let expected = [
            ("tmp", folder(0o1777, 0, true)),
            ("home", folder(0o755, 0, false)),
            ("home/me", folder(0o2700, 65532, true)),
            ("usr/bin", folder(0o755, 0, false)),
            ("bin", link("usr/bin")),
            ("sbin", link("usr/bin")),
            ("opt", folder(0o700, 7, true)),
            ("var/run", link("/run")),
        ];
        assert_eq!(found, expected.map(|(path, node)| (path.to_owned(), node)).into());
        assert_eq!(super::write(&store, &layers).unwrap(), outline, "the same layers have the same outline");
    }

    #[test]
    fn a_folder_keeps_its_extended_attributes() {
        let (_folder, store) = store();
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_pax_extensions([("SCHILY.xattr.user.note", &b"\x00\xff"[..])]).unwrap();
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o755);
        header.set_size(0);
        builder.append_data(&mut header, "srv", std::io::empty()).unwrap();
        let blob = store.put(&builder.into_inner().unwrap()).unwrap();
        let layer = Layer { digest: blob.digest, diff_id: blob.digest, size: blob.size, media_type: String::new() };
        let outline = super::write(&store, &[layer]).unwrap();
        let found = super::look(&store, &outline.digest, &BTreeSet::from(["srv".to_owned()])).unwrap();
        let Node::Folder { attributes, .. } = &found["srv"] else { panic!("{found:?}") };
        assert_eq!(attributes.xattrs["user.note"], "00ff");
    }
}
