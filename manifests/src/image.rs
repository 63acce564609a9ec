//! Image references in workloads: complete and by digest, never by a tag, which could change. A node then runs what was
//! pushed, even if tags changed in between.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// `REGISTRY/REPOSITORY@sha256:DIGEST`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImageReference {
    repository: String,
    digest: String,
}

impl ImageReference {
    /// Creates the reference of the image with this `name` (with or without a tag) and `digest`.
    ///
    /// # Errors
    /// Returns an error if the name does not begin with a registry, or if the digest is not a SHA-256 digest.
    pub fn new(name: &str, digest: &str) -> Result<Self, Error> {
        let hex = digest.strip_prefix("sha256:").unwrap_or_default();
        if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Err(Error::BadDigest { reference: format!("{name}@{digest}") });
        }
        let repository = without_tag(name);
        let qualified = repository.split_once('/').is_some_and(|(registry, path)| {
            !path.is_empty() && (registry.contains(['.', ':']) || registry == "localhost")
        });
        if !qualified {
            return Err(Error::NotQualified { name: name.to_owned() });
        }
        Ok(Self { repository: repository.to_owned(), digest: digest.to_owned() })
    }

    /// The registry and repository, without tag or digest.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The digest, `sha256:…`.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.repository, self.digest)
    }
}

impl FromStr for ImageReference {
    type Err = Error;

    fn from_str(reference: &str) -> Result<Self, Error> {
        let (name, digest) =
            reference.split_once('@').ok_or_else(|| Error::NoDigest { reference: reference.to_owned() })?;
        Self::new(name, digest)
    }
}

/// Removes the tag. A colon after the last slash precedes a tag; one before it precedes a registry's port.
fn without_tag(name: &str) -> &str {
    let path = name.rfind('/').map_or(0, |slash| slash + 1);
    name[path..].find(':').map_or(name, |colon| &name[..path + colon])
}

#[cfg(test)]
mod tests {
    use super::ImageReference;
    use crate::Error;

    const DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000001";

    #[test]
    fn a_tag_gives_way_to_the_digest_and_a_port_stays() {
        for (name, repository) in [
            ("docker.io/virtualcluster/manager-amd64:latest", "docker.io/virtualcluster/manager-amd64"),
            ("localhost:5000/a/b", "localhost:5000/a/b"),
            ("localhost:5000/a:v1", "localhost:5000/a"),
        ] {
            let reference: ImageReference = format!("{name}@{DIGEST}").parse().unwrap();
            assert_eq!(reference.to_string(), format!("{repository}@{DIGEST}"));
        }
    }

    #[test]
    fn what_could_move_or_be_misread_is_refused() {
        let parse = |text: &str| text.parse::<ImageReference>().unwrap_err();
        assert!(matches!(parse("docker.io/a/b:latest"), Error::NoDigest { .. }));
        assert!(matches!(parse("docker.io/a/b@sha256:12"), Error::BadDigest { .. }));
        assert!(matches!(parse(&format!("docker.io/a/b@{}", DIGEST.replace("01", "0G"))), Error::BadDigest { .. }));
        assert!(matches!(parse(&format!("virtualcluster/manager-amd64@{DIGEST}")), Error::NotQualified { .. }));
        assert!(matches!(parse(&format!("manager@{DIGEST}")), Error::NotQualified { .. }));
    }
}
