//! The file system below a layer of a component: the base and the component's lower layers. Resolves paths through its
//! symbolic links, as in a container, and preserves the permissions and owners of its folders.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use vcinspect::image_fs::follow;
use vcinspect::image_fs::outline::{self, Attributes, Node};
use vcstore::{Digest, Store};

use crate::Error;
use crate::error::{Location, PlacementError};
use crate::layer::{Item, ItemKind, LayerSpec};
use crate::project::Owner;

/// The file system below a layer.
#[derive(Debug)]
pub(crate) struct LowerLayers<'a> {
    store: &'a Store,
    component: &'a str,
    /// The outline of the base; `None` if the base has no layers.
    base: Option<Digest>,
    /// The nodes of the component's lower layers, by resolved path.
    own: BTreeMap<String, Node>,
}

impl<'a> LowerLayers<'a> {
    /// Creates a file system with only the base of this outline.
    pub(crate) fn of(store: &'a Store, component: &'a str, base: Option<Digest>) -> Self {
        Self { store, component, base, own: BTreeMap::new() }
    }

    /// Places the entries at their resolved paths, and adds their parent folders whose attributes differ from the
    /// defaults. The result becomes part of the lower layers.
    ///
    /// # Errors
    /// When a path passes through something other than a folder or through too many symbolic links, two files of the
    /// component have the same resolved path, or an entry would replace a non-empty folder.
    pub(crate) fn put(&mut self, spec: &LayerSpec) -> Result<LayerSpec, Error> {
        // The required paths of the base are known only after links are resolved. So this repeats the placement with
        // further lookups, rather than loading the whole outline.
        let mut base: BTreeMap<String, Option<Node>> = BTreeMap::new();
        loop {
            let asked = RefCell::new(BTreeSet::new());
            let placed = Placement {
                lower_layers: self,
                base: &base,
                asked: &asked,
                items: BTreeMap::new(),
                new: BTreeMap::new(),
            }
            .place(spec);
            let asked = asked.into_inner();
            if asked.is_empty() {
                let (items, new) = placed?;
                self.own.extend(new);
                return Ok(LayerSpec::of(items));
            }
            let mut found = match &self.base {
                Some(outline) => outline::look(self.store, outline, &asked)?,
                None => BTreeMap::new(),
            };
            base.extend(asked.into_iter().map(|path| {
                let node = found.remove(&path);
                (path, node)
            }));
        }
    }
}

/// One attempt to place entries with the known nodes of the base.
struct Placement<'a> {
    lower_layers: &'a LowerLayers<'a>,
    /// The known nodes of the base; `None` for a path that does not exist.
    base: &'a BTreeMap<String, Option<Node>>,
    /// The unknown paths of the base that are required.
    asked: &'a RefCell<BTreeSet<String>>,
    items: BTreeMap<String, Item>,
    /// The nodes of `items`.
    new: BTreeMap<String, Node>,
}

type Placed = (BTreeMap<String, Item>, BTreeMap<String, Node>);

