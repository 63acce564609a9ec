//! Canonical JSON (RFC 8785): equal content has equal bytes, hence an equal digest.

use canon_json::CanonicalFormatter;
use serde::Serialize;

use crate::Error;

/// The maximum size of a document in bytes: containerd and registries accept manifests of up to 4 MiB.
pub(crate) const DOCUMENT_LIMIT: u64 = 4 << 20;

/// Serialises `document` in canonical JSON, without a trailing newline. Integers keep all digits, even beyond the range
/// of RFC 8785; non-finite numbers become `null`.
///
/// # Errors
/// When the document cannot be serialised, for example because a map key is not a string.
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
    use proptest::prelude::*;
    use serde::Serialize;
    use serde::de::IgnoredAny;
    use serde::ser::{SerializeMap, Serializer};
    use serde_json::{Value, json};

    use super::canonical_json;

    /// A document with objects in any order of keys.
    #[derive(Debug, Clone)]
    enum Document {
        Plain(Value),
        List(Vec<Document>),
        Object(Vec<(String, Document)>),
    }

    impl Serialize for Document {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match self {
                Self::Plain(value) => value.serialize(serializer),
                Self::List(list) => list.serialize(serializer),
                Self::Object(entries) => {
                    let mut map = serializer.serialize_map(None)?;
                    entries.iter().try_for_each(|(key, value)| map.serialize_entry(key, value))?;
                    map.end()
                }
            }
        }
    }

    impl Document {
        /// Returns the document with all objects in reverse order.
        fn turned(&self) -> Self {
            match self {
                Self::Plain(value) => Self::Plain(value.clone()),
                Self::List(list) => Self::List(list.iter().map(Self::turned).collect()),
                Self::Object(entries) => {
                    Self::Object(entries.iter().rev().map(|(key, value)| (key.clone(), value.turned())).collect())
                }
            }
        }

        fn value(&self) -> Value {
            match self {
                Self::Plain(value) => value.clone(),
                Self::List(list) => list.iter().map(Self::value).collect(),
                Self::Object(entries) => entries.iter().map(|(key, value)| (key.clone(), value.value())).collect(),
            }
        }
    }

    fn document() -> impl Strategy<Value = Document> {
        let plain = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        plain.prop_map(Document::Plain).prop_recursive(4, 48, 6, |inner| {
            let keys = prop_oneof!["[a-c]{0,2}", any::<String>(), "[\u{e000}-\u{10ffff}]{1,2}"];
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Document::List),
                proptest::collection::hash_map(keys, inner, 0..6)
                    .prop_map(|entries| Document::Object(entries.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn equal_content_has_equal_bytes_which_say_it_all(document in document()) {
            let bytes = canonical_json(&document).unwrap();
            prop_assert_eq!(&bytes, &canonical_json(&document.turned()).unwrap());
            let read: Value = serde_json::from_slice(&bytes).unwrap();
            prop_assert_eq!(&read, &document.value());
            prop_assert_eq!(&bytes, &canonical_json(&read).unwrap());
            prop_assert_eq!(bytes.len(), serde_json::to_vec(&read).unwrap().len(), "there is no blank in it");
        }

        #[test]
        fn other_content_has_other_bytes(one in document(), other in document()) {
            let same = canonical_json(&one).unwrap() == canonical_json(&other).unwrap();
            prop_assert_eq!(same, one.value() == other.value());
        }

        #[test]
        fn keys_are_in_the_order_of_utf_16(keys in proptest::collection::hash_set(any::<String>(), 0..8)) {
            let object = Document::Object(keys.into_iter().map(|key| (key, Document::Plain(json!(0)))).collect());
            let bytes = canonical_json(&object).unwrap();
            let written: Vec<Vec<u16>> = ordered(&bytes).iter().map(|key| key.encode_utf16().collect()).collect();
            prop_assert!(written.is_sorted(), "{}", String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn fractions_are_written_once(number in any::<i32>()) {
            let fraction = f64::from(number) / 8.0;
            let bytes = canonical_json(&fraction).unwrap();
            prop_assert_eq!(serde_json::from_slice::<f64>(&bytes).unwrap(), fraction);
            prop_assert_eq!(&bytes, &canonical_json(&json!({"a": fraction})).unwrap()[5..bytes.len() + 5]);
        }
    }

    /// Returns the keys of an object in their serialised order.
    fn ordered(bytes: &[u8]) -> Vec<String> {
        struct Keys;
        impl<'de> serde::de::Visitor<'de> for Keys {
            type Value = Vec<String>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Vec<String>, A::Error> {
                let mut keys = Vec::new();
                while let Some((key, IgnoredAny)) = map.next_entry()? {
                    keys.push(key);
                }
                Ok(keys)
            }
        }
        serde::Deserializer::deserialize_map(&mut serde_json::Deserializer::from_slice(bytes), Keys).unwrap()
    }

    #[test]
    fn numbers_are_written_as_rfc_8785_says() {
        let cases = [
            (json!(1.0), "1"),
            (json!(-0.0), "0"),
            (json!(1e21), "1e+21"),
            (json!(1e20), "100000000000000000000"),
            (json!(0.000_001), "0.000001"),
            (json!(1e-7), "1e-7"),
            (json!(u64::MAX), "18446744073709551615"),
            (json!(i64::MIN), "-9223372036854775808"),
            (json!("\u{1f}\n\"é"), "\"\\u001f\\n\\\"é\""),
        ];
        for (value, text) in cases {
            assert_eq!(String::from_utf8(canonical_json(&value).unwrap()).unwrap(), text);
        }
        for none in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(canonical_json(&none).unwrap(), b"null");
        }
    }

    #[test]
    fn a_key_that_is_no_text_is_refused() {
        let keys = std::collections::BTreeMap::from([(vec![1], 1)]);
        assert!(canonical_json(&keys).is_err());
    }
}
