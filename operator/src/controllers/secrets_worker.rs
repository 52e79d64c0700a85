//! Reads one Secret that a MailServer or RelayPolicy names. Started by the engine, which learns the outcome as an input.

use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::Api;

use super::calls::optional;
use crate::directory::{CredentialFailure, SecretReference, SecretUse, SecretValue};
use crate::secrets;

/// What came of it.
pub struct SecretRead {
    /// Who needs it, and what for.
    pub used: SecretUse,
    /// What the spec said.
    pub reference: SecretReference,
    /// The Secret's resourceVersion as it was read; `None`: there was no Secret.
    pub version: Option<String>,
    /// For the index; an error is tried again.
    pub outcome: Result<Result<SecretValue, CredentialFailure>, String>,
}

/// Reads it.
pub async fn run(client: Client, used: SecretUse, reference: SecretReference) -> SecretRead {
    let namespace = used.object.name.namespace.clone();
    let api: Api<Secret> = Api::namespaced(client, &namespace);
    let (version, outcome) = match optional(api.get(&reference.name)).await {
        Ok(secret) => {
            let value = secrets::value(used.purpose, &reference, &namespace, secret.as_ref());
            (secret.and_then(|secret| secret.metadata.resource_version), Ok(value))
        }
        Err(error) => (None, Err(error.to_string())),
    };
    SecretRead { used, reference, version, outcome }
}
