//! A webhook configuration is ready when each of its webhooks answers. What they are is read here; whether they answer is asked
//! by `distributor/src/rollout/webhooks.rs`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use kube::api::DynamicObject;

/// A webhook that a Service of the cluster serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::rollout) struct Served {
    /// The webhook's name.
    pub(in crate::rollout) name: String,
    /// The Service's namespace.
    pub(in crate::rollout) namespace: String,
    /// The Service's name.
    pub(in crate::rollout) service: String,
    /// The Service's port.
    pub(in crate::rollout) port: u16,
    /// The path below it.
    pub(in crate::rollout) path: String,
    /// Why the configuration's certificate authority cannot be used; none where it can.
    pub(in crate::rollout) unusable_ca: Option<String>,
}

/// The webhooks of a configuration that Services serve. The API server alone reaches those that URLs name.
#[must_use]
pub(in crate::rollout) fn served(configuration: &DynamicObject) -> Vec<Served> {
    let webhooks = configuration.data["webhooks"].as_array().into_iter().flatten();
    let read = |webhook: &serde_json::Value| {
        let client = &webhook["clientConfig"];
        let service = client["service"].as_object()?;
        let text = |key: &str| service.get(key).and_then(serde_json::Value::as_str).map(str::to_owned);
        Some(Served {
            name: webhook["name"].as_str().unwrap_or_default().to_owned(),
            namespace: text("namespace")?,
            service: text("name")?,
            port: service.get("port").and_then(|port| u16::try_from(port.as_u64()?).ok()).unwrap_or(443),
            path: text("path").unwrap_or_default().trim_start_matches('/').to_owned(),
            unusable_ca: unusable_ca(client["caBundle"].as_str()),
        })
    };
    webhooks.filter_map(read).collect()
}

fn unusable_ca(bundle: Option<&str>) -> Option<String> {
    let Some(bundle) = bundle.filter(|bundle| !bundle.is_empty()) else {
        return Some("its caBundle is empty, so the API server does not trust it yet".to_owned());
    };
    let pem = BASE64.decode(bundle).ok().and_then(|pem| String::from_utf8(pem).ok());
    let is_certificate = pem.is_some_and(|pem| pem.contains("-----BEGIN CERTIFICATE-----"));
    (!is_certificate).then(|| "its caBundle holds no certificate".to_owned())
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD as BASE64;
    use serde_json::json;

    use super::served;

    #[test]
    fn webhooks_of_services_are_read_with_the_defaults() {
        let ca = BASE64.encode("-----BEGIN CERTIFICATE-----\n");
        let service = json!({ "namespace": "n", "name": "s" });
        let configuration = json!({ "metadata": {}, "webhooks": [
            { "name": "a", "clientConfig": { "service": service, "caBundle": ca } },
            { "name": "b", "clientConfig": { "service": { "namespace": "n", "name": "s", "port": 9443, "path": "/v" } } },
            { "name": "c", "clientConfig": { "service": service, "caBundle": "eA==" } },
            { "name": "d", "clientConfig": { "url": "https://x" } } ] });
        let found = served(&serde_json::from_value(configuration).unwrap());
        assert_eq!(found.len(), 3, "only the API server reaches a URL");
        assert_eq!((found[0].port, found[0].path.as_str(), &found[0].unusable_ca), (443, "", &None));
        assert_eq!((found[1].port, found[1].path.as_str()), (9443, "v"));
        assert!(found[1].unusable_ca.as_deref().unwrap().contains("empty"));
        assert!(found[2].unusable_ca.as_deref().unwrap().contains("no certificate"));
    }
}
