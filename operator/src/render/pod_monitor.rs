//! The PodMonitor of a server's pods, by which the Prometheus operator has them scraped. Its API is not Kubernetes' own: it
//! may not be there.

use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

use super::Server;
use super::names::{self, ADMIN_PORT_NAME, selector};
use crate::directory::Accepted;

/// The kind.
#[must_use]
pub fn resource() -> ApiResource {
    ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk("monitoring.coreos.com", "v1", "PodMonitor"),
        "podmonitors",
    )
}

/// Whether one is wanted.
#[must_use]
pub fn is_wanted(server: &Server) -> bool {
    let monitor = server.spec.monitoring.as_ref().and_then(|monitoring| monitoring.pod_monitor.as_ref());
    monitor.is_some_and(|monitor| monitor.mode.is_enabled())
}

/// Renders it: metadata and body; `None` where none is wanted, so that an existing one is to be deleted.
#[must_use]
pub fn pod_monitor(
    server: &Accepted<&Server>,
) -> Option<(k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta, Value)> {
    let server: &Server = server;
    let monitor = server.spec.monitoring.as_ref()?.pod_monitor.as_ref().filter(|monitor| monitor.mode.is_enabled())?;
    let mut metadata = names::metadata(server, server.name.name.clone());
    // Ours come last: what the operator knows its objects by cannot be changed.
    let labels = monitor.labels.clone().into_iter().chain(metadata.labels.take().unwrap_or_default());
    metadata.labels = Some(labels.collect());
    let body = json!({ "spec": {
        "selector": { "matchLabels": selector(&server.name.name) },
        "podMetricsEndpoints": [{ "port": ADMIN_PORT_NAME, "path": "/metrics" }],
    }});
    Some((metadata, body))
}