impl Placement<'_> {
    fn place(mut self, spec: &LayerSpec) -> Result<Placed, PlacementError> {
        // Place links first: other paths may pass through them.
        let (links, others): (Vec<_>, Vec<_>) =
            spec.items().partition(|(_, item)| matches!(item.kind, ItemKind::Link(_)));
        for (path, item) in links.into_iter().chain(others) {
            match &item.kind {
                ItemKind::Folder => self.folder(path, item)?,
                _ => self.file(path, item)?,
            }
        }
        Ok((self.items, self.new))
    }

    /// Places a folder. An existing folder keeps the attributes that are not overridden.
    fn folder(&mut self, path: &str, item: &Item) -> Result<(), PlacementError> {
        let at = self.resolve(path, true)?;
        if at.is_empty() {
            return Ok(());
        }
        let there = match self.at(&at) {
            Some((Node::Folder { attributes, .. }, _)) => Some(attributes),
            Some((_, place)) => return Err(self.through(path, &at, place)),
            None => None,
        };
        // Two paths may resolve to one folder: the entry with overrides takes precedence.
        if self.items.contains_key(&at) && item.over.is_silent() {
            return Ok(());
        }
        let mut item = item.clone();
        if let Some(there) = there {
            item.mode = item.over.mode.unwrap_or(there.mode);
            item.owner = item.over.owner.unwrap_or(Owner { user: there.uid, group: there.gid });
            item.xattrs = there.xattrs;
        }
        self.insert(at, item);
        Ok(())
    }

    /// Places a file or a symbolic link.
    fn file(&mut self, path: &str, item: &Item) -> Result<(), PlacementError> {
        let at = self.resolve(path, false)?;
        let component = || self.lower_layers.component.to_owned();
        let (path, twice) = (path.to_owned(), self.items.contains_key(&at));
        match self.at(&at) {
            Some((Node::Folder { empty: true, .. }, Location::Base)) | None => {}
            Some((Node::Folder { .. }, place)) => {
                return Err(PlacementError::OverFolder { component: component(), path, at, place });
            }
            Some((_, Location::Component)) => return Err(PlacementError::Twice { component: component(), path, at }),
            Some((_, Location::Base)) => {}
        }
        if twice || at.is_empty() {
            return Err(PlacementError::Twice { component: component(), path, at });
        }
        self.insert(at, item.clone());
        Ok(())
    }

    fn insert(&mut self, at: String, item: Item) {
        let parents: Vec<String> = at.match_indices('/').map(|(end, _)| at[..end].to_owned()).collect();
        for parent in parents {
            if self.items.contains_key(&parent) {
                continue;
            }
            if let Some((Node::Folder { attributes, .. }, _)) = self.at(&parent)
                && attributes != Attributes::default()
            {
                let folder = Item::folder(attributes);
                self.new.insert(parent.clone(), folder.node());
                self.items.insert(parent, folder);
            }
        }
        self.new.insert(at.clone(), item.node());
        self.items.insert(at, item);
    }

    /// Resolves the symbolic links in a path; those in its last component only if `last` is set.
    fn resolve(&self, path: &str, last: bool) -> Result<String, PlacementError> {
        let found = follow(path, |at, is_last| match self.at(at) {
            Some((Node::Link(target), _)) if last || !is_last => Ok(Some(target)),
            Some((Node::Other, place)) if !is_last => Err(self.through(path, at, place)),
            _ => Ok(None),
        })?;
        found.ok_or_else(|| PlacementError::Loop {
            component: self.lower_layers.component.to_owned(),
            path: path.to_owned(),
        })
    }

    /// Returns the node at a resolved path, if it is known; records an unknown path as required.
    fn at(&self, path: &str) -> Option<(Node, Location)> {
        if let Some(node) = self.new.get(path).or_else(|| self.lower_layers.own.get(path)) {
            return Some((node.clone(), Location::Component));
        }
        match self.base.get(path) {
            Some(node) => node.clone().map(|node| (node, Location::Base)),
            None => {
                self.asked.borrow_mut().insert(path.to_owned());
                None
            }
        }
    }

    fn through(&self, path: &str, through: &str, place: Location) -> PlacementError {
        let component = self.lower_layers.component.to_owned();
        PlacementError::ThroughFile { component, path: path.to_owned(), through: through.to_owned(), place }
    }
}

#[cfg(test)]
mod tests {
    use tar::EntryType::{Directory, Regular, Symlink};
    use vcstore::Digest;

    use super::LowerLayers;
    use crate::layer::{FolderOverrides, LayerSpec};
    use crate::project::Owner;
    use rigs::{layer, store as scratch};
    use vcinspect::image_fs::outline;

    /// Returns the placed entries of the last layer: files, folders (`path/`) and links (`path -> target`) on this
    /// base.
    fn placed(base: &[(tar::EntryType, &str, &str, u32, u64)], layers: &[&[&str]]) -> Result<Vec<String>, String> {
        let (_folder, store) = scratch();
        let outline = outline::write(&store, &[layer(&store, base)]).unwrap();
        let mut lower_layers = LowerLayers::of(&store, "app", Some(outline.digest));
        let mut last = Vec::new();
        for lines in layers {
            let mut spec = LayerSpec::new();
            for line in *lines {
                if let Some((path, target)) = line.split_once(" -> ") {
                    spec.link(path, target, Owner::default());
                } else if let Some(path) = line.strip_suffix('/') {
                    spec.folder(path, 0o755, Owner::default(), FolderOverrides::default());
                } else {
                    spec.blob(line, 0o644, Digest::of(b""));
                }
            }
            let placed = lower_layers.put(&spec).map_err(|error| error.to_string())?;
            last = placed
                .items()
                .map(|(path, item)| format!("{path} {:o} {}", item.mode, item.owner.user))
                .collect::<Vec<_>>();
        }
        Ok(last)
    }

