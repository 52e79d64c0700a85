//! What may stand beside a server's workload, or may not: its NetworkPolicy and its PodMonitor. Written, and taken away
//! again, by [`super::server_worker`].

use std::collections::BTreeSet;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::ApiResource;
use serde_json::Value;

use super::apply::Desired;
use super::calls::CallError;
use crate::render::pod_monitor;

/// What is wanted; `None`: what is there is to go.
pub struct Beside {
    /// Who may reach the pods, and whom they may reach.
    pub network_policy: Option<NetworkPolicy>,
    /// By what Prometheus finds the pods: metadata and body.
    pub pod_monitor: Option<(ObjectMeta, Value)>,
    /// What is known since an earlier pass.
    pub absent: Absent,
}

/// Kinds of which something is known, so that it is not asked at each pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Absent {
    /// An object that is not wanted is gone.
    pub objects: BTreeSet<String>,
    /// The API server does not know the kind.
    pub apis: BTreeSet<String>,
}

impl Beside {
    /// Each kind, with the object that is wanted.
    ///
    /// # Errors
    /// When one cannot be written as JSON.
    pub fn desired(&self) -> Result<[(ApiResource, Option<Desired>); 2], CallError> {
        let policy = self.network_policy.as_ref().map(Desired::new).transpose()?;
        let resource = pod_monitor::resource();
        let monitor = self.pod_monitor.as_ref();
        let monitor =
            monitor.map(|(metadata, body)| Desired::raw(resource.clone(), metadata.clone(), body)).transpose()?;
        Ok([(ApiResource::erase::<NetworkPolicy>(&()), policy), (resource, monitor)])
    }
}

/// Whether a kind is not one of Kubernetes' own, so that it may be missing.
#[must_use]
pub fn is_foreign_api(resource: &ApiResource) -> bool {
    !(resource.group.is_empty() || resource.group.ends_with(".k8s.io") || !resource.group.contains('.'))
}
