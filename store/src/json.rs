//! Canonical JSON (RFC 8785): equal content has equal bytes, hence an equal digest.

use canon_json::CanonicalFormatter;
use serde::Serialize;

use crate::Error;

/// The largest document that is read: containerd and the registries take manifests of up to 4 MiB.
pub(crate) const DOCUMENT_LIMIT: u64 = 4 << 20;

/// `document` in canonical JSON, without a newline at its end.
///
/// # Errors
/// When the document cannot be serialised: a map key that is no text, or a number that is not finite.
pub fn canonical_json<T: Serialize + ?Sized>(document: &T) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, CanonicalFormatter::new());
    document
        .serialize(&mut serializer)
        .map_err(|source| Error::Document { what: std::any::type_name::<T>().to_owned(), source })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::canonical_json;

    proptest! {
        #[test]
        fn equal_content_has_equal_bytes_whatever_its_order(
            pairs in proptest::collection::hash_map(".*", any::<i32>(), 0..20),
        ) {
            let mut turned: Vec<_> = pairs.clone().into_iter().collect();
            turned.reverse();
            let other: HashMap<String, i32> = turned.into_iter().collect();
            let bytes = canonical_json(&pairs).unwrap();
            prop_assert_eq!(&bytes, &canonical_json(&other).unwrap());
            prop_assert_eq!(serde_json::from_slice::<HashMap<String, i32>>(&bytes).unwrap(), pairs);
        }
    }
}