    #[test]
    fn paths_lead_where_a_container_finds_them() {
        let base = [
            (Symlink, "bin", "usr/bin", 0o777, 0),
            (Directory, "usr", "", 0o755, 0),
            (Directory, "usr/bin", "", 0o755, 0),
            (Regular, "usr/bin/sh", "", 0o755, 0),
            (Symlink, "var/run", "/run", 0o777, 0),
            (Directory, "run", "", 0o2770, 5),
            (Symlink, "usr/local/sbin", "../../sbin/", 0o777, 0),
            (Symlink, "sbin", "bin", 0o777, 0),
            (Symlink, "out", "../../../etc", 0o777, 0),
            (Symlink, "etc/new", "/srv/new", 0o777, 0),
            (Symlink, "usr/bin/vi", "/etc/alternatives/vi", 0o777, 0),
            (Directory, "tmp", "", 0o1777, 0),
            (Directory, "home/me", "", 0o700, 65532),
            (Directory, "empty", "", 0o700, 0),
        ];
        let one = |line: &str| placed(&base, &[&[line]]).unwrap();
        assert_eq!(one("/bin/app"), ["usr/bin/app 644 0"]);
        assert_eq!(one("/usr/local/sbin/app"), ["usr/bin/app 644 0"], "a chain of relative links");
        assert_eq!(one("/var/run/app/pid"), ["run 2770 5", "run/app/pid 644 0"], "an absolute link");
        assert_eq!(one("/out/app"), ["etc/app 644 0"], "no link leads out of the root");
        assert_eq!(one("/etc/new/app"), ["srv/new/app 644 0"], "what a link leads to need not be there");
        assert_eq!(one("/usr/bin/vi"), ["usr/bin/vi 644 0"], "a file stands in the place of a link");
        assert_eq!(one("/tmp/a/b"), ["tmp 1777 0", "tmp/a/b 644 0"]);
        assert_eq!(one("/home/me/x -> y"), ["home/me 700 65532", "home/me/x 777 0"]);
        assert_eq!(one("/home/me/"), ["home/me 700 65532"], "a folder that is there stays as it is");
        assert_eq!(one("/var/run/"), ["run 2770 5"]);
        assert_eq!(one("/bin/"), ["usr/bin 755 0"]);
        assert_eq!(one("/empty -> run"), ["empty 777 0"], "nothing is lost with an empty folder");
        assert_eq!(
            one("/usr/local/bin/app"),
            ["usr/local/bin/app 644 0"],
            "nothing is said of what goes without saying"
        );
    }

    #[test]
    fn what_cannot_be_where_it_is_to_be_is_refused() {
        let base = [
            (Symlink, "loop", "loop2/x", 0o777, 0),
            (Symlink, "loop2", "loop", 0o777, 0),
            (Regular, "etc/passwd", "", 0o644, 0),
            (Directory, "bin", "", 0o755, 0),
            (Regular, "bin/sh", "", 0o755, 0),
            (Symlink, "sbin", "bin", 0o777, 0),
        ];
        let cases: [(&[&[&str]], &str); 7] = [
            (&[&["/loop/app"]], "adding /loop/app to app: its path passes through too many symbolic links"),
            (&[&["/etc/passwd/x"]], "passes through /etc/passwd, which is a file in the base"),
            (&[&["/etc/passwd/"]], "passes through /etc/passwd, which is a file in the base"),
            (&[&["/bin -> usr/bin"]], "adding /bin to app: the base has a folder at /bin, whose content"),
            (
                &[&["/bin/app", "/sbin/app"]],
                "adding /sbin/app to app: the component already has another file at /bin/app",
            ),
            (&[&["/opt/app"], &["/opt/app"]], "the component already has another file at /opt/app"),
            (&[&["/opt/app"], &["/opt/app/x"]], "passes through /opt/app, which is a file in the component"),
        ];
        for (layers, why) in cases {
            let said = placed(&base, layers).unwrap_err();
            assert!(said.contains(why), "{layers:?} gave {said:?}, not {why:?}");
        }
    }

    #[test]
    fn a_layer_lies_on_the_components_lower_ones_too() {
        let base = [(Directory, "usr", "", 0o755, 0)];
        let (_folder, store) = scratch();
        let outline = outline::write(&store, &[layer(&store, &base)]).unwrap();
        let mut lower_layers = LowerLayers::of(&store, "app", Some(outline.digest));
        let mut files = LayerSpec::new();
        files.link("/app", "/opt/app", Owner::default());
        files.folder("/data", 0o700, Owner { user: 5, group: 6 }, FolderOverrides::default());
        files.blob("/app/readme", 0o644, Digest::of(b""));
        let paths = |spec: &LayerSpec| spec.items().map(|(path, _)| path.to_owned()).collect::<Vec<_>>();
        assert_eq!(paths(&lower_layers.put(&files).unwrap()), ["app", "data", "opt/app/readme"]);
        let mut program = LayerSpec::new();
        program.blob("/app/bin", 0o755, Digest::of(b"x"));
        program.blob("/data/seed", 0o644, Digest::of(b"y"));
        let placed = lower_layers.put(&program).unwrap();
        assert_eq!(paths(&placed), ["data", "data/seed", "opt/app/bin"]);
        let data = placed.items().next().unwrap().1;
        assert_eq!((data.mode, data.owner), (0o700, Owner { user: 5, group: 6 }));
        let mut asked = LayerSpec::new();
        asked.folder("/usr", 0o755, Owner::default(), FolderOverrides { mode: Some(0o711), owner: None });
        assert_eq!(lower_layers.put(&asked).unwrap().items().next().unwrap().1.mode, 0o711, "its own mode applies");
    }
}
