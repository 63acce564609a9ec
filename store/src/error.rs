//! Errors of the store, each with advice.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};

use crate::Digest;

/// An error of the store.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be used.
    #[error("{attempt} {path}")]
    #[diagnostic(help("{}", io_help(source)))]
    Io {
        /// The attempted operation, such as "writing".
        attempt: &'static str,
        /// The path.
        path: Utf8PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The folder is not empty, and is not a store.
    #[error("opening the store {path}: the folder is not empty and holds no oci-layout file")]
    #[diagnostic(help("name another folder with --store, or empty this one"))]
    NotAStore {
        /// The folder.
        path: Utf8PathBuf,
    },
    /// Another user may change the store.
    #[error("opening the store {store}: {path} {why}")]
    #[diagnostic(help(
        "a user who can write there controls the content of your builds: use a store of your own (--store), or take \
         ownership (chown -R, chmod -R o-w). If you trust every user who can write there, as with a volume that a \
         container mounts, set VCBUILD_SAFE_STORES={store}"
    ))]
    NotYours {
        /// The store.
        store: Utf8PathBuf,
        /// The part that another user may change.
        path: Utf8PathBuf,
        /// The reason, as text that follows the path.
        why: String,
    },
    /// This program does not support the layout version of the store.
    #[error("opening the store {path}: its image layout version is {found}, and this program reads 1.0.0")]
    #[diagnostic(help("use a newer version of this program, or another store"))]
    LayoutVersion {
        /// The store.
        path: Utf8PathBuf,
        /// The version in its `oci-layout`.
        found: String,
    },
    /// A blob is missing.
    #[error("reading {digest}: the blob is not in the store")]
    #[diagnostic(help("build or import the image again to restore the missing blob"))]
    Missing {
        /// The blob.
        digest: Digest,
    },
    /// The content does not have the expected digest.
    #[error("checking {what}: the digest of its content is {found}, expected {expected}")]
    #[diagnostic(help("the content is damaged or was tampered with: fetch or build it again"))]
    DigestMismatch {
        /// The checked content.
        what: String,
        /// The expected digest.
        expected: Digest,
        /// The actual digest.
        found: Digest,
    },
    /// A JSON document cannot be parsed.
    #[error("reading the document {what}")]
    #[diagnostic(help("the document is damaged, or has a different type than expected"))]
    Document {
        /// The origin of the document.
        what: String,
        /// The cause.
        source: serde_json::Error,
    },
    /// A document is larger than any valid one.
    #[error("reading the document {what}: it has {size} bytes, more than the limit of {limit}")]
    #[diagnostic(help("the digest does not refer to a manifest, an image index or an image configuration"))]
    DocumentSize {
        /// The origin of the document.
        what: String,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// No image has this name.
    #[error("looking for image {name}: the store has no image with that name{}", list(known))]
    #[diagnostic(help("{}build it with `vcbuild images`, or name an archive", nearest(name, known)))]
    NoSuchImage {
        /// The requested name.
        name: String,
        /// The names in the store.
        known: Vec<String>,
    },
    /// A short name matches several images.
    #[error("looking for image {name}: the name matches several images{}", list(fits))]
    #[diagnostic(help("use the full name"))]
    AmbiguousImage {
        /// The requested name.
        name: String,
        /// The matching names.
        fits: Vec<String>,
    },
    /// A manifest, index or configuration violates the specification.
    #[error("reading image {image}: {why}")]
    #[diagnostic(help(
        "the image does not conform to the OCI image specification: rebuild it with a tool that conforms to it"
    ))]
    BadImage {
        /// The image.
        image: String,
        /// The reason.
        why: String,
    },
    /// An archive cannot be read.
    #[error("reading archive {path}: {why}")]
    #[diagnostic(help("the file is truncated, damaged or not an image archive: copy it again, or rebuild it"))]
    BadArchive {
        /// The archive.
        path: Utf8PathBuf,
        /// The reason.
        why: String,
    },
    /// The name of a root is invalid.
    #[error("adding root {name:?}: the name is not a valid file name")]
    #[diagnostic(help(
        "the name of a root contains no slash and does not start with a dot, for example \"release-1.2\""
    ))]
    RootName {
        /// The name.
        name: String,
    },
    /// A path is invalid in a layer.
    #[error("adding {path} to a layer: {why}")]
    #[diagnostic(help("a path in a layer must be relative, without '..', and its parents must be folders"))]
    BadPath {
        /// The path.
        path: String,
        /// The reason.
        why: String,
    },
}

