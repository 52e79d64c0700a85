//! Reads the ConfigMap of one mailbox's filter. Started by the engine, which learns the outcome as an input.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::Api;
use paquebot_crds::mailbox::ConfigMapKeyReference;

use super::calls::optional;
use crate::directory::{ConfigMapContent, NamespacedName};

/// What came of it.
pub struct FilterRead {
    /// The Mailbox.
    pub mailbox: NamespacedName,
    /// What its spec said.
    pub reference: ConfigMapKeyReference,
    /// The ConfigMap's resourceVersion as it was read; `None`: there was no ConfigMap.
    pub version: Option<String>,
    /// For the index; an error is tried again.
    pub content: Result<ConfigMapContent, String>,
}

/// Reads it.
pub async fn run(client: Client, mailbox: NamespacedName, reference: ConfigMapKeyReference) -> FilterRead {
    let api: Api<ConfigMap> = Api::namespaced(client, &mailbox.namespace);
    let (version, content) = match optional(api.get(&reference.name)).await {
        Ok(None) => (None, Ok(ConfigMapContent::NoConfigMap)),
        Ok(Some(config_map)) => {
            let value = config_map.data.and_then(|mut data| data.remove(&reference.key));
            (config_map.metadata.resource_version, Ok(value.map_or(ConfigMapContent::NoKey, ConfigMapContent::Value)))
        }
        Err(error) => (None, Err(error.to_string())),
    };
    FilterRead { mailbox, reference, version, content }
}
