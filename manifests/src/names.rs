//! Names that Kubernetes restricts, validated before they are used in objects. The rules are those of RFC 1123 labels,
//! as in the API server.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// The name of a namespace: an RFC 1123 label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamespaceName(String);

impl NamespaceName {
    /// What stands for a namespace that is not known yet.
    pub(crate) fn placeholder(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for NamespaceName {
    /// Upstream's namespace: `vc-manager`.
    fn default() -> Self {
        Self("vc-manager".to_owned())
    }
}

impl fmt::Display for NamespaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for NamespaceName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let valid =
            (1..=63).contains(&name.len()) && name.chars().all(inner) && !name.starts_with('-') && !name.ends_with('-');
        if valid { Ok(Self(name.to_owned())) } else { Err(Error::BadNamespace { name: name.to_owned() }) }
    }
}

#[cfg(test)]
mod tests {
    use super::NamespaceName;

    #[test]
    fn only_labels_are_namespace_names() {
        for good in ["a", "vc-manager", "0", &"x".repeat(63)] {
            assert!(good.parse::<NamespaceName>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "ü", &"x".repeat(64)] {
            assert!(bad.parse::<NamespaceName>().is_err(), "{bad}");
        }
    }
}
