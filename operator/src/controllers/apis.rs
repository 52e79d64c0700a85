//! Which kinds that are not Kubernetes' own a cluster has: cert-manager's, external-dns', the Prometheus operator's. Asked before
//! any of them is touched.

use kube::Client;
use kube::core::ApiResource;

use super::calls::{CallError, optional};

/// Whether the API server knows a kind, in this version.
///
/// # Errors
/// What the API server says, which is also that it cannot tell: an API that is served by somebody who does not answer.
pub async fn has(client: &Client, resource: &ApiResource) -> Result<bool, CallError> {
    let kinds = optional(client.list_api_group_resources(&resource.api_version)).await?;
    Ok(kinds.is_some_and(|kinds| kinds.resources.iter().any(|kind| kind.name == resource.plural)))
}
