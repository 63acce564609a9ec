//! The names of images that are made. They are read here and not by the registry's client, whose regular expression takes
//! fifteen mebibytes to compile: more than all else that a build without changes holds.

/// What a registry takes for the length of a repository's name.
const REPOSITORY_LIMIT: usize = 255;

/// The full form of an image reference, as Docker completes it: with its registry and its tag.
///
/// # Errors
/// When it is no reference; the text says why.
pub(crate) fn full_reference(text: &str) -> Result<String, String> {
    let bad = |why: &str| format!("{text:?} is no image reference: {why}");
    if text.contains('@') {
        return Err(bad("an image that is yet to be made has no digest"));
    }
    let (name, tag) = text.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).unwrap_or((text, "latest"));
    if !is_tag(tag) {
        return Err(bad(
            "a tag has letters, digits, '_', '.' and '-', 128 at most, and begins with none of the last two",
        ));
    }
    let is_registry = |first: &str| first.contains(['.', ':']) || first == "localhost";
    let (registry, repository) = match name.split_once('/').filter(|(first, _)| is_registry(first)) {
        Some(("index.docker.io", repository)) => ("docker.io", repository),
        Some(parts) => parts,
        None => ("docker.io", name),
    };
    if !is_host(registry) {
        return Err(bad(&format!("{registry:?} is no host, or host and port")));
    }
    let official = registry == "docker.io" && !repository.contains('/');
    let repository = if official { format!("library/{repository}") } else { repository.to_owned() };
    if !repository.split('/').all(is_component) || repository.len() > REPOSITORY_LIMIT {
        return Err(bad(
            "a name has lowercase letters and digits, with '.', '_', '__' or '-' between them, 255 at most",
        ));
    }
    Ok(format!("{registry}/{repository}:{tag}"))
}

fn is_tag(tag: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    !tag.starts_with(['.', '-']) && tag.bytes().all(plain) && (1..=128).contains(&tag.len())
}

fn is_host(registry: &str) -> bool {
    let (host, port) = registry.split_once(':').unwrap_or((registry, "443"));
    let is_label = |label: &str| {
        let plain = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        plain && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
    };
    host.split('.').all(is_label) && !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether a text is a part of a repository's name (OCI distribution specification, "pulling manifests").
fn is_component(part: &str) -> bool {
    let between = |text: &str| matches!(text, "." | "_" | "__") || text.bytes().all(|byte| byte == b'-');
    let is_letter = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit();
    // A separator stands between two letters, or it is none.
    part.starts_with(is_letter) && part.ends_with(is_letter) && part.split(is_letter).all(between)
}

#[cfg(test)]
mod tests {
    use oci_spec::distribution::Reference;
    use proptest::prelude::*;

    use super::full_reference;

    #[test]
    fn references_are_written_in_full() {
        let cases = [
            ("manager", "docker.io/library/manager:latest"),
            ("localhost:5000/a:v1", "localhost:5000/a:v1"),
            ("localhost/a", "localhost/a:latest"),
            ("virtualcluster/manager-amd64:latest", "docker.io/virtualcluster/manager-amd64:latest"),
            ("index.docker.io/a", "docker.io/library/a:latest"),
        ];
        for (text, full) in cases {
            assert_eq!(full_reference(text).as_deref(), Ok(full));
        }
    }

    #[test]
    fn what_is_no_reference_says_why() {
        let cases = [
            ("Manager", "a name has lowercase letters"),
            ("a/b:", "a tag has letters"),
            ("a:-x", "a tag has letters"),
            ("-.example/a", "\"-.example\" is no host"),
            ("localhost:/a", "\"localhost:\" is no host"),
            ("a@sha256:0", "has no digest"),
            ("", "a name has lowercase letters"),
        ];
        for (text, why) in cases {
            let error = full_reference(text).unwrap_err();
            assert!(error.starts_with(&format!("{text:?} is no image reference: ")) && error.contains(why), "{error}");
        }
        assert!(full_reference(&"a".repeat(300)).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]
        #[test]
        fn the_client_of_registries_reads_the_same(
            text in "(localhost/|index\\.docker\\.io/|docker\\.io/|[aA0.:-]{1,5}/)?[a0._-]{0,5}(/[aA0._-]{1,6}){0,2}(:[aA0._-]{0,4})?",
        ) {
            // It takes the "A" of "A/b" for a registry, and then for a part of the name, which no registry has in capitals.
            let client = text.parse().ok().filter(|client: &Reference| !client.repository().contains('A'));
            prop_assert_eq!(full_reference(&text).ok(), client.map(|client| client.whole()));
        }
    }
}
