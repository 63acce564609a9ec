//! The differences between the files of two images.

use serde::Serialize;
use vcstore::Digest;

use super::Pair;
use crate::image_fs::{Entry, Files, Kind};

/// The differences between the files of two images.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct FileChanges {
    /// The files only in the second image.
    pub added: Vec<Shape>,
    /// The files only in the first image.
    pub removed: Vec<Shape>,
    /// The files in both images that differ.
    pub changed: Vec<FileChange>,
}

/// The description of a file, folder or link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shape {
    /// The absolute path.
    pub path: String,
    /// The type: `file`, `directory`, `symlink`, `hardlink` or `special`.
    pub kind: String,
    /// The size in bytes.
    pub size: u64,
    /// The permission bits in octal.
    pub mode: String,
    /// The numeric user and group.
    pub owner: String,
    /// The modification time in seconds since 1970.
    pub time: u64,
    /// The digest of a file's content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The target of a link, or the description of a special file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// A file in both images that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileChange {
    /// The absolute path.
    pub path: String,
    /// The differences.
    pub changes: Vec<Change>,
    /// The file in each image.
    #[serde(flatten)]
    pub shape: Pair<Shape>,
}

/// A difference between two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// The type.
    Kind,
    /// The content.
    Content,
    /// The target of a link.
    Target,
    /// The permission bits.
    Mode,
    /// The user or group.
    Owner,
    /// The extended attributes.
    Attributes,
    /// The modification time.
    Time,
}

/// Compares two file systems.
pub(super) fn compare(before: &Files, after: &Files) -> FileChanges {
    let mut found = FileChanges::default();
    for (path, placed) in &before.entries {
        let old = &placed.entry;
        match after.entries.get(path).map(|placed| &placed.entry) {
            None => found.removed.push(Shape::of(path, old)),
            Some(new) => {
                let changes = changes(old, new);
                if !changes.is_empty() {
                    let shape = Pair { before: Shape::of(path, old), after: Shape::of(path, new) };
                    found.changed.push(FileChange { path: format!("/{path}"), changes, shape });
                }
            }
        }
    }
    let new = after.entries.iter().filter(|(path, _)| !before.entries.contains_key(*path));
    found.added = new.map(|(path, placed)| Shape::of(path, &placed.entry)).collect();
    found
}

fn changes(old: &Entry, new: &Entry) -> Vec<Change> {
    let mut changes = match (&old.kind, &new.kind) {
        (Kind::File { digest: old, .. }, Kind::File { digest: new, .. }) => {
            Vec::from_iter((old != new).then_some(Change::Content))
        }
        (Kind::Symlink(old), Kind::Symlink(new))
        | (Kind::HardLink(old), Kind::HardLink(new))
        | (Kind::Special(old), Kind::Special(new)) => Vec::from_iter((old != new).then_some(Change::Target)),
        (Kind::Directory, Kind::Directory) => Vec::new(),
        _ => vec![Change::Kind],
    };
    // The permissions of a symbolic link have no effect.
    let modes = !matches!((&old.kind, &new.kind), (Kind::Symlink(_), Kind::Symlink(_)));
    changes.extend((modes && old.mode != new.mode).then_some(Change::Mode));
    changes.extend(((old.uid, old.gid) != (new.uid, new.gid)).then_some(Change::Owner));
    changes.extend((old.xattrs != new.xattrs).then_some(Change::Attributes));
    changes.extend((old.mtime != new.mtime).then_some(Change::Time));
    changes
}

impl Shape {
    /// Describes an entry for output.
    pub fn of(path: &str, entry: &Entry) -> Self {
        let (digest, target) = match &entry.kind {
            Kind::File { digest, .. } => (Some(*digest), None),
            Kind::Directory => (None, None),
            Kind::Symlink(target) | Kind::Special(target) => (None, Some(target.clone())),
            Kind::HardLink(target) => (None, Some(format!("/{target}"))),
        };
        Self {
            path: format!("/{path}"),
            kind: entry.kind.word().to_owned(),
            size: entry.kind.size(),
            mode: format!("{:04o}", entry.mode),
            owner: format!("{}:{}", entry.uid, entry.gid),
            time: entry.mtime,
            digest,
            target,
        }
    }
}

impl FileChanges {
    /// Returns whether no file differs.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::{Change, compare};
    use crate::image_fs::Files;
    use crate::image_fs::tests::layer;

    #[test]
    fn what_came_went_and_changed_is_told_apart() {
        let before = Files::of([&layer(&["a one", "b one", "d/", "gone x", "l -> a", "m one", "t one"])]);
        let mut upper = layer(&["a two", "d file", "l -> b", "m one", "new y", "t one", "-gone"]);
        for (path, change) in [("m", 0o4755), ("t", 0o644)] {
            let entry = upper.entries.get_mut(path).unwrap();
            entry.mode = change;
            entry.uid = u64::from(path == "m") * 5;
            entry.mtime = u64::from(path == "t") * 9;
        }
        let after = Files::of([&layer(&["a one", "b one", "d/", "gone x", "l -> a", "m one", "t one"]), &upper]);
        let found = compare(&before, &after);
        assert_eq!(found.added.iter().map(|one| one.path.as_str()).collect::<Vec<_>>(), ["/new"]);
        assert_eq!(found.removed.iter().map(|one| one.path.as_str()).collect::<Vec<_>>(), ["/gone"]);
        let changed: Vec<_> = found.changed.iter().map(|one| (one.path.as_str(), one.changes.as_slice())).collect();
        let expected = [
            ("/a", &[Change::Content][..]),
            ("/d", &[Change::Kind]),
            ("/l", &[Change::Target]),
            ("/m", &[Change::Mode, Change::Owner]),
            ("/t", &[Change::Time]),
        ];
        assert_eq!(changed, expected);
        assert_eq!(
            (found.changed[3].shape.before.mode.as_str(), found.changed[3].shape.after.mode.as_str()),
            ("0644", "4755")
        );
        assert!(compare(&after, &after).is_empty());
    }
}
