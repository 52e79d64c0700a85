//! Enlarges the claims of a MailServer's pods. What is to be done about each is [`crate::render::volumes`]' to say.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use super::calls::{CallError, optional, within_deadline};
use super::server_worker::Failure;
use crate::directory::{NamespacedName, sentence};
use crate::render::volumes::{self, Step, Volumes};

/// What became of the claims.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Grown {
    /// How many were written.
    pub written: usize,
    /// Whether each is there and as wanted.
    pub settled: bool,
}

/// Makes each claim as large as is wanted.
///
/// # Errors
/// A claim that is larger already or cannot grow (both for people to mend), one that has no volume yet, and what the API
/// server says.
pub async fn grow(client: &Client, server: &NamespacedName, wanted: &Volumes) -> Result<Grown, Failure> {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &server.namespace);
    let mut grown = Grown { written: 0, settled: true };
    for name in &wanted.claims {
        let Some(claim) = optional(api.get(name)).await? else {
            grown.settled = false;
            continue;
        };
        match volumes::step(&claim, &wanted.size) {
            Step::Nothing => {}
            Step::Refuse(message) => return Err(Failure { message, invalid: true }),
            Step::Wait(message) => return Err(Failure { message, invalid: false }),
            Step::Grow => {
                let size = wanted.size.as_str();
                let patch = json!({
                    "metadata": { "resourceVersion": claim.metadata.resource_version },
                    "spec": { "resources": { "requests": { "storage": size } } },
                });
                within_deadline(api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)))
                    .await
                    .map_err(|error| refused(&error, &claim, size))?;
                tracing::info!(claim = name, size, "a volume grows");
                grown.written += 1;
            }
        }
    }
    Ok(grown)
}

/// The admission of Kubernetes answers 403 for a StorageClass that does not allow it, the validation 422.
fn refused(error: &CallError, claim: &PersistentVolumeClaim, size: &str) -> Failure {
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    let class = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref()).unwrap_or_default();
    let invalid = matches!(error.code(), Some(403 | 422));
    let cure = if invalid {
        format!(
            " Set allowVolumeExpansion in StorageClass {class} if its driver can, or put spec.storage.embedded.size back."
        )
    } else {
        String::new()
    };
    Failure {
        message: format!(
            "PersistentVolumeClaim {name} could not be enlarged to {size}: {}{cure}",
            sentence(&error.to_string())
        ),
        invalid,
    }
}
