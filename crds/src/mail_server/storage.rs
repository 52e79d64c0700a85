//! Where a MailServer keeps mail and the queue.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::quantity::Quantity;
use crate::references::{LocalReference, SecretKeyReference};
use crate::rules;

/// Where mail and the queue are kept: exactly one of the two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = rules::ONE_STORAGE)]
pub struct Storage {
    /// On a volume of the pod's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::STORAGE_CLASS_STAYS)]
    pub embedded: Option<EmbeddedStorage>,
    /// In a PostgreSQL database, large messages in an object store; then pods hold no state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres: Option<PostgresStorage>,
}

impl Default for Storage {
    fn default() -> Self {
        Self { embedded: Some(EmbeddedStorage::default()), postgres: None }
    }
}

/// A [`Storage`] for code that matches on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageKind<'a> {
    /// A volume of the pod's own.
    Embedded(&'a EmbeddedStorage),
    /// A database.
    Postgres(&'a PostgresStorage),
}

impl Storage {
    /// The one storage that is given; `None` if it is not exactly one, which the API server refuses.
    #[must_use]
    pub fn kind(&self) -> Option<StorageKind<'_>> {
        match (&self.embedded, &self.postgres) {
            (Some(embedded), None) => Some(StorageKind::Embedded(embedded)),
            (None, Some(postgres)) => Some(StorageKind::Postgres(postgres)),
            _ => None,
        }
    }
}

/// A volume of the pod's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EmbeddedStorage {
    /// The volume's size. It may grow, where the StorageClass allows it.
    #[serde(default = "default_volume_size")]
    pub size: Quantity,
    /// The volume's StorageClass. Default: the cluster's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
}

impl Default for EmbeddedStorage {
    fn default() -> Self {
        Self { size: default_volume_size(), storage_class_name: None }
    }
}

fn default_volume_size() -> Quantity {
    Quantity::from_bytes(20 << 30)
}

/// A PostgreSQL database and an object store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PostgresStorage {
    /// The Secret's key that holds the connection URL.
    pub url_secret_ref: SecretKeyReference,
    /// Where large messages are kept. Default: in the database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_store: Option<ObjectStore>,
}

/// An S3-compatible object store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectStore {
    /// The store's URL. Default: the region's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub endpoint: Option<String>,
    /// The bucket's name.
    #[schemars(length(min = 3, max = 63))]
    pub bucket: String,
    /// The bucket's region.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub region: Option<String>,
    /// What the objects' names begin with.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub prefix: Option<String>,
    /// A Secret of this namespace with `accessKeyId` and `secretAccessKey`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<LocalReference>,
}
