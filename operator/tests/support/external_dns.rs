//! external-dns' kind DNSEndpoint, without external-dns.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, PostParams};
use kube::core::ApiResource;
use serde_json::json;

use super::world::eventually;

/// How the API server knows the kind.
pub fn resource() -> ApiResource {
    ApiResource {
        group: "externaldns.k8s.io".to_owned(),
        version: "v1alpha1".to_owned(),
        api_version: "externaldns.k8s.io/v1alpha1".to_owned(),
        kind: "DNSEndpoint".to_owned(),
        plural: "dnsendpoints".to_owned(),
    }
}

/// As much of external-dns' definition as the operator uses.
pub async fn install(client: &Client) {
    let strings = json!({ "type": "array", "items": { "type": "string" } });
    let endpoint = json!({ "type": "object", "properties": {
        "dnsName": { "type": "string" }, "recordTTL": { "type": "integer", "format": "int64" },
        "recordType": { "type": "string" }, "targets": strings,
    }});
    let spec = json!({ "type": "object", "properties": { "endpoints": { "type": "array", "items": endpoint } } });
    let definition: CustomResourceDefinition = serde_json::from_value(json!({
        "metadata": {
            "name": "dnsendpoints.externaldns.k8s.io",
            "annotations": { "api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/external-dns/pull/2007" },
        },
        "spec": {
            "group": "externaldns.k8s.io", "scope": "Namespaced",
            "names": { "kind": "DNSEndpoint", "listKind": "DNSEndpointList", "plural": "dnsendpoints", "singular": "dnsendpoint" },
            "versions": [{
                "name": "v1alpha1", "served": true, "storage": true, "subresources": { "status": {} },
                "schema": { "openAPIV3Schema": { "type": "object", "properties": {
                    "spec": spec, "status": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
                } } },
            }],
        },
    }))
    .unwrap();
    Api::<CustomResourceDefinition>::all(client.clone()).create(&PostParams::default(), &definition).await.unwrap();
    eventually("the API of external-dns is there", async || {
        client.list_api_group_resources("externaldns.k8s.io/v1alpha1").await.ok().map(drop)
    })
    .await;
}