impl Error {
    /// Wraps an I/O error with the attempted operation and its path.
    pub(crate) fn io(attempt: &'static str, path: impl AsRef<Utf8Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io { attempt, path, source }
    }
}

/// The advice for a full disk.
pub const FULL_DISK: &str =
    "the disk is full: free space (`vcbuild gc` removes unused data), or use a store on another disk (--store)";

/// Returns whether an operation failed because a disk is full, or a quota is exhausted.
pub fn is_full_disk(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// An error of a file or folder outside the store.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("{attempt} {path}")]
#[diagnostic(help("{}", if is_full_disk(source) { FULL_DISK } else { "check that the path exists, and check its permissions" }))]
pub struct FileError {
    /// The attempted operation, such as "reading".
    attempt: &'static str,
    /// The path.
    path: Utf8PathBuf,
    /// The cause.
    source: io::Error,
}

impl FileError {
    /// Wraps an I/O error with the attempted operation and its path, as an error type that contains a [`FileError`].
    pub fn wrap<E: From<Self>>(attempt: &'static str, path: impl AsRef<Utf8Path>) -> impl FnOnce(io::Error) -> E {
        let path = path.as_ref().to_owned();
        move |source| Self { attempt, path, source }.into()
    }
}

fn io_help(source: &io::Error) -> &'static str {
    match source.kind() {
        _ if is_full_disk(source) => FULL_DISK,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "check the permissions of the path, or use another store (--store)"
        }
        io::ErrorKind::NotFound => "check that the path exists and is spelled correctly",
        _ => "check the disk and the path",
    }
}

/// The minimum similarity of two names, from 0 to 1, for a suggestion.
const ALIKE: f64 = 0.65;

/// Suggests the name most similar to `name`; returns an empty text if none is similar. Compares the forms that users
/// write: the full name, without the registry, only the last component, and without the tag.
fn nearest(name: &str, known: &[String]) -> String {
    let likeness = |full: &String| {
        let path = full.split_once('/').map_or(full.as_str(), |(_, path)| path);
        let last = path.rsplit('/').next().unwrap_or(path);
        let untagged = last.split([':', '@']).next().unwrap_or(last);
        let component = untagged.rsplit_once('-').map_or(untagged, |(component, _)| component);
        let forms = [full.as_str(), path, last, untagged, component];
        forms.iter().map(|form| strsim::normalized_damerau_levenshtein(name, form)).fold(0.0, f64::max)
    };
    let best = known.iter().map(|full| (likeness(full), full)).max_by(|(one, _), (other, _)| one.total_cmp(other));
    match best {
        Some((alike, full)) if alike >= ALIKE => format!("did you mean {full}? Otherwise "),
        _ => String::new(),
    }
}

fn list(names: &[String]) -> String {
    match names {
        [] => " (it has none)".to_owned(),
        names => format!(" (it has {})", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_mistyped_name_is_compared_with_the_forms_that_people_write() {
        let known = ["docker.io/virtualcluster/manager-amd64:latest", "docker.io/virtualcluster/syncer-amd64:v2"];
        let known = known.map(str::to_owned);
        let meant = |name: &str| nearest(name, &known);
        for name in ["mnager", "manger", "manager-amd46", "virtualcluster/manager-amd64:latst"] {
            assert_eq!(meant(name), format!("did you mean {}? Otherwise ", known[0]), "{name}");
        }
        assert_eq!(meant("sycner"), format!("did you mean {}? Otherwise ", known[1]));
        assert_eq!(meant("syncer-amd64:v1"), format!("did you mean {}? Otherwise ", known[1]));
        for name in ["etcd", "nginx:1.27", "x"] {
            assert_eq!(meant(name), "", "{name}");
        }
    }
}
