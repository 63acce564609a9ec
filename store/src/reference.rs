//! Image references: registry, repository, tag, digest. Parsed here rather than by the registry client, whose regular
//! expression takes 15 MiB to compile, more than all other memory of a build without changes. The client does not
//! support IPv6 addresses either.

use std::net::Ipv6Addr;

use crate::Digest;
use oci_spec::distribution::Reference;

/// The maximum length of a repository name in registries.
const REPOSITORY_LIMIT: usize = 255;

/// Returns the full form of the reference of an image to build, with registry and tag, as Docker completes it.
///
/// # Errors
/// When it is invalid or has a digest; the error is a message.
pub fn full(text: &str) -> Result<String, String> {
    let reference = parse(text)?;
    match reference.digest() {
        Some(_) => Err(bad(text, "the name of an image to be built cannot contain a digest")),
        None => Ok(reference.whole()),
    }
}

/// Parses a reference, and completes it like Docker: with a registry, and a tag if it has no digest.
///
/// # Errors
/// When it is invalid; the error is a message.
pub fn parse(text: &str) -> Result<Reference, String> {
    let bad = |why: &str| bad(text, why);
    let (named, digest) = match text.split_once('@') {
        Some((named, digest)) => {
            let digest =
                digest.parse::<Digest>().map_err(|_| bad("a digest is sha256: followed by 64 hexadecimal digits"))?;
            (named, Some(digest.to_string()))
        }
        None => (text, None),
    };
    if let Some(tag) = slashed_tag(named) {
        let tag = format!(
            "the tag {tag:?} contains '/', which is not allowed in a tag: use, for example, {:?}",
            tag.replace('/', "-")
        );
        return Err(bad(&tag));
    }
    let (name, tag) = match named.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')) {
        Some((name, tag)) => (name, Some(tag)),
        None => (named, None),
    };
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err(bad(
            "a tag consists of at most 128 letters, digits, '_', '.' and '-', and does not start with '.' or '-'",
        ));
    }
    let is_registry = |first: &str| first.contains(['.', ':', '[']) || first == "localhost";
    let (registry, repository) = match name.split_once('/').filter(|(first, _)| is_registry(first)) {
        Some(("index.docker.io", repository)) => ("docker.io", repository),
        Some(parts) => parts,
        None => ("docker.io", name),
    };
    if !is_host(registry) {
        return Err(bad(&format!("{registry:?} is not HOST or HOST:PORT")));
    }
    let official = registry == "docker.io" && !repository.contains('/');
    let repository = if official { format!("library/{repository}") } else { repository.to_owned() };
    if !repository.split('/').all(is_component) || repository.len() > REPOSITORY_LIMIT {
        return Err(bad(
            "a name consists of at most 255 lowercase letters and digits, separated by '.', '_', '__' or '-'",
        ));
    }
    let (registry, tag) = (registry.to_owned(), tag.map(str::to_owned));
    Ok(match (tag, digest) {
        (Some(tag), Some(digest)) => Reference::with_tag_and_digest(registry, repository, tag, digest),
        (None, Some(digest)) => Reference::with_digest(registry, repository, digest),
        (tag, None) => Reference::with_tag(registry, repository, tag.unwrap_or_else(|| "latest".to_owned())),
    })
}

fn bad(text: &str, why: &str) -> String {
    format!("{text:?} is not a valid image reference: {why}")
}

/// Returns an intended tag that contains a slash, like the name of a branch: the text after a colon that does not
/// precede a port.
fn slashed_tag(named: &str) -> Option<&str> {
    let (host, rest) = named.split_at(named.find('/')?);
    if let Some((_, tag)) = rest.split_once(':') {
        return tag.contains('/').then_some(tag);
    }
    let (at, port) = (host.rfind(':')?, host.rsplit(':').next()?);
    let is_host = port.is_empty() || port.ends_with(']') || port.bytes().all(|byte| byte.is_ascii_digit());
    (!is_host && (!host.starts_with('[') || host.contains("]:"))).then_some(&named[at + 1..])
}

fn is_tag(tag: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    !tag.starts_with(['.', '-']) && tag.bytes().all(plain) && (1..=128).contains(&tag.len())
}

fn is_host(registry: &str) -> bool {
    let (host, port) = match registry.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
        Some((host, port)) => (host, port),
        None => (registry, "443"),
    };
    let is_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return is_port && address.parse::<Ipv6Addr>().is_ok();
    }
    let is_label = |label: &str| {
        let plain = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        plain && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
    };
    host.split('.').all(is_label) && is_port
}

