//! The objects of a revision as it holds them: JSON, compressed with gzip, in base64, without what Secrets hold.
//!
//! gzip, and not zstd, so that a person reads them on any machine: `kubectl get controllerrevision vcdist-N --output
//! jsonpath={.data.objects} | base64 --decode | gunzip`. An installation's objects come to about 6 kB; the API server takes
//! 1.5 MB.

use std::io::{Read, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use vcmanifests::Object;
use vcstore::Digest;

/// How many bytes of JSON are read at most, so that a prepared revision does not fill the memory.
const LONGEST: u64 = 16 * 1024 * 1024;

/// How many bytes of base64 are written at most: a whole object may have 1.5 MiB.
pub(super) const LONGEST_WRITTEN: usize = 1024 * 1024;

/// What stands in a Secret in the place of its values: their digest.
const WITHHELD: &str = "withheld";

/// What stands beside the fields of an object of which vcdist has no type: the plural name of its kind.
const PLURAL: &str = "vcdist.virtualcluster.io/plural";

/// One object as a revision holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedObject {
    value: Value,
    /// The plural name of its kind, of which vcdist has no type.
    plural: Option<String>,
}

impl RecordedObject {
    /// The object as it is recorded: of a Secret with values only the metadata, and the digest of the values.
    pub(in crate::rollout) fn of(object: &Object) -> serde_json::Result<Self> {
        let plural = if let Object::Other(other) = object { Some(other.plural().to_owned()) } else { None };
        Ok(Self { plural, ..Self::new(&serde_json::to_value(object)?) })
    }

    pub(super) fn new(object: &Value) -> Self {
        let mut object = object.clone();
        let held = json!({ "data": object["data"], "stringData": object["stringData"] });
        let values = |held: &Value| held.as_object().into_iter().flatten().any(|(_, value)| value != "");
        if object["kind"] == "Secret"
            && (values(&held["data"]) || values(&held["stringData"]))
            && let Some(fields) = object.as_object_mut()
        {
            fields.remove("data");
            fields.remove("stringData");
            fields.insert(WITHHELD.to_owned(), json!(Digest::of(held.to_string().as_bytes()).to_string()));
        }
        Self { value: object, plural: None }
    }

    fn read(mut value: Value) -> Self {
        let plural = value.as_object_mut().and_then(|fields| fields.remove(PLURAL));
        Self { plural: plural.as_ref().and_then(Value::as_str).map(str::to_owned), value }
    }

    fn written(&self) -> Value {
        let mut value = self.value.clone();
        if let (Some(plural), Some(fields)) = (&self.plural, value.as_object_mut()) {
            fields.insert(PLURAL.to_owned(), json!(plural));
        }
        value
    }

    /// `deployment/vc-manager`.
    #[must_use]
    pub fn title(&self) -> String {
        let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
        format!("{}/{}", text(&self.value["kind"]).to_lowercase(), text(&self.value["metadata"]["name"]))
    }

    /// The digest of the values of a Secret, which are not recorded themselves.
    #[must_use]
    pub fn withheld(&self) -> Option<&str> {
        self.value[WITHHELD].as_str()
    }

    /// The object as JSON; of a Secret with values without these.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// The object itself, of a Secret with values without these; none where this version does not know the object's kind, or
    /// a field of it.
    pub(crate) fn object(&self) -> Option<Object> {
        let mut value = self.value.clone();
        value.as_object_mut()?.remove(WITHHELD);
        if let Some(plural) = &self.plural {
            return Some(Object::other(value, plural));
        }
        let object = Object::from_value(&value).ok()??;
        let is_whole = serde_json::to_value(&object).is_ok_and(|same| same == value);
        is_whole.then_some(object)
    }
}

/// The objects as one text.
pub(super) fn encode(objects: &[RecordedObject]) -> std::io::Result<String> {
    let values: Vec<Value> = objects.iter().map(RecordedObject::written).collect();
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(Value::Array(values).to_string().as_bytes())?;
    Ok(BASE64.encode(encoder.finish()?))
}

