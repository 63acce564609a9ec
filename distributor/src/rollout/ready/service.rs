//! A Service is ready by being there, but for one that a load balancer is to give an address. What answers behind it is told by
//! the readiness of pods, and by its EndpointSlices where a webhook configuration names the Service.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::Readiness;

/// The rule for Services.
#[must_use]
pub fn service(service: &Service) -> Readiness {
    if service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) != Some("LoadBalancer") {
        return Readiness::Ready("there".to_owned());
    }
    let ingress = service.status.as_ref().and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref());
    let address = ingress.into_iter().flatten().find_map(|one| one.ip.as_ref().or(one.hostname.as_ref()));
    match address {
        Some(address) => Readiness::Ready(address.clone()),
        None => Readiness::Waiting("no load balancer has given it an address yet".to_owned()),
    }
}

/// How many endpoints of a Service are ready. One that does not say whether it is ready is.
#[must_use]
pub fn ready_endpoints(slices: &[EndpointSlice]) -> usize {
    let endpoints = slices.iter().flat_map(|slice| &slice.endpoints);
    endpoints.filter(|one| one.conditions.as_ref().and_then(|conditions| conditions.ready) != Some(false)).count()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Readiness, ready_endpoints, service};

    #[test]
    fn only_a_load_balancers_address_is_awaited() {
        let with = |type_: &str, status: Value| {
            service(&serde_json::from_value(json!({ "spec": { "type": type_ }, "status": status })).unwrap())
        };
        assert!(with("ClusterIP", json!({})).is_ready());
        assert!(matches!(with("LoadBalancer", json!({ "loadBalancer": {} })), Readiness::Waiting(_)));
        let given = json!({ "loadBalancer": { "ingress": [{ "ip": "192.0.2.1" }] } });
        assert_eq!(with("LoadBalancer", given), Readiness::Ready("192.0.2.1".to_owned()));
    }

    #[test]
    fn endpoints_count_unless_they_say_that_they_are_not_ready() {
        let endpoint = |conditions: Value| json!({ "addresses": ["10.0.0.1"], "conditions": conditions });
        let slice = json!({ "metadata": {}, "addressType": "IPv4", "endpoints": [endpoint(json!({ "ready": true })),
            endpoint(json!({ "ready": false })), endpoint(json!({}))] });
        assert_eq!(ready_endpoints(&[serde_json::from_value(slice).unwrap()]), 2);
        assert_eq!(ready_endpoints(&[]), 0);
    }
}