/// Returns whether a text is a component of a repository name (OCI distribution specification, "pulling manifests").
fn is_component(part: &str) -> bool {
    let between = |text: &str| matches!(text, "." | "_" | "__") || text.bytes().all(|byte| byte == b'-');
    let is_letter = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit();
    // A separator is valid only between two letters or digits.
    part.starts_with(is_letter) && part.ends_with(is_letter) && part.split(is_letter).all(between)
}

#[cfg(test)]
mod tests {
    use oci_spec::distribution::Reference;
    use proptest::prelude::*;

    use super::parse;

    #[test]
    fn references_are_written_in_full() {
        let cases = [
            ("manager", "docker.io/library/manager:latest"),
            ("localhost:5000/a:v1", "localhost:5000/a:v1"),
            ("localhost/a", "localhost/a:latest"),
            ("virtualcluster/manager-amd64:latest", "docker.io/virtualcluster/manager-amd64:latest"),
            ("index.docker.io/a", "docker.io/library/a:latest"),
            ("[::1]:5000/a/b:v1", "[::1]:5000/a/b:v1"),
            ("[2001:db8::1]/a", "[2001:db8::1]/a:latest"),
        ];
        for (text, full) in cases {
            assert_eq!(super::full(text).as_deref(), Ok(full));
        }
    }

    #[test]
    fn a_reference_may_have_a_tag_and_a_digest() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for (text, full, tag) in [
            (format!("a@{digest}"), format!("docker.io/library/a@{digest}"), None),
            (format!("r.example:5000/a:v1@{digest}"), format!("r.example:5000/a:v1@{digest}"), Some("v1")),
            (format!("[::1]:5000/a:v1@{digest}"), format!("[::1]:5000/a:v1@{digest}"), Some("v1")),
        ] {
            let reference = parse(&text).unwrap();
            assert_eq!((reference.whole(), reference.tag(), reference.digest()), (full, tag, Some(digest.as_str())));
        }
        for bad in ["a@", "a@sha256:0a", "a@md5:00112233445566778899aabbccddeeff", "@"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let made = super::full(&format!("a@{digest}")).unwrap_err();
        assert!(made.contains("image to be built cannot contain a digest"), "{made}");
    }

    #[test]
    fn what_is_no_reference_says_why() {
        let cases = [
            ("Manager", "a name consists of at most 255 lowercase letters"),
            ("a/b:", "a tag consists of at most 128 letters"),
            ("a:-x", "a tag consists of at most 128 letters"),
            ("-.example/a", "\"-.example\" is not HOST or HOST:PORT"),
            ("a.0_0/a", "\"a.0_0\" is not HOST or HOST:PORT"),
            ("localhost:/a", "\"localhost:\" is not HOST or HOST:PORT"),
            ("[::1/a", "\"[::1\" is not HOST or HOST:PORT"),
            ("[localhost]:5000/a", "\"[localhost]:5000\" is not HOST or HOST:PORT"),
            ("[::1]:x/a", "the tag \"x/a\" contains '/'"),
            ("a@sha256:0", "64 hexadecimal digits"),
            (
                "app:feature/x",
                "the tag \"feature/x\" contains '/', which is not allowed in a tag: use, for example, \"feature-x\"",
            ),
            ("r.example:5000/team/app:fix/a/b", "use, for example, \"fix-a-b\""),
            ("r.example/app:1/2", "use, for example, \"1-2\""),
            ("", "a name consists of at most 255 lowercase letters"),
        ];
        for (text, why) in cases {
            let error = super::full(text).unwrap_err();
            assert!(
                error.starts_with(&format!("{text:?} is not a valid image reference: ")) && error.contains(why),
                "{error}"
            );
        }
        assert!(super::full(&"a".repeat(300)).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]
        #[test]
        fn the_client_of_registries_reads_the_same(
            text in "(localhost/|index\\.docker\\.io/|docker\\.io/|[aA0.:-]{1,5}/)?[a0._-]{0,5}(/[aA0._-]{1,6}){0,2}(:[aA0._-]{0,4})?",
        ) {
            // The client parses the "A" of "A/b" as a registry, and then as a part of the name, which registries do not
            // permit in capitals. It takes "a.0_0" of "a.0_0/b" for a registry, which is not a host name.
            let is_same = |client: &Reference| !client.repository().contains('A') && !client.registry().contains('_');
            let client = text.parse().ok().filter(is_same);
            prop_assert_eq!(super::full(&text).ok(), client.map(|client| client.whole()));
        }
    }
}
