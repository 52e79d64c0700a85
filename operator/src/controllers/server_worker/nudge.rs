//! Has the kubelet refresh the files of a pod now, rather than within its minute.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use crate::controllers::calls::{CallError, optional};
use crate::directory::NamespacedName;
use crate::render::names;

/// Changes when the first annotation was not enough.
const ATTEMPT_ANNOTATION: &str = "paquebot.dev/config-refresh-attempt";

/// Changes the annotation of a pod, so that the kubelet refreshes its volumes now.
///
/// # Errors
/// What the API server says.
pub async fn nudge(client: Client, pod: NamespacedName, revision: String, attempt: u32) -> Result<(), CallError> {
    let api: Api<Pod> = Api::namespaced(client, &pod.namespace);
    let mut annotations: BTreeMap<&str, String> = BTreeMap::from([(names::REVISION_ANNOTATION, revision)]);
    if attempt > 0 {
        annotations.insert(ATTEMPT_ANNOTATION, attempt.to_string());
    }
    let patch = json!({ "metadata": { "annotations": annotations } });
    optional(api.patch(&pod.name, &PatchParams::default(), &Patch::Merge(&patch))).await.map(drop)
}
