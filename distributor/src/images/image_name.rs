//! Image names: with a tag, with a digest, and in the complete form of container runtimes.

use vcstore::Digest;

/// Returns `NAME@DIGEST` for `NAME:TAG`: the other name under which the kubelet looks up an image.
pub(crate) fn by_digest(name: &str, digest: &Digest) -> String {
    format!("{}@{digest}", repository(name))
}

/// Whether `record` may carry the label of a push under the name `pushed`. An image has only one record by digest for
/// all tags of a repository.
pub(crate) fn may_be_noted(record: &str, pushed: &str) -> bool {
    record == pushed || (record.contains('@') && repository(record) == repository(pushed))
}

/// Returns an image name without its tag and digest.
pub(crate) fn repository(name: &str) -> &str {
    let name = name.split_once('@').map_or(name, |(name, _)| name);
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

/// Returns the complete form that container runtimes give the image name of a pod: with a registry and a tag.
pub(crate) fn full_name(name: &str) -> String {
    let host = |(host, _): &(&str, &str)| host.contains(['.', ':']) || *host == "localhost";
    let name = match name.split_once('/').filter(host) {
        Some(_) => name.to_owned(),
        None if name.contains('/') => format!("docker.io/{name}"),
        None => format!("docker.io/library/{name}"),
    };
    if repository(&name) == name { format!("{name}:latest") } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_tag_or_with_a_port_gets_its_digest() {
        let digest = Digest::of(b"");
        assert_eq!(repository(&format!("docker.io/a/b:v1@{digest}")), "docker.io/a/b");
        assert_eq!(by_digest("localhost:5000/a/b", &digest), format!("localhost:5000/a/b@{digest}"));
        assert_eq!(by_digest("localhost:5000/a/b:v1", &digest), format!("localhost:5000/a/b@{digest}"));
    }
}
