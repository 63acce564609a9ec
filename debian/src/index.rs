//! The packages of a suite, read from its `Packages` index: only the fields that are needed to select and fetch
//! packages.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufRead, BufWriter, Write};
use std::os::unix::fs::FileExt;

use camino::{Utf8Path, Utf8PathBuf};
use deb822_fast::borrowed::iter_paragraphs_borrowed;
use debian_control::lossy::{Relation, Relations};
use debversion::Version;
use vcstore::{Blob, Digest};

use super::{Error, Pin};

/// A package in an index.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) architecture: String,
    /// Whether it is part of every installation: `Essential: yes` or `Priority: required`.
    pub(crate) base: bool,
    /// Its path relative to the archive's address.
    pub(crate) path: String,
    /// The hash and size of its file.
    pub(crate) blob: Blob,
    /// The number of the archive that contains it.
    pub(crate) archive: usize,
    depends: [Option<Box<str>>; 2],
    conflicts: [Option<Box<str>>; 2],
    provides: Option<Box<str>>,
}

/// A message about a field of the index that could not be parsed.
pub(crate) type FieldError = String;

impl Candidate {
    /// Returns its dependencies: one relation of each of these groups must be satisfied.
    pub(crate) fn depends(&self) -> Result<Vec<Vec<Relation>>, FieldError> {
        self.relations(self.depends.iter().flatten())
    }

    /// Returns the packages with which it cannot be installed.
    pub(crate) fn conflicts(&self) -> Result<Vec<Relation>, FieldError> {
        Ok(self.relations(self.conflicts.iter().flatten())?.into_iter().flatten().collect())
    }

    fn provides(&self) -> Result<Vec<Relation>, FieldError> {
        Ok(self.relations(self.provides.iter())?.into_iter().flatten().collect())
    }

    fn relations<'a>(&self, fields: impl Iterator<Item = &'a Box<str>>) -> Result<Vec<Vec<Relation>>, FieldError> {
        let mut groups = Vec::new();
        for field in fields {
            let Relations(more) = field.parse().map_err(|why| format!("{}: {field:?}: {why}", self.name))?;
            groups.extend(more);
        }
        Ok(groups)
    }

    pub(crate) fn version(&self) -> Result<Version, FieldError> {
        self.version.parse().map_err(|error| format!("{}: {error}", self.name))
    }
}

/// All packages of all archives, by name and by the names that they provide. A suite has tens of thousands of packages,
/// few of which are needed: only their positions in a file are kept in memory, and a paragraph is read when it is
/// needed.
#[derive(Debug)]
pub(crate) struct Index {
    /// The file with the concatenated paragraphs, and its path.
    spool: File,
    path: Utf8PathBuf,
    packages: Vec<Package>,
    /// The number of packages from the archives, which come first; held packages follow.
    listed: usize,
    /// Packages by the hash of their name, and by the hashes of the names that they provide. Different names may have
    /// the same hash.
    names: BTreeSet<(u64, usize)>,
    providers: BTreeSet<(u64, usize)>,
    base: Vec<usize>,
}

/// The position of a package's paragraph in the spool file.
#[derive(Debug)]
struct Package {
    offset: u64,
    size: usize,
    archive: usize,
    read: OnceCell<Box<Candidate>>,
}

impl Index {
    /// Creates an empty index that stores its paragraphs in a file in `folder`.
    pub(crate) fn new(folder: &Utf8Path) -> Result<Self, Error> {
        let path = folder.join("packages");
        let spool = File::options().read(true).append(true).create_new(true).open(&path);
        let (names, providers) = (BTreeSet::new(), BTreeSet::new());
        Ok(Self {
            spool: spool.map_err(Error::io("making", &path))?,
            path,
            packages: Vec::new(),
            listed: 0,
            names,
            providers,
            base: Vec::new(),
        })
    }

    /// Adds the packages of one archive from its decompressed index.
    pub(crate) fn add(&mut self, archive: usize, url: &str, mut text: impl BufRead) -> Result<(), Error> {
        let path = self.path.clone();
        let mut offset = self.spool.metadata().map_err(Error::io("reading", &path))?.len();
        let spool = self.spool.try_clone().map_err(Error::io("opening", &path))?;
        let mut spool = BufWriter::with_capacity(256 << 10, spool);
        let mut paragraph = String::new();
        let mut more = true;
        while more {
            more =
                next_paragraph(&mut text, &mut paragraph).map_err(|error| Error::repository(url, error.to_string()))?;
            if let Some(candidate) = candidate(&paragraph, archive).map_err(|why| Error::repository(url, why))? {
                self.enter(self.packages.len(), &candidate).map_err(|why| Error::repository(url, why))?;
                let size = paragraph.len();
                self.packages.push(Package { offset, size, archive, read: OnceCell::new() });
                spool.write_all(paragraph.as_bytes()).map_err(Error::io("writing", &path))?;
                offset += size as u64;
            }
        }
        self.listed = self.packages.len();
        spool.flush().map_err(Error::io("writing", &path))
    }

    /// Returns the package with this number.
    pub(crate) fn candidate(&self, number: usize) -> Result<&Candidate, FieldError> {
        let package = &self.packages[number];
        if let Some(read) = package.read.get() {
            return Ok(read);
        }
        let mut text = vec![0; package.size];
        self.spool.read_exact_at(&mut text, package.offset).map_err(|why| format!("reading {}: {why}", self.path))?;
        let candidate = candidate(&String::from_utf8_lossy(&text), package.archive)?;
        let candidate = candidate.ok_or_else(|| format!("{} changed while it was read", self.path))?;
        Ok(package.read.get_or_init(|| Box::new(candidate)))
    }

