//! Writes a status, in one call. [`super`] offers it to the engine.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, ObjectMeta};
use kube::{Client, Resource};
use paquebot_crds::{Kind, MailAlias, MailDomain, MailServer, Mailbox, RelayPolicy};
use serde_json::json;

use super::Status;
use crate::controllers::calls::{CallError, within_deadline};
use crate::directory::ObjectKey;

/// The field manager of all statuses.
const MANAGER: &str = "paquebot-operator-status";

/// What became of writing a status.
pub struct StatusWritten {
    /// Whose.
    pub key: ObjectKey,
    /// What was written.
    pub status: Status,
    /// The conditions that were there before.
    pub before: Vec<Condition>,
    /// The object's metadata after it; `None` when the object is gone.
    pub result: Result<Option<ObjectMeta>, CallError>,
}

/// Writes a status.
pub async fn write(client: Client, key: ObjectKey, status: Status, before: Vec<Condition>) -> StatusWritten {
    let result = patch(client, &key, &status).await;
    StatusWritten { key, status, before, result }
}

async fn patch(client: Client, key: &ObjectKey, status: &Status) -> Result<Option<ObjectMeta>, CallError> {
    let resource = resource(key.kind);
    let api: Api<DynamicObject> = Api::namespaced_with(client, &key.name.namespace, &resource);
    let body = json!({
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": { "name": key.name.name, "namespace": key.name.namespace },
        "status": status.to_value()?,
    });
    let parameters = PatchParams::apply(MANAGER).force();
    match within_deadline(api.patch_status(&key.name.name, &parameters, &Patch::Apply(&body))).await {
        Ok(object) => Ok(Some(object.metadata)),
        Err(error) if error.code() == Some(404) => Ok(None),
        Err(error) => Err(error),
    }
}

/// How the API server knows a kind.
#[must_use]
pub fn resource(kind: Kind) -> ApiResource {
    fn erase<K: Resource<DynamicType = ()>>() -> ApiResource {
        ApiResource::erase::<K>(&())
    }
    match kind {
        Kind::MailServer => erase::<MailServer>(),
        Kind::MailDomain => erase::<MailDomain>(),
        Kind::Mailbox => erase::<Mailbox>(),
        Kind::MailAlias => erase::<MailAlias>(),
        Kind::RelayPolicy => erase::<RelayPolicy>(),
    }
}
