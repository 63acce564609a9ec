//! The packages a suite has, read from its `Packages` index: of each only what choosing and fetching it needs.

use std::collections::HashMap;
use std::io::{self, BufRead};

use deb822_fast::borrowed::{BorrowedParagraph, iter_paragraphs_borrowed};
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
    /// Whether every installation has it: `Essential: yes` or `Priority: required`.
    pub(crate) base: bool,
    /// Where it is, from the archive's address.
    pub(crate) path: String,
    /// The hash and size of its file.
    pub(crate) blob: Blob,
    /// Which of the archives it is from, by number.
    pub(crate) archive: usize,
    depends: [Option<Box<str>>; 2],
    conflicts: [Option<Box<str>>; 2],
    provides: Option<Box<str>>,
}

/// A relation field could not be read: which, and why.
pub(crate) type BadRelation = String;

impl Candidate {
    /// What it needs: all of these groups, of each any one.
    pub(crate) fn depends(&self) -> Result<Vec<Vec<Relation>>, BadRelation> {
        self.relations(self.depends.iter().flatten())
    }

    /// What it cannot be with.
    pub(crate) fn conflicts(&self) -> Result<Vec<Relation>, BadRelation> {
        Ok(self.relations(self.conflicts.iter().flatten())?.into_iter().flatten().collect())
    }

    fn provides(&self) -> Result<Vec<Relation>, BadRelation> {
        Ok(self.relations(self.provides.iter())?.into_iter().flatten().collect())
    }

    fn relations<'a>(&self, fields: impl Iterator<Item = &'a Box<str>>) -> Result<Vec<Vec<Relation>>, BadRelation> {
        let mut groups = Vec::new();
        for field in fields {
            let Relations(more) = field.parse().map_err(|why| format!("{}: {field:?}: {why}", self.name))?;
            groups.extend(more);
        }
        Ok(groups)
    }

    pub(crate) fn version(&self) -> Result<Version, BadRelation> {
        self.version.parse().map_err(|error| format!("{}: {error}", self.name))
    }
}

/// All packages of all archives, by name and by what they provide.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pub(crate) candidates: Vec<Candidate>,
    names: HashMap<String, Vec<usize>>,
    providers: HashMap<String, Vec<(usize, Option<Version>)>>,
}

impl Index {
    /// Adds the packages of one archive, from its decompressed index.
    pub(crate) fn add(&mut self, archive: usize, url: &str, mut text: impl BufRead) -> Result<(), Error> {
        let mut paragraph = String::new();
        loop {
            let more =
                next_paragraph(&mut text, &mut paragraph).map_err(|error| Error::repository(url, error.to_string()))?;
            for fields in iter_paragraphs_borrowed(&paragraph) {
                let fields = fields.map_err(|error| Error::repository(url, error.to_string()))?;
                let candidate = candidate(&fields, archive).map_err(|why| Error::repository(url, why))?;
                self.insert(candidate).map_err(|why| Error::repository(url, why))?;
            }
            if !more {
                return Ok(());
            }
        }
    }

    /// The packages of a name, by number.
    pub(crate) fn named(&self, name: &str) -> &[usize] {
        self.names.get(name).map_or(&[], Vec::as_slice)
    }

    /// The packages that provide a name, by number, and which version of it they provide if they say.
    pub(crate) fn providing(&self, name: &str) -> &[(usize, Option<Version>)] {
        self.providers.get(name).map_or(&[], Vec::as_slice)
    }

    /// Sees to it that a pinned package is there, although the archive may have a newer one by now: that one says of its
    /// relations what this one did. Returns its number; nothing when no package has the name any more.
    pub(crate) fn hold(&mut self, pin: &Pin, archive: usize) -> Option<usize> {
        let named = self.named(&pin.name);
        let same = |one: &&usize| self.candidates[**one].blob.digest == pin.sha256;
        if let Some(known) = named.iter().find(same) {
            return Some(*known);
        }
        let like = named.iter().copied().max_by_key(|&one| self.candidates[one].version().ok())?;
        let number = self.candidates.len();
        self.candidates.push(Candidate {
            version: pin.version.clone(),
            architecture: pin.architecture.clone(),
            path: pin.path.clone(),
            blob: Blob { digest: pin.sha256, size: pin.size },
            archive,
            ..self.candidates[like].clone()
        });
        for providers in self.providers.values_mut() {
            let provided = providers.iter().find(|(one, _)| *one == like).map(|(_, version)| version.clone());
            providers.extend(provided.map(|version| (number, version)));
        }
        self.names.entry(pin.name.clone()).or_default().push(number);
        Some(number)
    }

    fn insert(&mut self, candidate: Candidate) -> Result<(), BadRelation> {
        let known = self.names.entry(candidate.name.clone()).or_default();
        // The same version in a second archive is the same package.
        if known.iter().any(|&one| self.candidates[one].version == candidate.version) {
            return Ok(());
        }
        let number = self.candidates.len();
        known.push(number);
        for provided in candidate.provides()? {
            let version = provided.version.map(|(_, version)| version);
            self.providers.entry(provided.name).or_default().push((number, version));
        }
        self.candidates.push(candidate);
        Ok(())
    }
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

fn candidate(fields: &BorrowedParagraph<'_>, archive: usize) -> Result<Candidate, String> {
    let name = fields.get_single("Package").ok_or("a package has no name")?;
    let field = |field: &str| fields.get_single(field).ok_or_else(|| format!("{name} has no {field}"));
    let relation = |field: &str| fields.get(field).map(|lines| lines.join(" ").into_boxed_str());
    let path = field("Filename")?;
    if path.starts_with('/') || path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(format!("the path of {name} is {path:?}"));
    }
    let digest = Digest::from_hex(field("SHA256")?).map_err(|error| format!("{name}: {error}"))?;
    let size = field("Size")?.parse().map_err(|_| format!("the size of {name} is no number"))?;
    Ok(Candidate {
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
    })
}
