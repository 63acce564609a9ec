//! Parsers for values on the command line. Their errors contain what to write instead.

use std::str::FromStr;

use miette::Diagnostic;
use vcmanifests::{Component, Error, ImageReference, NamespaceName, Toleration};

use crate::rights::Subject;

/// The longest name of a release: as long as Helm's.
const LONGEST_RELEASE: usize = 53;

/// Parses the name of a namespace.
pub(crate) fn namespace(text: &str) -> Result<NamespaceName, String> {
    read(text)
}

/// Parses `user:NAME`, `group:NAME` or `serviceaccount:NAMESPACE:NAME`.
pub(crate) fn subject(text: &str) -> Result<Subject, String> {
    let expected = || "write user:NAME, group:NAME or serviceaccount:NAMESPACE:NAME".to_owned();
    let (kind, name) = text.split_once(':').filter(|(_, name)| !name.is_empty()).ok_or_else(expected)?;
    match kind {
        "user" => Ok(Subject::User(name.to_owned())),
        "group" => Ok(Subject::Group(name.to_owned())),
        "serviceaccount" => {
            let (at, name) = name.split_once(':').filter(|(_, name)| !name.is_empty()).ok_or_else(expected)?;
            Ok(Subject::ServiceAccount { namespace: namespace(at)?.to_string(), name: name.to_owned() })
        }
        _ => Err(expected()),
    }
}

/// Parses the name of a release.
pub(crate) fn release_name(text: &str) -> Result<String, String> {
    let name: Result<NamespaceName, _> = text.parse();
    match name {
        Ok(_) if text.len() <= LONGEST_RELEASE => Ok(text.to_owned()),
        _ => Err(format!(
            "{text:?} is not a valid name of a release; use 1 to {LONGEST_RELEASE} lowercase letters, digits and dashes, with a \
             letter or digit at both ends"
        )),
    }
}

/// Parses `KEY[=VALUE][:EFFECT]`.
pub(crate) fn toleration(text: &str) -> Result<Toleration, String> {
    read(text)
}

/// Parses `COMPONENT=NAME@sha256:DIGEST`.
pub(crate) fn component_image(text: &str) -> Result<(Component, ImageReference), String> {
    let (component, image) = text.split_once('=').ok_or("write COMPONENT=NAME@sha256:DIGEST")?;
    Ok((read(component)?, read(image)?))
}

fn read<T: FromStr<Err = Error>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: Error| match error.help() {
        Some(help) => format!("{error}; {help}"),
        None => error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::{component_image, namespace, subject};
    use crate::rights::Subject;

    #[test]
    fn what_cannot_be_read_is_refused_with_what_to_write() {
        assert_eq!(
            namespace("Foo").unwrap_err(),
            "\"Foo\" is not a valid namespace name; use 1 to 63 lowercase letters, digits and dashes, with a letter or \
             digit at both ends"
        );
        assert!(component_image("manager").unwrap_err().starts_with("write COMPONENT="));
        assert!(component_image("etcd=x").unwrap_err().ends_with("the components are manager, syncer and vn-agent"));
        assert!(component_image("syncer=docker.io/a/b:latest").unwrap_err().contains("has no digest"));
    }

    #[test]
    fn who_gets_rights_is_a_user_a_group_or_a_service_account() {
        assert_eq!(subject("user:jane:doe"), Ok(Subject::User("jane:doe".to_owned())));
        let account = Subject::ServiceAccount { namespace: "ci".to_owned(), name: "deployer".to_owned() };
        assert_eq!(subject("serviceaccount:ci:deployer"), Ok(account));
        for bad in ["jane", "user:", "serviceaccount:ci", "serviceaccount:CI:x", "role:x"] {
            assert!(subject(bad).is_err(), "{bad}");
        }
    }
}
