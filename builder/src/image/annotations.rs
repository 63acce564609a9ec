//! The annotations of an image (image specification, annotations.md), without times.

use std::collections::HashMap;

use crate::Error;
use crate::base::Base;
use crate::project::Component;

/// The origin of an image's content.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct About {
    /// The public address of the source.
    pub(crate) source: Option<String>,
    /// The commit of the source.
    pub(crate) revision: Option<String>,
    /// The version of the source.
    pub(crate) version: Option<String>,
}

impl About {
    /// Returns the address of a repository for an annotation; `None` if it is a folder of this machine.
    pub(crate) fn address(repository: &str) -> Option<String> {
        let remote = ["https://", "http://", "ssh://", "git://"].iter().any(|scheme| repository.starts_with(scheme));
        // git's short form, HOST:PATH, has a host before the first colon, without slashes.
        let short = repository
            .split_once(':')
            .is_some_and(|(host, path)| !host.is_empty() && !host.contains('/') && !path.starts_with("//"));
        (remote || short).then(|| repository.to_owned())
    }

    /// Returns the annotations of `component`'s manifest, or of its index if `base` is `None`: an index has no base.
    /// Annotations of the component override the default ones; an empty value removes an annotation.
    pub(super) fn annotations(
        &self,
        component: &Component,
        base: Option<&Base>,
    ) -> Result<HashMap<String, String>, Error> {
        let mut known = vec![
            ("title", Some(component.name.clone())),
            ("source", self.source.clone()),
            ("revision", self.revision.clone()),
            ("version", self.version.clone()),
        ];
        if let Some(base) = base.filter(|base| !base.layers().is_empty()) {
            known.push(("base.name", base.reference.clone()));
            known.push(("base.digest", Some(base.digest()?.to_string())));
        }
        let known =
            known.into_iter().filter_map(|(name, value)| Some((format!("org.opencontainers.image.{name}"), value?)));
        let mut annotations: HashMap<_, _> = known.chain(component.run.annotations.clone()).collect();
        annotations.retain(|_, value| !value.is_empty());
        Ok(annotations)
    }
}

#[cfg(test)]
mod tests {
    use super::About;
    use crate::project::Project;

    #[test]
    fn only_addresses_that_others_can_reach_are_told() {
        for address in ["https://example.org/a.git", "ssh://git@example.org/a", "git@example.org:a/b.git"] {
            assert_eq!(About::address(address).as_deref(), Some(address));
        }
        for address in ["/srv/a.git", "../a", "file:///srv/a.git", "./a:b"] {
            assert_eq!(About::address(address), None, "{address}");
        }
    }

    #[test]
    fn what_a_component_says_goes_before_what_is_known() {
        let mut component = Project::built_in().unwrap().components["manager"].clone();
        let name = |name: &str| format!("org.opencontainers.image.{name}");
        component.run.annotations = [
            (name("title"), "Manager".to_owned()),
            (name("revision"), String::new()),
            ("org.example.team".to_owned(), "red".to_owned()),
        ]
        .into();
        let about = About { revision: Some("abc".to_owned()), version: Some("v1".to_owned()), source: None };
        let annotations: std::collections::BTreeMap<_, _> =
            about.annotations(&component, None).unwrap().into_iter().collect();
        let expected = [
            ("org.example.team".to_owned(), "red".to_owned()),
            (name("title"), "Manager".to_owned()),
            (name("version"), "v1".to_owned()),
        ];
        assert_eq!(annotations, expected.into());
    }
}