    /// Returns the packages of every installation.
    pub(crate) fn base(&self) -> impl Iterator<Item = Result<&Candidate, FieldError>> {
        self.base.iter().map(|&number| self.candidate(number))
    }

    /// Returns the numbers of the packages with this name.
    pub(crate) fn named(&self, name: &str) -> Result<Vec<usize>, FieldError> {
        let mut named: Vec<(usize, &Candidate)> = Vec::new();
        for number in entered(&self.names, name) {
            let candidate = self.candidate(number)?;
            // The same version in a second archive is the same package.
            let known = || named.iter().any(|(_, one)| one.version == candidate.version);
            if candidate.name == name && (number >= self.listed || !known()) {
                named.push((number, candidate));
            }
        }
        Ok(named.into_iter().map(|(number, _)| number).collect())
    }

    /// Returns the number of the newest package with this name. A version that cannot be parsed sorts last.
    pub(crate) fn newest(&self, name: &str) -> Result<Option<usize>, FieldError> {
        let version = |number: usize| Ok((self.candidate(number)?.version().ok(), number));
        let versions = self.named(name)?.into_iter().map(version).collect::<Result<Vec<_>, FieldError>>()?;
        Ok(versions.into_iter().max_by(|(one, _), (other, _)| one.cmp(other)).map(|(_, number)| number))
    }

    /// Returns the numbers of the packages that provide a name, each with the version that it provides, if any.
    pub(crate) fn providing(&self, name: &str) -> Result<Vec<(usize, Option<Version>)>, FieldError> {
        let mut providing = Vec::new();
        for number in entered(&self.providers, name) {
            let candidate = self.candidate(number)?;
            let provided = candidate.provides()?.into_iter().filter(|provided| provided.name == name);
            let versions: Vec<_> = provided.map(|provided| provided.version.map(|(_, version)| version)).collect();
            if !versions.is_empty() && self.named(&candidate.name)?.contains(&number) {
                providing.extend(versions.into_iter().map(|version| (number, version)));
            }
        }
        Ok(providing)
    }

    /// Ensures that the index contains a pinned package, even if the archive now has a newer version, whose relations
    /// are then used for the pinned one. Returns its number, or `None` if no package has this name any more.
    pub(crate) fn hold(&mut self, pin: &Pin, archive: usize) -> Result<Option<usize>, FieldError> {
        for number in self.named(&pin.name)? {
            if self.candidate(number)?.blob.digest == pin.sha256 {
                return Ok(Some(number));
            }
        }
        let Some(like) = self.newest(&pin.name)? else { return Ok(None) };
        let candidate = Candidate {
            version: pin.version.clone(),
            architecture: pin.architecture.clone(),
            path: pin.path.clone(),
            blob: Blob { digest: pin.sha256, size: pin.size },
            archive,
            ..self.candidate(like)?.clone()
        };
        let number = self.packages.len();
        self.enter(number, &candidate)?;
        let (Package { offset, size, .. }, read) = (&self.packages[like], OnceCell::from(Box::new(candidate)));
        self.packages.push(Package { offset: *offset, size: *size, archive, read });
        Ok(Some(number))
    }

    fn enter(&mut self, number: usize, candidate: &Candidate) -> Result<(), FieldError> {
        self.names.insert((hash(&candidate.name), number));
        for provided in candidate.provides()? {
            self.providers.insert((hash(&provided.name), number));
        }
        if candidate.base {
            self.base.push(number);
        }
        Ok(())
    }
}

/// Returns the packages with this name, or with another name of the same hash, in order.
fn entered(packages: &BTreeSet<(u64, usize)>, name: &str) -> impl Iterator<Item = usize> {
    let hash = hash(name);
    packages.range((hash, 0)..=(hash, usize::MAX)).map(|(_, number)| *number)
}

fn hash(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

/// Reads up to an empty line. Returns whether more may follow.
fn next_paragraph(text: &mut impl BufRead, paragraph: &mut String) -> io::Result<bool> {
    paragraph.clear();
    loop {
        let start = paragraph.len();
        if text.read_line(paragraph)? == 0 {
            return Ok(false);
        }
        if paragraph[start..].trim_end().is_empty() {
            return Ok(true);
        }
    }
}

/// Parses a paragraph. Returns `None` if it is empty.
fn candidate(paragraph: &str, archive: usize) -> Result<Option<Candidate>, FieldError> {
    let Some(fields) = iter_paragraphs_borrowed(paragraph).next() else { return Ok(None) };
    let fields = fields.map_err(|error| error.to_string())?;
    let name = fields.get_single("Package").ok_or("a package has no name")?;
    let field = |field: &str| fields.get_single(field).ok_or_else(|| format!("{name} has no {field}"));
    let relation = |field: &str| fields.get(field).map(|lines| lines.join(" ").into_boxed_str());
    let path = field("Filename")?;
    if path.starts_with('/') || path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(format!("the path of {name} is {path:?}"));
    }
    let digest = Digest::from_hex(field("SHA256")?).map_err(|error| format!("{name}: {error}"))?;
    let size = field("Size")?.parse().map_err(|_| format!("the size of {name} is not a number"))?;
    Ok(Some(Candidate {
        name: name.to_owned(),
        version: field("Version")?.to_owned(),
        architecture: field("Architecture")?.to_owned(),
        base: fields.get_single("Essential") == Some("yes") || fields.get_single("Priority") == Some("required"),
        path: path.to_owned(),
        blob: Blob { digest, size },
        archive,
        depends: [relation("Pre-Depends"), relation("Depends")],
        conflicts: [relation("Conflicts"), relation("Breaks")],
        provides: relation("Provides"),
    }))
}