/// The objects of such a text, or why it is not one.
pub(super) fn decode(text: &str) -> Result<Vec<RecordedObject>, String> {
    let compressed = BASE64.decode(text).map_err(|error| error.to_string())?;
    let mut json = Vec::new();
    let read = GzDecoder::new(compressed.as_slice()).take(LONGEST + 1).read_to_end(&mut json);
    read.map_err(|error| error.to_string())?;
    if json.len() as u64 > LONGEST {
        return Err(format!("they are larger than {}", vcterminal::bytes(LONGEST)));
    }
    let values: Vec<Value> = serde_json::from_slice(&json).map_err(|error| error.to_string())?;
    Ok(values.into_iter().map(RecordedObject::read).collect())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use base64::Engine as _;
    use serde_json::{Value, json};
    use vcmanifests::{Images, Parameters};

    use super::{BASE64, LONGEST, LONGEST_WRITTEN, RecordedObject, decode, encode};

    #[test]
    fn an_installation_is_read_as_it_was_recorded_and_is_small() {
        let image = |name: &str| format!("docker.io/a/{name}@sha256:{}", "0".repeat(64)).parse().unwrap();
        let images = Images { manager: image("manager"), syncer: image("syncer"), vn_agent: image("vn-agent") };
        let parameters = Parameters { service_monitors: true, ..Parameters::new(images) };
        let objects = vcmanifests::objects(&parameters);
        assert!(objects.iter().any(|object| object.plural() == "servicemonitors"));
        let recorded: Vec<_> = objects.iter().map(|object| RecordedObject::of(object).unwrap()).collect();
        let text = encode(&recorded).unwrap();
        assert!(text.len() < LONGEST_WRITTEN / 50, "{}", text.len());
        assert_eq!(text, encode(&recorded).unwrap(), "the same objects are the same text");
        let read = decode(&text).unwrap();
        assert_eq!(read, recorded);
        assert_eq!(read.iter().map(|one| one.object().unwrap()).collect::<Vec<_>>(), objects);
    }

    #[test]
    fn values_of_secrets_are_not_recorded_in_any_form_and_their_digest_tells_whether_they_changed() {
        let secret = |data: Value| json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "s", "labels": { "a": "b" } }, "data": data });
        let one = RecordedObject::new(&secret(json!({ "key": "c2VjcmV0", "other": "" })));
        assert!(!one.value().to_string().contains("c2VjcmV0"), "{:?}", one.value());
        assert_eq!(one.value()["metadata"]["labels"]["a"], "b");
        let other = RecordedObject::new(&secret(json!({ "key": "b3RoZXI=", "other": "" })));
        assert!(one.withheld().unwrap().starts_with("sha256:") && one.withheld() != other.withheld());
        assert_eq!(one.object().unwrap().name(), "s");
        let plain =
            json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "s" }, "stringData": { "k": "v" } });
        assert!(!RecordedObject::new(&plain).value().to_string().contains("stringData"));
        let empty = RecordedObject::new(&secret(json!({ "client.crt": "" })));
        assert_eq!((empty.withheld(), &empty.value()["data"]), (None, &json!({ "client.crt": "" })));
    }

    #[test]
    fn what_this_version_does_not_know_is_not_read_as_something_less() {
        let known = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "n" } });
        assert!(RecordedObject::read(known.clone()).object().is_some());
        for (key, value) in [("kind", json!("Gateway")), ("apiVersion", json!("v2")), ("newer", json!(1))] {
            let mut unknown = known.clone();
            unknown[key] = value;
            assert!(RecordedObject::read(unknown).object().is_none(), "{key}");
        }
    }

    #[test]
    fn what_is_damaged_or_endless_is_refused() {
        let gzip = |bytes: &[u8]| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            BASE64.encode(encoder.finish().unwrap())
        };
        assert_eq!(decode(&gzip(b"[]")), Ok(vec![]));
        for bad in ["", "?", "AAAA", &gzip(b"{}"), &gzip(b"[1")[..12], &gzip(b"[1")] {
            assert!(decode(bad).is_err(), "{bad}");
        }
        let endless = gzip(&vec![b' '; usize::try_from(LONGEST).unwrap() + 1]);
        assert!(decode(&endless).unwrap_err().contains("larger than"));
    }
}
